# SPDX-License-Identifier: MIT
"""Meshes and point clouds read from ply and obj files, with all vertices in the order of the file."""

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class MeshFile:
    """What a mesh file holds.

    Args:
        vertices ((V, 3) float32): in the file's order and unit, with those that no face uses.
        faces ((F, 3) int32): triangles; polygons are cut into fans. Empty for a point cloud.
        colors ((V, 3) uint8, *optional*): of an obj with `v x y z r g b` throughout.
        normals ((V, 3) float32, *optional*): where the file names one for each vertex; of any length.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    normals: np.ndarray | None = None


def read_mesh(path: Path) -> MeshFile:
    """Read a ply or obj file.

    Raises:
        OSError, ValueError: it cannot be read; of a broken ply whatever trimesh raises.
    """
    if path.suffix.lower() != ".obj":
        return read_ply(path)
    mesh = read_obj(path)
    check_corners(mesh.faces, len(mesh.vertices))
    return mesh


def read_obj(path: Path) -> MeshFile:
    """Read vertices, normals, vertex colours and faces of a Wavefront obj; all groups and objects are one mesh.

    Not by trimesh, which leaves out the normals of clouds and, where there are normals, the vertices without faces.

    Raises:
        OSError, ValueError: no such file, a vertex of fewer than three numbers, words that are no numbers.
    """
    rows: dict[str, list[str]] = {"v": [], "vn": [], "f": []}
    before: list[int] = []  # vertices that come before each face
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            kind, _, rest = line.partition("#")[0].strip().replace("\t", " ").partition(" ")
            if kind in rows:
                rows[kind].append(rest)
                if kind == "f":
                    before.append(len(rows["v"]))
    values, counts = _numbers(rows["v"], np.float64)
    vertices = _first_three(values, counts)
    colors = None
    if len(counts) and counts.min() >= 6:
        colors = np.round(np.nan_to_num(_first_three(values[3:], counts)).clip(0, 1) * 255).astype(np.uint8)
    normals = _first_three(*_numbers(rows["vn"], np.float64)).astype(np.float32)
    return MeshFile(
        vertices.astype(np.float32),
        _fans(rows["f"], np.array(before, np.int64)),
        colors,
        normals if len(normals) == len(vertices) else None,
    )


def _numbers(rows: list[str], dtype: type[np.number]) -> tuple[np.ndarray, np.ndarray]:
    """Parse lines of numbers: all numbers, and how many each line has; ValueError for words that are none."""
    counts = np.array([len(row.split()) for row in rows], np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the check below, by numpy itself
        values = np.fromstring(" ".join(rows), dtype, sep=" ")
    if len(values) != counts.sum():
        raise ValueError("it has words that are no numbers")
    return values, counts


def _first_three(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Take the first three numbers of each line, (n, 3); ValueError for a line of fewer."""
    if (counts < 3).any():
        raise ValueError("it has a vertex of fewer than three numbers")
    return values[(np.cumsum(counts) - counts)[:, None] + np.arange(3)]


def _fans(rows: list[str], before: np.ndarray) -> np.ndarray:
    """Cut the polygons of f lines into triangles, (F, 3) int32; `before` says how many vertices precede each line."""
    corners, counts = _numbers([re.sub(r"/\S*", "", row) if "/" in row else row for row in rows], np.int64)
    # Corners count from 1, or from the latest vertex back.
    corners = np.where(corners < 0, corners + np.repeat(before, counts), corners - 1)
    number = np.maximum(counts - 2, 0)
    start = np.repeat(np.cumsum(counts) - counts, number)
    step = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    corners = np.clip(corners, -1, np.iinfo(np.int32).max)  # beyond all vertices stays beyond
    return np.stack([corners[start], corners[start + step + 1], corners[start + step + 2]], 1).astype(np.int32)


def read_ply(path: Path) -> MeshFile:
    """Read vertices, faces and the normals nx, ny, nz of a ply; errors are those of trimesh."""
    import trimesh

    check_ply_header(path)
    # What it logs of a damaged file would go to stderr where nobody listens; textures are other files, not needed.
    logging.getLogger("trimesh").addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mesh = trimesh.load(path, process=False, skip_materials=True)
    if not isinstance(mesh, (trimesh.Trimesh, trimesh.PointCloud)):
        raise ValueError("it holds neither a mesh nor a point cloud")
    vertices = np.asarray(mesh.vertices, np.float32)
    faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), np.int64)  # a cloud has none
    check_corners(faces, len(vertices))
    faces = faces.astype(np.int32)
    try:
        rows = mesh.metadata["_ply_raw"]["vertex"]["data"]
        normals = np.stack([np.asarray(rows[name], np.float32).reshape(-1) for name in ("nx", "ny", "nz")], 1)
    except (KeyError, ValueError, IndexError, TypeError):
        return MeshFile(vertices, faces)
    return MeshFile(vertices, faces, normals=normals)


def check_corners(faces: np.ndarray, vertices: int) -> None:
    """Raise ValueError where triangles (F, 3) name vertices that are not among so many."""
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"it has faces between more than its {vertices} vertices")


def check_ply_header(path: Path) -> None:
    """Raise ValueError where a ply's header promises more than the bytes behind it can hold."""
    with open(path, "rb") as file:
        head = file.read(2**16)
    promised = [int(count) for count in re.findall(rb"^element\s+\S+\s+(\d{1,30})\s*$", head, re.MULTILINE)]
    if sum(promised) > path.stat().st_size:  # each has a byte at least
        raise ValueError(f"it is cut short: its header promises {max(promised)} elements")
