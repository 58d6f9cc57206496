# SPDX-License-Identifier: MIT
"""An animation as an animated glb with morph targets."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceTalkError
from ..files import SYNTHETIC_NOTE, atomic_path
from ..mesh.parts import EYES, MOUTH, PARTS, SKIN, TEETH
from ..rendering.shading import srgb_to_linear
from .formats import register_writer
from .gltf import USHORT, VERTEX_BUFFER, GlbBuffer, Tracks, pack_glb
from .head_animation import HeadAnimation
from .sparse_targets import needed_displacements


ROUGHNESS = (0.52, 0.06, 0.22, 0.45)
"""Of the material of each part."""
ROUNDING = 0.0005
"""What single precision costs a head of life size at most, mm: positions, some fifty targets, and its turns."""


@register_writer("glb")
def write_glb(path: str | os.PathLike, animation: HeadAnimation, tolerance: float = 0.02) -> Path:
    """Write a binary glTF 2.0 whose morph targets play the motion, in metres; Blender and three.js read it.

    Skin with the mouth's inside, eyes and teeth are a mesh each, with only those targets that move it, named in
    `mesh.extras.targetNames`. Targets are stored sparsely where that is smaller, without the displacements that cost a
    vertex at most `tolerance` mm together; `asset.extras.geometryErrorMillimetres` says what this costs at most at
    the weights of this clip, the rounding to single precision included.

    Args:
        path: the .glb file. animation (`HeadAnimation`): what to write. tolerance (`float`, mm): see above.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(_HeadDocument(animation, tolerance).pack())
    return Path(path)


