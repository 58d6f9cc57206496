# SPDX-License-Identifier: MIT
"""The motion on another head: a folder of obj shapes, or a glb with morph targets, by ARKit's names."""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import FaceTalkError
from ..files import atomic_path
from .arkit import canonical_channel, channel_weights
from .glb import FLOAT, pack_glb
from .head_animation import HeadAnimation, neck_pivot
from .rig_motion import head_joint, turn_head


NEUTRAL: tuple[str, ...] = ("neutral", "base", "basis", "rest")
"""Names, in any case, that the obj of the head at rest may have."""


def drive(animation: HeadAnimation, rig: HeadAnimation) -> HeadAnimation:
    """The motion of one head on the shapes of another: targets and head of `rig`, weights, rate and sound of ours.

    Args:
        animation (`HeadAnimation`): with targets of our names or ARKit's.
        rig (`HeadAnimation`): a head whose targets are ARKit's channels, in any spelling; its own motion is dropped.

    Raises:
        FaceTalkError: a target of either that is no channel of ARKit's.
    """
    weights = channel_weights(animation, rig.target_names)
    fields = {name: getattr(animation, name) for name in ("fps", "audio", "sampling_rate", "seed", "poses")}
    nothing = dict.fromkeys(("expressions", "identity", "landmarks", "lip_aperture"))
    return rig.replace(weights=weights, pivot=neck_pivot(rig), **fields, **nothing)


