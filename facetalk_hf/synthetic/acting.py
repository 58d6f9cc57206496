# SPDX-License-Identifier: MIT
"""A clip is acted: emotion and style are drawn, and the rules for mouth, face, eyes and head are told of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..audio.analysis import loudness
from ..conditions import AFFECT, BOUNDS, CONDITIONS, EMOTIONS, STYLE
from ..phones.segments import Segment
from ..phones.visemes import mouth_weights
from .emotions import expression_of
from .gaze import saccades
from .head_pose import speaking_head
from .prosody import prosody
from .upper_face import accompany, wander


NEUTRAL = 0.5
"""Share of clips that are told nothing but zeros."""


class Performance(NamedTuple):
    """Weights (T, 53), closure (T,) and head pose (T, 6) of a clip, each float32."""

    weights: np.ndarray
    closure: np.ndarray
    pose: np.ndarray


def draw_conditions(frames: int, fps: float, rng: np.random.Generator, neutral: float = NEUTRAL) -> np.ndarray:
    """Draw what a clip is told, (frames, C) float32 in the order of `CONDITIONS`.

    Half of the clips are neutral. Of the others most have one emotion or two, some a valence and an arousal of their
    own, and each style is drawn for half of them; a third of them change over time. Nothing follows from the sound:
    what a motion shows is to be decided by what it is told.
    """
    result = np.zeros((frames, len(CONDITIONS)), np.float32)
    if rng.random() < neutral:
        return result

    def put(name: str, value: float) -> None:
        column = CONDITIONS.index(name)
        if rng.random() < 0.65:
            result[:, column] = value
            return
        low, high = BOUNDS[name]
        keys = int(rng.integers(2, 4))
        places = np.sort(rng.uniform(0, frames / fps, keys))
        other = np.clip(value * rng.choice((0.0, 0.3, 0.6, 1.0), keys), low, high)
        result[:, column] = np.interp((np.arange(frames) + 0.5) / fps, places, other)

    if rng.random() < 0.85:
        first, second = rng.permutation(len(EMOTIONS))[:2]
        amount = rng.uniform(0.25, 1.0)
        if rng.random() < 0.25:
            put(EMOTIONS[second], (share := rng.uniform(0.2, 0.6)) * amount)
            amount *= 1 - share
        put(EMOTIONS[first], amount)
    if rng.random() < 0.4:
        for name in AFFECT:
            put(name, rng.uniform(-1, 1))
    for name in STYLE:
        if rng.random() < 0.5:
            put(name, rng.uniform(-1, 1))
    return result


def perform(
    segments: Sequence[Segment],
    audio: np.ndarray,
    sampling_rate: int,
    frames: int,
    fps: float,
    conditions: np.ndarray,
    rng: np.random.Generator,
) -> Performance:
    """Act a clip by rules.

    Args:
        segments: its phones, in s. audio ((S,) float), sampling_rate (`int`, Hz): its sound.
        frames (`int`), fps (`float`): of the motion.
        conditions ((frames, C) float): what is told, in the order of `CONDITIONS`.
        rng (`np.random.Generator`): all chance comes from it.
    """
    told = dict(zip(CONDITIONS, np.asarray(conditions, float).T, strict=True))
    level = loudness(audio, sampling_rate, frames, fps)
    sounds = prosody(audio, sampling_rate, segments, frames, fps)
    # An apex is not held still: its intensity varies by some per cent, over a second or two.
    apex = (1 + 0.1 * wander(frames, fps, 1.5, rng)).clip(0.7, 1.2)
    expression = expression_of(conditions, fps, apex) if np.any(conditions) else None
    loud = (level * (1 + 0.25 * told["energy"] + 0.1 * told["arousal"])).clip(0, 1.5)
    weights, closure = mouth_weights(segments, frames, fps, loud, expression, told["articulation"])
    pose = speaking_head(sounds, conditions, frames, fps, rng)
    restless = float(np.exp(0.35 * (told["energy"] + told["arousal"]).mean()))
    averse = float(1 + 0.6 * (told["sad"] + told["disgusted"] + told["afraid"]).mean() - 0.5 * told["angry"].mean())
    world, large = saccades(frames, fps, rng, restless, averse, lean=(0.0, -6.0 * float(told["sad"].mean())))
    # Eyes in the head make up for its turns, so that what is looked at stays where it is.
    inside = world - pose[:, :2]
    face = accompany(weights, sounds, (inside, large), fps, rng, np.asarray(conditions, float), expression)
    return Performance(face, closure, pose)
