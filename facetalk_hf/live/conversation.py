# SPDX-License-Identifier: MIT
"""A face in a conversation: it speaks what comes, stops when it is interrupted, and lives between its turns."""

import math
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..animation.arkit import ARKIT
from ..errors import FaceTalkError
from ..mesh.geometry import smootherstep
from ..motion.controls import MotionControls
from ..motion.steering import steerable
from ..phones.segments import Segment
from ..pipeline.facetalk import FaceTalkPipeline
from ..pipeline.few_steps import prefers_few_steps
from ..pipeline.spoken import Phones, spoken_segments
from ..pipeline.streaming import SpeechStream
from .frames import LiveFrame, SoundTrack, to_int16
from .idle import IdleLife


MOUTH = [index for index, name in enumerate(ARKIT) if name.startswith(("mouth", "jaw", "tongue", "cheekPuff"))]
SETTLE = 0.125
"""Seconds in which an interrupted mouth comes to rest."""
REST = 0.3
"""Seconds after the last word until the face is at rest, and again until it is wholly so."""


def frames_of(stream: SpeechStream) -> int:
    """Count the frames of sound that go into a stream before its first frame comes out."""
    return math.ceil(stream.delay * stream.fps + 0.01)  # samples of a frame are rounded


@dataclass
class _Chunk:
    samples: np.ndarray
    phones: list[Segment] | None
    taken: int = 0


