# SPDX-License-Identifier: MIT
"""Handles are counted as topology has it; narrow ones go, and nothing else changes."""

import numpy as np
import pytest
import trimesh

from facetalk_hf.mesh.isosurface import triangulate
from facetalk_hf.mesh.topology import genus, remove_handles


AXES = [np.linspace(-1, 1, 41)] * 3
POINTS = np.stack(np.meshgrid(*AXES, indexing="ij"), -1)


def plate(hole: float, at: float = 0.0) -> np.ndarray:
    """A round plate in the plane z = 0 with a hole of the given radius along z."""
    radius = np.hypot(POINTS[..., 0], POINTS[..., 1])
    solid = np.maximum(radius - 0.8, np.abs(POINTS[..., 2]) - 0.12)
    return np.maximum(solid, hole - np.hypot(POINTS[..., 0] - at, POINTS[..., 1])).astype(np.float32)


def test_genus_of_known_shapes():
    sphere, torus = trimesh.creation.icosphere(2), trimesh.creation.torus(1, 0.3)
    assert genus(sphere.vertices, sphere.faces) == 0 and genus(torus.vertices, torus.faces) == 1
    both = trimesh.util.concatenate([sphere, torus, torus])
    assert genus(both.vertices, both.faces) == 2
    assert genus(np.zeros((0, 3)), np.zeros((0, 3), int)) == 0


@pytest.mark.parametrize("at", [0.0, 0.37])
def test_a_narrow_tunnel_is_filled_and_nothing_else_changes(at):
    values = plate(0.07, at)
    assert genus(*triangulate(values, AXES)) == 1
    mended = remove_handles(values)
    assert genus(*triangulate(mended, AXES)) == 0
    changed = POINTS[mended != values]
    assert 0 < len(changed) and np.hypot(changed[:, 0] - at, changed[:, 1]).max() < 0.12
    assert (mended[mended != values] < 0).all()


def test_a_strand_is_cut():
    """Two plates a good way apart, held together in their middle and by a thread."""
    middle = np.hypot(POINTS[..., 0], POINTS[..., 1])
    plates = np.maximum(middle - 0.8, np.abs(np.abs(POINTS[..., 2]) - 0.4) - 0.2)
    stem = np.maximum(middle - 0.25, np.abs(POINTS[..., 2]) - 0.4)
    thread = np.maximum(np.hypot(POINTS[..., 0] - 0.45, POINTS[..., 1]) - 0.04, np.abs(POINTS[..., 2]) - 0.3)
    values = np.minimum(np.minimum(plates, stem), thread).astype(np.float32)
    assert genus(*triangulate(values, AXES)) == 1
    mended = remove_handles(values)
    assert genus(*triangulate(mended, AXES)) == 0
    assert (mended[mended != values] > 0).all() and (mended != values).sum() <= 24
    uncut = remove_handles(values, largest_cut=0)
    assert (uncut[uncut != values] < 0).all()


def test_a_funnel_is_closed_at_its_neck_only():
    """As a nostril that pierces the wing of the nose: the plug must not fill what is wide."""
    radius = np.hypot(POINTS[..., 0], POINTS[..., 1])
    solid = np.maximum(radius - 0.85, np.abs(POINTS[..., 2]) - 0.5)
    neck = 0.1 + 0.9 * np.abs(POINTS[..., 2] - 0.2)
    values = np.maximum(solid, (neck - radius) / 1.35).astype(np.float32)
    assert genus(*triangulate(values, AXES)) == 1
    mended = remove_handles(values)
    assert genus(*triangulate(mended, AXES)) == 0
    changed = POINTS[mended != values]
    assert len(changed) < 20 and np.abs(changed[:, 2] - 0.2).max() < 0.06


def test_of_a_ring_and_its_hole_the_hole_is_closed():
    """To cut the rim would change less, but is seen more."""
    values = plate(0.15, at=0.45)
    assert genus(*triangulate(values, AXES)) == 1
    mended = remove_handles(values)
    assert genus(*triangulate(mended, AXES)) == 0 and (mended[mended != values] < 0).all()


def test_points_that_touch_at_corners_only_are_mended_too():
    """Noise has handles that grids of simple points and marching cubes see differently."""
    from scipy.ndimage import gaussian_filter

    sphere = np.linalg.norm(POINTS, axis=-1) - 0.7
    noise = gaussian_filter(np.random.default_rng(6).normal(size=sphere.shape), 1)
    values = np.where(sphere < 0.2, sphere + 0.8 * noise, sphere).astype(np.float32)
    before, after = (genus(*triangulate(grid, AXES)) for grid in (values, remove_handles(values)))
    assert before > 20 and after == 0


def test_a_wide_hole_and_a_groove_stay():
    wide = plate(0.4)
    np.testing.assert_array_equal(remove_handles(wide, deepest=0.05), wide)
    grooved = np.maximum(plate(0.0), np.minimum(0.06 - np.abs(POINTS[..., 0]), POINTS[..., 2] - 0.0)).astype(
        np.float32
    )
    assert remove_handles(grooved) is grooved
