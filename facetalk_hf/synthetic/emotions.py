# SPDX-License-Identifier: MIT
"""Expressions of the six emotions after FACS, as weights of the head's shapes with a dominance beside speech.

Prototypes are those of EMFACS (Ekman, Friesen and Hager 2002; Friesen and Ekman 1983) by action units. How strong a
unit is in a full expression, and what shape stands for it, is our choice. They are conventions of how emotions are
drawn, not findings about what faces of people who feel them do (Barrett et al. 2019).
"""

import numpy as np

from ..blendshapes import EXPRESSIONS, INDEX
from ..conditions import CONDITIONS, EMOTIONS
from ..phones.visemes import Expression


UNITS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.0},
    2: {"browOuterUp": 1.0},
    4: {"browDown": 1.0},
    5: {"eyeWide": 1.0},
    6: {"cheekSquint": 1.0, "eyeSquint": 0.35},
    7: {"eyeSquint": 1.0},
    9: {"noseSneer": 1.0, "browDown": 0.2},
    10: {"mouthUpperUp": 1.0},
    12: {"mouthSmile": 1.0, "mouthDimple": 0.12},
    15: {"mouthFrown": 1.0},
    17: {"mouthShrugLower": 1.0},
    20: {"mouthStretch": 1.0},
    23: {"mouthPress": 1.0},
    26: {"jawOpen": 1.0},
}
"""Action units as weights; both sides of a shape that has two."""

PROTOTYPES: dict[str, dict[int, float]] = {
    "happy": {6: 0.7, 12: 0.8},
    "sad": {1: 0.9, 4: 0.3, 15: 0.75, 17: 0.35},
    "angry": {4: 1.0, 5: 0.3, 7: 0.65, 17: 0.35, 23: 0.7},
    "afraid": {1: 0.85, 2: 0.6, 4: 0.35, 5: 0.8, 20: 0.75, 26: 0.12},
    "disgusted": {4: 0.35, 9: 0.9, 10: 0.45, 15: 0.4, 17: 0.3},
    "surprised": {1: 0.9, 2: 0.9, 5: 0.75, 26: 0.28},
}
"""Units of a full expression and how strong they are."""

AFFECTS: dict[tuple[str, int], dict[str, float]] = {
    ("valence", 1): {"mouthSmile": 0.3, "cheekSquint": 0.2},
    ("valence", -1): {"mouthFrown": 0.3, "browDown": 0.2},
    ("arousal", 1): {"eyeWide": 0.3, "browOuterUp": 0.12, "browInnerUp": 0.12},
    ("arousal", -1): {"eyeSquint": 0.15},
}
"""What lies underneath: weights at an end of an axis."""

DOMINANCE = {
    "mouthSmile": 0.9, "mouthFrown": 1.0, "mouthDimple": 0.9, "mouthStretch": 0.7, "mouthUpperUp": 0.5,
    "noseSneer": 1.2, "mouthShrugLower": 0.8, "mouthPress": 0.6, "jawOpen": 0.2,
}  # fmt: skip
"""Beside that of phones, about 1: corners of the mouth are free in speech, the jaw is not."""

LOPSIDED = 0.35
"""Share by which an asymmetry of 1 favours a side."""


def _vector(shapes: dict[str, float]) -> np.ndarray:
    result = np.zeros(len(EXPRESSIONS))
    for name, value in shapes.items():
        for full in (name, f"{name}_L", f"{name}_R"):
            if full in INDEX:
                result[INDEX[full]] = value
    return result


def prototype(emotion: str) -> np.ndarray:
    """Add up the action units of a full expression, (53,) float in 0..1."""
    units = (_vector({name: amount * share for name, share in UNITS[unit].items()})
             for unit, amount in PROTOTYPES[emotion].items())  # fmt: skip
    return sum(units, np.zeros(len(EXPRESSIONS))).clip(0, 1)


_FULL = np.stack([prototype(name) for name in EMOTIONS])
_STRENGTH = _vector(DOMINANCE)


def onset(told: np.ndarray, fps: float, rise: float = 0.25, fall: float = 0.6) -> np.ndarray:
    """Follow what is told (T, C) as faces do: an onset is quicker than an offset, a first-order lag of s each.

    The first frame is reached at once: a clip begins in the middle of something.
    """
    result = np.array(told, float)
    up, down = 1 - np.exp(-1 / (fps * rise)), 1 - np.exp(-1 / (fps * fall))
    for index in range(1, len(result)):
        step = told[index] - result[index - 1]
        result[index] = result[index - 1] + np.where(np.abs(told[index]) > np.abs(result[index - 1]), up, down) * step
    return result


def lopsided(weights: np.ndarray, asymmetry: np.ndarray) -> np.ndarray:
    """Favour a side: weights (T, 53), asymmetry (T,) in -1 (the subject's right) to 1 (left)."""
    result = weights.copy()
    for index, name in enumerate(EXPRESSIONS):
        if name.endswith(("_L", "_R")):
            result[:, index] *= 1 + (LOPSIDED if name.endswith("_L") else -LOPSIDED) * asymmetry
    return result


def expression_of(conditions: np.ndarray, fps: float, wander: np.ndarray | None = None) -> Expression:
    """Show what is told: target weights and their dominance beside speech.

    Several emotions are mixed by their amounts; where these sum to more than 1 they share what one can have.

    Args:
        conditions ((T, C) float): in the order of `CONDITIONS`.
        fps (`float`): frames a second.
        wander ((T,) float, *optional*): factor about 1 by which the intensity varies at its apex.
    """
    shown = onset(conditions, fps)
    amounts = shown[:, : len(EMOTIONS)] / np.maximum(shown[:, : len(EMOTIONS)].sum(1, keepdims=True), 1)
    if wander is not None:
        amounts = (amounts * wander[:, None]).clip(0, 1)
    target = amounts @ _FULL
    for (axis, sign), shapes in AFFECTS.items():
        level = np.maximum(sign * shown[:, CONDITIONS.index(axis)], 0)
        layer = level[:, None] * _vector(shapes)
        target = target + (1 - target) * layer  # underneath: it adds where nothing is shown yet
    target = lopsided(target, shown[:, CONDITIONS.index("asymmetry")]).clip(0, 1)
    # A trace of an expression is a trace in the blend as well: without this a hint of a smile would halve the speech.
    present = (target / 0.25).clip(0, 1)
    return Expression(target, _STRENGTH * present * (2 - present))
