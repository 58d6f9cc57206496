# SPDX-License-Identifier: MIT
"""Ambient occlusion of a mesh that stands still."""

import numpy as np

from ..mesh.geometry import Surface, tangents
from .occlusion import Rays


def ambient_occlusion(vertices: np.ndarray, faces: np.ndarray, rays: int = 32, reach: float = 45.0) -> np.ndarray:
    """Measure the share of light from all around that reaches each vertex, (V,) float in 0..1.

    Args:
        vertices ((V, 3) float, mm), faces ((F, 3) int): the mesh. rays (`int`): a vertex.
        reach (`float`, mm): what is further away does not shade.
    """
    vertices = np.ascontiguousarray(vertices, np.float32)
    scene = Rays(faces)
    scene.build(vertices)
    surface = Surface(faces, len(vertices))
    rng = np.random.default_rng(7)
    # As in `occlusion`: a part of the vertices, chosen at random, tells the light of the others.
    seen = np.sort(rng.permutation(len(vertices))[: max(min(len(vertices), 8_000), len(vertices) // 3)])
    normals = surface.normals(vertices)[0].astype(np.float32)[seen]
    origin = np.ascontiguousarray(vertices[seen] + 0.35 * normals)
    first, second = tangents(normals)
    light = np.zeros((len(vertices), 2), np.float32)
    light[seen, 1] = 1
    for step in range(rays):
        # One stratum of the cosine lobe a pass, turned at random for every vertex.
        height = np.sqrt((step + rng.random(len(seen), np.float32)) / rays)
        turn = 2 * np.pi * (rng.random(len(seen), np.float32) + step * 0.618)
        side = np.sqrt(1 - height**2)
        way = (np.cos(turn) * side)[:, None] * first + (np.sin(turn) * side)[:, None] * second
        light[seen, 0] += scene.open(origin, way + height[:, None] * normals, reach) / np.float32(rays)
    light = surface.smooth(light, 10)  # fewer rays or rounds show as blotches on cheeks and neck
    return np.where(light[:, 1] > 1e-3, light[:, 0] / np.maximum(light[:, 1], 1e-3), 1)
