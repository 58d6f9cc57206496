# SPDX-License-Identifier: MIT
"""Hair as solids, on a ball in place of ICT-FaceKit's head."""

import numpy as np
import pytest
import trimesh

from facetalk_hf.head.hair_styles import HairStyle
from facetalk_hf.synthetic.hair import Hair, barycentric


pytest.importorskip("igl", reason='needs libigl: pip install "facetalk_hf[train]"')


def ball(kind: str, thick: float) -> Hair:
    """A ball of 8 cm about (0, 4, 0) whose upper half is hairy."""
    mesh = trimesh.creation.icosphere(3, radius=8)
    vertices = mesh.vertices + [0, 4, 0]
    thickness = np.where(vertices[:, 1] > 6, thick, 0.0)
    return Hair(HairStyle(kind), vertices, mesh.faces, vertices, thickness)


def joined(hair: Hair, points: np.ndarray) -> np.ndarray:
    return hair.join(points, np.linalg.norm(points - [0, 4, 0], axis=1) - 8)


def test_a_coat_is_as_thick_as_painted_and_leaves_the_rest_bare():
    points = np.array([[0.0, 13, 1], [0, 4, 9], [0, 12.5, 0.5], [0, 4, 7]])
    distance = joined(ball("cropped", 1.0), points)
    assert distance[0] == pytest.approx(0.06, abs=0.15) and distance[2] < 0
    assert distance[[1, 3]] == pytest.approx([1, -1], abs=0.05)
    assert joined(ball("none", 0.0), points) == pytest.approx(np.linalg.norm(points - [0, 4, 0], axis=1) - 8)


@pytest.mark.parametrize("kind, inside", [("bob", [9.0, 0, -1]), ("long", [0, -4, -7.2]), ("bun", [0, 9.9, -8])])
def test_what_hangs_or_is_tied_stands_off_the_head(kind, inside):
    points = np.array([inside, [0, 0, 9.5]], float)  # and the face is free
    distance = joined(ball(kind, 0.5), points)
    assert distance[0] < 0 < distance[1]
    assert joined(ball("cropped", 0.5), points)[0] > 0


def test_barycentric_coordinates_give_the_point_back():
    rng = np.random.default_rng(0)
    corners, share = rng.normal(size=(20, 3, 3)), rng.dirichlet([1, 1, 1], 20)
    assert barycentric(np.einsum("nc,ncd->nd", share, corners), corners) == pytest.approx(share)
