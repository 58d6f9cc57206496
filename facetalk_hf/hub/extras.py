# SPDX-License-Identifier: MIT
"""What lies in a model's folder beside its components: the card, few-step weights, folders of styles, pipeline.py."""

import os
import shutil
from pathlib import Path
from typing import Any

from ..errors import FaceTalkError
from ..files import atomic_path
from ..paths import packaged
from .unchanged import unchanged


KEPT = (".json", ".safetensors", ".npz", ".npy")
"""Files of a folder that belongs to a model; a folder with others in it is not the model's."""


def extra_folders(pipe: Any, folder: Path) -> list[Path]:
    """List the folders of a model that are no components of a pipeline and hold weights, such as few_steps/."""
    found = []
    for path in sorted(folder.iterdir()):
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else []
        if path.name[0] not in "._" and path.name not in pipe.components and files:
            if all(file.suffix in KEPT and file.name[0] != "." for file in files):
                found.append(path)
    return found


def save_extras(pipe: Any, folder: str | os.PathLike) -> None:
    """Complete a folder that a pipeline was saved to, so that what is loaded from there does all that this one does.

    `pipeline.py` lets diffusers load it by `custom_pipeline="pipeline"`. Few-step weights, styles and the card go
    along where the pipeline's weights are still those that it was loaded with: to others they do not belong.

    Args:
        pipe ([`FaceTalkPipeline`]): as it was saved. folder (`str` or `os.PathLike`): where.

    Raises:
        FaceTalkError: a file cannot be written.
    """
    folder, source = Path(folder), pipe.model_folder
    try:
        with atomic_path(folder / "pipeline.py") as temporary:
            shutil.copyfile(packaged("pipeline.py"), temporary)
        if source is None or source.resolve() == folder.resolve() or not unchanged(pipe, source):
            return
        for extra in extra_folders(pipe, source):
            shutil.copytree(extra, folder / extra.name, dirs_exist_ok=True, copy_function=shutil.copyfile)
        for name in ("README.md", "LICENSE"):
            if (source / name).is_file() and not (folder / name).exists():
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(source / name, temporary)
    except OSError as error:
        raise FaceTalkError(f"cannot write to {folder}: {error.strerror or error}") from error
