# SPDX-License-Identifier: MIT
"""Blinks: drawn anew, taken out, and half ones decided."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from .eyes import LID_COMPANIONS, LID_REST, LidMemory, sharpen_blinks


# Lids are decided in `eyes`; from here they can be had as before.
__all__ = [
    "FINE", "LID_COMPANIONS", "LID_REST", "LidMemory", "blink_course", "blinks", "replace_blinks", "seen_in_frames",
    "sharpen_blinks",
]  # fmt: skip

FINE = 10
"""Moments of a frame at which a blink's course is computed."""


def blinks(frames: int, fps: float, rng: np.random.Generator, rate: float = 15.0) -> np.ndarray:
    """Draw lid closure (frames, 2) in 0..1 for left and right: a renewal process of `rate` blinks a minute.

    From one blink to the next it takes between half and one and a half times the mean: 2 to 6 s at the default rate.
    """
    if rate <= 0:
        return np.zeros((frames, 2))
    wait = 15.0 / rate
    times = np.arange(frames * FINE) / (fps * FINE)
    result = np.zeros((len(times), 2))
    at = rng.uniform(0.3, 4.0) * wait
    while at < frames / fps:
        close, hold, reopen = rng.uniform(0.07, 0.10), rng.uniform(0.02, 0.05), rng.uniform(0.13, 0.20)
        depth = rng.uniform(0.94, 1.0)
        for side in range(2):
            time = times - at - (rng.uniform(0, 0.008) if side else 0)
            result[:, side] = np.maximum(result[:, side], blink_course(time, close, hold, reopen, depth))
        at += rng.uniform(2, 6) * wait
    return seen_in_frames(result)


def blink_course(time: np.ndarray, close: float, hold: float, reopen: float, depth: float = 1.0) -> np.ndarray:
    """Compute a blink's closure 0..depth at times (T,) in s after its start: smooth ramps, times in s."""
    ramp = np.minimum(time / close, 1 - (time - close - hold) / reopen).clip(0, 1)
    return depth * ramp * ramp * (3 - 2 * ramp)


def seen_in_frames(closure: np.ndarray) -> np.ndarray:
    """Reduce closures (T * `FINE`, ...) within frames to those of T frames.

    The mean over a frame, drawn towards its maximum: at 24 fps a lid would otherwise hardly ever be seen shut.
    """
    parts = closure.reshape(-1, FINE, *closure.shape[1:])
    return 0.3 * parts.mean(1) + 0.7 * parts.max(1)


def replace_blinks(
    weights: np.ndarray, names: Sequence[str], fps: float, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Take a motion's own blinks out and put `rate` blinks a minute in.

    What stays below a lid's fall and rise within 0.6 s (a morphological opening of the track) is no blink but a lid
    that is lowered with the gaze, or shut on purpose: it stays. Squints and cheeks follow the lids by the shares of
    `LID_COMPANIONS`.

    Args:
        weights ((T, W) float), names (W `str`): with eyeBlink_L and eyeBlink_R among them.
        fps (`float`): frame rate. rate (`float`): blinks a minute, 0 for none.
        rng (`np.random.Generator`): everything random comes from it.

    Returns:
        (T, W) float of the same type.
    """
    result, column = np.array(weights), {name: index for index, name in enumerate(names)}
    width = 2 * round(0.3 * fps) + 1
    new = blinks(len(weights), fps, rng, rate)
    for side, closed in zip("LR", new.T, strict=True):
        old = weights[:, column[f"eyeBlink_{side}"]]
        resting = maximum_filter1d(minimum_filter1d(old, width, mode="nearest"), width, mode="nearest")
        # Below a tenth it is tremor, not a blink: leave the track as lively as it was.
        kept = np.where(gaussian_filter1d(1.0 * (old - resting > 0.1), 0.04 * fps) > 0.05, resting, old)
        change = np.maximum(kept, closed) - old
        for name, share in LID_COMPANIONS:
            if f"{name}_{side}" in column:
                result[:, column[f"{name}_{side}"]] += share * change
    return result
