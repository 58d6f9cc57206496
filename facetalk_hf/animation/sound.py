# SPDX-License-Identifier: MIT
"""The sound of an animation as a file."""

import os
import wave
from pathlib import Path

import numpy as np

from ..errors import FaceTalkError
from ..files import atomic_path
from .formats import register_writer
from .head_animation import HeadAnimation


@register_writer("wav", needs_head=False)
def write_wav(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write the animation's sound as 16-bit mono wav at its own rate. FaceTalkError where it has none."""
    if animation.audio is None:
        raise FaceTalkError("this animation has no sound to write")
    samples = np.round(animation.audio.clip(-1, 1) * 32767).astype("<i2")
    with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(animation.sampling_rate)
        stream.writeframes(samples.tobytes())
    return Path(path)
