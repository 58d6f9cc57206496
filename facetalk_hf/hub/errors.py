# SPDX-License-Identifier: MIT
"""What the Hub or its cache answered, as one line that says what would do."""

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import FaceTalkError


LOGIN = "log in by `hf auth login`, or give a token"


def explain(error: Exception, repo_id: str, revision: str | None = None, offline: bool = False) -> FaceTalkError:
    """Turn an error of huggingface_hub into one line that says what would do.

    Args:
        error (`Exception`): as it was caught.
        repo_id (`str`): the repository that was asked for. revision (`str`, *optional*): and its revision.
        offline (`bool`): whether the caller was told not to ask the Hub.
    """
    name = repo_id if revision is None else f"{repo_id} (revision {revision})"
    if isinstance(error, GatedRepoError):
        return FaceTalkError(f"{repo_id} is gated: accept its terms on its page on the Hub, then {LOGIN}")
    if isinstance(error, RevisionNotFoundError):
        return FaceTalkError(f"{repo_id} has no revision {revision}: name one of its branches, tags or commits")
    if isinstance(error, RepositoryNotFoundError):
        return FaceTalkError(
            f"no Hub repository {repo_id} that may be used: check its name; if it is private, {LOGIN}"
        )
    if isinstance(error, IncompleteSnapshotError):
        return FaceTalkError(f"not all files of {name} that are needed are in the cache: download them with a network")
    if isinstance(error, LocalEntryNotFoundError):
        if offline or constants.HF_HUB_OFFLINE:
            return FaceTalkError(f"{name} is not in the cache: download it once without HF_HUB_OFFLINE=1")
        return FaceTalkError(f"{name} is not in the cache, and the Hub cannot be reached: is there a network?")
    if isinstance(error, OfflineModeIsEnabled):
        return FaceTalkError(f"{name} needs the Hub, which HF_HUB_OFFLINE=1 forbids: unset it")
    if isinstance(error, HFValidationError):
        return FaceTalkError(f"{repo_id!r} is neither a folder nor a Hub repository: those are called user/name")
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return FaceTalkError(f"the Hub does not accept this token for {repo_id}: {LOGIN} that is valid")
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 403:
        return FaceTalkError(f"this token may not do that with {repo_id}: give one that may (write access, your own)")
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    return FaceTalkError(f"{name} on the Hub: {reason}")
