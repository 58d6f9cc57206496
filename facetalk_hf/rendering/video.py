# SPDX-License-Identifier: MIT
"""Images and sound as mp4 or webm, and images as a folder of png."""

import os
from collections.abc import Generator, Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..errors import FaceTalkError
from ..files import SYNTHETIC_NOTE, atomic_path, frame_folder


if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import OutputContainer

SYNTHETIC_TITLE = "Synthetic talking head"  # players show it where they show no comment


def write_mp4(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    audio: np.ndarray | None = None,
    sampling_rate: int = 16000,
    crf: int = 18,
    comment: str = SYNTHETIC_NOTE,
) -> Path:
    """Encode images as h264 (yuv420p) with mono aac sound at 48 kHz, whole or not at all.

    The picture lasts as many frames as are given and the sound its own length. With `ceil(samples * fps / rate)`
    frames, as the pipeline makes them, both end within a frame of each other.

    Args:
        path: the .mp4 file. frames: (height, width, 3) uint8 sRGB images; an odd last row or column is cut off.
        fps (`float`): frames a second. audio ((S,) float in -1..1, *optional*), sampling_rate (Hz): the speech.
        crf (`int`): quality of x264, lower is better. comment (`str`): written into the file's metadata, beside a
            title that says that the video is synthetic.

    Raises:
        FaceTalkError: no frame at all, PyAV is missing, or the file cannot be written.
    """
    # One encoder thread and no slices by core count: the same frames give the same bytes everywhere.
    # "veryfast" takes 3.5 ms a frame where "medium" takes 8, for half a decibel and a file that is smaller.
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
    return _write(path, frames, fps, audio, sampling_rate, comment, ("libx264", "aac"), options)


def write_webm(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    audio: np.ndarray | None = None,
    sampling_rate: int = 16000,
    crf: int = 24,
    comment: str = SYNTHETIC_NOTE,
) -> Path:
    """Encode images as VP9 with mono opus sound at 48 kHz, whole or not at all; with alpha where images have it.

    Args:
        path: the .webm file. frames: (height, width, 3 or 4) uint8 sRGB images; alpha is not multiplied in.
        crf (`int`): quality of VP9, lower is better. The others are those of `write_mp4`, and so are the errors.
    """
    # What takes longer makes files of a tenth less.
    options = {"crf": str(crf), "b": "0", "deadline": "realtime", "cpu-used": "6", "auto-alt-ref": "0", "threads": "1"}
    return _write(path, frames, fps, audio, sampling_rate, comment, ("libvpx-vp9", "libopus"), options)


def write_pngs(path: str | os.PathLike, frames: Iterable[np.ndarray]) -> Path:
    """Write a folder of pictures, frame_00000.png and so on, whole or not at all.

    Args:
        path: the folder; one of frames is replaced. frames: (height, width, 3 or 4) uint8 sRGB images.

    Raises:
        FaceTalkError: something else is in the place of the folder, or it cannot be written to.
    """
    from PIL import Image, PngImagePlugin  # comes with diffusers; the command starts without it

    note = PngImagePlugin.PngInfo()
    note.add_text("Title", SYNTHETIC_TITLE)
    note.add_text("Comment", SYNTHETIC_NOTE)
    with frame_folder(path) as temporary:
        for index, image in enumerate(frames):
            Image.fromarray(image).save(temporary / f"frame_{index:05d}.png", pnginfo=note, compress_level=3)
    return Path(path)


def _write(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    audio: np.ndarray | None,
    sampling_rate: int,
    comment: str,
    codecs: tuple[str, str],
    options: dict[str, str],
) -> Path:
    """Encode images and sound by the codecs of a picture and of sound."""
    try:
        import av
    except ImportError as error:
        raise FaceTalkError("writing videos needs PyAV: pip install av") from error
    images = iter(frames)
    rate = Fraction(fps).limit_denominator(1001)
    try:
        first = next(images, None)
        if first is None:
            raise FaceTalkError("there is no frame to write")
        layout = "rgba" if first.shape[2] == 4 else "rgb24"
        with atomic_path(path) as temporary:
            with av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container:
                container.metadata["title"], container.metadata["comment"] = SYNTHETIC_TITLE, comment
                video = cast("VideoStream", container.add_stream(codecs[0], rate=rate, options=options))
                video.height, video.width = (length - length % 2 for length in first.shape[:2])
                video.pix_fmt = "yuva420p" if layout == "rgba" else "yuv420p"
                sound = None
                if audio is not None and len(audio):
                    sound = _Sound(container, audio, sampling_rate, codecs[1])
                for index, image in enumerate(chain([first], images)):
                    image = np.ascontiguousarray(image[: video.height, : video.width])
                    picture = av.VideoFrame.from_ndarray(image, format=layout)
                    picture.pts = index
                    container.mux(video.encode(picture))
                    if sound is not None:
                        sound.write_until((index + 1) / rate)
                container.mux(video.encode(None))
                if sound is not None:
                    sound.close()
    finally:
        # A generator that is left half-way stops its threads now, not when it is collected.
        if isinstance(images, Generator):
            images.close()
    return Path(path)


class _Sound:
    """The sound track of a container, written as the picture advances so that players need not seek."""

    def __init__(self, container: "OutputContainer", audio: np.ndarray, sampling_rate: int, codec: str) -> None:
        from scipy.signal import resample_poly

        self.container, self.rate = container, 48000
        options = {"b": "128k"}
        stream = container.add_stream(codec, rate=self.rate, layout="mono", options=options)
        self.stream = cast("AudioStream", stream)
        audio = np.asarray(audio, np.float32)
        if sampling_rate != self.rate:
            ratio = Fraction(self.rate, sampling_rate)
            audio = resample_poly(audio, ratio.numerator, ratio.denominator).astype(np.float32)
        self.audio, self.done = np.clip(audio, -1, 1), 0

    def write_until(self, seconds: float | Fraction) -> None:
        """Write the sound up to a time, as far as it goes."""
        while self.done < min(len(self.audio), int(seconds * self.rate)):
            self._write(self.audio[self.done : self.done + 1024])

    def _write(self, samples: np.ndarray) -> None:
        """Encode one frame of samples."""
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
        self.container.mux(self.stream.encode(frame))
        self.done += len(samples)

    def close(self) -> None:
        """Write the rest of the sound and end the track."""
        self.write_until(len(self.audio) / self.rate + 1)
        self.container.mux(self.stream.encode(None))
