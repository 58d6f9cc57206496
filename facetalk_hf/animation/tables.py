# SPDX-License-Identifier: MIT
"""Weights as a plain table."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import atomic_path
from .formats import register_writer
from .head_animation import HeadAnimation


POSE = ("headYaw", "headPitch", "headRoll", "headX", "headY", "headZ")
"""Columns of `HeadAnimation.poses`: degrees and mm."""


@register_writer("weights", needs_head=False)
def write_csv(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write one row a frame: its number, its time in seconds, the weight of every named target, and a pose if any."""
    names, table = animation.target_names, animation.weights
    if animation.poses is not None:
        names, table = (*names, *POSE), np.concatenate([table, animation.poses], 1)
    return write_table(path, names, table, animation.fps)


def write_table(path: str | os.PathLike, names: Sequence[str], values: np.ndarray, fps: float) -> Path:
    """Write values (T, R) as a csv of one row a frame: its number, its time in seconds, its values."""
    rows = [",".join(("frame", "time", *names))]
    for index, row in enumerate(values):
        rows.append(",".join((str(index), f"{index / fps:.6f}", *(f"{value:.6f}" for value in row))))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Path(path)
