# SPDX-License-Identifier: MIT
"""Small triangle meshes: a coloured part with morph targets, joining, grids, open edges, cutting along a level."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Part:
    """One procedural mesh: vertices (V, 3), faces (F, 3), colors (V, 3) uint8, parts (V,) uint8, targets by name."""

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    parts: np.ndarray
    targets: dict[str, np.ndarray] = field(default_factory=dict)


def join(parts: list[Part]) -> Part:
    """Join several meshes to one; a target that a mesh lacks leaves that mesh where it is."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    total = int(offsets[-1])
    targets: dict[str, np.ndarray] = {}
    for part, start in zip(parts, offsets, strict=False):
        for name, delta in part.targets.items():
            targets.setdefault(name, np.zeros((total, 3), np.float32))[start : start + len(delta)] += delta
    return Part(
        np.concatenate([part.vertices for part in parts]).astype(np.float32),
        np.concatenate([part.faces + start for part, start in zip(parts, offsets, strict=False)]).astype(np.int32),
        np.concatenate([part.colors for part in parts]).astype(np.uint8),
        np.concatenate([part.parts for part in parts]).astype(np.uint8),
        targets,
    )


def make_part(vertices: np.ndarray, faces: np.ndarray, color: np.ndarray, kind: int) -> Part:
    """Make a `Part` of one kind from vertices (V, 3) float, faces (F, 3) int and sRGB colours (V, 3) in 0..255."""
    return Part(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        np.clip(color, 0, 255).astype(np.uint8),
        np.full(len(vertices), kind, np.uint8),
    )


def signed_power(value: np.ndarray, exponent: float) -> np.ndarray:
    """Raise magnitudes to a power and keep the signs: exponents below one square off a circle (superellipse)."""
    return np.sign(value) * np.abs(value) ** exponent


def grid_faces(rows: int, columns: int, wrap: bool) -> np.ndarray:
    """Make the triangles of a grid of vertices stored row by row; `wrap` joins the last column to the first."""
    left = np.arange(columns if wrap else columns - 1)
    right = (left + 1) % columns
    row = np.arange(rows - 1)[:, None] * columns
    a, b, c, d = row + left, row + right, row + columns + left, row + columns + right
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def boundary_edges(faces: np.ndarray) -> np.ndarray:
    """Find the directed edges (B, 2) of triangles that no neighbour shares, by the number of their lower vertex.

    trimesh has this too (`grouping.group_rows`), but costs 0.3 s of import.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    low, high = edges.min(1), edges.max(1)
    _, first, count = np.unique(low * (high.max(initial=0) + 1) + high, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, scale: float | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Solve target = s R source + t by least squares for points (P, 3) (Umeyama 1991): s, R, t; s may be given.

    trimesh's procrustes takes the ratio of the clouds' sizes for the scale, which noise biases.
    """
    from scipy.spatial.transform import Rotation

    weight = np.ones(len(source)) if weight is None else weight
    weight = weight / weight.sum()
    a, b = weight @ source, weight @ target
    x, y = source - a, target - b
    rotation = Rotation.align_vectors(y, x, weights=weight)[0].as_matrix()
    if scale is None:
        scale = float(weight @ (y * (x @ rotation.T)).sum(1) / (weight @ (x**2).sum(1)))
    return scale, rotation, b - scale * rotation @ a


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Step smoothly (a cubic) with `value` from 0 at `low` to 1 at `high`; `low` may be the larger one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def smootherstep(value: Any) -> Any:
    """Rise from 0 to 1 with `value`, an array or a tensor of 0 ... 1, smooth to the second derivative at both ends."""
    return value * value * value * (10 - 15 * value + 6 * value * value)


