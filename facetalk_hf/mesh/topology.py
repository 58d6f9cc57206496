# SPDX-License-Identifier: MIT
"""Handles of an extracted surface, such as a pierced ear: counting them, and removing them on the grid."""

import numpy as np

from .simple_points import grow


CUT = 10.0
"""What a cut costs beside a closed tunnel: it parts the wing of a nose or the rim of an ear, which is seen more."""


def genus(vertices: np.ndarray, faces: np.ndarray) -> int:
    """Count the handles of closed surfaces, all pieces together: pieces - (V - E + F) / 2, with E = 3 F / 2."""
    from trimesh.graph import connected_component_labels

    if not len(faces):
        return 0
    # Trimesh.euler_number would do, at four times the cost, and this is asked again after every repair.
    pieces = connected_component_labels(np.concatenate([faces[:, :2], faces[:, 1:]]), len(vertices)).max() + 1
    return int(pieces - (len(vertices) - len(faces) // 2) // 2)


def remove_handles(values: np.ndarray, deepest: float = np.inf, largest_cut: int = 40) -> np.ndarray:
    """Cut strands and close tunnels, each by a sheet one grid point thick, where that removes a handle.

    The inside grows from its core, and the outside from far away, deepest points first and never so that it closes a
    ring. Where it meets itself a sheet is left: across a strand at its thinnest place, or across a tunnel
    at its narrowest. Of the sheets that remove a handle from what marching cubes finds, those go to the other side
    that change the field least, summed over their points, cuts counted `CUT` times. A surface without handles is left
    to the last bit.

    Args:
        values ((nx, ny, nz) float): signed distances on a grid, negative inside.
        deepest (`float`): sheets with a point further than this from the surface are left: a wide ring may be meant.
        largest_cut (`int`): grid points that a sheet across a strand may have: a larger one is a crack in the hair.

    Returns: the values, those of the sheets' points with the other sign.
    """
    handles = _handles(values)
    if not handles:
        return values
    repaired, left = _without_sheets(values, handles, deepest, largest_cut)
    if left:
        # Marching cubes and the sheets can only disagree about points that touch along an edge or at a corner.
        composed = _well_composed(repaired)
        again, fewer = _without_sheets(composed, _handles(composed), deepest, largest_cut)
        if fewer < left:
            return again
    return repaired


def _without_sheets(values: np.ndarray, handles: int, deepest: float, largest_cut: int) -> tuple[np.ndarray, int]:
    """Flip the sheets that remove a handle, cheapest first; returns the values and the number of handles left."""
    from scipy import ndimage

    every = ndimage.generate_binary_structure(3, 3)
    negated = np.where(values == 0, -np.finfo(np.float32).tiny, -values)
    sheets: list[tuple[float, int, tuple[slice, ...], np.ndarray, int]] = []
    for side, sign in ((values, 1), (negated, -1)):
        missing = (side < 0) & ~_grown(side)
        label, _ = ndimage.label(missing, every)
        for number, box in enumerate(ndimage.find_objects(label), start=1):
            around = tuple(slice(max(reach.start - 2, 0), reach.stop + 2) for reach in box)
            sheet = label[around] == number
            depth = np.abs(values[around][sheet])
            if depth.max() < deepest and (sign < 0 or len(depth) <= largest_cut):
                sheets.append((float(depth.sum()) * (CUT if sign > 0 else 1), len(sheets), around, sheet, sign))
    result = values.copy()
    for _, _, around, sheet, sign in sorted(sheets, key=lambda entry: entry[:2]):
        before, after = result[around].copy(), result[around].copy()
        # Mirrored, so that the new surface lies about as far on the other side; never zero.
        after[sheet] = np.maximum(np.abs(after[sheet]), 1e-4) * sign
        # Where a box says nothing the whole is not asked: most sheets stand at a dead end.
        if _euler(after) > _euler(before) or _handles(after) < _handles(before):
            result[around] = after
            left = _handles(result)
            if left < handles:
                handles = left
            else:  # a bubble came off
                result[around] = before
        if not handles:
            break
    return result, handles


def _grown(values: np.ndarray, levels: int = 24) -> np.ndarray:
    """Grow the core of what is below zero, the largest part of it that has no handle, to the surface."""
    deep = -float(values.min())
    for depth in (deep / 32, deep / 16, deep / 8, deep / 4, deep / 2):
        core = _largest(values < -depth)
        if not _handles(np.where(core, values + depth, np.maximum(values + depth, 1e-4))):
            break
    else:
        core, depth = np.zeros(values.shape, bool), deep
        core.flat[values.argmin()] = True
    # Finer towards the surface, where sheets are.
    return grow(values, core, -depth * np.linspace(1, 0, levels + 1)[1:] ** 2)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest part."""
    from scipy import ndimage

    label, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    return label == 1 + np.bincount(label.ravel())[1:].argmax() if label.any() else mask


def _well_composed(values: np.ndarray, rounds: int = 8) -> np.ndarray:
    """Flip points that touch others of their side along an edge or at a corner only, those nearest to zero first."""
    from scipy.ndimage import minimum_filter

    values = values.copy()
    for _ in range(rounds):
        doubtful = _doubtful(values < 0)
        if not doubtful.any():
            break
        size = np.where(doubtful, np.abs(values), np.inf)
        weakest = doubtful & (size == minimum_filter(size, 3))
        values[weakest] = np.where(values[weakest] < 0, 1, -1) * np.maximum(size[weakest], 1e-4)
    return values


def _doubtful(negative: np.ndarray) -> np.ndarray:
    """Mark the corners of faces with two opposite corners on either side, and of cells with two alone."""
    marked = np.zeros_like(negative)
    for axes in ((0, 1), (0, 2), (1, 2)):
        side, mark = (np.moveaxis(array, axes, (0, 1)) for array in (negative, marked))
        first, second = side[:-1, :-1], side[1:, :-1]
        crossed = (first == side[1:, 1:]) & (second == side[:-1, 1:]) & (first != second)
        for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
            mark[_shifted(place, crossed.shape[:2])] |= crossed
    cells = tuple(size - 1 for size in negative.shape)
    places = list(np.ndindex(2, 2, 2))
    corners = [negative[_shifted(place, cells)] for place in places]
    inside = np.sum(corners, axis=0)
    alone = np.zeros(cells, bool)
    for one, opposite in zip(corners[:4], corners[:3:-1], strict=True):
        alone |= (one == opposite) & np.where(one, inside == 2, inside == 6)
    for place in places:
        marked[_shifted(place, cells)] |= alone
    return marked


def _shifted(place: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(place, sizes, strict=True))


def _marching_cubes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate the zero level in a box, closed where it leaves the box."""
    from skimage.measure import marching_cubes

    if values.min() >= 0:
        return np.zeros((0, 3)), np.zeros((0, 3), int)
    outside = max(float(values.max()), 1e-4)
    vertices, faces, _, _ = marching_cubes(np.pad(values, 1, constant_values=outside), 0.0)
    return vertices, faces


def _handles(values: np.ndarray) -> int:
    """Count the handles of the zero level in a box."""
    return genus(*_marching_cubes(values))


def _euler(values: np.ndarray) -> int:
    """Compute V - E + F of the zero level in a box."""
    vertices, faces = _marching_cubes(values)
    return len(vertices) - len(faces) // 2
