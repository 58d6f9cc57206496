# SPDX-License-Identifier: MIT
"""Measures on tracks whose answer is known."""

import numpy as np
import pytest

from facetalk_hf import metrics


RNG = np.random.default_rng(0)
TRACK = np.convolve(RNG.standard_normal(300), np.ones(5) / 5, mode="same")


def test_correlation():
    assert metrics.correlation(TRACK, 3 * TRACK - 1) == pytest.approx(1)
    assert metrics.correlation(TRACK, -TRACK) == pytest.approx(-1)
    assert metrics.correlation(TRACK, np.ones(300)) == 0


@pytest.mark.parametrize("shift", [-4, -1, 0, 1, 3])
def test_lag_is_positive_when_late(shift):
    assert metrics.lag(np.roll(TRACK, shift), TRACK) == shift


def test_lag_of_short_and_constant_tracks():
    assert metrics.lag(np.zeros(2), np.zeros(2)) == 0
    assert metrics.lag(np.zeros(50), TRACK[:50]) == 0


def test_closure_score():
    target = np.zeros(20, bool)
    target[[4, 5, 12, 13]] = True
    assert metrics.closure_score(target, target)["f1"] == 1
    late = np.roll(target, 1)
    assert metrics.closure_score(late, target)["f1"] == pytest.approx(0.5)
    assert metrics.closure_score(late, target, tolerance=1)["f1"] == 1
    assert metrics.closure_score(~target, target)["f1"] == 0
    assert metrics.closure_score(np.zeros(20, bool), target)["recall"] == 0
    assert metrics.closure_score(np.zeros(20, bool), np.zeros(20, bool))["f1"] == 1


def test_lip_aperture_is_zero_where_lips_meet():
    jaw = np.array([0.0, 0.1, 0.4, 0.4])
    close = np.array([0.0, 0.093, 0.372, 0.0])
    np.testing.assert_allclose(metrics.lip_aperture(jaw, close), [0, 0, 0, 0.4], atol=1e-12)


def test_silence_aperture_leaves_out_the_frames_near_speech():
    silent = np.ones(40, bool)
    silent[:10] = False
    aperture = np.where(silent, 0.0, 5.0)
    aperture[12] = 3.0
    assert metrics.silence_aperture(aperture, silent) == 0
    aperture[30] = 0.7
    assert metrics.silence_aperture(aperture, silent) == 0.7
    assert metrics.silence_aperture(aperture, ~np.ones(40, bool)) == 0


def test_vertex_errors():
    target = RNG.standard_normal((7, 11, 3))
    moved = target.copy()
    moved[:, 3] += [3, 4, 0]
    lips = np.array([2, 3, 4])
    assert metrics.lip_vertex_error(moved, target, lips) == pytest.approx(25)
    assert metrics.lip_vertex_error(moved, target, lips, rooted=True) == pytest.approx(5)
    assert metrics.lip_vertex_error(moved, target, np.array([0, 1])) == 0
    assert metrics.mean_vertex_error(moved, target) == pytest.approx(5 / 11)


def test_face_dynamics_deviation():
    neutral = np.zeros((5, 3))
    target = RNG.standard_normal((50, 5, 3))
    upper = np.arange(3)
    assert metrics.face_dynamics_deviation(target, target, neutral, upper) == 0
    still = np.zeros_like(target)
    assert metrics.face_dynamics_deviation(still, target, neutral, upper) > 0
    assert metrics.face_dynamics_deviation(target, still, neutral, upper) < 0
    assert metrics.face_dynamics_deviation(target, still, neutral, upper, absolute=True) > 0


def test_diversity_speed_and_jerk():
    samples = np.zeros((3, 10, 4))
    assert metrics.diversity(samples) == 0
    samples[1] += 1  # distance 2 to both others
    assert metrics.diversity(samples) == pytest.approx(4 / 3)
    line = np.arange(10)[:, None] * np.array([[0.3, 0.4]])
    assert metrics.speed(line, fps=24) == pytest.approx(12)
    assert metrics.jerk(line, fps=24) == pytest.approx(0, abs=1e-6)
    assert metrics.speed(line[:1], fps=24) == 0
    assert metrics.jerk(line[:3], fps=24) == 0
