# SPDX-License-Identifier: MIT
"""Weights as a plain table."""

import os
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
    pose = POSE if animation.poses is not None else ()
    rows = [",".join(("frame", "time", *animation.target_names, *pose))]
    table = np.concatenate([animation.weights, animation.poses], 1) if pose else animation.weights
    for index, weights in enumerate(table):
        rows.append(",".join((str(index), f"{index / animation.fps:.6f}", *(f"{value:.6f}" for value in weights))))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Path(path)
