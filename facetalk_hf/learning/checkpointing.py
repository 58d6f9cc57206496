# SPDX-License-Identifier: MIT
"""Folders of checkpoints: whole or not there, the newest found again, the oldest removed."""

import os
import re
import shutil
from pathlib import Path
from typing import Any, Protocol


class SavesItself(Protocol):
    """A component of diffusers or transformers."""

    def save_pretrained(self, save_directory: Any) -> Any:
        """Write it into a folder."""


def step_of(checkpoint: Path) -> int:
    """Read the number of updates behind a checkpoint from its name."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(folder: str | Path) -> list[Path]:
    """List the complete checkpoints in a folder, the oldest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=step_of)


def begin(target: Path) -> Path:
    """Make an empty hidden folder beside `target`, to be filled and handed to `finish`."""
    work = target.with_name(f".{target.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def finish(target: Path) -> None:
    """Rename what `begin` made to `target`; what was there is replaced.

    The files are on the disk before the rename is, so neither a killed process nor a power cut leaves half of one.
    """
    work, old = target.with_name(f".{target.name}"), target.with_name(f".{target.name}-old")
    for path in work.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    os.replace(work, target)
    shutil.rmtree(old, ignore_errors=True)


def rotate(folder: Path, limit: int) -> None:
    """Remove all but the newest `limit` checkpoints, and what killed runs left.

    A folder is hidden before it is emptied: a run killed in between must not leave half a checkpoint in sight.
    """
    for old in checkpoints(folder)[:-limit]:
        os.replace(old, begin(old))
    for path in folder.glob(".checkpoint-*"):
        shutil.rmtree(path)


def save_whole(component: SavesItself, target: Path) -> None:
    """Save a component by its `save_pretrained`, whole or not at all; an older result is replaced."""
    component.save_pretrained(begin(target))
    finish(target)
