# SPDX-License-Identifier: MIT
"""The second look at scans: forms that a plain fit of the field's values hardly sees are met, and landmarks stay."""

import copy

import numpy as np
import torch
from scanned_head import RADIUS, head  # noqa: F401

from facetalk_hf.evaluation.head_metrics import fit_identities
from facetalk_hf.evaluation.second_look import ear_anchors, linearize, refine_identity


def person(head):  # noqa: F811
    """A ball with members' own dents, whose field grows by a third of the distance; the scan of a stranger."""
    other = copy.deepcopy(head)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (other.ensemble.code_weight, other.ensemble.skip_code_weight):
            weight[:, 1:] = 0.4 * torch.randn(weight[:, 1:].shape, generator=generator)
        other.ensemble.output_weight /= 3
        other.ensemble.output_bias /= 3
        code = 0.5 * torch.randn(other.identity_dim, generator=generator)
        code[0] = 0.1
        ways = torch.nn.functional.normalize(torch.randn(6000, 3, generator=generator), dim=1)
        low, high = torch.full((6000, 1), 0.5 * RADIUS), torch.full((6000, 1), 2 * RADIUS)
        for _ in range(24):
            middle = (low + high) / 2
            outside = other.sdf((middle * ways)[None], code[None])[0, :, None] > 0
            low, high = torch.where(outside, low, middle), torch.where(outside, middle, high)
        heights = torch.cat([torch.zeros(3000, 1), torch.linspace(-0.02, 0.02, 3000)[:, None]])
        points = torch.cat([(low + heights) * ways, torch.rand(1000, 3, generator=generator) - 0.5])
        distance = torch.cat([heights[:, 0], 3 * other.sdf(points[None, -1000:], code[None])[0]])
    scan = {"points": points.numpy(), "distance": distance.numpy(), "kind": np.repeat([0, 1, 2], [3000, 3000, 1000])}
    return other, scan


def test_a_second_look_meets_a_stranger_and_keeps_landmarks(head):  # noqa: F811
    other, scan = person(head)
    plain = fit_identities(other, [scan], steps=60, points=200)[0]
    before = other.landmarks(plain[None])
    surface = torch.from_numpy(scan["points"][:3000])

    def off(code):
        field, slope, _ = linearize(other, surface, code)
        return float((field.abs() / slope).mean()) * 250

    looked = refine_identity(other, scan, plain, samples=6000, ears=[0, 1, 2])
    assert off(plain) > 0.5 and off(looked) < 0.4 * off(plain)
    assert float((other.landmarks(looked[None]) - before).norm(dim=-1).max()) * 250 < 0.3
    again = fit_identities(other, [scan], steps=60, points=200, refinements=3)[0]
    assert off(again) < 0.5 * off(plain)


def test_derivatives_are_those_of_the_field(head):  # noqa: F811
    other, scan = person(head)
    code, points = torch.full((other.identity_dim,), 0.1), torch.from_numpy(scan["points"][:20])
    field, slope, jacobian = linearize(other, points, code, chunk=7)
    step = 1e-3 * torch.randn(len(code), generator=torch.Generator().manual_seed(0))
    moved = (other.sdf(points[None], (code + step)[None]) - other.sdf(points[None], (code - step)[None]))[0] / 2
    torch.testing.assert_close(jacobian @ step, moved.detach(), rtol=2e-2, atol=2e-6)
    torch.testing.assert_close(field, other.sdf(points[None], code[None])[0].detach())
    assert slope.shape == (20,) and (slope > 0).all()


def test_ears_are_where_anchors_of_a_head_are(head):  # noqa: F811
    assert ear_anchors(head) == []  # two pairs only
