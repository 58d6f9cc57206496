# SPDX-License-Identifier: MIT
"""Fitting with heads that deform one way: canonical points that are searched for, derivatives, codes found back."""

import pytest
import torch
from components import make_head, randomize
from official import official_head

from facetalk_hf.fitting.config import FittingConfig
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.fitting.observations import FrameObservation
from facetalk_hf.fitting.posed_field import PosedField
from facetalk_hf.fitting.search_field import SearchField
from facetalk_hf.fitting.window_solver import solve_window
from facetalk_hf.models.nphm import NPHMModel


def our_head(forward_type: str) -> NPHMModel:
    head = make_head(forward_type=forward_type)
    randomize(head, 0.02)
    return head


HEADS = {
    "bilinear": lambda: our_head("bilinear"),
    "concat": lambda: our_head("concat"),
    "nphm": lambda: official_head("nphm", False),
    "nphm-backward": lambda: official_head("nphm", True),
    "mononphm": lambda: official_head("mononphm", True),
}


@pytest.fixture(scope="module", params=HEADS)
def field(request) -> PosedField:
    head = HEADS[request.param]()
    return make_field(
        head, 0.05 * torch.randn(head.identity_dim, generator=torch.Generator().manual_seed(1)), chunk=40
    )


def places(count: int = 60) -> torch.Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(2)) - 0.5) * 0.5


def test_canonical_points_are_found_and_their_distance_is_the_head_s(field):
    assert type(field) is SearchField
    weights, head = torch.randn(field.size, generator=torch.Generator().manual_seed(3)) * 0.2, field.head
    code = field.codes(weights)[None]
    if field.backward:
        posed = places()
        expected = head.posed_sdf(posed[None], field.identity, code)[0]
    else:
        canonical = places()
        posed = canonical + head.deform(canonical[None], field.identity, code)[0]
        assert (posed - canonical).norm(dim=-1).mean() > 1e-3  # there is something to search
        assert torch.allclose(field.canonical(posed, weights), canonical, atol=2e-4)
        expected = head.sdf(canonical[None], field.identity)[0]
    assert torch.allclose(field.distance(posed, weights), expected, atol=1e-3)
    assert torch.allclose(field.linearize(posed, weights)[0], expected, atol=1e-3)
    both = field.distances(posed, torch.stack([weights, 0 * weights]))
    assert torch.equal(both[0], field.distance(posed, weights))


def test_derivatives_are_those_of_the_distance(field):
    weights = torch.randn(field.size, generator=torch.Generator().manual_seed(4)) * 0.2
    points = places(20)
    _, gradient, jacobian = field.linearize(points, weights)
    step = 4e-3
    for axis in range(3):
        shift = step * torch.eye(3)[axis]
        expected = (field.distance(points + shift, weights) - field.distance(points - shift, weights)) / (2 * step)
        assert (gradient[:, axis] - expected).abs().median() < 0.02 + 0.05 * expected.abs().max()
    scale = float(field.basis.abs().max())
    for index in (0, field.size - 1):
        shift = 0.05 / scale * torch.eye(field.size)[index]
        expected = (field.distance(points, weights + shift) - field.distance(points, weights - shift)) * scale / 0.1
        assert (jacobian[:, index] - expected).abs().median() < 1e-4 + 0.1 * expected.abs().max()


def test_derivatives_are_the_same_at_every_call(field):
    weights = torch.randn(field.size, generator=torch.Generator().manual_seed(4)) * 0.2
    first = field.linearize(places(200), weights)
    for _ in range(7):
        assert all(map(torch.equal, first, field.linearize(places(200), weights)))


def test_a_point_that_comes_from_nowhere_is_an_outlier():
    field = make_field(our_head("bilinear"), torch.zeros(our_head("bilinear").identity_dim))
    field.landmarks, field._offset = field.landmarks, lambda points, weights: 2 - points  # all points go to one
    distance, _, jacobian = field.linearize(places(5), torch.zeros(field.size))
    assert (distance == 0.1).all() and not jacobian.any()


@pytest.mark.parametrize("kind", ["nphm", "nphm-backward"])
def test_codes_of_a_converted_head_are_found_back(kind):
    head = HEADS[kind]()
    net = head.backward_net if "backward" in kind else head.forward_net
    with torch.no_grad():
        net.net.weights[-1].mul_(3)
    field = make_field(head, torch.zeros(head.identity_dim))
    truth = torch.randn(field.size, generator=torch.Generator().manual_seed(5))
    points = (
        torch.nn.functional.normalize(torch.randn(400, 3, generator=torch.Generator().manual_seed(6)), dim=-1) * 0.4
    )
    for _ in range(6):
        distance, gradient, _ = field.linearize(points, truth)
        points = points - distance[:, None] * gradient / gradient.square().sum(-1, keepdim=True).clamp_min(0.1)
    assert field.distance(points, truth).abs().median() < 1e-4
    config = FittingConfig(code=1e-4, temporal=0.0, still=0.0, iterations=9)
    start = torch.zeros(1, field.size)
    found = solve_window(field, [FrameObservation(points)], start, None, config)
    before, after = (field.distance(points, row.float()).abs().mean() for row in (start[0], found.weights[0]))
    assert after < 0.2 * before
    assert set(found.terms) == {"sdf", "landmarks", "temporal", "code", "box", "symmetry"}
