# SPDX-License-Identifier: MIT
"""Fewer vertices for small smooth parts, such as teeth: some of their own, so that all quantities carry over."""

import numpy as np


def thin(
    vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the vertices of faces (F, 3) that lie closer than about `apart`, (V,) mm, and differ little in colour.

    A piece never grows together with another: teeth that touch move apart. A cell of a grid over space and colour
    keeps the vertex nearest to the mean of those in it. Quadric simplification would do better on flat parts; the
    libraries that have it need a compiler or forget which vertices they kept.

    Returns: the numbers of the vertices that are kept, (W,) int, and faces (G, 3) over these.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    used, flat = np.unique(faces, return_inverse=True)
    flat = flat.ravel()
    links = coo_matrix((np.ones(flat.size), (flat, np.roll(flat.reshape(-1, 3), 1, axis=1).ravel())), (len(used),) * 2)
    piece = connected_components(links, directed=False)[1]
    space = apart[used, None]
    key = np.concatenate([vertices[used] / space, colors[used] / 48.0, piece[:, None], space], 1)
    _, cell = np.unique(np.floor(key).astype(int), axis=0, return_inverse=True)
    cell = cell.ravel()
    count = cell.max(initial=-1) + 1
    size = np.bincount(cell, minlength=count)
    mean = np.stack([np.bincount(cell, column, count) for column in key.T], 1) / np.maximum(size, 1)[:, None]
    order = np.lexsort((((key - mean[cell]) ** 2).sum(1), cell))
    chosen = used[order[np.searchsorted(cell[order], np.arange(count))]] if count else used
    thinned = cell[flat.reshape(-1, 3)]
    whole = (thinned != np.roll(thinned, 1, axis=1)).all(1)
    thinned = np.take_along_axis(
        thinned, (thinned.argmin(1)[:, None] + np.arange(3)) % 3, axis=1
    )  # each triangle begins with its lowest vertex, so that equal ones are equal rows
    return chosen, np.unique(thinned[whole], axis=0)
