# SPDX-License-Identifier: MIT
"""What is decided of lids and gaze once a motion was sampled: on named weights, frame by frame, in NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..blendshapes import LOOK_DEGREES
from ..mesh.geometry import smootherstep


LID_REST, LID_DECISION, LID_SOFTNESS = 0.2, 0.6, 0.1
"""Weights of eyeBlink: lids are lowered no further without a blink; from where on one shuts; width of the decision."""


LID_COMPANIONS = (("eyeBlink", 1.0), ("eyeSquint", 0.15), ("cheekSquint", 0.1))
"""What moves with a lid, and by how much of its weight."""

# Opposite ways of an eye, and which number of a pose (from 1) turns it the first way, with its sign.
_WAYS = (("Up", "Down", 2), ("Out", "In", 1), ("Up", "Down", 2), ("In", "Out", 1))
_LOOKS = tuple(f"eyeLook{way}_{'LLRR'[index]}" for index, pair in enumerate(_WAYS) for way in pair[:2])


@dataclass
class LidMemory:
    """State of the lids in the last frame that `sharpen_blinks` saw: a live motion comes in pieces.

    Args:
        mean ((...) float): of both. shut, reopening ((...) bool): on their way up, or about to be.
    """

    mean: np.ndarray | float = 0.0
    shut: np.ndarray | bool = False
    reopening: np.ndarray | bool = False


def sharpen_blinks(
    weights: np.ndarray, names: Sequence[str], amount: float = 1.0, memory: LidMemory | None = None
) -> np.ndarray:
    """Shut the lids or leave them open where a generated blink is a half one.

    A network that draws blinks at random also draws half ones. What the mean m of both lids is in a frame decides:
    lids are lowered to `LID_REST` at most while m is below `LID_DECISION` - `LID_SOFTNESS` / 2, shut when it is as
    much above, and on a smooth path between. Lids that were shut go up as they were drawn, for as long as m falls. No
    frame needs a later one, so this works live, and the same motion gives the same lids. Squints and cheeks follow the
    lids by the shares of `LID_COMPANIONS`.

    Args:
        weights ((..., T, W) float), names (W `str`): with eyeBlink_L and eyeBlink_R among them.
        amount (`float`, *optional*, defaults to 1.0): 0 leaves the lids as they are.
        memory (`LidMemory`, *optional*): of the frame before the first one; that of the last one afterwards.

    Returns:
        (..., T, W) float of the same type.
    """
    result, column = np.array(weights), {name: index for index, name in enumerate(names)}
    memory = memory or LidMemory()
    mean = (weights[..., column["eyeBlink_L"]] + weights[..., column["eyeBlink_R"]]) / 2
    rise = smootherstep(((mean - LID_DECISION) / LID_SOFTNESS + 0.5).clip(0, 1))
    # Lids reopen while they fall, if they were shut at some frame since they began to.
    before = np.concatenate([np.broadcast_to(memory.mean, mean.shape[:-1])[..., None], mean[..., :-1]], axis=-1)
    up = np.broadcast_to(np.asarray(memory.shut) | np.asarray(memory.reopening), mean.shape[:-1])
    frame = np.arange(1, mean.shape[-1] + 1)
    shut = np.concatenate([np.where(up, 0, -1)[..., None], np.where(rise > 0.5, frame, -1)], axis=-1)
    last_shut = np.maximum.accumulate(shut, axis=-1)
    last_rise = np.maximum.accumulate(np.where(mean < before, 0, frame), axis=-1)
    reopening = last_shut[..., :-1] >= last_rise
    if mean.shape[-1]:
        memory.mean, memory.shut, memory.reopening = mean[..., -1], rise[..., -1] > 0.5, reopening[..., -1]
    for side in "LR":
        old = weights[..., column[f"eyeBlink_{side}"]]
        rest = np.where(reopening, old, np.minimum(old, LID_REST))
        change = amount * (rest + (np.maximum(old, 1.0) - rest) * rise - old)
        for name, share in LID_COMPANIONS:
            if f"{name}_{side}" in column:
                result[..., column[f"{name}_{side}"]] += share * change
    return result


def sees(names: Sequence[str]) -> bool:
    """Tell whether all shapes that turn the eyes are among names."""
    return set(_LOOKS) <= set(names)


def keep_gaze(weights: np.ndarray, names: Sequence[str], missing: np.ndarray) -> np.ndarray:
    """Turn the eyes by what the head does not turn, so that they look where they were to look.

    Args:
        weights ((..., T, W) float), names (W `str`): with all eyeLook* among them.
        missing ((..., T, P) float): the part of the pose that is not shown, yaw and pitch in degrees first.

    Returns:
        (..., T, W) float of the same type.
    """
    result = np.array(weights)
    for first, (plus, minus, axis) in enumerate(_WAYS):
        ways = [names.index(name) for name in _LOOKS[2 * first : 2 * first + 2]]
        degrees = np.array((LOOK_DEGREES[plus], LOOK_DEGREES[minus]), weights.dtype)
        turn = missing[..., abs(axis) - 1] * (1 if axis > 0 else -1)
        angle = weights[..., ways[0]] * degrees[0] - weights[..., ways[1]] * degrees[1] + turn
        result[..., ways] = np.stack((angle, -angle), -1).clip(0) / degrees
    return result
