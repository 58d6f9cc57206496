# SPDX-License-Identifier: MIT
"""Files of the official repositories: whether they are there. Needs no torch, so that a command can refuse at once."""

import os
from pathlib import Path

from ..errors import FaceTalkError


def check_checkpoint(path: str | os.PathLike) -> None:
    """Refuse a checkpoint that is not there."""
    if not Path(path).is_file():
        raise FaceTalkError(f"no checkpoint {path}: give a checkpoint_epoch_*.tar of the official training")


def check_anchors(path: str | os.PathLike, count: int) -> str:
    """Refuse a file of mean anchors that is not there; return its name in the official repository."""
    name = f"anchors_{count}.npy"
    if not Path(path).is_file():
        raise FaceTalkError(
            f"no anchors {path}: give {name} of the official repository, they are not in the checkpoint"
        )
    return name
