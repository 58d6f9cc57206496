# SPDX-License-Identifier: MIT
"""Numbers for the curves below the video: loudness of the sound, a few shapes of the face."""

import numpy as np


SHAPES = {
    "jawOpen": ("jawOpen",),
    "mouthPucker": ("mouthPucker",),
    "mouthSmile": ("mouthSmile_L", "mouthSmile_R"),
    "eyeBlink": ("eyeBlink_L", "eyeBlink_R"),
}
"""Curves by their name on the page: the mean of these targets."""


def sound_curve(audio: np.ndarray, count: int = 400) -> list[float]:
    """Peaks of a clip (S,) in `count` equal parts, 0..1 of its loudest."""
    edges = np.linspace(0, len(audio), min(count, len(audio)) + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(np.abs(audio), edges)
    return [round(float(value), 3) for value in peaks / max(float(peaks.max()), 1e-6)]


def motion_curves(weights: np.ndarray, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Those of `SHAPES` that a motion with weights (T, R) of these names has, one number a frame."""
    curves = {}
    for label, targets in SHAPES.items():
        columns = [names.index(name) for name in targets if name in names]
        if columns:
            curves[label] = [round(float(value), 3) for value in weights[:, columns].mean(1)]
    return curves
