# SPDX-License-Identifier: MIT
"""Frames that leave one by one, each with the sound that belongs to it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import FaceTalkError
from .clock import FrameClock
from .sources import LiveSource


if TYPE_CHECKING:
    from ..pipeline.streaming import SpeechStreamOutput


@dataclass
class LiveFrame:
    """One frame of a live face.

    Args:
        index (`int`): number of the frame, from 0.
        time (`float`): its start in the sound, s.
        weights ((52,) float): in the order of [`~facetalk_hf.animation.arkit_names.ARKIT`].
        pose ((6,) float, *optional*): of the head: degrees, mm, as in `HeadAnimation.poses`.
        sound ((S,) int16, *optional*): from this frame's start to the next one's.
        sampling_rate (`int`): of the sound, Hz.
    """

    index: int
    time: float
    weights: np.ndarray
    pose: np.ndarray | None = None
    sound: np.ndarray | None = None
    sampling_rate: int = 16000


class Sink(Protocol):
    """Where frames go: an engine, a web page."""

    def send(self, frame: LiveFrame) -> None:
        """Take a frame without waiting for anybody."""

    def close(self) -> None:
        """Let go of sockets and threads."""


class SoundTrack:
    """The last sound of a stream: chunks in, the part of every frame out, without a gap and to the sample.

    Args:
        sampling_rate (`int`): Hz. fps (`float`): frames a second.
    """

    def __init__(self, sampling_rate: int, fps: float) -> None:
        self.sampling_rate, self.fps = sampling_rate, fps
        self._first, self._kept = 0, np.zeros(0, np.int16)

    def listen(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hand chunks (S,) through, integers or floats, and keep them."""
        for chunk in chunks:
            self.push(chunk)
            yield chunk

    def push(self, chunk: np.ndarray) -> None:
        """Keep a chunk (S,)."""
        self._kept = np.concatenate((self._kept, to_int16(chunk)))

    def hush(self) -> None:
        """Make what was kept and not taken silent, after a fade of 5 ms that makes no click."""
        fade = np.zeros(len(self._kept))
        ramp = np.linspace(1, 0, self.sampling_rate // 200)[: len(fade)]
        fade[: len(ramp)] = ramp
        self._kept = (self._kept * fade).astype(np.int16)

    def take(self, index: int) -> np.ndarray:
        """Return the sound (S,) int16 of a frame, and forget all before; what has not come is silence."""
        start, stop = (round(number * self.sampling_rate / self.fps) for number in (index, index + 1))
        part = self._kept[start - self._first : stop - self._first]
        self._kept, self._first = self._kept[stop - self._first :], max(stop, self._first)
        return np.pad(part, (0, stop - start - len(part)))


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Convert samples (S,), floats in -1..1 or integers, to int16."""
    samples = np.asarray(samples)
    if samples.dtype == np.int16:
        return samples
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples / -float(np.iinfo(samples.dtype).min or -1)
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


def live_frames(outputs: "Iterable[SpeechStreamOutput]", track: SoundTrack) -> Iterator[LiveFrame]:
    """Take the outputs of a stream with `output_type="arkit"` apart into frames with their sound."""
    for output in outputs:
        assert output.arkit is not None
        for row, weights in enumerate(output.arkit):
            index, pose = output.index + row, None if output.poses is None else output.poses[row]
            yield LiveFrame(index, index / track.fps, weights, pose, track.take(index), track.sampling_rate)


def send_frames(
    frames: Iterable[LiveFrame], sinks: Sequence[Sink], clock: FrameClock, source: LiveSource | None = None
) -> None:
    """Send frames to all sinks, each at its time; `source` is that of live sound, `None` for a file."""
    for frame in frames:
        clock.wait(frame.index, None if source is None else source.waiting)
        for sink in sinks:
            sink.send(frame)


def split_address(text: str, flag: str) -> tuple[str, int]:
    """Split "HOST:PORT" or "[::1]:PORT"; FaceTalkError says what an address looks like."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise FaceTalkError(f"{flag} must be HOST:PORT, such as 127.0.0.1:11111, not {text!r}")
    return host, int(port)