class Conversation:
    """Speaks chunks of sound as they come; every `step` is the next frame, with the sound to be played with it.

    There is always a frame: where nothing is to be said the stream hears silence, and the face is given what a
    resting face does. Sound comes out `delay` after it went in, with its lips. `say`, `interrupt` and `act` may be
    called from other threads than `step`.

        conversation = Conversation(pipe, 22050)
        conversation.say(samples)
        for frame in conversation:  # without end; wait for FrameClock between two
            ...

    Args:
        pipe ([`FaceTalkPipeline`]): whose few-step weights are taken, where it has them and `controls` allow it.
        sampling_rate (`int`): of the sound, Hz.
        delay (`float`, *optional*, defaults to 0.2): seconds from sound to frame at most, the time of the machine left
            out. Of the look-aheads that the audio encoder has learnt, the longest that keeps it is taken, or else
            the shortest that there is.
        idle (`float`, *optional*, defaults to 1.0): strength of the life between turns, 0 for none but the model's.
        controls ([`MotionControls`], *optional*): as for a stream; its look-ahead goes before `delay`.
        seed (`int`, *optional*, defaults to 0): same seed and sound, same frames.

    Attributes:
        delay (`float`): seconds from sound to frame.
        fps (`float`): frames a second.

    Raises:
        FaceTalkError: a model that cannot work live, or a head without ARKit's shapes.
    """

    def __init__(
        self,
        pipe: FaceTalkPipeline,
        sampling_rate: int,
        *,
        delay: float = 0.2,
        idle: float = 1.0,
        controls: MotionControls | None = None,
        seed: int = 0,
    ) -> None:
        controls = controls or MotionControls()
        self.pipe = pipe.few_steps() if prefers_few_steps(pipe, controls) else pipe
        self.fps, self.sampling_rate, self.idle = float(pipe.config["fps"]), sampling_rate, idle
        self.stream = self._open(controls, delay, seed)
        self.latency = frames_of(self.stream)
        self.delay = self.latency / self.fps
        self._life = IdleLife(self.fps, seed, sway=self.stream.poses is None)
        self._track, self._queue, self._lock = SoundTrack(sampling_rate, self.fps), deque[_Chunk](), threading.Lock()
        self._fed = self.index = 0
        self._spoken = deque([False] * (self.latency - 1))  # of frames that were fed and have not come
        self._silent, self._resting, self._gate = REST, 1.0, 1.0
        self._closing, self._clean = False, 0
        for _ in range(self.latency - 1):
            self._feed(self._silence())

    def _open(self, controls: MotionControls, delay: float, seed: int) -> SpeechStream:
        known = sorted(getattr(self.pipe.audio_encoder, "look_aheads", ()))
        choices: list[float | None] = [frames / self.fps for frames in known]
        if controls.look_ahead is not None or not known:
            choices = [controls.look_ahead]
        best: SpeechStream | None = None
        for seconds in choices:
            source = torch.Generator().manual_seed(seed)
            told = replace(controls, look_ahead=seconds)
            stream = self.pipe.open_stream(self.sampling_rate, controls=told, generator=source, hop=1)
            # A chunk waits for the next frame, and one frame is kept for chunks that come unevenly.
            if best is None or frames_of(stream) + 2 <= delay * self.fps + 1e-9:
                best = stream
        assert best is not None
        return best

    @property
    def waiting(self) -> float:
        """Seconds of sound that were said and are not on their way yet."""
        with self._lock:
            return sum(len(chunk.samples) - chunk.taken for chunk in self._queue) / self.sampling_rate

    @property
    def speaking(self) -> bool:
        """Whether the face is still to speak, or does."""
        return self.waiting > 0 or any(self._spoken)

    def say(self, samples: np.ndarray, phones: Phones | None = None) -> None:
        """Add sound to what is spoken; a voice that comes in chunks is said chunk by chunk.

        Args:
            samples: (S,) floats in -1..1 or signed integers, one channel.
            phones: what is said in them, (phone, start, end) in seconds from their start, where the speech engine
                knows; else it is heard.

        Raises:
            FaceTalkError: no row of finite numbers, or phones that cannot be used.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind not in "if" or not np.isfinite(samples).all():
            raise FaceTalkError("speech must be one channel of finite numbers, an array of one dimension")
        samples = to_int16(samples)
        segments = spoken_segments(phones, None, samples / 32768, self.sampling_rate)
        if segments is not None and not steerable(self.pipe.head):
            raise FaceTalkError("phones cannot steer this head: its shapes have no names that speech needs")
        if len(samples):
            with self._lock:
                self._queue.append(_Chunk(samples, segments))

    def interrupt(self) -> None:
        """Stop: what waits is forgotten, the next frame is silent, the mouth at rest after `SETTLE`."""
        with self._lock:
            self._queue.clear()
            self.stream.told.clear()
            self._track.hush()
            if any(self._spoken):
                self._closing, self._clean = True, self._fed
                self._spoken = deque([False] * len(self._spoken))

    def act(self, **options: Any) -> None:
        """Change emotion and style from now on, as [`SpeechStream.act`] does."""
        self.stream.act(**options)

    def __iter__(self) -> Iterator[LiveFrame]:
        while True:
            yield self.step()

    def step(self) -> LiveFrame:
        """Make the next frame."""
        with self._lock:
            self._spoken.append(bool(self._queue))
            codes = self._feed(self._next())
            speaking = self._spoken.popleft()
            sound, index = self._track.take(self.index), self.index
            self.index += 1
            # An interrupted mouth rests until what it had heard before is over.
            step = 1 / (SETTLE * self.fps)
            self._gate = float(np.clip(self._gate + (-step if self._closing else step), 0, 1))
            self._closing &= self._gate > 0 or index < self._clean
            gate = float(smootherstep(np.array(self._gate)))
            speaking = speaking or any(self._spoken)  # the eyes are back when the first word is
        self._silent = 0.0 if speaking else self._silent + 1 / self.fps
        change = 1 / (REST * self.fps)
        self._resting = float(np.clip(self._resting + (change if self._silent >= REST else -change), 0, 1))
        weights = self.pipe.arkit(codes)[0]
        weights[MOUTH] *= gate
        weights, pose = self._life(weights, self.idle * self._resting)
        if self.stream.poses is not None and len(self.stream.poses):
            pose = pose + self.stream.poses[0]
        return LiveFrame(index, index / self.fps, weights, pose if self.idle else None, sound, self.sampling_rate)

    def _silence(self) -> np.ndarray:
        start, stop = (round(number * self.sampling_rate / self.fps) for number in (self._fed, self._fed + 1))
        return np.zeros(stop - start, np.int16)

    def _next(self) -> np.ndarray:
        """Take the sound of the next frame out of the queue, with silence where nothing more is there."""
        part, filled = self._silence(), 0
        while self._queue and filled < len(part):
            chunk = self._queue[0]
            if chunk.phones is not None and not chunk.taken:
                self.stream.tell(chunk.phones, chunk.samples, filled)
            taken = chunk.samples[chunk.taken : chunk.taken + len(part) - filled]
            part[filled : filled + len(taken)] = taken
            chunk.taken += len(taken)
            filled += len(taken)
            if chunk.taken == len(chunk.samples):
                self._queue.popleft()
        return part

    def _feed(self, part: np.ndarray) -> torch.Tensor:
        self._fed += 1
        self._track.push(part)
        return self.stream.push(part)
