# SPDX-License-Identifier: MIT
"""Coarse-to-fine extraction equals the dense grid, and what is done to the surface afterwards."""

import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

from facetalk_hf.mesh.isosurface import (
    compact,
    extract_surface,
    graded_axis,
    keep_largest,
    sample_field,
    smooth_surface,
)


AXES = [np.linspace(-0.5, 0.5, 65)] * 3


class Sphere:
    """Signed distance to a sphere that counts how often it is asked."""

    def __init__(self, radius: float = 0.35):
        self.radius, self.points = radius, 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.points += len(points)
        return (np.linalg.norm(points - 0.03, axis=1) - self.radius).astype(np.float32)


def test_details_are_finer_than_what_lies_between():
    axis = graded_axis(-0.5, 0.5, 128, (-0.1, 0.1), 2.0, ((0.3, 0.4, 3.0),))
    step = np.diff(axis)
    at = [step[np.searchsorted(axis, place) - 1] for place in (0.0, 0.35, -0.35)]
    assert len(axis) == 129 and at[1] < at[0] < at[2] and at[2] / at[1] == pytest.approx(3, rel=0.1)


def test_coarse_to_fine_equals_the_dense_grid_and_asks_for_less():
    field = Sphere()
    vertices, faces = extract_surface(field, AXES, levels=3)
    asked = field.points
    dense = Sphere()(np.stack(np.meshgrid(*AXES, indexing="ij"), -1).reshape(-1, 3)).reshape(65, 65, 65)
    expected, expected_faces, _, _ = marching_cubes(dense, 0.0)
    assert asked < 0.12 * dense.size
    np.testing.assert_allclose(vertices, expected / 64 - 0.5, atol=1e-6)
    assert len(faces) == len(expected_faces)


def test_surface_is_closed_faces_outwards_and_lies_on_the_level():
    vertices, faces = extract_surface(Sphere(), AXES)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.35**3, rel=0.01)
    assert np.abs(np.linalg.norm(vertices - 0.03, axis=1) - 0.35).max() < 5e-4


def test_graded_axes_give_the_same_shape():
    axes = [graded_axis(-0.5, 0.5, 64, (0.0, 0.2), 2.5)] * 3
    spacing = np.diff(axes[0])
    assert spacing.min() > 0 and spacing.max() / spacing.min() == pytest.approx(2.5, rel=0.1)
    vertices, _ = extract_surface(Sphere(), axes)
    assert np.abs(np.linalg.norm(vertices - 0.03, axis=1) - 0.35).max() < 2e-3


def test_cells_must_divide_by_the_levels():
    with pytest.raises(ValueError, match="multiple of 16"):
        sample_field(Sphere(), [np.linspace(0, 1, 31)] * 3)


def test_nothing_inside_gives_no_triangles():
    vertices, faces = extract_surface(Sphere(-0.1), AXES)
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)


def test_largest_piece_is_kept():
    big, small = trimesh.creation.icosphere(3), trimesh.creation.icosphere(1)
    vertices = np.concatenate([small.vertices + 5, big.vertices])
    faces = np.concatenate([small.faces, big.faces + len(small.vertices)])
    kept, kept_faces = keep_largest(vertices, faces)
    assert len(kept) == len(big.vertices) and len(kept_faces) == len(big.faces)
    assert len(compact(vertices, faces[:1])[0]) == 3


def test_taubin_smoothing_removes_noise_and_keeps_the_volume():
    mesh = trimesh.creation.icosphere(4)
    noisy = mesh.vertices * (1 + 0.01 * np.random.default_rng(0).normal(size=(len(mesh.vertices), 1)))
    smooth = smooth_surface(noisy, mesh.faces)
    assert np.std(np.linalg.norm(smooth, axis=1)) < 0.6 * np.std(np.linalg.norm(noisy, axis=1))
    volume = trimesh.Trimesh(smooth, mesh.faces, process=False).volume
    assert volume == pytest.approx(mesh.volume, rel=0.01)
