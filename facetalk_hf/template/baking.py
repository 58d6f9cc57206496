# SPDX-License-Identifier: MIT
"""Maps of a fine surface on the template's texture: base colour, ambient occlusion, normals in tangent space."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from ..mesh.geometry import Surface, unit
from .topology import Topology, load_topology, split


@dataclass(frozen=True)
class Texels:
    """The n texels that triangles of the template cover.

    Args:
        rows, columns ((n,) int): where they are, row 0 at the top.
        corners ((n, 3) int): vertices of their triangles. shares ((n, 3) float): barycentric.
        nearest ((size * size,) int): for every texel of the picture, the covered one nearest to it.
    """

    rows: np.ndarray
    columns: np.ndarray
    corners: np.ndarray
    shares: np.ndarray
    nearest: np.ndarray


@lru_cache(2)
def texels(size: int) -> Texels:
    """Find the texels of a square texture that the template covers."""
    topology = load_topology()
    triangles = topology.triangles
    place = topology.uv[triangles] * [size, -size] + [0, size] - 0.5
    low = np.ceil(place.min(1)).astype(int).clip(0, size - 1)
    span = np.floor(place.max(1)).astype(int).clip(0, size - 1) - low + 1
    count = span.prod(1).clip(0)
    row = np.repeat(np.arange(len(triangles)), count)
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    at = low[row] + np.stack([step % span[row, 0], step // span[row, 0]], 1)
    a, b, c = (place[row, corner] for corner in range(3))
    ab, ac, ap = b - a, c - a, at - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    shares = np.stack([1 - v - w, v, w], 1)
    inside = np.flatnonzero(shares.min(1) > -1e-9)
    _, first = np.unique(at[inside, 1] * size + at[inside, 0], return_index=True)
    inside = inside[first]
    number = np.full((size, size), -1)
    number[at[inside, 1], at[inside, 0]] = np.arange(len(inside))
    nearest = distance_transform_edt(number < 0, return_distances=False, return_indices=True)
    return Texels(at[inside, 1], at[inside, 0], triangles[row[inside]], shares[inside], number[tuple(nearest)].ravel())
