# SPDX-License-Identifier: MIT
"""Blinks: their course found in what all frames say, what a head is off by left out, landmarks left alone."""

import numpy as np
import pytest
import torch
from clouds import random_field
from command import needs_model

from facetalk_hf import TINY
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.fitting.blinks import LEVELS, best_blinks, blink_evidence, blink_shapes, find_blinks
from facetalk_hf.fitting.config import FittingConfig
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.fitting.observations import FrameObservation
from facetalk_hf.fitting.window_solver import normal_weights, solve_window
from facetalk_hf.head.loading import load_head


def evidence_of(closure: np.ndarray, strength: float) -> np.ndarray:
    """(T, 5) of frames whose lids are shut by closure (T,), without noise."""
    return strength * ((closure[:, None] - 0) ** 2 - (closure[:, None] - LEVELS) ** 2)


def test_blinks_are_found_where_they_are():
    config, truth = FittingConfig(), np.zeros(60)
    for first, shape in ((5, blink_shapes(24)[0]), (40, blink_shapes(24)[13])):
        truth[first : first + len(shape)] = shape
    rng = np.random.default_rng(0)
    evidence = evidence_of(truth, 8.0) + rng.normal(size=(60, 1)) * 1.5 * LEVELS
    closure, gain, cost = best_blinks(evidence, config)
    assert np.abs(closure - truth).mean() < 0.03 and gain > cost >= 2 * config.blink_cost
    assert not best_blinks(evidence_of(np.zeros(60), 8.0), config)[0].any()
    # One loud frame is no blink: a blink takes longer.
    loud = evidence_of(np.zeros(60), 8.0)
    loud[30] = 8 * LEVELS
    assert not best_blinks(loud, config)[0].any()


def test_a_blink_at_the_border_of_the_sequence_is_found():
    shape = blink_shapes(24)[3]
    truth = np.concatenate([shape[3:], np.zeros(20)])
    assert np.abs(best_blinks(evidence_of(truth, 10.0), FittingConfig())[0] - truth).max() < 0.15


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
def test_shapes_last_as_long_at_any_rate(fps):
    lengths = [shape.sum() / fps for shape in blink_shapes(fps)]
    assert 0.1 < min(lengths) < 0.2 and 0.7 < max(lengths) < 0.9
    assert all(shape.min() >= 0 and 0.9 < shape.max() <= 1 for shape in blink_shapes(fps))


@needs_model
def test_a_blink_is_found_in_points_in_spite_of_a_head_that_is_off():
    head = load_head(TINY)
    field = make_field(head, torch.zeros(head.identity_dim))
    columns, truth = [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]], torch.zeros(18, field.size)
    shape = torch.from_numpy(blink_shapes(24)[2]).float()
    truth[6 : 6 + len(shape), columns] = shape[:, None]
    lids = field.posed_landmarks(torch.zeros(1, field.size))[0, 36:48]
    generator, frames = torch.Generator().manual_seed(0), []
    for weights in truth:
        points = lids.repeat(4, 1) + torch.randn(48, 3, generator=generator) * 0.016
        for _ in range(2):
            distance, gradient, _ = field.linearize(points, weights)
            points = points - distance[:, None] * gradient / gradient.square().sum(-1, keepdim=True).clamp_min(0.25)
        # 0.4 mm of noise, and all of it 0.4 mm in front of where the head is.
        normal = torch.nn.functional.normalize(gradient, dim=-1)
        frames.append(FrameObservation(points + torch.randn(48, 3, generator=generator) * 0.0016 + 0.0016 * normal))
    found, terms = find_blinks(field, frames, torch.zeros(18, field.size), FittingConfig())
    assert (found - truth).abs().sum() < 0.35 * truth.sum() and found[:, columns].max() > 0.9
    assert terms["blinks"] < -terms["blink_prior"] < 0
    still = [FrameObservation(frame.points) for frame in frames[:6]] * 3
    assert not find_blinks(field, still, torch.zeros(18, field.size), FittingConfig())[0].any()


def test_lids_with_landmarks_keep_what_they_have():
    field, marks = random_field(), torch.zeros(68, 3)
    weights = torch.rand(14, field.size)
    frames = [FrameObservation(torch.rand(80, 3) * 0.4, marks) for _ in weights]
    assert torch.equal(find_blinks(field, frames, weights, FittingConfig())[0], weights)
    assert blink_evidence(field, frames, weights, FittingConfig()).shape == (14, 5)


def test_points_whose_normals_are_elsewhere_do_not_pull():
    gradient = torch.tensor([[0.0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 2]])
    normals = torch.tensor([[0.0, 0, 1], [0, 0.8, 0.6], [0, 0, -1], [0, 0, 0]])
    assert normal_weights(normals, gradient).tolist() == pytest.approx([1, 1, 0, 1])
    assert normal_weights(None, gradient).tolist() == [1, 1, 1, 1]
    field, points = random_field(), torch.rand(100, 3) * 0.4
    start, config = torch.zeros(1, field.size), FittingConfig(iterations=1)
    _, gradient, _ = field.linearize(points, start[0])
    wrong = -torch.nn.functional.normalize(gradient, dim=-1)
    ours, against = (
        solve_window(field, [FrameObservation(points, normals=n)], start, None, config) for n in (-wrong, wrong)
    )
    assert ours.terms["sdf"] > 0 and against.terms["sdf"] < 0.2 * ours.terms["sdf"]
    assert torch.equal(solve_window(field, [FrameObservation(points)], start, None, config).weights, ours.weights)