def cut_where_negative(
    vertices: np.ndarray, faces: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Keep the side of a surface where a per-vertex value is positive, and cut the triangles on its border.

    trimesh slices by a plane, and does not say between which vertices a new one lies; morph targets need that.

    Args:
        vertices ((V, 3) float), faces ((F, 3) int), value ((V,) float): the surface, and the value at its vertices.

    Returns: vertices and faces of what is left, and where each vertex lies: between which two of the old ones,
    (n, 2) int, and its share of the way from the first to the second, (n,) float32.
    """
    # A vertex exactly on the line would give slivers of no area; the nearest line misses it by a hair.
    value = np.where(np.abs(value) < 1e-6, 1e-6, value)
    inside = value[faces] < 0
    number = inside.sum(1)
    # Roll every cut triangle so that its odd vertex comes first.
    one, two = faces[number == 1], faces[number == 2]
    odd_one = _roll(one, inside[number == 1].argmax(1))
    odd_two = _roll(two, (~inside[number == 2]).argmax(1))
    edges = np.concatenate([odd_one[:, [0, 1]], odd_one[:, [0, 2]], odd_two[:, [0, 1]], odd_two[:, [0, 2]]])
    unique, place = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    place = place.reshape(-1) + len(vertices)
    share = value[unique[:, 0]] / (value[unique[:, 0]] - value[unique[:, 1]]) if len(unique) else np.zeros(0)
    a1, a2 = np.split(place[: 2 * len(one)], 2)
    b1, b2 = np.split(place[2 * len(one) :], 2)
    result = np.concatenate(
        [
            faces[number == 0],
            np.stack([a1, odd_one[:, 1], odd_one[:, 2]], 1),
            np.stack([a1, odd_one[:, 2], a2], 1),
            np.stack([odd_two[:, 0], b1, b2], 1),
        ]
    )
    own = np.arange(len(vertices))
    pairs = np.concatenate([np.stack([own, own], 1), unique])
    share = np.concatenate([np.zeros(len(vertices)), share])
    used = np.unique(result)
    lookup = np.full(len(pairs), -1)
    lookup[used] = np.arange(len(used))
    pairs, share = pairs[used], share[used].astype(np.float32)
    moved = vertices[pairs[:, 0]] * (1 - share[:, None]) + vertices[pairs[:, 1]] * share[:, None]
    return moved.astype(vertices.dtype), lookup[result].astype(np.int32), pairs, share


def _roll(faces: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Shift each triangle cyclically so that the corner numbered `first` leads."""
    return np.take_along_axis(faces, (np.arange(3) + first[:, None]) % 3, axis=1)


class Surface:
    """Normals and averages over neighbours of a mesh whose vertices move and whose faces stay.

    trimesh would sort the faces anew for every frame.
    """

    def __init__(self, faces: np.ndarray, count: int) -> None:
        from scipy.sparse import csr_matrix

        self.corners = np.ascontiguousarray(faces.T)
        ones = np.ones(faces.size, np.float32)
        owner = np.repeat(np.arange(len(faces)), 3)
        # Sums a quantity of the faces at their corners: (V, F).
        self.gather = csr_matrix((ones, (faces.reshape(-1), owner)), shape=(count, len(faces)))
        self.degree = np.asarray(self.gather.sum(1))

    def normals(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute unit vertex normals (V, 3), weighted by area, and face normals (F, 3) of twice the area's length."""
        a, b, c = (vertices.take(corner, 0) for corner in self.corners)
        flat = cross(b - a, c - a)
        return unit(self.gather @ flat), flat

    def smooth(self, values: np.ndarray, rounds: int) -> np.ndarray:
        """Average (V, C) values over neighbouring faces, `rounds` times."""
        for _ in range(rounds):
            faces = sum(values.take(corner, 0) for corner in self.corners) / np.float32(3)
            values = np.where(self.degree > 0, (self.gather @ faces) / np.maximum(self.degree, 1), values)
        return values.astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (n, 3) to length one; numpy's norm is several times slower along a short axis."""
    return vectors / np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors), 1e-24))[:, None]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply vectors (n, 3) as a cross product, by columns; numpy's own copies more."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        1,
    )


def tangents(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find two unit vectors square to each of the unit vectors (n, 3) and to each other (Duff et al. 2017)."""
    x, y, z = normal.T
    sign = np.where(z < 0, -1.0, 1.0).astype(np.float32)
    a = -1.0 / (sign + z)
    b = x * y * a
    return np.stack([1 + sign * x * x * a, sign * b, -sign * x], 1), np.stack([b, sign + y * y * a, -y], 1)
