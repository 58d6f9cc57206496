# SPDX-License-Identifier: MIT
"""Motion averaged over time."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d


def gaussian_filter(values: np.ndarray, sigma: float) -> np.ndarray:
    """Average over time with a Gaussian; the ends are mirrored, so that a constant stays constant.

    Args:
        values ((T, ...) float): one row a frame.
        sigma (`float`): standard deviation in frames; 0 changes nothing.

    Returns:
        (T, ...) of the same type, a copy.
    """
    values = np.array(values, dtype=np.result_type(values, np.float32))
    if sigma <= 0:
        return values
    return gaussian_filter1d(values, sigma, axis=0, mode="mirror", radius=max(1, math.ceil(3 * sigma)))
