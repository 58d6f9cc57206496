# SPDX-License-Identifier: MIT
"""An animation as an animated glb with morph targets."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..blendshapes import EXPRESSIONS
from ..errors import FaceTalkError
from ..files import SYNTHETIC_NOTE, atomic_path
from ..mesh.geometry import smoothstep
from ..mesh.parts import EYES, HAIR, MOUTH, PARTS, SKIN, TEETH
from ..rendering.shading import srgb_to_linear
from .formats import register_writer
from .glb_meshes import STEP, PlainMesh, QuantisedMesh, compressed
from .gltf import USHORT, VERTEX_BUFFER, GlbBuffer, Tracks, pack_glb
from .head_animation import HeadAnimation
from .sparse_targets import needed_displacements
from .template_head import TemplateHead, try_template


ROUGHNESS = (0.52, 0.06, 0.22, 0.45, 0.6)
"""Of the material of each part."""
ROUNDING = 0.0005
"""What single precision costs a head of life size at most, mm: positions, some fifty targets, and its turns."""
GLOW = {MOUTH: 0.2, TEETH: 0.07}
"""Light that the mouth's inside gives off, as linear colour: hardly any lamp of a path tracer reaches it."""
NORMAL_TOLERANCE = 0.12
"""Changes of a normal that morph targets leave out, as a length: 7 degrees at the largest weight of the clip."""
SLACK = np.array([1, 1, 1, 6, 4])
"""How much more is left out, by parts: in the mouth's pocket, dark behind the teeth, and of loose hair."""
TOLERANCE = 0.25
"""Of displacements on the template, mm."""
PICTURES = {"color": 84, "normal": 78, "occlusion": 75}
"""Pictures of the template's texture, with the quality of their JPEG."""


Detail = Literal["template", "full"]


@register_writer("glb")
def write_glb(
    path: str | os.PathLike, animation: HeadAnimation, tolerance: float | None = None, detail: Detail = "template",
    compress: bool = False,
) -> Path:  # fmt: skip
    """Write a binary glTF 2.0 whose morph targets play the motion, in metres; Blender and three.js read it.

    Skin with the mouth's inside, eyes and teeth are a mesh each, with those targets that move it, named in
    `mesh.extras.targetNames`: all of ARKit's, used by this clip or not, and of others those that it uses. Small
    displacements are left out; `asset.extras.geometryErrorMillimetres` says what this costs at most at the weights of
    this clip, beside the animation that is written, the rounding of numbers included.

    Args:
        path: the .glb file. animation (`HeadAnimation`): what to write.
        tolerance (`float`, mm, *optional*, defaults to 0.02 in full detail, 0.25 on the template): what is left
            out. In full detail a vertex' displacements that together stay within it at this clip's weights; on the
            template those that each stay within it there, and within four times as much where a clip uses them less.
        detail (`"template"` or `"full"`, *optional*, defaults to `"template"`): the same 13,130 vertices for every
            head, with texture coordinates, pictures and morph normals; or the surface as it was extracted, with
            colours at its vertices. A head of which neither landmarks nor anchors are known has full detail in any
            case, and so has one that the template does not come near to, with a warning.
        compress (`bool`, *optional*, defaults to `False`): KHR_mesh_quantization and EXT_meshopt_compression, for web
            pages; Blender does not read it.

    Raises:
        FaceTalkError: no faces, an unknown detail, or meshoptimizer is not installed, which `compress` needs.
    """
    if detail not in get_args(Detail):
        raise FaceTalkError(f"detail must be one of {', '.join(get_args(Detail))}, not {detail!r}")
    if not len(animation.faces):
        raise FaceTalkError("there is nothing to write: the animation has no faces")
    head = try_template(animation) if detail == "template" else None
    if head is not None:
        document = HeadDocument(head, TOLERANCE if tolerance is None else tolerance, compress)
    else:
        owner = np.arange(len(animation.base))
        plain = TemplateHead(animation, None, None, {}, owner)
        document = HeadDocument(plain, 0.02 if tolerance is None else tolerance, compress)
    with atomic_path(path) as temporary:
        temporary.write_bytes(document.pack())
    return Path(path)


