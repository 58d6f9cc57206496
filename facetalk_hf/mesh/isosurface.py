# SPDX-License-Identifier: MIT
"""Iso-surfaces of signed distance fields, evaluated only where the surface can be."""

from collections.abc import Callable, Sequence

import numpy as np


Field = Callable[[np.ndarray], np.ndarray]
"""(n, 3) float32 points -> (n,) float32 signed distances, negative inside."""


def graded_axis(
    low: float, high: float, cells: int, focus: tuple[float, float], gain: float,
    details: Sequence[tuple[float, float, float]] = (),
) -> np.ndarray:  # fmt: skip
    """Space grid lines from `low` to `high`, `gain` times denser inside `focus` than far from it.

    Args:
        low, high (`float`): ends of the axis.
        cells (`int`): number of cells.
        focus (`tuple[float, float]`): interval that deserves the density.
        gain (`float`): ratio of the densities; 1 gives a uniform axis.
        details: further intervals, each with a gain of its own, with a narrower margin.

    Returns:
        (cells + 1,) increasing coordinates.
    """
    fine = np.linspace(low, high, 2001)
    density = np.ones(len(fine))
    for first, last, ratio, margin in ((*focus, gain, 0.15), *((*detail, 0.06) for detail in details)):
        outside = np.maximum(first - fine, fine - last).clip(0) / (margin * (high - low))
        density = np.maximum(density, 1 + (ratio - 1) * np.cos(0.5 * np.pi * np.minimum(outside, 1)) ** 2)
    quantile = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(np.linspace(0, quantile[-1], cells + 1), quantile, fine)


def sample_field(
    field: Field, axes: list[np.ndarray], levels: int = 4, safety: float = 0.8, narrow: float = 0.2
) -> np.ndarray:
    """Sample a signed distance field on a grid, evaluating it only near its zero level.

    A point of a cell is at most half a diagonal from a corner, so a cell whose corners are all further from zero than
    `safety` (0.5 and some reserve) diagonals cannot hold the surface; it
    is filled by interpolation, which keeps its sign. The others are halved, `levels` times. This needs a field whose
    values are (nearly) distances.

    In the others interpolation says well enough where zero is, the better the smaller they are: its error is of second
    order. Only nodes where it gives less than `narrow` diagonals are evaluated on the finest level, twice as many
    diagonals on the next, and so on; and then both ends of every edge that the surface turns out to cut.

    Args:
        field (`Field`): the signed distance.
        axes (`list` of three arrays): grid lines, each with a multiple of 2 ** levels cells.

    Returns:
        (nx, ny, nz) float32, those of the field at both ends of every edge that changes sign.
    """
    step = 2**levels
    if any((len(axis) - 1) % step for axis in axes):
        raise ValueError(f"each axis needs a multiple of {step} cells")
    shape = tuple(len(axis[::step]) for axis in axes)
    wanted, known, values = np.ones(shape, bool), np.zeros(shape, bool), np.empty(shape, np.float32)
    coarsest = step
    while step >= 1:
        lines = [axis[::step].astype(np.float32) for axis in axes]
        if step < coarsest:
            active = _cell_minimum(np.abs(values)) < safety * _diagonals([np.diff(axis[:: 2 * step]) for axis in axes])
            values, known = _refine(values), _known(known)
            wide = [np.maximum(np.diff(line, prepend=line[0]), np.diff(line, append=line[-1])) for line in lines]
            wanted = _nodes_of_cells(active) & ~known & (np.abs(values) < narrow * step * _diagonals(wide))
        while wanted.any():
            index = np.nonzero(wanted)
            values[index] = field(np.stack([line[i] for line, i in zip(lines, index, strict=True)], axis=1))
            known |= wanted
            wanted = ends_of_crossing_edges(values < 0) & ~known
        step //= 2
    return values


def ends_of_crossing_edges(negative: np.ndarray) -> np.ndarray:
    """Mark grid nodes (nx, ny, nz) that have a neighbour of the other sign."""
    ends = np.zeros_like(negative)
    for axis in range(3):
        view, sign = np.moveaxis(ends, axis, 0), np.moveaxis(negative, axis, 0)
        crossing = sign[1:] != sign[:-1]
        view[1:] |= crossing
        view[:-1] |= crossing
    return ends


