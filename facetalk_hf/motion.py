# SPDX-License-Identifier: MIT
"""A finished motion changed: played at another frame rate, calmer, or with a mouth that rests in silence."""

import math

import numpy as np
from scipy.interpolate import PchipInterpolator

from .animation import HeadAnimation
from .errors import FaceTalkError
from .smoothing import gaussian_filter


MOVING = ("weights", "expressions", "landmarks", "lip_aperture")
"""Fields of `HeadAnimation` that have a row for every frame."""


def retime(animation: HeadAnimation, fps: float) -> HeadAnimation:
    """The same motion, at the same speed, sampled at another frame rate; the sound stays as it is.

    Monotone cubic interpolation (Fritsch and Carlson 1980): smooth, exact at the old frames' times, and never beyond
    the frames on either side, so that lips which touch do not cross and a lid does not open further than it was.
    A clip of T frames gets ceil(T * fps / old fps); after the last old frame its pose is held.

    Args:
        animation (`HeadAnimation`): any motion. fps (`float`): new frame rate, above 0 and at most 1000.

    Raises:
        FaceTalkError: a frame rate that is none.
    """
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise FaceTalkError(f"fps must be above 0 and at most 1000, not {fps:g}")
    # The small number keeps 24 -> 25 -> 24 from growing by a frame through rounding.
    count = math.ceil(animation.num_frames * fps / animation.fps - 1e-6)
    times = np.minimum(np.arange(count) / fps, max(animation.num_frames - 1, 0) / animation.fps)

    def sample(values: np.ndarray) -> np.ndarray:
        if len(values) < 2:
            return np.repeat(values, count, axis=0)
        return PchipInterpolator(np.arange(len(values)) / animation.fps, values, axis=0)(times).astype(np.float32)

    return _change(animation, sample, fps=float(fps))


def smooth(animation: HeadAnimation, seconds: float) -> HeadAnimation:
    """The motion averaged over time with a Gaussian, against jitter; short closures of the lips lose some depth.

    Args:
        animation (`HeadAnimation`): any motion. seconds (`float`): standard deviation of the Gaussian; 0.02 to 0.04
            calms, more than 0.1 mumbles. 0 changes nothing.

    Raises:
        FaceTalkError: a width that is negative or not finite.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise FaceTalkError(f"smoothing must be a number of seconds of at least 0, not {seconds}")
    return _change(animation, lambda values: gaussian_filter(values, seconds * animation.fps))


def _change(animation: HeadAnimation, function, **fields: object) -> HeadAnimation:
    """Apply a function of (T, ...) arrays to everything that moves."""
    values = {name: getattr(animation, name) for name in MOVING}
    return animation.replace(**{n: function(v) for n, v in values.items() if v is not None}, **fields)
