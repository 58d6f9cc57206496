# SPDX-License-Identifier: MIT
"""Maps of a fine surface on the template's texture: base colour, ambient occlusion, normals in tangent space."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..mesh.geometry import Surface, smoothstep, unit
from .topology import Topology, load_topology, split


if TYPE_CHECKING:
    from scipy.spatial import cKDTree


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
    from scipy.ndimage import distance_transform_edt  # 0.3 s of import that other formats do without

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


def nearest_shares(tree: "cKDTree", key: np.ndarray, count: int, neighbours: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Find the vertices nearest to each place, (n, k) int, and the shares of each, falling with distance squared."""
    distance, index = tree.query(key, k=min(neighbours, count))
    share = 1 / (distance**2 + 1e-4)
    return index, share / share.sum(1, keepdims=True)


def bake(
    topology: Topology, places: dict[str, np.ndarray], surface: dict[str, np.ndarray], faces: np.ndarray,
    colors: np.ndarray, occlusion: np.ndarray, size: int = 512,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Bake the maps of a surface of V vertices on which the template's W places lie.

    Texels find their vertices where the mouth is open, and by normals too, so that lips do not mix.

    Args:
        topology (`Topology`): the template.
        places, surface: "open" and "rest", (W, 3) and (V, 3) float: the template and the surface in both poses.
        faces ((F, 3) int): of the surface. colors ((V, 3) uint8), occlusion ((V,) float): what is baked.
        size (`int`): the pictures' edge; 512 has several texels a vertex. [`enlarged`] makes them twice as large.

    Returns: pictures (size, size, 3) uint8: "color" (sRGB), "normal" (tangent space, glTF's axes); and "occlusion"
    (size, size) uint8.
    """
    from scipy.spatial import cKDTree

    grid = texels(size)
    quads, corners = split(topology.quads), topology.owner[grid.corners]
    coarse, fine = Surface(quads, len(topology.shape)), Surface(faces, len(colors))
    used = np.unique(faces)

    def on_texels(values: np.ndarray, at: np.ndarray = corners) -> np.ndarray:
        return np.einsum("nc,ncd->nd", grid.shares, values[at])

    key = np.concatenate([surface["open"], 5 * fine.normals(surface["open"])[0]], 1)
    wanted = np.concatenate([places["open"], 5 * coarse.normals(places["open"])[0]], 1)
    index, share = nearest_shares(cKDTree(key[used]), on_texels(wanted), len(used))
    index = used[index]

    def of_surface(values: np.ndarray) -> np.ndarray:
        return np.einsum("nk,nkd->nd", share, values[index].astype(np.float32))

    def picture(values: np.ndarray) -> np.ndarray:
        return np.round(values[grid.nearest]).clip(0, 255).astype(np.uint8).reshape(size, size, -1).squeeze()

    axis, side = tangents_of(topology, places["rest"])
    normal = unit(on_texels(coarse.normals(places["rest"])[0]))
    axis = on_texels(axis, grid.corners)
    axis = unit(axis - np.einsum("ij,ij->i", axis, normal)[:, None] * normal)
    across = np.cross(normal, axis) * np.sign(side[grid.corners[:, 0]])[:, None]
    exact = unit(of_surface(fine.normals(surface["rest"])[0]))
    local = np.stack([np.einsum("ij,ij->i", exact, way) for way in (axis, across, normal)], 1)
    # A texel whose surface looks away from the template's, in a fold, is better flat.
    local = np.where(local[:, 2:] > 0.3, local, [0.0, 0.0, 1.0])
    return {
        "color": picture(of_surface(colors)),
        "normal": picture(127.5 * (unit(local) + 1)),
        "occlusion": picture(255 * of_surface(occlusion[:, None])),
    }


def shaded(colors: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Darken colours (V, 3) uint8, sRGB, where less than 0.6 of the light (V,), 0 to 1, comes.

    A glTF's occlusion dims ambient light alone. A lamp casts no shadow in most viewers: it would shine in nostrils.
    """
    kept = 0.2 + 0.8 * smoothstep(0.1, 0.6, light)
    # What light there is has been through skin: it is red.
    return np.round(colors * kept[:, None] ** [1.0, 1.3, 1.3]).astype(np.uint8)


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Double the edges of a picture (size, size, ..) uint8, smoothly."""
    from PIL import Image

    size = 2 * len(picture)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def tangents_of(topology: Topology, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the direction of growing u at the template's vertices, (M, 3), and the sign of v across it, (M,)."""
    triangles = topology.triangles
    a, b, c = (places[topology.owner[triangles[:, corner]]] for corner in range(3))
    p, q, r = (topology.uv[triangles[:, corner]] for corner in range(3))
    (du, dv), (eu, ev) = (q - p).T, (r - p).T
    area = du * ev - eu * dv
    along = ((b - a) * ev[:, None] - (c - a) * dv[:, None]) * np.sign(area)[:, None]
    surface = Surface(triangles, len(topology.uv))
    return unit(surface.gather @ along), surface.gather @ area
