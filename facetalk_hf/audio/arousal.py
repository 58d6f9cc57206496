# SPDX-License-Identifier: MIT
"""How excited speech sounds, from its level, pitch, rate and spectrum. It says nothing about what a person feels."""

from collections import deque

import numpy as np

from .analysis import loudness, pitch


SPAN = 0.6
"""Seconds: standard deviation of the Gaussian over which everything is averaged."""

PIECE = 30
"""Seconds that pitch is measured of at a time: windows of an hour would not fit into memory."""

MEMORY, EVERY, SETTLE = 8.0, 0.25, 0.4
"""Seconds of a live estimate: sound that it compares with, time from one to the next, time it takes to follow."""

# Middle and half width of each measure for read speech at rest, and its weight: our choice after the directions that
# Scherer (2003, "Vocal communication of emotion", table 2) reports for arousal; measured on nobody.
REFERENCE = {
    "span": (0.16, 0.12, 0.30),  # octaves: spread of the pitch
    "register": (0.0, 0.35, 0.20),  # octaves of the pitch above the clip's own median
    "rate": (4.2, 1.8, 0.15),  # rises of the level a second
    "tilt": (-16.0, 7.0, 0.20),  # dB: 1 to 4 kHz against what lies below
    "level": (0.0, 6.0, 0.15),  # dB above the clip's own mean in speech
}


