# SPDX-License-Identifier: MIT
"""Measures of motions whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facetalk_hf.evaluation import motion_metrics


RNG = np.random.default_rng(0)


def test_diversity_by_hand():
    samples = np.zeros((3, 10, 4))
    assert motion_metrics.diversity(samples) == 0
    samples[1] += 1  # distance 2 to both others
    assert motion_metrics.diversity(samples) == pytest.approx(4 / 3)
    assert motion_metrics.diversity(samples[:1]) == 0
    # Vertices are averaged over, not added up.
    assert motion_metrics.diversity(np.repeat(samples[:, :, None], 7, axis=2)) == pytest.approx(4 / 3)


@settings(deadline=None)
@given(arrays(np.float64, (3, 5, 2, 3), elements=st.floats(-50, 50, width=32)))
def test_diversity_is_a_spread(samples):
    value = motion_metrics.diversity(samples)
    assert value >= 0
    assert motion_metrics.diversity(samples[[2, 0, 1]]) == pytest.approx(value)
    assert motion_metrics.diversity(samples + samples[0]) == pytest.approx(value, abs=1e-6)
    assert motion_metrics.diversity(-3 * samples) == pytest.approx(3 * value)


def test_speed_and_jerk():
    line = np.arange(10)[:, None] * np.array([[0.3, 0.4]])
    assert motion_metrics.speed(line, fps=24) == pytest.approx(12)
    assert motion_metrics.jerk(line, fps=24) == pytest.approx(0, abs=1e-6)
    assert motion_metrics.speed(line[:1], fps=24) == 0
    assert motion_metrics.jerk(line[:3], fps=24) == 0
    cubic = (np.arange(10.0) / 30)[:, None] ** 3 * [1, 0, 0]
    assert motion_metrics.jerk(cubic, fps=30) == pytest.approx(6)  # d3/dt3 t^3


@settings(deadline=None)
@given(arrays(np.float64, (6, 2, 3), elements=st.floats(-50, 50, width=32)), st.floats(1, 100))
def test_speed_and_jerk_scale_with_time(motion, fps):
    for measure, power in ((motion_metrics.speed, 1), (motion_metrics.jerk, 3)):
        value = measure(motion, 1.0)
        assert measure(motion, fps) == pytest.approx(value * fps**power)
        assert measure(motion[::-1], 1.0) == pytest.approx(value)
        assert measure(motion + [1, 2, 3], 1.0) == pytest.approx(value, abs=1e-6)


def test_seams_show_where_windows_jump():
    smooth = np.sin(np.arange(100) / 5)[:, None] * [1.0, 0, 0]
    assert motion_metrics.seam_speed_ratio(smooth, range(20, 100, 20)) == pytest.approx(1, abs=0.35)
    jumps = smooth + 2.0 * (np.arange(100) // 20)[:, None]
    assert motion_metrics.seam_speed_ratio(jumps, range(20, 100, 20)) > 10
    # A jump elsewhere is no seam.
    assert motion_metrics.seam_speed_ratio(jumps, range(10, 100, 20)) < 1
    for seams in ([], [0], [500]):
        assert motion_metrics.seam_speed_ratio(smooth, seams) == 1
    still = np.zeros((10, 3))
    assert motion_metrics.seam_speed_ratio(still, [5]) == 1
    still[5:] = 1
    assert motion_metrics.seam_speed_ratio(still, [5]) == np.inf


def test_beats_of_a_swing_are_where_it_turns():
    time = np.arange(96) / 24
    swing = np.sin(2 * np.pi * 1.0 * time)[:, None] * [1.0, 0, 0]  # turns at 0.25 s, 0.75 s, ..
    beats = motion_metrics.motion_beats(swing, 24)
    assert len(beats) == 8
    np.testing.assert_allclose(beats, 0.25 + 0.5 * np.arange(8), atol=1.5 / 24)
    assert len(motion_metrics.motion_beats(np.zeros((50, 3)), 24)) == 0
    assert len(motion_metrics.motion_beats(swing[:3], 24)) == 0


@pytest.mark.parametrize("rate", [16000, 44100])
def test_onsets_are_where_the_bursts_start(rate):
    starts = np.array([0.3, 0.8, 1.1, 1.7])
    audio = 0.0005 * RNG.standard_normal(2 * rate)
    for start in starts:
        begin = round(start * rate)
        audio[begin : begin + rate // 5] += (
            0.3 * RNG.standard_normal(rate // 5) * np.exp(-np.arange(rate // 5) / rate * 30)
        )
    np.testing.assert_allclose(motion_metrics.audio_onsets(audio, rate), starts, atol=0.03)
    assert len(motion_metrics.audio_onsets(np.zeros(rate), rate)) == 0
    assert len(motion_metrics.audio_onsets(np.zeros(10), rate)) == 0


def test_beat_alignment_by_hand():
    assert motion_metrics.beat_alignment(np.array([1.0, 2.0]), np.array([2.0, 1.0, 5.0])) == 1
    assert motion_metrics.beat_alignment(np.array([1.0]), np.array([1.1, 0.8])) == pytest.approx(np.exp(-0.5))
    value = motion_metrics.beat_alignment(np.array([1.0, 9.0]), np.array([1.0]))
    assert value == pytest.approx(0.5)
    assert motion_metrics.beat_alignment(np.array([1.0]), np.array([1.2]), sigma=0.2) == pytest.approx(np.exp(-0.5))
    assert motion_metrics.beat_alignment(np.zeros(0), np.ones(1)) == motion_metrics.beat_alignment(np.ones(1), []) == 0
