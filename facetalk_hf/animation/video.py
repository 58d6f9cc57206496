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
    return render_video(animation, path, format="mp4", **options)


@register_writer("webm")
def write_transparent_video(path: str | os.PathLike, animation: HeadAnimation, **options: Any) -> Path:
    """Draw an animation with nothing behind it, unless told otherwise, and write it with its sound as VP9 and opus."""
    return render_video(animation, path, format="webm", **options)


@register_writer("png")
def write_pictures(path: str | os.PathLike, animation: HeadAnimation, **options: Any) -> Path:
    """Draw an animation as a folder, frame_00000.png and so on, with nothing behind it unless told otherwise."""
    return render_video(animation, path, format="png", **options)
