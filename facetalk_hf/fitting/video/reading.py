# SPDX-License-Identifier: MIT
"""Pictures of a video file, upright and in sRGB, one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceTalkError


LARGEST = 1280
"""Pixels of the longer side that pictures are made smaller to: trackers look at a few hundred pixels of a face."""

PQ, HLG = 16, 18
"""Transfer functions of HDR, by their numbers in ITU-T H.273."""


@dataclass
class Picture:
    """A frame: `image` (h, w, 3) uint8, upright, made smaller by `scale`; `time` in s; `size` in the file's pixels."""

    image: np.ndarray
    time: float
    scale: float
    size: tuple[int, int]


def read_pictures(
    path: Path, largest: int = LARGEST, log: Callable[[str], None] = lambda line: None
) -> Iterator[Picture]:
    """Yield the frames of a video in the order of their times, turned as its rotation flag says.

    HDR is brought to sRGB. A file that breaks off ends where it can no longer be decoded, and `log` is told if it
    says that it is longer. A frame that does not come later than the one before is left out.

    Raises:
        FaceTalkError: no such file, no video in it, or no frame that can be decoded.
    """
    try:
        import av
    except ImportError as error:
        raise FaceTalkError("reading videos needs PyAV: pip install av") from error
    if not path.is_file():
        raise FaceTalkError(f"no such file: {path}")
    count, last, whole = 0, -np.inf, 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise FaceTalkError(f"{path} has no picture in it, give a video of somebody's face")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start, rate = stream.start_time or 0, float(stream.average_rate or 25)
            if stream.duration is not None and stream.time_base is not None:
                whole = float(stream.duration * stream.time_base)
            else:
                whole = (container.duration or 0) / av.time_base
            for frame in container.decode(stream):
                time = count / rate
                if frame.pts is not None and frame.time_base is not None:
                    time = float((frame.pts - start) * frame.time_base)
                if time <= last:
                    continue
                last = time
                yield _picture(frame, time, largest)
                count += 1
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, FaceTalkError):
            raise
        if not count:
            raise FaceTalkError(f"{path} is no video that can be read: damaged, or not finished") from error
    if not count:
        raise FaceTalkError(f"{path} has no frame that can be decoded")
    if last + 1 / rate < whole - max(0.5, 0.1 * whole):  # sound is often somewhat longer
        log(f"{path} says that it is {whole:.1f} s long, and breaks off after {last + 1 / rate:.1f} s")


def _picture(frame: Any, time: float, largest: int) -> Picture:
    """Convert a frame of PyAV."""
    scale = min(1.0, largest / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    transfer = int(frame.color_trc or 0)
    if transfer == PQ:
        image = _pq_to_srgb()[image]
    turns = round((frame.rotation or 0) / 90) % 4
    size = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return Picture(np.ascontiguousarray(np.rot90(image, turns)), time, scale, size)


def _pq_to_srgb() -> np.ndarray:
    """Make the table (256,) uint8 from SMPTE ST 2084 to sRGB, with 203 cd/m2 as white (ITU-R BT.2408)."""
    code = (np.arange(256) / 255) ** (1 / 78.84375)
    light = 10000 * (np.maximum(code - 0.8359375, 0) / (18.8515625 - 18.6875 * code)) ** (1 / 0.1593017578125)
    light = light / 203
    light = np.where(light > 0.8, 0.8 + 0.2 * (1 - np.exp((0.8 - light) / 0.8)), light)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb.clip(0, 1)).astype(np.uint8)
