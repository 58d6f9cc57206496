# SPDX-License-Identifier: MIT
"""Repositories of the Hub: each is written as a folder, looked through, and then uploaded. Models are written here."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HTTPError

from ..errors import FaceTalkError
from ..files import atomic_folder
from ..paths import FEW_STEPS
from .cards import model_card
from .checks import check_folder
from .errors import explain
from .unchanged import unchanged


STALE = {"model": ["*.safetensors*", "*/*.json"], "dataset": ["*.parquet", "*.np?"], "space": ["facetalk_hf/*"]}
"""What of an earlier upload must not stay beside the new files: shards that are no more would be read on."""


@contextmanager
def new_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Make a folder to be published, which appears when it is complete.

    Raises:
        FaceTalkError: there is something in it.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FaceTalkError(f"{folder} is not empty: name a new folder, or remove that one")
    with atomic_folder(folder) as work:
        yield work


def write_model(pipe: Any, folder: str | os.PathLike, repo_id: str | None = None, **facts: Any) -> list[str]:
    """Write a model repository: weights in float32 and as variant "fp16", pipeline.py, few_steps/, the card.

    Card and few-step weights that lie beside the pipeline's own weights go along, unless the weights were changed
    since they were loaded: then they are no longer about this model.

    Args:
        pipe ([`FaceTalkPipeline`]): the model; it stays as it is.
        folder (`str` or `os.PathLike`): new or empty.
        repo_id (`str`, *optional*): the repository that the card's examples load.
        facts: license, license_name, license_link, language, datasets, base_model, measured, dataset_name, code: see
            [`~facetalk_hf.hub.cards.model_card`].

    Returns:
        list of `str`: the files, as paths in the folder.

    Raises:
        FaceTalkError: it must not be published, with the reason.
    """
    source = pipe.model_folder if pipe.model_folder is not None and unchanged(pipe, pipe.model_folder) else None
    earlier = None if source is None or not (source / "README.md").is_file() else ModelCard.load(source / "README.md")
    official = pipe.head is not None and pipe.head.config.get("official_ensemble") is not None
    if official and not facts.get("license_link"):
        raise FaceTalkError(
            "the head was converted from official weights, whose terms hold for it: give license (other), "
            "license_name and license_link, if those terms let you publish it at all; or leave the head out"
        )
    if source is None and (base := base_model(pipe)):
        facts = {"base_model": base} | facts
    name = repo_id or Path(folder).name
    with new_folder(folder) as folder:
        write_weights(pipe, folder)
        card = model_card(
            pipe, name.split("/")[-1], model_id=repo_id, earlier=earlier,
            variants='fp32, and fp16 as variant="fp16"', has_few_steps=(folder / FEW_STEPS).is_dir(), **facts,
        )  # fmt: skip
        card.save(folder / "README.md")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return check_folder(folder, "model")


def write_weights(pipe: Any, folder: Path) -> None:
    """Save a pipeline in float32 and as variant "fp16", whatever its precision is now."""
    with tempfile.TemporaryDirectory() as place:
        pipe.save_pretrained(place)
        for dtype, variant in ((torch.float32, None), (torch.float16, "fp16")):
            copy = type(pipe).from_pretrained(place, dtype=dtype)
            check_finite(copy, variant)
            copy.save_pretrained(folder, variant=variant)
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # says where it lay on this machine
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def base_model(pipe: Any) -> str | None:
    """Return the Hub id that a pipeline or else its audio encoder was loaded from."""
    for config in (pipe.config, pipe.audio_encoder.config):
        name = config.get("_name_or_path") if isinstance(config, dict) else getattr(config, "_name_or_path", None)
        if name and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not os.path.exists(name):
            return name
    return None


def check_finite(pipe: Any, variant: str | None) -> None:
    """Raise [`FaceTalkError`] where a weight is no number, or too large for the variant's precision."""
    for name, part in pipe.components.items():
        for key, value in part.state_dict().items() if isinstance(part, torch.nn.Module) else ():
            if value.is_floating_point() and not value.isfinite().all():
                raise FaceTalkError(f"{name}: {key} is not finite in {variant or 'fp32'}, so it is not published")


def upload(
    folder: str | os.PathLike,
    repo_id: str,
    kind: str = "model",
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    variables: dict[str, str] | None = None,
) -> str:
    """Publish a folder, after looking through it once more.

    Args:
        folder (`str` or `os.PathLike`): of `write_model`, `hub_corpus.write_dataset` or `hub_space.write_space`.
        repo_id (`str`): USER/NAME; made where there is none.
        kind (`str`): "model", "dataset" or "space".
        private (`bool`, *optional*): of a new repository. revision (`str`, *optional*): a branch, made if needed.
        token (`str`, *optional*): by default that of `hf auth login` or HF_TOKEN.
        create_pr (`bool`): propose the commit as a pull request. commit_message (`str`, *optional*): its title.
        variables (`dict`, *optional*): environment of a Space.

    Returns:
        `str`: address of the commit.

    Raises:
        FaceTalkError: a file that must not go up, or what the Hub refuses and why.
    """
    files = check_folder(folder, kind)
    api = HfApi(token=token)
    try:
        sdk = "gradio" if kind == "space" else None
        repo_id = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk).repo_id
        for key, value in (variables or {}).items():
            api.add_space_variable(repo_id, key, value)
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
        info = api.upload_folder(
            repo_id=repo_id, repo_type=kind, folder_path=Path(folder), allow_patterns=files, revision=revision,
            delete_patterns=STALE[kind], create_pr=create_pr, commit_message=commit_message or f"Upload {kind}",
        )  # fmt: skip
    except (HTTPError, OSError, ValueError) as error:
        raise explain(error, repo_id, revision) from error
    return info.commit_url
