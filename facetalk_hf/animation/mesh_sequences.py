# SPDX-License-Identifier: MIT
"""Folders of ply and obj files, one a frame."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..files import SYNTHETIC_NOTE, frame_folder
from .formats import register_writer
from .head_animation import HeadAnimation


@register_writer("ply")
def write_ply_sequence(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write a folder of binary ply meshes with vertex colours in mm, frame_00000.ply and so on."""
    count, faces = len(animation.base), animation.faces
    header = "\n".join(
        (
            "ply",
            "format binary_little_endian 1.0",
            f"comment {SYNTHETIC_NOTE}",
            f"element vertex {count}",
            *(f"property float {axis}" for axis in "xyz"),
            *(f"property uchar {c}" for c in ("red", "green", "blue")),
            f"element face {len(faces)}",
            "property list uchar int vertex_indices",
            "end_header\n",
        )
    ).encode()
    vertex = np.zeros(count, dtype=[("position", "<f4", 3), ("color", "u1", 3)])
    vertex["color"] = animation.colors
    face = np.zeros(len(faces), dtype=[("number", "u1"), ("corner", "<i4", 3)])
    face["number"], face["corner"] = 3, faces
    tail = face.tobytes()

    def mesh(vertices: np.ndarray) -> bytes:
        vertex["position"] = vertices
        return header + vertex.tobytes() + tail

    return _write_sequence(path, animation, "ply", mesh)


@register_writer("obj")
def write_obj_sequence(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write a folder of Wavefront obj meshes with vertex colours in mm, frame_00000.obj and so on."""
    colors = animation.colors / np.float32(255)
    line = "v %.4f %.4f %.4f %.4f %.4f %.4f\n" * len(colors)
    tail = ("f %d %d %d\n" * len(animation.faces)) % tuple((animation.faces + 1).reshape(-1).tolist())

    def mesh(vertices: np.ndarray) -> bytes:
        body = line % tuple(np.concatenate([vertices, colors], 1).reshape(-1).tolist())
        return f"# {SYNTHETIC_NOTE}\n{body}{tail}".encode()

    return _write_sequence(path, animation, "obj", mesh)


def _write_sequence(
    path: str | os.PathLike, animation: HeadAnimation, suffix: str, mesh: Callable[[np.ndarray], bytes]
) -> Path:
    """Fill a folder with frames, whole or not at all; an older sequence there is replaced, anything else refused."""
    with frame_folder(path) as temporary:
        for index, vertices in enumerate(animation.iterate_posed()):
            (temporary / f"frame_{index:05d}.{suffix}").write_bytes(mesh(vertices))
    return Path(path)