def _diagonals(spacing: list[np.ndarray]) -> np.ndarray:
    """Compute the diagonals (nx, ny, nz) of boxes with these edges."""
    x, y, z = (np.asarray(edges, np.float32) ** 2 for edges in spacing)
    return np.sqrt(x[:, None, None] + y[None, :, None] + z[None, None, :])


def extract_surface(
    field: Field, axes: list[np.ndarray], levels: int = 4, largest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate the zero level of a signed distance field, by coarse-to-fine sampling and marching cubes.

    Args:
        field, axes, levels: as for `sample_field`.
        largest (`bool`): keep only the largest connected piece.

    Returns:
        (V, 3) float32 vertices and (F, 3) int32 faces with outward normals. Both are empty where nothing is inside.
    """
    return triangulate(sample_field(field, axes, levels), axes, largest)


def triangulate(values: np.ndarray, axes: list[np.ndarray], largest: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Run marching cubes over values (nx, ny, nz) at grid lines `axes`; returns what `extract_surface` does."""
    from skimage.measure import marching_cubes

    if values.min() >= 0 or values.max() <= 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    index, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    vertices = np.stack(
        [np.interp(index[:, i], np.arange(len(axis)), axis) for i, axis in enumerate(axes)], axis=1
    ).astype(np.float32)
    if largest:
        vertices, faces = keep_largest(vertices, faces)
    return vertices, faces.astype(np.int32)


def keep_largest(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the connected piece with most faces."""
    from trimesh.graph import connected_component_labels

    face_label = connected_component_labels(np.concatenate([faces[:, :2], faces[:, 1:]]), len(vertices))[faces[:, 0]]
    return compact(vertices, faces[face_label == np.bincount(face_label).argmax()])


def compact(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop vertices that no face uses."""
    used, inverse = np.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3).astype(np.int32)


def smooth_surface(
    vertices: np.ndarray, faces: np.ndarray, iterations: int = 4, shrink: float = 0.5, inflate: float = -0.53
) -> np.ndarray:
    """Smooth a surface by Taubin's filter: removes the ribs of marching cubes and keeps the volume.

    Args:
        vertices ((V, 3) float), faces ((F, 3) int): the surface.
        iterations (`int`): how often it is shrunk by `shrink`, above 0, and inflated again by `inflate`, below 0.

    Returns: vertices (V, 3) float32.
    """
    from scipy.sparse import coo_matrix, diags
    from trimesh import Trimesh
    from trimesh.smoothing import filter_taubin

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = coo_matrix((np.ones(len(edges), np.float32), edges.T), shape=(len(vertices),) * 2).tocsr()
    adjacency.data[:] = 1.0
    # The mean of the neighbours in single precision: trimesh's own would move the last bits of every decoded head.
    mean = diags(1.0 / np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1)) @ adjacency
    mesh = Trimesh(vertices, faces, process=False)
    filter_taubin(mesh, shrink, -inflate, 2 * iterations, laplacian_operator=mean)
    return np.asarray(mesh.vertices, np.float32)


def _cell_minimum(values: np.ndarray) -> np.ndarray:
    """Take the smallest of the eight corners of every cell."""
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        values = np.minimum(values[tuple(low)], values[tuple(high)])
    return values


def _nodes_of_cells(active: np.ndarray) -> np.ndarray:
    """Mark the nodes of the grid twice as fine that belong to active cells."""
    shape = tuple(2 * size + 1 for size in active.shape)
    nodes = np.zeros(shape, bool)
    for offset in np.ndindex(3, 3, 3):
        target = tuple(slice(o, o + 2 * size - 1, 2) for o, size in zip(offset, active.shape, strict=True))
        nodes[target] |= active
    return nodes


def _refine(values: np.ndarray) -> np.ndarray:
    """Interpolate linearly onto the grid twice as fine."""
    for axis in range(3):
        values = np.moveaxis(values, axis, 0)
        fine = np.empty((2 * len(values) - 1, *values.shape[1:]), np.float32)
        fine[::2] = values
        fine[1::2] = 0.5 * (values[1:] + values[:-1])
        values = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(values)


def _known(coarse: np.ndarray) -> np.ndarray:
    """Mark the nodes of the finer grid that were evaluated on the coarser one."""
    known = np.zeros(tuple(2 * size - 1 for size in coarse.shape), bool)
    known[::2, ::2, ::2] = coarse
    return known
