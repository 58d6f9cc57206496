# SPDX-License-Identifier: MIT
"""Sparse surfaces of converted heads against dense grids, and inverted deformations against the deformation."""

import numpy as np
import pytest
import torch
from official import mononphm_files, nphm_files, official_head

from facetalk_hf import FaceTalkError
from facetalk_hf.conversion.convert import convert_mononphm, convert_nphm
from facetalk_hf.head.ensemble_surface import canonical_surface, sample_by_members, uniform_axes
from facetalk_hf.head.field_values import evaluate
from facetalk_hf.head.surface_tracking import SurfaceTracker, posed_vertices
from facetalk_hf.mesh.isosurface import triangulate


def dense(axes, field) -> np.ndarray:
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return evaluate(field, points).reshape([len(axis) for axis in axes])


def assert_same_surface(one, other, tolerance: float = 1e-5) -> None:
    assert one[0].shape == other[0].shape and len(one[0]) > 100
    np.testing.assert_allclose(one[0], other[0], atol=tolerance)
    assert np.array_equal(one[1], other[1])


@pytest.mark.parametrize("seed", range(4))
def test_nphm_surface_equals_the_dense_one(tmp_path, seed):
    head = convert_nphm(**nphm_files(tmp_path))
    torch.manual_seed(seed)
    identity = 0.5 * torch.randn(head.identity_dim)
    axes = uniform_axes(head, (45, 52, 61))
    values = sample_by_members(head, identity, axes)
    head.ensemble.skip_below = -1.0  # all 40 members everywhere
    expected = dense(axes, lambda points: head.sdf(points, identity[None]))
    assert np.array_equal(values < 0, expected < 0)
    assert_same_surface(triangulate(values, axes, False), triangulate(expected, axes, False))
    assert (np.abs(values) == 1).mean() > 0.3, "nearly everything was evaluated"


def watch(head, device: str) -> list[bool]:
    """Whether each later call of the members is in half precision, noted in the list as it happens."""
    used, original = [], head.ensemble.member_values

    def noted(*args):
        used.append(torch.is_autocast_enabled(device))
        return original(*args)

    head.ensemble.member_values = noted
    return used


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_half_precision_search_gives_the_same_vertices(device):
    """Within 0.001 mm, 4e-6 of a unit; the search itself must have been in half precision."""
    head = official_head("nphm", backward=False).to(device)
    expected = canonical_surface(head, head.identity_codes[0], 40)
    used = watch(head, device)
    assert_same_surface(canonical_surface(head, head.identity_codes[0], 40, dtype=torch.bfloat16), expected, 4e-6)
    assert sum(used) > 1, "its error was measured, but it was not used"


def test_half_precision_falls_back_where_it_overflows(tmp_path):
    head = convert_nphm(**nphm_files(tmp_path))
    with torch.no_grad():
        head.ensemble.members.biases[0].add_(1e6)
        head.ensemble.members.weights[-1].mul_(1e-6)
    axes = uniform_axes(head, 20)
    expected = sample_by_members(head, head.identity_codes[0], axes)
    used = watch(head, "cpu")
    values = sample_by_members(head, head.identity_codes[0], axes, dtype=torch.float16)
    assert sum(used) == 1 and np.array_equal(values, expected)


def test_skipped_members_change_nothing(tmp_path):
    head = convert_nphm(**nphm_files(tmp_path))
    points, identity = torch.rand(1, 400, 3) * 1.6 - 0.8, 0.5 * torch.randn(1, head.identity_dim)
    with torch.no_grad():
        sparse = head.sdf(points, identity)
        head.ensemble.skip_below = -1.0
        torch.testing.assert_close(sparse, head.sdf(points, identity), atol=1e-6, rtol=0)


def test_canonical_surface(tmp_path):
    head = convert_nphm(**nphm_files(tmp_path))
    vertices, faces = canonical_surface(head, head.identity_codes[0], 32)
    assert len(vertices) and faces.max() == len(vertices) - 1
    with pytest.raises(FaceTalkError, match="NPHM"):
        canonical_surface(convert_mononphm(**mononphm_files(tmp_path)), torch.zeros(3), 16)


def test_tracker_follows_a_moving_sphere():
    axes = [np.linspace(-1, 1, n) for n in (40, 44, 48)]
    tracker = SurfaceTracker(axes)
    for shift in np.linspace(0, 0.3, 6):

        def field(points, shift=shift):
            return (np.linalg.norm(points - [shift, 0, 0], axis=1) - 0.5).astype(np.float32)

        surface = tracker(field)
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
        assert_same_surface(surface, triangulate(field(grid).reshape(40, 44, 48), axes))
    assert tracker.evaluated < 0.25 * 40 * 44 * 48
    tracker.reset()
    assert_same_surface(tracker(field), surface)


def test_tracked_posed_surfaces_equal_dense_ones(tmp_path):
    head = convert_mononphm(**mononphm_files(tmp_path))
    with torch.no_grad():  # an egg instead of rubbish: random members rarely have one closed surface
        for parameter in head.ensemble.members.parameters():
            parameter.mul_(0.02)
    identity, expressions = head.identity_codes[0], head.expression_codes[:1] * torch.tensor([[0.0], [0.3], [0.6]])
    level = head.posed_sdf(torch.zeros(1, 1, 3), identity[None], expressions[:1]).item()
    for bias in [head.ensemble.members.biases[-1]]:
        bias.data.sub_(level)
    axes = uniform_axes(head, 32)
    tracker = SurfaceTracker(axes)
    for code in expressions:

        def field(points, code=code):
            return head.posed_sdf(points, identity[None], code[None])

        surface = tracker(lambda points, field=field: evaluate(field, points))
        assert_same_surface(surface, triangulate(dense(axes, field), axes))


def test_inverted_vertices_map_back(tmp_path):
    head = convert_mononphm(**mononphm_files(tmp_path))
    identity, expression = head.identity_codes[1], 0.5 * head.expression_codes[2]
    vertices = (np.random.default_rng(0).random((500, 3)) - 0.5).astype(np.float32)
    posed, residual = posed_vertices(head, vertices, identity, expression)
    there = torch.from_numpy(posed)[None]
    back = (there + head.deform(there, identity[None], expression[None])[..., :3])[0].detach().numpy()
    np.testing.assert_allclose(np.linalg.norm(back - vertices, axis=1), residual, atol=1e-6)
    assert np.abs(posed - vertices).max() > 0.05 and np.quantile(residual, 0.95) < 2e-6
    again, _ = posed_vertices(head, vertices, identity, expression, start=posed, iterations=1)
    np.testing.assert_allclose(again[residual < 1e-6], posed[residual < 1e-6], atol=1e-5)
    with pytest.raises(FaceTalkError, match="forward"):
        posed_vertices(convert_nphm(**nphm_files(tmp_path)), vertices, identity, expression)
