# SPDX-License-Identifier: MIT
"""Meshes and point clouds read from ply and obj files, with all vertices in the order of the file."""

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
    return read_obj(path) if path.suffix.lower() == ".obj" else read_ply(path)


def read_obj(path: Path) -> MeshFile:
    """Read vertices, normals, vertex colours and faces of a Wavefront obj; all groups and objects are one mesh.

    Not by trimesh, which leaves out the normals of clouds and, where there are normals, the vertices without faces.

    Raises:
        OSError, ValueError: no such file, a vertex of fewer than three numbers, words that are no numbers.
    """
    rows: dict[str, list[list[str]]] = {"v": [], "vn": []}
    faces: list[tuple[int, ...]] = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            kind, *words = line.split() or [""]
            if kind == "f":
                corners = [int(word.partition("/")[0]) for word in words]
                if min(corners, default=1) < 0:  # counted from the latest vertex back
                    corners = [corner if corner > 0 else len(rows["v"]) + 1 + corner for corner in corners]
                faces += [(corners[0], *pair) for pair in zip(corners[1:], corners[2:], strict=False)]
            elif kind in rows:
                rows[kind].append(words)
    vertices, normals = (_table([row[:3] for row in rows[kind]]) for kind in ("v", "vn"))
    colors = None
    if rows["v"] and all(len(row) >= 6 for row in rows["v"]):
        values = _table([row[3:6] for row in rows["v"]])
        colors = np.round(values.clip(0, 1) * 255).astype(np.uint8)
    return MeshFile(
        vertices.astype(np.float32),
        np.array(faces, np.int32).reshape(-1, 3) - 1,
        colors,
        normals.astype(np.float32) if len(normals) == len(vertices) else None,
    )


def _table(rows: list[list[str]]) -> np.ndarray:
    """Convert rows of three words to (n, 3) float64; ValueError for rows of fewer, or words that are no numbers."""
    table = np.array(rows, np.float64) if rows else np.zeros((0, 3))
    if table.shape[1:] != (3,):
        raise ValueError("it has vertices of fewer than three numbers")
    return table


def read_ply(path: Path) -> MeshFile:
    """Read vertices, faces and the normals nx, ny, nz of a ply; errors are those of trimesh."""
    import trimesh

    mesh = trimesh.load(path, process=False)
    if not isinstance(mesh, (trimesh.Trimesh, trimesh.PointCloud)):
        raise ValueError("it holds neither a mesh nor a point cloud")
    vertices = np.asarray(mesh.vertices, np.float32)
    faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), np.int32)  # a cloud has none
    try:
        rows = mesh.metadata["_ply_raw"]["vertex"]["data"]
        normals = np.stack([np.asarray(rows[name], np.float32).reshape(-1) for name in ("nx", "ny", "nz")], 1)
    except (KeyError, ValueError, IndexError, TypeError):
        return MeshFile(vertices, faces)
    return MeshFile(vertices, faces, normals=normals)
