# SPDX-License-Identifier: MIT
"""Motion averaged over time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.motion.smoothing import gaussian_filter


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 12), value=st.floats(-5, 5), seed=st.integers(0, 99))
def test_filters_keep_constants_shapes_and_ranges(frames, value, seed):
    np.testing.assert_allclose(gaussian_filter(np.full((frames, 2), value), 1.2), value, atol=1e-6)
    values = np.random.default_rng(seed).normal(size=(frames, 3, 2)).astype(np.float32)
    before = values.copy()
    result = gaussian_filter(values, 1.2)
    assert result.shape == values.shape and result.dtype == values.dtype
    np.testing.assert_array_equal(values, before)


def test_filters_take_jitter_and_leave_slow_motion():
    time = np.arange(240) / 24
    slow = np.sin(2 * np.pi * 0.4 * time)
    noise = np.random.default_rng(0).normal(0, 0.05, len(time))
    result = gaussian_filter(slow + noise, 1.2)
    jitter = lambda values: np.abs(np.diff(values, 2)).mean()  # noqa: E731
    assert jitter(result) < 0.6 * jitter(slow + noise)
    assert np.corrcoef(result, slow)[0, 1] > 0.98


def test_gaussian_is_symmetric_and_normalised():
    impulse = np.zeros(41)
    impulse[20] = 1
    result = gaussian_filter(impulse, 2.0)
    np.testing.assert_allclose(result, result[::-1], atol=1e-12)
    assert result.sum() == pytest.approx(1.0)
    assert np.sqrt((result * (np.arange(41) - 20) ** 2).sum()) == pytest.approx(2.0, rel=0.03)
    np.testing.assert_array_equal(gaussian_filter(impulse, 0), impulse)


@pytest.mark.parametrize("frames", [5, 60])
def test_the_ends_are_mirrored_about_the_last_frames(frames):
    values = np.random.default_rng(0).normal(size=(frames, 2))
    long = np.pad(values, ((100, 100), (0, 0)), mode="reflect")
    np.testing.assert_allclose(gaussian_filter(values, 2.0), gaussian_filter(long, 2.0)[100:-100], atol=1e-12)
