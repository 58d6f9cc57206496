# SPDX-License-Identifier: MIT
"""Ambient occlusion of a mesh that stands still."""

import numpy as np

from ..mesh.geometry import Surface, tangents


def ambient_occlusion(vertices: np.ndarray, faces: np.ndarray, rays: int = 24, reach: float = 45.0) -> np.ndarray:
    """Measure the share of light from all around that reaches each vertex, (V,) float in 0..1.

    Args:
        vertices ((V, 3) float, mm), faces ((F, 3) int): the mesh. rays (`int`): a vertex.
        reach (`float`, mm): what is further away does not shade.
    """
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    vertices = np.ascontiguousarray(vertices, np.float32)
    scene = EmbreeScene()
    TriangleMesh(scene, vertices, np.ascontiguousarray(faces, np.int32))
    surface = Surface(faces, len(vertices))
    normals = surface.normals(vertices)[0].astype(np.float32)
    origin = np.ascontiguousarray(vertices + 0.35 * normals)
    first, second = tangents(normals)
    rng = np.random.default_rng(7)
    lit = np.zeros(len(vertices), np.float32)
    for step in range(rays):
        # One stratum of the cosine lobe a pass, turned at random for every vertex.
        height = np.sqrt((step + rng.random(len(vertices), np.float32)) / rays)
        turn = 2 * np.pi * (rng.random(len(vertices), np.float32) + step * 0.618)
        side = np.sqrt(1 - height**2)
        way = (np.cos(turn) * side)[:, None] * first + (np.sin(turn) * side)[:, None] * second
        way += height[:, None] * normals
        hit = scene.run(origin, np.ascontiguousarray(way, np.float32), dists=reach, query="OCCLUDED")
        lit += (hit < 0) / np.float32(rays)
    return surface.smooth(lit[:, None], 3)[:, 0]
