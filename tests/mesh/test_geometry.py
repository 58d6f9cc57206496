# SPDX-License-Identifier: MIT
"""Open edges of a mesh: each once, in an order that faces built on them may rely on."""

import numpy as np
import trimesh

from facetalk_hf.mesh.geometry import boundary_edges


def test_boundary_edges_are_the_sides_without_a_neighbour_in_the_order_of_their_vertices():
    faces = trimesh.creation.icosphere(subdivisions=2).faces
    assert not len(boundary_edges(faces))
    kept = np.random.default_rng(0).permutation(faces)[:200]
    sides = np.concatenate([kept[:, [0, 1]], kept[:, [1, 2]], kept[:, [2, 0]]]).tolist()
    expected = sorted((side for side in sides if side[::-1] not in sides), key=sorted)
    assert boundary_edges(kept).tolist() == expected and len(expected) > 50