def read_obj_rig(
    folder: str | os.PathLike, ignore_unknown: bool = False, millimetres_per_unit: float = 1.0
) -> HeadAnimation:
    """Read a head of no frames from a folder: neutral.obj, and one obj for each shape, named as ARKit names it.

    Args:
        folder (`str` or `os.PathLike`): files of one topology. Polygons are cut into triangles; vertex colours
            (`v x y z r g b`) are kept, textures are not.
        ignore_unknown (`bool`, *optional*, defaults to `False`): leave out files whose name is no ARKit channel.
        millimetres_per_unit (`float`, *optional*, defaults to 1): 10 for centimetres, 1000 for metres.

    Raises:
        FaceTalkError: no folder, no neutral, a shape with another number of vertices, an unknown or double name, or
            a file that is no obj.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.[oO][bB][jJ]"), key=lambda path: path.name.lower()) if folder.is_dir() else []
    rest = [path for path in files if path.stem.lower() in NEUTRAL]
    if len(rest) != 1:
        found = "none" if not rest else " and ".join(path.name for path in rest)
        raise FaceTalkError(f"{folder} must hold one obj of the head at rest, neutral.obj, and there is {found}")
    shapes = [path for path in files if path not in rest]
    known = set(_known_names([path.stem for path in shapes], str(folder), ignore_unknown))
    shapes = [path for path in shapes if path.stem in known]
    base, colors, faces = _read_obj(rest[0])
    if not len(faces) or faces.min() < 0 or faces.max() >= len(base):
        raise FaceTalkError(f"{rest[0]} must have faces, and only between its {len(base)} vertices")
    targets = np.empty((len(shapes), *base.shape), np.float32)
    for target, path in zip(targets, shapes, strict=True):
        vertices = _read_obj(path)[0]
        if len(vertices) != len(base):
            raise FaceTalkError(f"{path} has {len(vertices)} vertices, but {rest[0].name} has {len(base)}")
        target[:] = (vertices - base) * millimetres_per_unit
    return HeadAnimation(
        base=base * millimetres_per_unit, targets=targets, weights=np.zeros((0, len(shapes))),
        target_names=tuple(path.stem for path in shapes), faces=faces, colors=colors,
    )  # fmt: skip


def drive_glb(
    path: str | os.PathLike, animation: HeadAnimation, rig: str | os.PathLike, ignore_unknown: bool = False
) -> Path:
    """Write a copy of a glb whose morph targets play the motion; all else in it stays as it is.

    Every node whose mesh has targets with ARKit's names (`extras.targetNames`) gets a track of the new first
    animation, `speech`. Targets with other names keep the mesh's default weight. Head motion turns the joint called
    head, or all of a glb whose face has no skeleton ([`facetalk_hf.animation.rig_motion.turn_head`]).

    Args:
        path (`str` or `os.PathLike`): the file to write. animation (`HeadAnimation`): the motion.
        rig (`str` or `os.PathLike`): the glb of the head.
        ignore_unknown (`bool`, *optional*, defaults to `False`): accept targets whose name is no ARKit channel.

    Raises:
        FaceTalkError: not a glb, no named targets, an unknown or double name, targets of another vertex count, or
            a motion of no frames.
    """
    document, binary = _read_glb(Path(rig))
    if not animation.num_frames:
        raise FaceTalkError("there is no motion to write: the animation has no frames")
    with _valid(rig):
        tracks = _morph_tracks(document, animation, str(rig), ignore_unknown)
        turns = turn_head(document, animation, [node for node, _ in tracks])
    binary += b"\0" * (-len(binary) % 4)
    views, accessors = document.setdefault("bufferViews", []), document.setdefault("accessors", [])

    def store(values: np.ndarray, shape: str = "SCALAR", **bounds: list[float]) -> int:
        nonlocal binary
        data = values.astype("<f4").tobytes()
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        count = values.size if shape == "SCALAR" else len(values)
        view = {"bufferView": len(views) - 1, "componentType": FLOAT, "count": count, "type": shape}
        accessors.append(view | bounds)
        binary += data
        return len(accessors) - 1

    times = (np.arange(animation.num_frames) / animation.fps).astype(np.float32)
    clock = store(times, min=[float(times[0])], max=[float(times[-1])])
    channels, samplers = [], []
    for node, kind, values in [(node, "weights", weights) for node, weights in tracks] + turns:
        shape = "SCALAR" if kind == "weights" else f"VEC{values.shape[1]}"
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": kind}})
        samplers.append({"input": clock, "output": store(values, shape), "interpolation": "LINEAR"})
    # First, because that is the one most viewers play.
    document.setdefault("animations", []).insert(0, {"name": "speech", "channels": channels, "samplers": samplers})
    if not document.get("buffers"):
        document["buffers"] = [{}]
    document["buffers"][0]["byteLength"] = len(binary)
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, binary))
    return Path(path)


def missing_channels(animation: HeadAnimation, names: Sequence[str]) -> list[str]:
    """Targets that the animation uses and shapes of these names cannot show, sorted."""
    have = {(canonical_channel(name) or "").split("_")[0] for name in names}
    used = [name for name, track in zip(animation.target_names, animation.weights.T, strict=True) if track.any()]
    return sorted(name for name in used if (canonical_channel(name) or name).split("_")[0] not in have)


def glb_shape_names(rig: str | os.PathLike) -> list[str]:
    """Names of all morph targets in a glb, each once."""
    document, _ = _read_glb(Path(rig))
    with _valid(rig):
        return list(dict.fromkeys(name for mesh in document.get("meshes", []) for name in _target_names(mesh)))


def glb_can_turn(rig: str | os.PathLike) -> bool:
    """Whether head motion can be put on a glb: its face has no skeleton, or one with a joint called head."""
    document, _ = _read_glb(Path(rig))
    with _valid(rig):
        nodes, meshes = document["nodes"], document["meshes"]
        skinned = [i for i, node in enumerate(nodes) if "skin" in node and _target_names(meshes[node["mesh"]])]
        return not skinned or head_joint(document, skinned) is not None


@contextmanager
def _valid(rig: str | os.PathLike) -> Iterator[None]:
    """What a broken document makes of our reading it, as one line."""
    try:
        yield
    except FaceTalkError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise FaceTalkError(f"{rig} is not a valid glb: {type(error).__name__} {error}") from error


def _target_names(mesh: dict) -> list[str]:
    return mesh.get("extras", {}).get("targetNames", [])


def _morph_tracks(
    document: dict, animation: HeadAnimation, rig: str, ignore_unknown: bool
) -> list[tuple[int, np.ndarray]]:
    """For every node with named targets: its number, and the weights (T, n) of all of its mesh's targets."""
    tracks = []
    for number, node in enumerate(document.get("nodes", [])):
        mesh = document["meshes"][node["mesh"]] if "mesh" in node else {"primitives": []}
        targets = [target for primitive in mesh["primitives"] for target in primitive.get("targets", [])]
        names = _target_names(mesh)
        if not targets or not names:
            continue
        for primitive in mesh["primitives"]:
            count = document["accessors"][primitive["attributes"]["POSITION"]]["count"]
            for name, target in zip(names, primitive.get("targets", []), strict=False):
                if "POSITION" in target and (other := document["accessors"][target["POSITION"]]["count"]) != count:
                    raise FaceTalkError(f"{rig}: the target {name} moves {other} vertices, but its mesh has {count}")
            if len(primitive.get("targets", [])) != len(names):
                raise FaceTalkError(f"{rig}: mesh {mesh.get('name', number)} has not one name for each target")
        known = set(_known_names(names, f"{rig}: mesh {mesh.get('name', number)}", ignore_unknown, False))
        weights = np.tile(
            np.float32(node.get("weights", mesh.get("weights", [0.0] * len(names)))), (len(animation), 1)
        )
        columns = [index for index, name in enumerate(names) if name in known]
        weights[:, columns] = channel_weights(animation, [names[index] for index in columns])
        if columns:
            tracks.append((number, weights))
    if not tracks:
        raise FaceTalkError(f"{rig} has no morph targets with ARKit's names (extras.targetNames of its meshes)")
    return tracks


