# SPDX-License-Identifier: MIT
"""Rigid motion of a speaking head: slow sway, nods where the voice is stressed. Seeded, small, smooth."""

import numpy as np

from ..audio.analysis import loudness, pitch
from ..mesh.geometry import smootherstep
from .smoothing import gaussian_filter


LARGEST = 5.9
"""Degrees that the head never turns beyond, in yaw, pitch and roll together."""

SWAY = ((1.5, 0.9, 0.9), (2.0, 1.2, 1.5))
"""Spread of yaw, pitch, roll in degrees, and of x, y, z in mm, for a strength of 1."""


def head_motion(
    audio: np.ndarray | None,
    sampling_rate: int,
    frames: int,
    fps: float,
    rng: np.random.Generator,
    strength: float = 1.0,
) -> np.ndarray:
    """Draw poses for `HeadAnimation.poses` that go with a clip: (frames, 6) float32.

    Sway is noise between 0.05 and 0.4 Hz. A nod goes with some of the peaks of loudness and pitch that stand 0.4 s
    or more apart; it takes 0.2 s down and 0.4 s up. Heads of speakers do both, and nods coincide with stressed
    syllables (Hadar et al. 1983; Munhall et al. 2004); how often and how far is our choice, not measured data.

    Args:
        audio ((S,) float, *optional*), sampling_rate (`int`, Hz): the speech; without it there are no nods.
        frames (`int`), fps (`float`): of the motion.
        rng (`np.random.Generator`): everything random comes from it.
        strength (`float`, *optional*, defaults to 1): factor; the angle stays below `LARGEST` whatever it is.
    """
    if not frames:
        return np.zeros((0, 6), np.float32)
    poses = np.stack([_sway(frames, fps, rng) for _ in range(6)], 1) * np.concatenate(SWAY)
    if audio is not None and len(audio):
        nods, lean = _nods(audio, sampling_rate, frames, fps, rng)
        poses[:, 1] -= nods
        # Who speaks up comes forward a little.
        poses[:, 5] += lean
    poses *= strength
    angle = np.linalg.norm(poses[:, :3], axis=1, keepdims=True)
    poses[:, :3] *= LARGEST * np.tanh(angle / LARGEST) / np.maximum(angle, 1e-9)
    return poses.astype(np.float32)


def _sway(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Draw (frames,) of unit spread: sines of random phase whose periods have no common multiple."""
    hertz = rng.uniform(0.05, 0.4, 6)
    phase, share = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.5, 1, 6) / np.sqrt(hertz)
    waves = share * np.sin(2 * np.pi * hertz * np.arange(frames)[:, None] / fps + phase)
    return waves.sum(1) / np.sqrt((share**2).sum() / 2)


def _nods(
    audio: np.ndarray, sampling_rate: int, frames: int, fps: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw downward pitch in degrees and forward lean in mm, each (frames,)."""
    level = loudness(audio, sampling_rate, frames, fps)
    tone = np.zeros(frames)
    span = max(1, round(30 * fps))
    for start in range(0, frames, span):  # a piece at a time: the windows of an hour would not fit into memory
        stop = min(start + span, frames)
        piece = audio[round(start / fps * sampling_rate) : round(stop / fps * sampling_rate)]
        if len(piece) > sampling_rate // 10:
            tone[start:stop] = pitch(piece, sampling_rate, stop - start, fps)
    voiced = tone > 0
    raised = np.where(voiced, np.log2(np.maximum(tone, 1) / np.median(tone[voiced])), 0) if voiced.any() else tone
    accent = gaussian_filter(level * (1 + raised.clip(-0.5, 0.5)), 0.06 * fps)
    times = np.arange(frames) / fps
    nods, last = np.zeros(frames), -1.0
    inside = np.arange(1, max(frames - 1, 1))
    for peak in inside[(accent[inside] > accent[inside - 1]) & (accent[inside] >= accent[inside + 1])]:
        if accent[peak] < 0.55 or times[peak] - last < 0.4:
            continue
        last = times[peak]
        if rng.random() < 0.6:
            depth = rng.uniform(0.7, 2.2) * min(accent[peak], 1.3)
            down, up = (times - last) / 0.2 + 1, 1 - (times - last) / 0.4
            nods += depth * smootherstep(np.minimum(down, up).clip(0, 1))
    return nods, 2.0 * gaussian_filter(level, 0.4 * fps)
