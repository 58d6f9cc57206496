# SPDX-License-Identifier: MIT
"""Rules for the head of a speaker: postures that change with phrases, nods on accents, sway, breath in pauses."""

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..conditions import CONDITIONS, POSE
from ..mesh.geometry import smootherstep
from .prosody import Prosody


# Spread of a posture and of the sway about it, in degrees and mm. Speaking heads turn by some degrees about each axis,
# mostly up and down (Munhall et al. 2004; Yehia et al. 2002); the numbers are ours, no measured pose was at hand.
POSTURE = np.array((3.2, 1.8, 1.8, 2.0, 1.0, 2.5))
SWAY = np.array((0.8, 0.6, 0.6, 1.0, 0.6, 1.0))
LEANS = {
    "happy": (0, 1.0, 1.5, 0, 1, 2), "sad": (0, -5.0, 1.5, 0, -2, -2), "angry": (0, -2.5, 0, 0, -1, 6),
    "afraid": (0, 1.0, 0, 0, -1, -6), "disgusted": (4.0, 1.5, -1.5, 1, 0, -5), "surprised": (0, 2.5, 0, 0, 2, -3),
}  # fmt: skip
"""Posture of a full expression, added to all others: our choice."""

LARGEST = 14.0
"""Degrees that no turn goes beyond."""


def speaking_head(
    sounds: Prosody, conditions: np.ndarray, frames: int, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the head's pose, (frames, 6) float32 in the order of `facetalk_hf.conditions.POSE`.

    A new posture is taken with about two of three phrases, over 0.5 to 1.1 s around their start. An accent may come
    with a nod, down in 0.15 s to its peak and up in 0.35 s (as Hadar et al. 1983 and Munhall et al. 2004 found them to
    coincide), or a small turn. In a pause the head settles; breath lifts it by a millimetre before the next phrase.

    Args:
        sounds ([`Prosody`]): of the clip.
        conditions ((frames, C) float): what is told, in the order of `CONDITIONS`: emotions lean, energy and arousal
            make movements larger.
        rng (`np.random.Generator`): all chance comes from it.
    """
    told = dict(zip(CONDITIONS, conditions.T, strict=True))
    liveliness = np.exp(0.55 * told["energy"] + 0.3 * told["arousal"])
    times = (np.arange(frames) + 0.5) / fps
    speaking = np.zeros(frames)
    for start, end in sounds.phrases:
        speaking[(times >= start) & (times < end)] = 1
    speaking = gaussian_filter1d(speaking, 0.25 * fps)

    pose = np.zeros((frames, len(POSE)))
    current = rng.standard_normal(6) * POSTURE * 0.7
    pose += current
    for start, _ in sounds.phrases:
        if rng.random() < 0.65:
            # Towards the listener rather than further away.
            target = 0.35 * current + rng.standard_normal(6) * POSTURE * 0.85
            span = rng.uniform(0.5, 1.1)
            pose += smootherstep(((times - start + 0.4 * span) / span).clip(0, 1))[:, None] * (target - current)
            current = target
    pose += _sway(frames, fps, rng) * SWAY * (0.4 + 0.6 * speaking)[:, None]
    for accent in sounds.accents:
        depth = accent.strength * rng.uniform(1.2, 4.2)
        down, up = (times - accent.time) / 0.15 + 1, 1 - (times - accent.time) / 0.35
        course = smootherstep(np.minimum(down, up).clip(0, 1))
        kind = rng.random()
        if kind < 0.6:
            pose[:, 1] -= depth * course
            pose[:, 5] += 0.4 * depth * course
        elif kind < 0.8:
            pose[:, int(rng.choice((0, 2)))] += rng.choice((-1, 1)) * 0.8 * depth * course
    pose *= liveliness[:, None]
    for (_, end), (begin, _) in pairwise(sounds.phrases):
        if begin - end < 0.3:
            continue
        breath = smootherstep(((times - (begin - 0.45)) / 0.4).clip(0, 1)) * smootherstep(
            (1 - (times - begin) / 0.9).clip(0, 1)
        )
        pose[:, 4] += 1.2 * breath
        pose[:, 1] += 0.7 * breath
    lean = sum(told[name][:, None] * np.array(value, float) for name, value in LEANS.items())
    pose += gaussian_filter1d(np.asarray(lean, float), 0.3 * fps, axis=0, mode="nearest")
    pose[:, 2] += 2.5 * told["asymmetry"]
    pose[:, 1] -= 2.0 * np.maximum(-told["energy"], 0)
    turn = np.linalg.norm(pose[:, :3], axis=1, keepdims=True)
    pose[:, :3] *= LARGEST * np.tanh(turn / LARGEST) / np.maximum(turn, 1e-9)
    return pose.astype(np.float32)


def _sway(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit spread below about 0.5 Hz, (frames, 6)."""
    margin = int(4 * fps)
    noise = gaussian_filter1d(rng.standard_normal((frames + 2 * margin, 6)), 0.35 * fps, axis=0)[margin:-margin]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * 0.35 * fps)
