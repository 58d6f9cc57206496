# SPDX-License-Identifier: MIT
"""Plain tables of weights, and the sound, as files."""

import os
import wave
from pathlib import Path

import numpy as np

from ..errors import FaceTalkError
from ..files import atomic_path
from .glb import POSE
from .head_animation import HeadAnimation


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
