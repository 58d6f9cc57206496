# SPDX-License-Identifier: MIT
"""Measures of a motion by itself: spread over noise, speed, jerk, beats, seams. Pure functions of numpy arrays.

The last axis of a motion is a vector whose length counts; what lies between it and time is averaged over. So (T, V, 3)
vertices in mm give mm, and (T, D) codes the length of a code.
"""

from collections.abc import Sequence

import numpy as np


def diversity(samples: np.ndarray) -> float:
    """Compute the mean over pairs i < j of the mean over t and v of |x_i - x_j|; (K, T, ..., 3), 0 for K = 1.

    FaceDiffuser's formula, but over noise: there the pairs are speaking styles.
    """
    samples = np.asarray(samples)
    pairs = [
        np.linalg.norm(samples[i] - samples[j], axis=-1).mean(dtype=np.float64)
        for i in range(len(samples))
        for j in range(i)
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def speed(motion: np.ndarray, fps: float) -> float:
    """Compute the mean over t and v of |x_t+1 - x_t| fps, (T, ..., 3); units a second. 0 for a single frame."""
    return _mean_length(np.diff(motion, axis=0)) * fps if len(motion) > 1 else 0.0


def jerk(motion: np.ndarray, fps: float) -> float:
    """Compute the mean over t and v of |third difference| fps^3, (T, ..., 3), units / s^3; 0 below four frames."""
    return _mean_length(np.diff(np.asarray(motion, np.float64), n=3, axis=0)) * fps**3 if len(motion) > 3 else 0.0


def seam_speed_ratio(motion: np.ndarray, seams: np.ndarray | Sequence[int]) -> float:
    """Compute the mean |x_s - x_s-1| at seams s over its mean elsewhere, (T, ..., 3): 1 where no seam shows.

    Args:
        seams (`(n,)` int): first frames of the windows that a motion was put together from; 0 is none.

    Returns:
        1 where nothing can be compared; infinite where only the seams move.
    """
    steps = _steps(motion)
    at = np.zeros(len(steps), bool)
    at[[seam - 1 for seam in seams if 0 < seam <= len(steps)]] = True
    if at.all() or not at.any():
        return 1.0
    inner, outer = steps[~at].mean(), steps[at].mean()
    return float(outer / inner) if inner > 0 else (1.0 if outer == 0 else np.inf)


def motion_beats(motion: np.ndarray, fps: float) -> np.ndarray:
    """Find the beats of a motion (T, ..., 3), seconds (n,) float: local minima of the speed over its largest value.

    A beat between frames t and t + 1 is at (t + 1) / fps, the boundary of the two. A plateau counts at its start.
    """
    if len(motion) < 4:
        return np.zeros(0)
    steps = _steps(motion)
    steps = steps / max(steps.max(), 1e-12)
    lowest = (steps[1:-1] < steps[:-2] - 1e-9) & (steps[1:-1] <= steps[2:] + 1e-9)
    return (np.flatnonzero(lowest) + 2) / fps


def audio_onsets(audio: np.ndarray, sampling_rate: int, threshold: float = 0.1) -> np.ndarray:
    """Find the seconds (n,) float at which sound sets in: peaks of the spectral flux.

    Flux: sum over frequencies of the rise of log(1 + 100 |X|) from one 10 ms hop to the next, windows of 32 ms. A peak
    is the largest within 60 ms, above its mean over 200 ms by `threshold` of the clip's largest flux.

    Args:
        audio (`(S,)` float), sampling_rate (`int`, Hz): the clip.
    """
    hop, width = round(0.01 * sampling_rate), round(0.032 * sampling_rate)
    padded = np.pad(np.asarray(audio, np.float32), (width // 2, width))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(audio) : hop]
    spectrum = np.log1p(100 * np.abs(np.fft.rfft(frames * np.hanning(width))) / width)
    flux = np.maximum(np.diff(spectrum, axis=0), 0).sum(1)
    if len(flux) < 3 or flux.max() <= 1e-6:
        return np.zeros(0)
    largest = np.lib.stride_tricks.sliding_window_view(np.pad(flux, 3), 7).max(1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(flux, 10, mode="edge"), 21).mean(1)
    return (np.flatnonzero((flux == largest) & (flux > around + threshold * flux.max())) + 1) * hop / sampling_rate


def beat_alignment(onsets: np.ndarray, beats: np.ndarray, sigma: float = 0.1) -> float:
    """Compute the mean over onsets a of exp(-min_k (a - beat_k)^2 / (2 sigma^2)), in 0..1, as SAiD (2023) codes it.

    Args:
        onsets (`(n,)` float): of the sound, see [`audio_onsets`]. beats (`(m,)` float): see [`motion_beats`].
        sigma (`float`): tolerance, s.

    Returns:
        0 where one of them is empty.
    """
    if not len(onsets) or not len(beats):
        return 0.0
    distance = np.abs(np.asarray(onsets)[:, None] - np.asarray(beats)[None]).min(1)
    return float(np.exp(-(distance**2) / (2 * sigma**2)).mean())


def _steps(motion: np.ndarray) -> np.ndarray:
    """(T - 1,): mean over what moves of |x_t+1 - x_t|."""
    lengths = np.linalg.norm(np.diff(np.asarray(motion, np.float64), axis=0), axis=-1)
    return lengths.reshape(len(motion) - 1, -1).mean(1)


def _mean_length(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=-1).mean(dtype=np.float64))
