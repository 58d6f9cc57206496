# SPDX-License-Identifier: MIT
"""Where an expression may move the head, and how motion over time is calmed. Pure numpy functions."""

import numpy as np


def gaussian_filter(values: np.ndarray, sigma: float) -> np.ndarray:
    """Average over time with a Gaussian of `sigma` frames; the ends are mirrored, so a constant stays constant.

    Args: values ((T, ...) float), sigma (frames; 0 returns a copy). Returns: (T, ...) of the same dtype.
    """
    if sigma <= 0 or len(values) < 2:
        return np.array(values)
    radius = max(1, int(np.ceil(3.0 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return _convolve(values, kernel / kernel.sum())


def savitzky_golay_filter(values: np.ndarray, window: int = 5, order: int = 2) -> np.ndarray:
    """Local polynomial fit over time: removes jitter and keeps the height of short peaks such as lip closures.

    Savitzky and Golay 1964. Args: values ((T, ...) float), window (odd number of frames), order (below `window`).
    """
    if window % 2 == 0 or not 0 <= order < window:
        raise ValueError("window must be odd and larger than order")
    if len(values) < 2:
        return np.array(values)
    steps = np.arange(window) - window // 2
    kernel = np.linalg.pinv(np.vander(steps, order + 1, increasing=True))[0]
    return _convolve(values, kernel)


def one_euro_filter(
    values: np.ndarray, fps: float, min_cutoff: float = 1.5, beta: float = 0.3, derivative_cutoff: float = 1.0
) -> np.ndarray:
    """Causal low-pass whose cut-off rises with speed: steady when still, prompt when moving (Casiez et al. 2012).

    Args:
        values ((T, ...) float): a signal over time. fps (`float`): its frame rate.
        min_cutoff (`float`, Hz): cut-off at rest; lower is calmer. beta (`float`): how fast the cut-off rises.
        derivative_cutoff (`float`, Hz): cut-off of the speed estimate.
    """
    result = np.array(values, dtype=np.result_type(values, np.float32))
    speed = np.zeros_like(result[0]) if len(result) else None
    slow = _one_euro_alpha(derivative_cutoff, fps)
    for t in range(1, len(result)):
        speed = speed + slow * ((values[t] - values[t - 1]) * fps - speed)
        alpha = _one_euro_alpha(min_cutoff + beta * np.abs(speed), fps)
        result[t] = result[t - 1] + alpha * (values[t] - result[t - 1])
    return result


def _one_euro_alpha(cutoff: float | np.ndarray, fps: float) -> float | np.ndarray:
    return 1.0 / (1.0 + fps / (2.0 * np.pi * cutoff))


def _convolve(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate along the first axis with a kernel of odd length, ends mirrored about the last sample."""
    values = np.asarray(values)
    radius, count = len(kernel) // 2, len(values)
    # Reflection with period 2 (T - 1) also serves clips shorter than the kernel.
    padded = values[_reflect(np.arange(-radius, count + radius), count)]
    result = np.zeros(values.shape, np.float64)
    for offset, weight in enumerate(kernel):
        result += weight * padded[offset : offset + count]
    return result.astype(np.result_type(values, np.float32))


def _reflect(index: np.ndarray, count: int) -> np.ndarray:
    folded = np.abs(index) % (2 * count - 2)
    return np.where(folded < count, folded, 2 * count - 2 - folded)