class HeadDocument:
    """The glTF document of an animation: one node and mesh for skin and mouth, eyes, and teeth, below a root node.

    Args:
        head ([`TemplateHead`]): what to write. tolerance (`float`, mm), compress (`bool`): as of [`write_glb`].
    """

    def __init__(self, head: TemplateHead, tolerance: float, compress: bool = False) -> None:
        self.head, self.animation, self.buffer, self.compress = head, head.animation, GlbBuffer(), compress
        self.store: PlainMesh | QuantisedMesh = QuantisedMesh(self.buffer) if compress else PlainMesh(self.buffer)
        if head.pictures:
            self.targets, self.error = tapered(self.animation, tolerance)
            self.kept = np.asarray(self.targets.any(2))
            self.bend = left_out(self.animation, NORMAL_TOLERANCE, 2.5)
        else:
            self.targets = self.animation.targets
            self.kept, self.error = kept_displacements(self.animation, tolerance)
        self.error += 4 * 1000 * STEP if compress else ROUNDING
        animation = self.animation
        self.pivot = np.zeros(3) if animation.pivot is None else animation.pivot.astype(np.float64) / 1000
        # Numbers of the materials in the file, those of the parts that there are.
        self.kinds = np.unique(animation.parts[animation.faces].max(1)).tolist()

    def pack(self, change: Callable[[dict[str, Any], list[list[int]]], None] | None = None) -> bytes:
        """Build the file; `change` may add to the document, of whose meshes it is told the targets."""
        animation = self.animation
        part = animation.parts[animation.faces].max(1)
        meshes: list[dict] = []
        nodes: list[dict] = [{"name": "facetalk", "children": []}]
        moving: list[list[int]] = []
        moves = animation.poses is not None
        if moves:  # the root stands at the neck and turns there
            nodes[0]["translation"] = self.pivot.tolist()
        for name, kinds in (("head", (SKIN, MOUTH)), ("eyes", (EYES,)), ("teeth", (TEETH,)), ("hair", (HAIR,))):
            groups = [(kind, animation.faces[part == kind]) for kind in kinds if kind in self.kinds]
            if groups:
                mesh, used = self._mesh(name, groups)
                nodes[0]["children"].append(len(nodes))
                place = {"translation": (-self.pivot).tolist()} if moves else {}
                nodes.append({"name": name, "mesh": len(meshes), **place, **self.store.node})
                meshes.append(mesh)
                moving.append(used)
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "facetalk_hf"},
            "scene": 0,
            "scenes": [{"name": "scene", "nodes": [0]}],
            "nodes": nodes,
            "meshes": meshes,
            "materials": [_material(kind, bool(self.head.pictures)) for kind in self.kinds],
        }
        if self.head.pictures:
            self._add_pictures(document)
        if animation.num_frames and (moves or any(animation.weights[:, used].any() for used in moving)):
            document["animations"] = [self._motion(moving)]
        document["asset"]["extras"] = {
            "comment": SYNTHETIC_NOTE,
            "framesPerSecond": animation.fps,
            "geometryErrorMillimetres": round(self.error, 5),
        }
        if self.head.pictures:
            if self.head.error is not None:
                document["asset"]["extras"]["templateErrorMillimetres"] = round(self.head.error, 4)
            document["asset"]["copyright"] = "Topology and texture coordinates: ICT-FaceKit, MIT, (c) 2020 USC ICT"
        if change is not None:
            change(document, moving)
        buffer = self.buffer
        data, buffers = compressed(buffer) if self.compress else (buffer.data(), [{"byteLength": buffer.size}])
        extensions = list(self.store.extensions) + ["EXT_meshopt_compression"] * self.compress
        if extensions:
            document["extensionsRequired"] = extensions
            document["extensionsUsed"] = sorted({*document.get("extensionsUsed", ()), *extensions})
        document |= {
            "accessors": buffer.accessors, "bufferViews": buffer.views,
            "buffers": buffers,
        }  # fmt: skip
        return pack_glb(document, data)

    def _mesh(self, name: str, groups: list[tuple[int, np.ndarray]]) -> tuple[dict, list[int]]:
        """Build one mesh of a primitive for each material, all on the same vertices; and list the targets it has."""
        animation, head, store = self.animation, self.head, self.store
        index, flat = np.unique(np.concatenate([faces for _, faces in groups]), return_inverse=True)
        flat = flat.reshape(-1, 3)
        base = animation.base[index] / np.float32(1000)
        owner = np.searchsorted(index, head.owner[index]) if head.pictures else np.arange(len(index))
        normals = _normals(base, owner[flat])[owner]
        attributes = {
            "POSITION": store.positions(base),
            "NORMAL": store.normals(normals if head.normals is None else head.normals[index]),
        }
        if head.uv is not None and name == "head":
            attributes["TEXCOORD_0"] = self._texture_coordinates(head.uv[index])
        else:
            attributes["COLOR_0"] = self._colors(animation.colors[index])
        used, targets = [], []
        hidden = SLACK[animation.parts]
        for number in range(len(animation.targets)):
            kept = np.flatnonzero(self.kept[number, index])
            if len(kept):
                delta = self.targets[number, index] / np.float32(1000)
                used.append(number)
                target = {"POSITION": store.target(delta, kept)}
                if head.pictures:
                    # As far as the clip goes: skin that would fold at full weight must not turn its normals before.
                    weight = np.float32(np.clip(np.abs(animation.weights[:, number]).max(initial=0), 0.5, 1))
                    change = (_normals(base + weight * delta, owner[flat])[owner] - normals) / weight
                    bent = np.flatnonzero(np.linalg.norm(change, axis=1) > self.bend[number] * hidden[index])
                    target["NORMAL"] = store.target_normals(change, bent)
                targets.append(target)
        primitives, start = [], 0
        for kind, faces in groups:
            indices = self.buffer.indices(flat[start : start + len(faces)].reshape(-1))
            start += len(faces)
            material = self.kinds.index(kind)
            primitive = {"attributes": attributes, "indices": indices, "material": material, "mode": 4}
            primitives.append(primitive | ({"targets": targets} if targets else {}))
        mesh: dict = {"name": name, "primitives": primitives}
        if targets:
            mesh["weights"] = [0.0] * len(targets)
            mesh["extras"] = {"targetNames": [animation.target_names[number] for number in used]}
        return mesh, used

    def _add_pictures(self, document: dict[str, Any]) -> None:
        """Append the pictures, and the textures that the materials name, in the order of `PICTURES`."""
        document["images"] = []
        for name, quality in PICTURES.items():
            view = self.buffer.view(jpeg(self.head.pictures[name], quality))
            document["images"].append({"name": name, "mimeType": "image/jpeg", "bufferView": view})
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["textures"] = [{"source": number, "sampler": 0} for number in range(len(PICTURES))]

    def _texture_coordinates(self, uv: np.ndarray) -> int:
        """Append texture coordinates; glTF's v runs downwards."""
        whole = np.round(np.stack([uv[:, 0], 1 - uv[:, 1]], 1) * 65535).astype("<u2")
        view = self.buffer.view(whole.tobytes(), VERTEX_BUFFER, 4)
        return self.buffer.accessor(view, USHORT, len(whole), "VEC2", normalized=True)

    def _motion(self, moving: list[list[int]]) -> dict:
        """Build the animation of the weights of every mesh and of the root node."""
        animation = self.animation
        tracks = Tracks(self.buffer, (np.arange(animation.num_frames) / animation.fps).astype(np.float32), True)
        for mesh, used in enumerate(moving):
            if used:
                tracks.add(mesh + 1, "weights", animation.weights[:, used])
        matrices = animation.pose_matrices()
        if animation.poses is not None and matrices is not None:
            shift = animation.poses[:, 3:] + (0 if animation.pivot is None else animation.pivot)
            tracks.add(0, "rotation", quaternions(matrices[:, :3, :3]))
            tracks.add(0, "translation", shift / 1000)
        return tracks.animation()

    def _colors(self, colors: np.ndarray) -> int:
        """Append vertex colours; glTF wants linear light, and 16 bits keep dark tones that 8 would band."""
        data = np.full((len(colors), 4), 65535, np.uint16)
        data[:, :3] = np.round(srgb_to_linear(colors, np.float64) * 65535)
        view = self.buffer.view(data.tobytes(), VERTEX_BUFFER, 8)
        return self.buffer.accessor(view, USHORT, len(data), "VEC4", normalized=True)


