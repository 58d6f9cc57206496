# SPDX-License-Identifier: MIT
"""A finished motion changed: played at another frame rate, calmer, or with a mouth that rests in silence."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..animation.head_animation import HeadAnimation
from ..audio.analysis import loudness
from ..blendshapes import MOUTH
from ..errors import FaceTalkError
from .smoothing import gaussian_filter


if TYPE_CHECKING:
    from ..models.nphm import NPHMModel


MOVING = ("weights", "expressions", "landmarks", "lip_aperture", "poses")
"""Fields of `HeadAnimation` that have a row for every frame."""


def retime(animation: HeadAnimation, fps: float) -> HeadAnimation:
    """Sample a motion at another frame rate, at the same speed; the sound stays as it is.

    Monotone cubic interpolation (Fritsch and Carlson 1980): smooth, exact at the old frames' times, and never beyond
    the frames on either side, so that lips which touch do not cross and a lid does not open further than it was.
    A clip of T frames gets ceil(T * fps / old fps); after the last old frame its pose is held.

    Args:
        animation (`HeadAnimation`): any motion. fps (`float`): new frame rate, above 0 and at most 1000.

    Raises:
        FaceTalkError: a frame rate out of that range.
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
    """Average a motion over time with a Gaussian, against jitter; short closures of the lips lose some depth.

    Args:
        animation (`HeadAnimation`): any motion. seconds (`float`): standard deviation of the Gaussian; 0.02 to 0.04
            calms, more than 0.1 mumbles. 0 changes nothing.

    Raises:
        FaceTalkError: a width that is negative or not finite.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise FaceTalkError(f"smoothing must be a number of seconds of at least 0, not {seconds}")
    return _change(animation, lambda values: gaussian_filter(values, seconds * animation.fps))


def speech_gate(
    audio: np.ndarray, sampling_rate: int, frames: int, fps: float, hold: float = 0.15, fade: float = 0.15
) -> np.ndarray:
    """Tell speech from silence: 1 in speech and `hold` seconds around it, else 0, with `fade` seconds between them.

    Speech is what is less than 29 dB below the clip's loud parts; a clip that is quieter than -60 dB of full scale
    has none. Pauses shorter than twice `hold` stay open, so that consonants are left alone.

    Args:
        audio ((S,) float), sampling_rate (`int`, Hz): the clip. frames (`int`), fps (`float`): of the motion.
        hold, fade (`float`, seconds): see above.

    Returns: (frames,) float32 in 0..1.
    """
    times = np.arange(frames) / fps
    spoken = times[loudness(audio, sampling_rate, frames, fps) > 0.1]
    if not len(spoken):
        return np.zeros(frames, np.float32)
    after = np.searchsorted(spoken, times)
    before = np.abs(times - spoken[np.maximum(after - 1, 0)])
    distance = np.minimum(before, np.abs(spoken[np.minimum(after, len(spoken) - 1)] - times))
    closed = ((distance - hold) / fade).clip(0, 1)
    return (1 - closed * closed * (3 - 2 * closed)).astype(np.float32)


def rest_in_silence(
    animation: HeadAnimation, head: "NPHMModel", decode: Callable[[np.ndarray, np.ndarray], HeadAnimation]
) -> HeadAnimation:
    """Close the mouth where nobody speaks (`speech_gate`); brows, lids and gaze go on.

    Args:
        animation (`HeadAnimation`): with sound and the codes that it was decoded from.
        head (`NPHMModel`), decode (`Callable`): what decoded it, `pipe.head` and `pipe.decode`.

    Raises:
        FaceTalkError: no sound or no codes, or a head whose shapes have no names.
    """
    names = head.config["expression_names"]
    if names is None or animation.expressions is None or animation.audio is None or animation.identity is None:
        raise FaceTalkError(
            "resting in silence needs the sound, the codes that were decoded and a head with named shapes"
        )
    gate = speech_gate(animation.audio, animation.sampling_rate, animation.num_frames, animation.fps)
    basis = head.expression_basis.detach().float().cpu().numpy()
    mouth = np.isin(names, MOUTH)
    weights = animation.expressions @ basis[:, mouth]
    codes = animation.expressions - ((1 - gate)[:, None] * weights) @ basis[:, mouth].T
    sound = {"audio": animation.audio, "sampling_rate": animation.sampling_rate}
    return decode(codes, animation.identity).replace(fps=animation.fps, seed=animation.seed, **sound)


def _change(animation: HeadAnimation, function: Callable[[np.ndarray], np.ndarray], **fields: object) -> HeadAnimation:
    """Apply a function of (T, ...) arrays to everything that moves."""
    values = {name: getattr(animation, name) for name in MOVING}
    return animation.replace(**{n: function(v) for n, v in values.items() if v is not None}, **fields)
