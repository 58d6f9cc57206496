# SPDX-License-Identifier: MIT
"""Visemes as a table."""

import os
from pathlib import Path

from .arkit import arkit_weights
from .formats import register_writer
from .head_animation import HeadAnimation
from .tables import write_table
from .viseme_weights import VISEMES, weights_to_visemes


@register_writer("visemes", needs_head=False)
def write_visemes(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write one row a frame: its number, its time in seconds, the weights of Oculus' 15 visemes in 0..1.

    Raises:
        FaceTalkError: targets without ARKit names, or a place that cannot be written to.
    """
    names = [f"viseme_{name}" for name in VISEMES]
    return write_table(path, names, weights_to_visemes(arkit_weights(animation)), animation.fps)