def kept_displacements(animation: HeadAnimation, tolerance: float) -> tuple[np.ndarray, float]:
    """Choose what a file in full detail stores, (R, V) bool, and what leaving out the rest costs at most, in mm."""
    peak = np.abs(animation.weights).max(0, initial=0.0)
    kept, error = needed_displacements(animation.targets, peak, tolerance)
    named = np.isin(animation.target_names, EXPRESSIONS)[:, None]
    return kept | (named & (np.linalg.norm(animation.targets, axis=2) > max(20 * tolerance, 1e-6))), error


def tapered(animation: HeadAnimation, tolerance: float) -> tuple[np.ndarray, float]:
    """Let targets fade to zero where they move little, so that most of a target need not be stored.

    A displacement up to a limit goes, one of twice the limit stays, without a step between: targets have faint tails
    all over the head. The limit is what reaches the tolerance at the largest weight of the clip, at most four times
    the tolerance for ARKit's shapes, however little the clip uses them.

    Returns: targets (R, V, 3), and how far any vertex of any frame is from where it should be, at most, in mm, the
    mouth's pocket and loose hair apart.
    """
    slack = SLACK[animation.parts]
    seen = slack == 1
    limit = left_out(animation, tolerance, 4.0)[:, None] * slack
    size = np.linalg.norm(animation.targets, axis=2)
    targets = animation.targets * smoothstep(0, 1, size / np.maximum(limit, 1e-9) - 1)[..., None].astype(np.float32)
    rest, error = (animation.targets - targets)[:, seen].reshape(len(targets), 3 * int(seen.sum())), 0.0
    for start in range(0, animation.num_frames, 16):
        off = (animation.weights[start : start + 16] @ rest).reshape(-1, 3)
        error = max(error, float(np.linalg.norm(off, axis=1).max(initial=0)))
    return targets, error