def arousal(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Estimate how excited speech sounds, (frames,) float32 in -1 (calm) to 1 (excited), 0 where nobody speaks.

    Louder, higher and more varied in pitch, faster, and with more energy at high frequencies sounds more excited
    (Scherer 2003). Level and pitch are compared with the clip's own, so that neither microphone nor voice decides;
    the rest with fixed references. A description of the sound: it does not tell joy from anger, and not what a
    person feels.

    Args:
        audio ((S,) float), sampling_rate (`int`, Hz): the speech.
        frames (`int`), fps (`float`): of the result.
    """
    audio = np.asarray(audio, float)
    if not frames or not len(audio):
        return np.zeros(frames, np.float32)
    level = loudness(audio, sampling_rate, frames, fps)
    speech = (level > 0.35).astype(float)
    tone = np.zeros(frames)
    span = round(PIECE * fps)
    for start in range(0, frames, span):
        stop = min(start + span, frames)
        piece = audio[round(start / fps * sampling_rate) : round(stop / fps * sampling_rate)]
        if len(piece) > sampling_rate // 10:
            tone[start:stop] = pitch(piece, sampling_rate, stop - start, fps)
    voiced = ((tone > 0) & (speech > 0)).astype(float)
    if voiced.sum() < fps / 4:
        return np.zeros(frames, np.float32)
    octaves = np.log2(np.maximum(tone, 1) / np.median(tone[voiced > 0])) * voiced
    width = SPAN * fps
    register = _average(octaves, voiced, width)
    decibels = 32 * level
    mean = _average(decibels, speech, width)
    rises = np.maximum(np.diff(_gaussian(decibels, 0.03 * fps), prepend=decibels[0]), 0)
    starts = (rises > 2.0) & (rises >= np.roll(rises, 1)) & (rises > np.roll(rises, -1))
    measures = {
        "span": np.sqrt(np.maximum(_average(octaves**2, voiced, width) - register**2, 0)),
        "register": register,
        "rate": _average(starts * fps, np.ones(frames), width),
        "tilt": _average(_tilt(audio, sampling_rate, frames, fps), voiced, width),
        "level": mean - decibels[speech > 0].mean(),
    }
    total = sum(
        weight * np.tanh((measures[name] - middle) / half) for name, (middle, half, weight) in REFERENCE.items()
    )
    share = _gaussian(speech, width / 2).clip(0, 1)
    return (total * share).clip(-1, 1).astype(np.float32)


class LiveArousal:
    """Estimate [`arousal`] in a stream, from the sound so far alone: size and cost of a step do not grow.

    Level and pitch are compared with the last `MEMORY` seconds, so the first two seconds of speech count less, and
    somebody who stays loud is calm again after a while. Each step goes `EVERY` seconds on, and its value follows what
    it finds with a time constant of `SETTLE`. The result does not depend on the chunks that the sound came in.

    Args:
        sampling_rate (`int`, Hz): of the sound. fps (`float`): frames a second of the motion.
    """

    def __init__(self, sampling_rate: int, fps: float = 24) -> None:
        self.sampling_rate, self.fps = sampling_rate, fps
        self._chunks: deque[np.ndarray] = deque()
        self._start = self._end = 0  # of the sound in the chunks
        self._step, self._time, self._found, self._value = -1, 0.0, 0.0, 0.0

    def push(self, samples: np.ndarray) -> None:
        """Take in sound (S,) float, of a second at most."""
        self._chunks.append(np.array(samples, np.float32))
        self._end += len(samples)
        # Frames lag behind what was pushed by a second and their look-ahead.
        while self._start + len(self._chunks[0]) < self._end - (MEMORY + 2) * self.sampling_rate:
            self._start += len(self._chunks.popleft())

    def at(self, time: float, known: int) -> float:
        """Give the estimate, -1 to 1, of the frames at `time` in s, which does not go back.

        Args:
            known (`int`): samples from the start of the stream that may be used.
        """
        if int(time / EVERY) != self._step:
            self._step = int(time / EVERY)
            sound = self._recent(min(known, self._end))
            frames = int(len(sound) / self.sampling_rate * self.fps)
            if frames > 2:
                found = arousal(sound, self.sampling_rate, frames, self.fps)
                # Of less than two seconds of speech nobody can say what is loud or high for this voice.
                sure = min(1.0, np.count_nonzero(np.abs(found) > 1e-3) / (2 * self.fps))
                self._found = sure * float(found[-max(1, round(EVERY * self.fps)) :].mean())
        self._value += (1 - np.exp(-(time - self._time) / SETTLE)) * (self._found - self._value)
        self._time = time
        return float(self._value)

    def _recent(self, known: int) -> np.ndarray:
        oldest = max(0, known - round(MEMORY * self.sampling_rate) - self._start)
        return np.concatenate([np.zeros(0, np.float32), *self._chunks])[oldest : max(0, known - self._start)]


def _average(values: np.ndarray, weights: np.ndarray, width: float) -> np.ndarray:
    """Average (T,) over time where weights (T,) are; far from all of them it is their mean."""
    mean = (values * weights).sum() / max(weights.sum(), 1e-9)
    near = _gaussian(weights, width) + 1e-3
    return (_gaussian(values * weights, width) + 1e-3 * mean) / near


def _tilt(audio: np.ndarray, sampling_rate: int, frames: int, fps: float) -> np.ndarray:
    """Energy of 1 to 4 kHz against that of 80 Hz to 1 kHz in 40 ms around each frame, (frames,) dB."""
    width = int(0.04 * sampling_rate)
    centre = ((np.arange(frames) + 0.5) / fps * sampling_rate).astype(int)
    padded = np.pad(audio, width)
    hertz = np.fft.rfftfreq(width, 1 / sampling_rate)
    low, high = (hertz >= 80) & (hertz < 1000), (hertz >= 1000) & (hertz < 4000)
    result = np.zeros(frames)
    for start in range(0, frames, 4096):
        place = centre[start : start + 4096, None].clip(0, len(audio) - 1) + width // 2 + np.arange(width)
        power = np.abs(np.fft.rfft(padded[place] * np.hanning(width))) ** 2
        ratio = (power[:, high].sum(1) + 1e-9) / (power[:, low].sum(1) + 1e-9)
        result[start : start + 4096] = 10 * np.log10(ratio)
    return result


def _gaussian(values: np.ndarray, width: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d  # late: a stream without scipy asks for no arousal

    return gaussian_filter1d(values, width)
