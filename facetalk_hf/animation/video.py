# SPDX-License-Identifier: MIT
"""Animations as videos."""

import os
from pathlib import Path
from typing import Any

from ..rendering.renderer import render_video
from .formats import register_writer
from .head_animation import HeadAnimation


@register_writer("mp4")
def write_video(path: str | os.PathLike, animation: HeadAnimation, **options: Any) -> Path:
    """Draw an animation and write it with its sound; options are those of `render_video`."""
    return render_video(animation, path, **options)
