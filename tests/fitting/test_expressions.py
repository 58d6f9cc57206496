# SPDX-License-Identifier: MIT
"""Fitting: the field and its derivatives, the objective, windows that are kept, people that are found."""

import numpy as np
import pytest
import torch
from clouds import random_field  # noqa: F401

from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.fitting.config import FittingConfig
from facetalk_hf.fitting.expressions import fit_expressions, window_starts
from facetalk_hf.fitting.identity import IdentityConfig, fit_identity, select_frames
from facetalk_hf.fitting.observations import FrameObservation
from facetalk_hf.fitting.window_solver import priors, solve_window, start_weights


def observations(count: int, points: int = 150) -> list[FrameObservation]:
    generator = torch.Generator().manual_seed(1)
    return [
        FrameObservation(
            torch.rand(points, 3, generator=generator) * 0.4, torch.rand(68, 3, generator=generator) * 0.3
        )
        for _ in range(count)
    ]


QUICK = FittingConfig(window=4, overlap=1, iterations=2, points=120)


def test_distance_and_gradient_are_those_of_the_head():
    field, weights = random_field(), torch.rand(len(EXPRESSIONS))
    points = torch.rand(150, 3) * 0.4
    value, gradient, jacobian = field.linearize(points, weights)
    code = field.codes(weights)[None]
    expected = field.head.posed_sdf(points[None], field.identity, code)[0]
    assert torch.allclose(value, expected, atol=1e-3)
    assert torch.allclose(field.distance(points, weights), expected, atol=1e-3)
    assert jacobian.shape == (150, len(EXPRESSIONS)) and gradient.shape == (150, 3)
    # The Jacobian is minus the forward fields along the gradient, at the canonical place.
    place = field.head.canonical(points[None], field.identity, code)
    fields = field.head.deformation_basis(place, field.identity)[0]
    expected = -torch.einsum("prk,pk->pr", fields, gradient) @ field.mix
    assert torch.allclose(jacobian, expected, atol=1e-2 * float(expected.abs().max()))


def test_posed_landmarks_follow_the_forward_deformation():
    field, weights = random_field(), torch.rand(3, len(EXPRESSIONS))
    marks = field.head.landmarks(field.identity)
    for row, posed in zip(weights, field.posed_landmarks(weights), strict=True):
        expected = marks + field.head.deform(marks, field.identity, field.codes(row)[None])
        assert torch.allclose(posed, expected[0], atol=1e-5)


def test_gradient_of_the_priors_is_their_derivative():
    field, config = random_field(), FittingConfig(code=0.3, temporal=0.4, box=2.0, symmetry=0.7, huber=0.1)
    weights = 0.5 + 0.5 * torch.randn(4, field.size, generator=torch.Generator().manual_seed(2)).double()
    previous = torch.rand(field.size)
    prior = priors(weights, previous, field, config)
    assert torch.allclose(prior.hessian, prior.hessian.T)
    for frame, index in ((0, 0), (1, 10), (2, 14), (3, 26)):
        step = torch.zeros_like(weights)
        step[frame, index] = 1e-5
        up, down = (sum(priors(weights + s * step, previous, field, config).terms.values()) for s in (1, -1))
        assert (up - down) / 2e-5 == pytest.approx(float(prior.gradient.view(4, -1)[frame, index]), rel=1e-3, abs=1e-6)


def test_windows_cover_every_frame_once_beyond_their_overlap():
    config = FittingConfig(window=10, overlap=2)
    assert window_starts(10, config) == [0]
    assert window_starts(11, config) == [0, 8]
    assert window_starts(24, config) == [0, 8, 16]
    for frames in range(1, 60):
        covered = {f for s in window_starts(frames, config) for f in range(s, min(s + 10, frames))}
        assert covered == set(range(frames))


def test_landmarks_alone_bring_the_weights_back():
    field = random_field()
    change = torch.rand(3, len(EXPRESSIONS), generator=torch.Generator().manual_seed(3))
    true = start_weights(field, 3).float() + 0.03 * change  # landmarks move by millimetres: more counts as an outlier
    marks = field.posed_landmarks(true)
    frames = [FrameObservation(torch.zeros(0, 3), row) for row in marks]
    config = FittingConfig(landmarks=1.0, code=1e-3, temporal=0.0, symmetry=0.0, iterations=12)
    found = solve_window(field, frames, start_weights(field, 3), None, config)
    assert set(found.terms) == {"sdf", "landmarks", "temporal", "code", "box", "symmetry"}
    start = (field.posed_landmarks(start_weights(field, 3).float()) - marks).norm(dim=-1).mean()
    assert (field.posed_landmarks(found.weights.float()) - marks).norm(dim=-1).mean() < 0.1 * start


def test_a_run_that_was_stopped_ends_with_the_same_codes(tmp_path):
    field, frames = random_field(), observations(9)
    whole = fit_expressions(field, frames, QUICK)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        fit_expressions(field, frames, QUICK, tmp_path, stop)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["window_000.npz", "window_001.npz"]
    stamps = [(tmp_path / name).stat().st_mtime_ns for name in kept]
    resumed = fit_expressions(field, frames, QUICK, tmp_path)
    assert [(tmp_path / name).stat().st_mtime_ns for name in kept] == stamps
    assert np.array_equal(whole.weights, resumed.weights) and np.array_equal(whole.expressions, resumed.expressions)
    assert whole.terms == resumed.terms


def test_windows_of_other_clouds_are_not_used(tmp_path):
    field = random_field()
    fit_expressions(field, observations(4), QUICK, tmp_path)
    other = [FrameObservation(frame.points + 0.05) for frame in observations(4)]
    expected = fit_expressions(field, other, QUICK)
    assert np.array_equal(fit_expressions(field, other, QUICK, tmp_path).weights, expected.weights)


def test_a_missing_frame_is_listed_and_bridged():
    field, frames = random_field(), observations(5)
    frames[2] = FrameObservation(torch.zeros(0, 3), trust=0.0)
    fit = fit_expressions(field, frames, QUICK)
    assert 2 in fit.bad_frames and np.isfinite(fit.weights).all()


def test_identity_needs_points_and_stays_near_the_named_ones():
    field = random_field()
    with pytest.raises(FaceTalkError, match="no frame with points"):
        fit_identity(field.head, [FrameObservation(torch.zeros(0, 3), trust=0.0)])
    config = IdentityConfig(frames=2, rounds=1, steps=3, points=50)
    code = fit_identity(field.head, observations(3), config, QUICK)
    assert code.shape == (field.head.identity_dim,) and 0 < code.abs().max() < 1
    assert torch.equal(code, fit_identity(field.head, observations(3), config, QUICK))


def test_selected_frames_are_those_that_cover_most():
    frames = observations(6)
    frames[3] = FrameObservation(frames[3].points * 2)
    assert 3 in select_frames(frames, 2)


@pytest.mark.parametrize("options", [{"overlap": 10}, {"code": float("nan")}, {"points": 0}, {"sdf": -1.0}])
def test_config_refuses_what_makes_no_sense(options):
    with pytest.raises(FaceTalkError):
        FittingConfig(**options)
