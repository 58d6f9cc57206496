# SPDX-License-Identifier: MIT
"""Handles of an extracted surface, such as a pierced ear: counting them, and removing them on the grid."""

import numpy as np


def genus(vertices: np.ndarray, faces: np.ndarray) -> int:
    """Count the handles of closed surfaces, all pieces together: pieces - (V - E + F) / 2, with E = 3 F / 2."""
    from trimesh.graph import connected_component_labels

    if not len(faces):
        return 0
    # Trimesh.euler_number would do, at four times the cost, and this is asked of every small box in remove_handles.
    pieces = connected_component_labels(np.concatenate([faces[:, :2], faces[:, 1:]]), len(vertices)).max() + 1
    return int(pieces - (len(vertices) - len(faces) // 2) // 2)


def remove_handles(values: np.ndarray, largest: int = 400, largest_cut: int = 24) -> np.ndarray:
    """Fill tunnels or cut strands a few cells thick, where that removes a handle and nowhere else.

    What a morphological closing of the inside would add, piece by piece of neighbouring grid points, then what an
    opening would take away: a piece changes sign if marching cubes then finds fewer handles and no more parts around
    it. A shape that needs no repair, a groove or a thin lip, is left as it is to the last bit.

    Args:
        values ((nx, ny, nz) float): signed distances on a grid, negative inside.
        largest (`int`): grid points a piece that is filled may have. largest_cut (`int`): one that is taken away: an
            ear's rim is thin too, so strands have to be thin and short.

    Returns: the values, those of repaired points with the other sign.
    """
    from scipy import ndimage

    result = values
    every = ndimage.generate_binary_structure(3, 3)
    for add, reach, times in ((True, 1, 1), (True, 2, 1), (False, 1, 1), (True, 1, 2), (True, 2, 2), (False, 2, 1)):
        if not _handles(result):
            return result
        inside, element = result < 0, ndimage.generate_binary_structure(3, reach)
        if add:
            pieces = ndimage.binary_closing(inside, element, times) & ~inside
        else:
            pieces = inside & ~ndimage.binary_opening(inside, element, times)
        label, _ = ndimage.label(pieces, every)
        # Around a tunnel there is wall; what a strand joins is joined elsewhere too, further off.
        margin = 2 if add else 8
        result = result.copy()
        for number, box in enumerate(ndimage.find_objects(label), start=1):
            around = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
            piece = label[around] == number
            if piece.sum() > (largest if add else largest_cut):
                continue
            changed = result[around].copy()
            # Mirrored, so that the new surface lies about as far on the other side; never zero.
            changed[piece] = np.maximum(np.abs(changed[piece]), 1e-4) * (-1 if add else 1)
            before = _handles(result[around])
            # Most boxes hold no handle to begin with.
            if before and _handles(changed) < before and _parts(changed) <= _parts(result[around]):
                result[around] = changed
    return result


def _handles(values: np.ndarray) -> int:
    """Count handles of the zero level in a box, closed where it leaves the box."""
    from skimage.measure import marching_cubes

    if values.min() >= 0:
        return 0
    outside = max(float(values.max()), 1e-4)
    vertices, faces, _, _ = marching_cubes(np.pad(values, 1, constant_values=outside), 0.0)
    return genus(vertices, faces)


def _parts(values: np.ndarray) -> int:
    """Count the parts of the inside in a box."""
    from scipy.ndimage import generate_binary_structure, label

    return int(label(values < 0, generate_binary_structure(3, 1))[1])