class _HeadDocument:
    """The glTF document of an animation: one node and mesh for skin and mouth, eyes, and teeth, below a root node."""

    def __init__(self, animation: HeadAnimation, tolerance: float) -> None:
        if not len(animation.faces):
            raise FaceTalkError("there is nothing to write: the animation has no faces")
        self.animation, self.buffer = animation, GlbBuffer()
        peak = np.abs(animation.weights).max(0, initial=0.0)
        self.kept, self.error = needed_displacements(animation.targets, peak, tolerance)
        self.pivot = np.zeros(3) if animation.pivot is None else animation.pivot.astype(np.float64) / 1000
        # Numbers of the materials in the file, those of the parts that there are.
        self.kinds = np.unique(animation.parts[animation.faces].max(1)).tolist()

    def pack(self) -> bytes:
        """Build the file."""
        animation = self.animation
        part = animation.parts[animation.faces].max(1)
        meshes: list[dict] = []
        nodes: list[dict] = [{"name": "facetalk", "children": []}]
        moving: list[list[int]] = []
        moves = animation.poses is not None
        if moves:  # the root stands at the neck and turns there
            nodes[0]["translation"] = self.pivot.tolist()
        for name, kinds in (("head", (SKIN, MOUTH)), ("eyes", (EYES,)), ("teeth", (TEETH,))):
            groups = [(kind, animation.faces[part == kind]) for kind in kinds if kind in self.kinds]
            if groups:
                mesh, used = self._mesh(name, groups)
                nodes[0]["children"].append(len(nodes))
                place = {"translation": (-self.pivot).tolist()} if moves else {}
                nodes.append({"name": name, "mesh": len(meshes), **place})
                meshes.append(mesh)
                moving.append(used)
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "facetalk_hf"},
            "scene": 0,
            "scenes": [{"name": "scene", "nodes": [0]}],
            "nodes": nodes,
            "meshes": meshes,
            "materials": [_material(kind) for kind in self.kinds],
        }
        if animation.num_frames and (any(moving) or moves):
            document["animations"] = [self._motion(moving)]
        document["asset"]["extras"] = {
            "comment": SYNTHETIC_NOTE,
            "framesPerSecond": animation.fps,
            "geometryErrorMillimetres": round(self.error + ROUNDING, 5),
        }
        buffer = self.buffer
        document |= {
            "accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": buffer.size}],
        }  # fmt: skip
        return pack_glb(document, buffer.data())

    def _mesh(self, name: str, groups: list[tuple[int, np.ndarray]]) -> tuple[dict, list[int]]:
        """Build one mesh of a primitive for each material, all on the same vertices; and list the targets it has."""
        animation, buffer = self.animation, self.buffer
        index, flat = np.unique(np.concatenate([faces for _, faces in groups]), return_inverse=True)
        flat = flat.reshape(-1, 3)
        base = animation.base[index] / np.float32(1000)
        attributes = {
            "POSITION": buffer.vertices(base),
            "NORMAL": buffer.vertices(_normals(base, flat)),
            "COLOR_0": self._colors(animation.colors[index]),
        }
        used, targets = [], []
        for number in range(len(animation.targets)):
            kept = np.flatnonzero(self.kept[number, index])
            if len(kept):
                delta = animation.targets[number, index] / np.float32(1000)
                used.append(number)
                targets.append({"POSITION": buffer.target(delta, kept)})
        primitives, start = [], 0
        for kind, faces in groups:
            indices = buffer.indices(flat[start : start + len(faces)].reshape(-1))
            start += len(faces)
            material = self.kinds.index(kind)
            primitive = {"attributes": attributes, "indices": indices, "material": material, "mode": 4}
            primitives.append(primitive | ({"targets": targets} if targets else {}))
        mesh: dict = {"name": name, "primitives": primitives}
        if targets:
            mesh["weights"] = [0.0] * len(targets)
            mesh["extras"] = {"targetNames": [animation.target_names[number] for number in used]}
        return mesh, used

    def _motion(self, moving: list[list[int]]) -> dict:
        """Build the animation of the weights of every mesh and of the root node."""
        animation = self.animation
        tracks = Tracks(self.buffer, (np.arange(animation.num_frames) / animation.fps).astype(np.float32))
        for mesh, used in enumerate(moving):
            if used:
                tracks.add(mesh + 1, "weights", animation.weights[:, used])
        matrices = animation.pose_matrices()
        if animation.poses is not None and matrices is not None:
            shift = animation.poses[:, 3:] + (0 if animation.pivot is None else animation.pivot)
            tracks.add(0, "rotation", _quaternions(matrices[:, :3, :3]))
            tracks.add(0, "translation", shift / 1000)
        return tracks.animation()

    def _colors(self, colors: np.ndarray) -> int:
        """Append vertex colours; glTF wants linear light, and 16 bits keep dark tones that 8 would band."""
        data = np.full((len(colors), 4), 65535, np.uint16)
        data[:, :3] = np.round(srgb_to_linear(colors, np.float64) * 65535)
        view = self.buffer.view(data.tobytes(), VERTEX_BUFFER)
        return self.buffer.accessor(view, USHORT, len(data), "VEC4", normalized=True)


def _material(kind: int) -> dict:
    """Describe the material of a part; only closed eyeballs need no back faces."""
    surface = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS[kind]}
    sides = {"doubleSided": True} if kind != EYES else {}
    return {"name": PARTS[kind], "pbrMetallicRoughness": surface, **sides}


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit vertex normals weighted by area; +z where a vertex has no area around it.

    In double precision, unlike `Surface.normals`, and by area, unlike trimesh, which weights by angle.
    """
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], flat[:, axis], len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), [0.0, 0.0, 1.0]).astype(np.float32)


def _quaternions(turns: np.ndarray) -> np.ndarray:
    """Convert rotations (T, 3, 3) by less than half a turn to unit quaternions x, y, z, w, (T, 4).

    Not by scipy's Rotation, as in `facetalk_hf.mesh.pose`.
    """
    w = np.sqrt(np.maximum(1 + np.trace(turns, axis1=1, axis2=2), 1e-12)) / 2
    x, y, z = (turns[:, (i + 2) % 3, (i + 1) % 3] - turns[:, (i + 1) % 3, (i + 2) % 3] for i in range(3))
    result = np.stack([x / (4 * w), y / (4 * w), z / (4 * w), w], 1)
    return result / np.linalg.norm(result, axis=1, keepdims=True)
