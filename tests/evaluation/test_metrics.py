# SPDX-License-Identifier: MIT
"""Measures on tracks whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facetalk_hf.evaluation import metrics


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


def motions() -> st.SearchStrategy[np.ndarray]:
    """Vertices (T, V, 3)."""
    shape = st.tuples(st.integers(2, 6), st.integers(2, 5), st.just(3))
    return shape.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-50, 50, width=32)))


def test_vertex_errors():
    target = RNG.standard_normal((7, 11, 3))
    moved = target.copy()
    moved[:, 3] += [3, 4, 0]
    lips = np.array([2, 3, 4])
    assert metrics.lip_vertex_error(moved, target, lips) == pytest.approx(25)
    assert metrics.lip_vertex_error(moved, target, lips, "rooted") == pytest.approx(5)
    assert metrics.lip_vertex_error(moved, target, np.array([0, 1])) == 0
    assert metrics.mean_vertex_error(moved, target) == pytest.approx(5 / 11)
    with pytest.raises(ValueError, match="root_mean"):
        metrics.lip_vertex_error(moved, target, lips, "mm")


def test_the_three_forms_of_the_lip_error_differ_by_where_the_root_is():
    target = np.zeros((2, 3, 3))
    moved = target.copy()
    moved[0, 1, 0], moved[1, 2, 1] = 1, 7  # worst vertices 1 and 7 mm off
    forms = {form: metrics.lip_vertex_error(moved, target, form=form) for form in ("squared", "rooted", "root_mean")}
    assert forms == pytest.approx({"squared": 25, "rooted": 4, "root_mean": 5})


@settings(deadline=None)
@given(motions(), st.data())
def test_vertex_errors_are_distances(target, data):
    predicted = target + data.draw(arrays(np.float64, target.shape, elements=st.floats(-5, 5, width=32)))
    shift, turn = np.array([3.0, -2.0, 7.0]), np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    squared, rooted, root_mean = (
        lambda a, b, form=form: metrics.lip_vertex_error(a, b, form=form)
        for form in ("squared", "rooted", "root_mean")
    )
    for error, power in ((squared, 2), (rooted, 1), (root_mean, 1), (metrics.mean_vertex_error, 1)):
        value = error(predicted, target)
        assert error(target, target) == 0 <= value
        assert error(target, predicted) == pytest.approx(value)
        assert error(predicted @ turn + shift, target @ turn + shift) == pytest.approx(value, abs=1e-6)
        assert error(10 * predicted, 10 * target) == pytest.approx(10**power * value)
        assert error(predicted[:, ::-1], target[:, ::-1]) == pytest.approx(value)
    assert metrics.mean_vertex_error(predicted, target) <= rooted(predicted, target) + 1e-9
    assert rooted(predicted, target) <= root_mean(predicted, target) + 1e-9  # Jensen
    # Frames are pooled, so a clip said twice is one clip.
    assert squared(np.tile(predicted, (2, 1, 1)), np.tile(target, (2, 1, 1))) == pytest.approx(
        squared(predicted, target)
    )


def test_face_dynamics_deviation_by_hand():
    neutral = np.zeros((2, 3))
    target = np.zeros((2, 2, 3))
    target[1, 0, 0], target[1, 1, 1] = 2, 4  # squared displacement 0, 4 and 0, 16: standard deviations 2 and 8
    still = np.zeros_like(target)
    assert metrics.face_dynamics_deviation(still, target, neutral) == pytest.approx(5)
    assert metrics.face_dynamics_deviation(target, still, neutral) == pytest.approx(-5)
    assert metrics.face_dynamics_deviation(still, target, neutral, np.array([1])) == pytest.approx(8)
    swapped = target[:, ::-1]
    assert metrics.face_dynamics_deviation(swapped, target, neutral) == pytest.approx(0)
    assert metrics.face_dynamics_deviation(swapped, target, neutral, absolute=True) == pytest.approx(6)


@settings(deadline=None)
@given(motions(), st.data())
def test_face_dynamics_deviation_is_a_difference_of_spreads(target, data):
    predicted = data.draw(arrays(np.float64, target.shape, elements=st.floats(-50, 50, width=32)))
    neutral = target[0]
    signed = metrics.face_dynamics_deviation(predicted, target, neutral)
    absolute = metrics.face_dynamics_deviation(predicted, target, neutral, absolute=True)
    assert abs(signed) <= absolute + 1e-9
    assert metrics.face_dynamics_deviation(target, target, neutral) == 0
    assert metrics.face_dynamics_deviation(target, predicted, neutral) == pytest.approx(-signed)
    # When something happens does not matter, only how much.
    assert metrics.face_dynamics_deviation(predicted[::-1], target, neutral) == pytest.approx(signed, abs=1e-6)


def test_sample_statistics():
    target = np.zeros((4, 2, 3))
    samples = np.stack([target + [3, 0, 0], target - [1, 0, 0]])
    result = metrics.sample_statistics(metrics.mean_vertex_error, samples, target)
    assert result == pytest.approx({"mean": 2, "min": 1, "mean_estimate": 1})
    assert set(metrics.sample_statistics(metrics.mean_vertex_error, samples[:1], target).values()) == {3.0}
    signed = metrics.sample_statistics(lambda a, b: float((a - b).mean()), samples, target)
    assert signed["min"] == pytest.approx(-1 / 3)


@settings(deadline=None)
@given(motions(), st.data())
def test_mean_of_samples_is_never_worse_than_their_mean_error(target, data):
    noise = data.draw(arrays(np.float64, (3, *target.shape), elements=st.floats(-5, 5, width=32)))
    for error in (metrics.mean_vertex_error, metrics.lip_vertex_error):  # both convex
        result = metrics.sample_statistics(error, target + noise, target)
        assert result["min"] <= result["mean"] + 1e-9
        assert result["mean_estimate"] <= result["mean"] + 1e-6
