# SPDX-License-Identifier: MIT
"""Facial weights and temporal filters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.head.facial_weights import facial_weights
from facetalk_hf.motion.smoothing import gaussian_filter, one_euro_filter, savitzky_golay_filter


MOUTH = np.array([0.0, -34.0, 51.0])
FILTERS = [
    lambda values: gaussian_filter(values, 1.2),
    lambda values: savitzky_golay_filter(values, 5, 2),
    lambda values: one_euro_filter(values, 24.0),
]


def test_the_face_moves_fully_and_scalp_and_nape_hardly():
    face = np.array([[0, -34, 52], [0, -76, 44], [25, -35, 42], [35, 62, 40], [31, 40, 34], [60, 5, 0], [0, 20, 60]])
    assert facial_weights(face, MOUTH).min() > 0.98
    still = np.array([[0, 145, 0], [0, -40, -100], [0, 60, -146], [85, 20, -60]])
    assert facial_weights(still, MOUTH).max() < 0.3
    assert facial_weights(np.array([0, 60, -146.0]), MOUTH) < 1e-3


def test_facial_weights_fall_steadily_and_know_units():
    line = MOUTH + np.linspace(0, 1, 50)[:, None] * np.array([0, 10, -220])
    weights = facial_weights(line, MOUTH)
    assert weights.dtype == np.float32
    assert (np.diff(weights) <= 1e-6).all()
    np.testing.assert_allclose(
        facial_weights(line / 250, MOUTH / 250, sigma=np.array([75, 48, 75]) / 250), weights, atol=1e-5
    )


@pytest.mark.parametrize("smooth", FILTERS)
@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 12), value=st.floats(-5, 5), seed=st.integers(0, 99))
def test_filters_keep_constants_shapes_and_ranges(smooth, frames, value, seed):
    np.testing.assert_allclose(smooth(np.full((frames, 2), value)), value, atol=1e-6)
    values = np.random.default_rng(seed).normal(size=(frames, 3, 2)).astype(np.float32)
    before = values.copy()
    result = smooth(values)
    assert result.shape == values.shape and result.dtype == values.dtype
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("smooth", FILTERS)
def test_filters_take_jitter_and_leave_slow_motion(smooth):
    time = np.arange(240) / 24
    slow = np.sin(2 * np.pi * 0.4 * time)
    noise = np.random.default_rng(0).normal(0, 0.05, len(time))
    result = smooth(slow + noise)
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


def test_savitzky_golay_keeps_parabolas_and_refuses_even_windows():
    time = np.arange(30.0)
    np.testing.assert_allclose(savitzky_golay_filter(time**2, 7, 2)[3:-3], (time**2)[3:-3], atol=1e-8)
    with pytest.raises(ValueError, match="odd"):
        savitzky_golay_filter(time, 4, 2)


def test_one_euro_looks_only_back():
    values = np.random.default_rng(1).normal(size=(30, 2))
    changed = values.copy()
    changed[20:] += 3
    np.testing.assert_array_equal(one_euro_filter(values, 24.0)[:20], one_euro_filter(changed, 24.0)[:20])