def _known_names(names: Sequence[str], place: str, ignore_unknown: bool, needed: bool = True) -> list[str]:
    """Those of the names that are channels; a FaceTalkError for what must not be among them."""
    unknown = [name for name in names if canonical_channel(name) is None]
    if unknown and not ignore_unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise FaceTalkError(f"{place} has shapes that are no ARKit channels: {shown}; rename or ignore them")
    owner: dict[str, str] = {}
    for name in names:
        channel = canonical_channel(name)
        if channel in owner:
            raise FaceTalkError(f"{place}: {owner[channel]} and {name} both stand for the ARKit channel {channel}")
        if channel is not None:
            owner[channel] = name
    if needed and not owner:
        raise FaceTalkError(f"{place} has no shapes with ARKit's names, such as jawOpen")
    return list(owner.values())


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Vertices (V, 3) float, colours (V, 3) uint8 where the file has them, triangles (F, 3) int."""
    rows, faces = [], []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                rows.append([float(word) for word in words])
            elif kind == "f":
                corners = [int(word.split("/")[0]) for word in words]
                corners = [corner - 1 if corner > 0 else len(rows) + corner for corner in corners]
                faces += [(corners[0], *pair) for pair in zip(corners[1:], corners[2:], strict=False)]
        table = np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"{path} cannot be read as obj: {error}") from error
    if table.ndim != 2 or table.shape[1] < 3 or not np.isfinite(table).all():
        raise FaceTalkError(f"{path} cannot be read as obj: it has no vertices of three finite numbers")
    colors = np.round(table[:, 3:6].clip(0, 1) * 255).astype(np.uint8) if table.shape[1] >= 6 else None
    return table[:, :3].astype(np.float32), colors, np.array(faces, np.int64).reshape(-1, 3)


def _read_glb(path: Path) -> tuple[dict, bytes]:
    """The json and the binary chunk of a glb file (glTF 2.0, section 4.4)."""
    try:
        data = path.read_bytes()
        magic, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
        if (magic, version, kind) != (b"glTF", 2, b"JSON") or length > len(data):
            raise ValueError("its header is not that of glTF 2.0")
        document = json.loads(data[20 : 20 + size])
        binary, start = b"", 20 + size
        if start + 8 <= length:
            tail, kind = struct.unpack_from("<I4s", data, start)
            binary = data[start + 8 : start + 8 + tail] if kind == b"BIN\0" else b""
        if not isinstance(document, dict) or "uri" in (document.get("buffers") or [{}])[0]:
            raise ValueError("its first buffer lies in another file; pack it into the glb")
    except (OSError, ValueError, struct.error) as error:
        raise FaceTalkError(f"{path} cannot be read as glb: {error}") from error
    return document, binary