def left_out(animation: HeadAnimation, tolerance: float, most: float) -> np.ndarray:
    """Say below which length each target may leave a change out, (R,): what is within a tolerance in this clip.

    The tolerance counts at the largest weight of the clip; ARKit's shapes, which others may use more, leave out at
    most `most` times as much at full weight.
    """
    peak = np.abs(animation.weights).max(0, initial=0.0)
    named = np.isin(animation.target_names, EXPRESSIONS)
    with np.errstate(divide="ignore"):
        return np.clip(tolerance / peak, tolerance, np.where(named, most * tolerance, np.inf))


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Encode a picture (h, w, 3) or (h, w) uint8 as JPEG, without subsampling of colour."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
    return stream.getvalue()


def _material(kind: int, textured: bool = False) -> dict:
    """Describe the material of a part; only closed eyeballs need no back faces."""
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS[kind]}
    material: dict[str, Any] = {"name": PARTS[kind], "pbrMetallicRoughness": surface}
    if kind != EYES:
        material["doubleSided"] = True
    if textured and kind in (SKIN, MOUTH):
        names = list(PICTURES)
        surface["baseColorTexture"] = {"index": names.index("color")}
        material["normalTexture"] = {"index": names.index("normal")}
        material["occlusionTexture"] = {"index": names.index("occlusion")}
        if kind == MOUTH:
            material |= {"emissiveTexture": {"index": names.index("color")}, "emissiveFactor": [GLOW[MOUTH]] * 3}
    if kind == TEETH:
        material["emissiveFactor"] = [GLOW[TEETH] * share for share in (1.0, 0.8, 0.7)]
    return material


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


def quaternions(turns: np.ndarray) -> np.ndarray:
    """Convert rotations (T, 3, 3) by less than half a turn to unit quaternions x, y, z, w, (T, 4).

    Not by scipy's Rotation, as in `facetalk_hf.mesh.pose`.
    """
    w = np.sqrt(np.maximum(1 + np.trace(turns, axis1=1, axis2=2), 1e-12)) / 2
    x, y, z = (turns[:, (i + 2) % 3, (i + 1) % 3] - turns[:, (i + 1) % 3, (i + 2) % 3] for i in range(3))
    result = np.stack([x / (4 * w), y / (4 * w), z / (4 * w), w], 1)
    return result / np.linalg.norm(result, axis=1, keepdims=True)
