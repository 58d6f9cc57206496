# SPDX-License-Identifier: MIT
"""What a face follows beside the phones: accents, phrases and pauses of a clip."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..audio.analysis import gaussian, loudness, pitch
from ..phones.alphabets import SILENCE
from ..phones.segments import Segment


VOWELS = frozenset("iy ih eh ae ah ax aa ao oh uh uw uy oe er ey ay oy aw ow".split())
PAUSE = 0.13
"""Seconds of silence that part two phrases."""


class Accent(NamedTuple):
    """A stressed vowel: second of its peak, and how much it stands out, 0..1."""

    time: float
    strength: float


class Prosody(NamedTuple):
    """Accents, phrases (start, end in s), level (T,) 0..1 and octaves above the median pitch (T,), 0 unvoiced."""

    accents: list[Accent]
    phrases: list[tuple[float, float]]
    level: np.ndarray
    octaves: np.ndarray


def prosody(audio: np.ndarray, sampling_rate: int, segments: Sequence[Segment], frames: int, fps: float) -> Prosody:
    """Find accents and phrases of a clip.

    A vowel is accented where it stands out from the others of its clip in pitch, level and length (each in standard
    deviations, summed), and no neighbour within 0.3 s does so more.

    Args:
        audio ((S,) float), sampling_rate (`int`, Hz): the clip.
        segments: its phones, in s. frames (`int`), fps (`float`): of the motion.
    """
    level = loudness(audio, sampling_rate, frames, fps)
    tone = pitch(audio, sampling_rate, frames, fps)
    voiced = tone > 0
    octaves = np.zeros(frames)
    if voiced.sum() > 5:
        octaves = np.where(voiced, np.log2(np.maximum(tone, 1) / np.median(tone[voiced])).clip(-1, 1), 0)
    phrases: list[tuple[float, float]] = []
    for phone, start, end in segments:
        if phone == SILENCE:
            continue
        if phrases and start - phrases[-1][1] < PAUSE:
            phrases[-1] = (phrases[-1][0], end)
        else:
            phrases.append((start, end))
    vowels = [segment for segment in segments if segment.phone in VOWELS]
    if len(vowels) < 2:
        return Prosody([Accent((s.start + s.end) / 2, 0.5) for s in vowels], phrases, level, octaves)
    measures = []
    high = gaussian(octaves, 1)
    for _, start, end in vowels:
        inside = slice(int(start * fps), max(int(np.ceil(end * fps)), int(start * fps) + 1))
        measures.append((high[inside].max(initial=-1), level[inside].max(initial=0), min(end - start, 0.25)))
    values = np.array(measures)
    standing = ((values - values.mean(0)) / (values.std(0) + 1e-6) * (0.5, 0.3, 0.2)).sum(1)
    times = np.array([(start + end) / 2 for _, start, end in vowels])
    accents = [
        Accent(float(time), float(np.clip(0.4 + 0.5 * value, 0, 1)))
        for time, value in zip(times, standing, strict=True)
        if value > 0.1 and value >= standing[np.abs(times - time) < 0.3].max()
    ]
    return Prosody(accents, phrases, level, octaves)
