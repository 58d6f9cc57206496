# SPDX-License-Identifier: MIT
"""The nearest points of triangles, in a compiled loop: trimesh's do not say where on the triangle they lie."""

import numpy as np

from ..rendering.compiled import compiled


@compiled
def closest_on_faces(
    points: np.ndarray,
    near: np.ndarray,
    start: np.ndarray,
    around: np.ndarray,
    faces: np.ndarray,
    vertices: np.ndarray,
    corners: np.ndarray,
    shares: np.ndarray,
) -> None:
    """Find for each point the nearest point of the faces around one vertex.

    Args:
        points ((n, 3) float): where from. near ((n,) int): the vertex of each.
        start ((V + 1,) int), around ((k,) int): faces around vertex v are `around[start[v] : start[v + 1]]`.
        faces ((F, 3) int), vertices ((V, 3) float): the surface, in the points' unit.
        corners ((n, 3) int), shares ((n, 3) float): written: the face's vertices, and their barycentric shares.
    """
    for i in range(len(points)):
        least = np.inf
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(start[near[i]], start[near[i] + 1]):
            f = around[k]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
            bx, by, bz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
            cx, cy, cz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
            px, py, pz = x - ax, y - ay, z - az
            bb, bc, cc = bx * bx + by * by + bz * bz, bx * cx + by * cy + bz * cz, cx * cx + cy * cy + cz * cz
            pb, pc = px * bx + py * by + pz * bz, px * cx + py * cy + pz * cz
            area = max(bb * cc - bc * bc, 1e-18)
            of_b, of_c = (cc * pb - bc * pc) / area, (bb * pc - bc * pb) / area
            of_a = 1 - of_b - of_c
            if of_a < 0 or of_b < 0 or of_c < 0:
                # Beyond the triangle: the nearest point of its three sides.
                along = min(max(pb / max(bb, 1e-18), 0.0), 1.0)
                of_a, of_b, of_c = 1 - along, along, 0.0
                best = (px - along * bx) ** 2 + (py - along * by) ** 2 + (pz - along * bz) ** 2
                side = max(bb - 2 * bc + cc, 1e-18)
                along = min(max((pc - pb + bb - bc) / side, 0.0), 1.0)
                dx, dy, dz = bx + along * (cx - bx), by + along * (cy - by), bz + along * (cz - bz)
                gap = (px - dx) ** 2 + (py - dy) ** 2 + (pz - dz) ** 2
                if gap < best:
                    best, of_a, of_b, of_c = gap, 0.0, 1 - along, along
                along = min(max(pc / max(cc, 1e-18), 0.0), 1.0)
                gap = (px - along * cx) ** 2 + (py - along * cy) ** 2 + (pz - along * cz) ** 2
                if gap < best:
                    of_a, of_b, of_c = 1 - along, 0.0, along
            gap = (of_b * bx + of_c * cx - px) ** 2 + (of_b * by + of_c * cy - py) ** 2
            gap += (of_b * bz + of_c * cz - pz) ** 2
            if gap < least:
                least = gap
                corners[i, 0], corners[i, 1], corners[i, 2] = a, b, c
                shares[i, 0], shares[i, 1], shares[i, 2] = of_a, of_b, of_c
