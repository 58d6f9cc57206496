# SPDX-License-Identifier: MIT
"""The files of a model on the Hub, by way of the cache."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from ..errors import FaceTalkError
from ..paths import FEW_STEPS, STYLES
from .errors import explain


def fetch_weights(repo_id: str, variant: str | None = None, folder: str | None = None, **options: Any) -> str:
    """Download a model's configurations, its card and the weights of one variant, or find them in the cache.

    Code is not downloaded.

    Args:
        repo_id (`str`): USER/NAME.
        variant (`str`, *optional*): of the weights, as in `*.fp16.safetensors`; by default those without a variant.
        folder (`str`, *optional*): weights of this folder alone, such as `"head"`.
        options: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download` of `snapshot_download`.

    Returns:
        `str`: the snapshot's folder in the cache.

    Raises:
        FaceTalkError: the repository cannot be had, with the reason, or it has no such variant.
    """
    prefix = "" if folder is None else f"{folder}/"
    weights = [f"{prefix}*.safetensors"]
    others = ["*.*.safetensors", "*.*-*-of-*.safetensors", "*.safetensors.index.*.json"]
    if variant is not None:
        weights, others = [f"{prefix}*.{variant}.safetensors", f"{prefix}*.{variant}-*-of-*.safetensors"], []
    if folder is None:
        weights += [f"{FEW_STEPS}/*.safetensors", f"{STYLES}/*.safetensors"]
    try:
        snapshot = snapshot_download(
            repo_id, allow_patterns=["*.json", "*.md", "*.txt", *weights], ignore_patterns=others, **options
        )
    except (OSError, ValueError) as error:
        offline = bool(options.get("local_files_only"))
        raise explain(error, repo_id, options.get("revision"), offline) from error
    try:
        where = {name: options[name] for name in ("revision", "cache_dir") if name in options}
        files = [file.path for file in get_cached_repo_tree(repo_id, **where)]
    except CachedRepoTreeNotFoundError:  # a cache from before huggingface_hub kept lists
        files = [path.relative_to(snapshot).as_posix() for path in Path(snapshot).glob("*/*.safetensors")]
    check_variant(repo_id, files, variant)
    return snapshot


def check_variant(name: str, files: Iterable[str], variant: str | None) -> None:
    """Raise [`FaceTalkError`] where none of a model's safetensors files, as paths in it, are of a variant."""
    found = set()
    for parts in (path.split("/") for path in files):
        if len(parts) == 2 and parts[0] != FEW_STEPS and parts[1].endswith(".safetensors"):
            middle = parts[1].removesuffix(".safetensors").partition(".")[2]
            found.add(middle.partition("-")[0] or None)
    if found and variant not in found:
        there = ", ".join(sorted(f"variant={item!r}" if item else "no variant" for item in found))
        wanted = "weights without a variant" if variant is None else f"weights of variant={variant!r}"
        raise FaceTalkError(f"{name} has no {wanted}: it has {there}")
