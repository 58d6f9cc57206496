# SPDX-License-Identifier: MIT
"""Retargeting: the motion on another head, a folder of obj shapes or a glb with morph targets, by ARKit's names."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..blendshapes import TONGUE
from ..errors import FaceTalkError
from ..files import atomic_path
from ..mesh.reading import MeshFile, read_obj
from .arkit import canonical_channel, channel_weights
from .gltf import GlbBuffer, Tracks, pack_glb, read_glb
from .head_animation import HeadAnimation, neck_pivot
from .rig_motion import head_joint, turn_head


NEUTRAL: tuple[str, ...] = ("neutral", "base", "basis", "rest")
"""Names, in any case, that the obj of the head at rest may have."""


VISEME = re.compile(r"(vrc\.)?(v|viseme)[_ .]?([a-z]{1,3}|sil)", re.IGNORECASE)
"""Names of visemes: viseme_aa and viseme_PP (Oculus, Ready Player Me), vrc.v_ou (VRChat)."""
COMPOUNDS = ("mouthOpen", "mouthSmile", "eyesClosed", "eyesLookUp", "eyesLookDown")
"""Further shapes of Ready Player Me's avatars."""


def retarget(animation: HeadAnimation, rig: HeadAnimation) -> HeadAnimation:
    """Put the motion of one head on the shapes of another.

    The result has the mesh and targets of `rig`, and the weights, frame rate, sound and poses of `animation`.

    Args:
        animation (`HeadAnimation`): with targets of our names or ARKit's.
        rig (`HeadAnimation`): a head whose targets are ARKit's channels, in any spelling; its own motion is dropped.

    Raises:
        FaceTalkError: a target of either that is not an ARKit channel.
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
        ignore_unknown (`bool`, *optional*, defaults to `False`): leave out files whose name is not an ARKit channel;
            visemes are left out in any case.
        millimetres_per_unit (`float`, *optional*, defaults to 1): 10 for centimetres, 1000 for metres.

    Raises:
        FaceTalkError: no folder, no neutral, a shape with another number of vertices, an unknown or double name, or
            a file that is not an obj.
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
    neutral = _read_shape(rest[0])
    base, faces = neutral.vertices, neutral.faces
    if not len(faces) or faces.min() < 0 or faces.max() >= len(base):
        raise FaceTalkError(f"{rest[0]} must have faces, and only between its {len(base)} vertices")
    targets = np.empty((len(shapes), *base.shape), np.float32)
    for target, path in zip(targets, shapes, strict=True):
        vertices = _read_shape(path).vertices
        if len(vertices) != len(base):
            raise FaceTalkError(f"{path} has {len(vertices)} vertices, but {rest[0].name} has {len(base)}")
        target[:] = (vertices - base) * millimetres_per_unit
    rig = HeadAnimation(
        base=base * millimetres_per_unit, targets=targets, weights=np.zeros((0, len(shapes))),
        target_names=tuple(path.stem for path in shapes), faces=faces,
    )  # fmt: skip
    return rig if neutral.colors is None else rig.replace(colors=neutral.colors)


def retarget_glb(
    path: str | os.PathLike, animation: HeadAnimation, rig: str | os.PathLike, ignore_unknown: bool = False
) -> Path:
    """Write a copy of a glb whose morph targets play the motion; all else in it stays as it is.

    Every node whose mesh has targets with ARKit's names (`extras.targetNames`) gets a track of the new first
    animation, `speech`. Targets with other names keep the mesh's default weight. Head motion turns the joint called
    head, or all of a glb whose face has no skeleton ([`facetalk_hf.animation.rig_motion.turn_head`]).

    Args:
        path (`str` or `os.PathLike`): the file to write. animation (`HeadAnimation`): the motion.
        rig (`str` or `os.PathLike`): the glb of the head.
        ignore_unknown (`bool`, *optional*, defaults to `False`): accept targets whose name is not an ARKit channel;
            visemes are accepted in any case.

    Raises:
        FaceTalkError: not a glb, no named targets, an unknown or double name, targets of another vertex count, or
            a motion of no frames.
    """
    document, binary = read_glb(Path(rig))
    if not animation.num_frames:
        raise FaceTalkError("there is no motion to write: the animation has no frames")
    with _valid(rig):
        weights = _morph_tracks(document, animation, str(rig), ignore_unknown)
        turns = turn_head(document, animation, [node for node, _ in weights])
        buffer = GlbBuffer(document.setdefault("bufferViews", []), document.setdefault("accessors", []), binary)
        tracks = Tracks(buffer, (np.arange(animation.num_frames) / animation.fps).astype(np.float32))
        for node, values in weights:
            tracks.add(node, "weights", values)
        for node, path_in_node, values in turns:
            tracks.add(node, path_in_node, values)
        # First, because that is the one most viewers play.
        document.setdefault("animations", []).insert(0, tracks.animation())
        if not document.get("buffers"):
            document["buffers"] = [{}]
        document["buffers"][0]["byteLength"] = buffer.size
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack_glb(document, buffer.data()))
    return Path(path)


def is_viseme(name: str) -> bool:
    """Say whether a shape is a viseme, or a compound of avatars that have ARKit's channels beside it."""
    return VISEME.fullmatch(name) is not None or name in COMPOUNDS


def missing_channels(animation: HeadAnimation, names: Sequence[str]) -> list[str]:
    """List the targets that the animation uses and shapes of these names cannot show, sorted.

    Shapes of the tongue that ARKit has not are not missed: hardly a rig has them, and the message would never end.
    """
    have = {(canonical_channel(name) or "").split("_")[0] for name in names}
    # What stays below a hundredth of its shape is not seen: a model's channels are seldom zero to the last bit.
    moves = np.abs(animation.weights).max(0, initial=0) > 0.01
    used = [
        name for name, moving in zip(animation.target_names, moves, strict=True) if moving and name not in TONGUE[1:]
    ]
    return sorted(name for name in used if (canonical_channel(name) or name).split("_")[0] not in have)


def glb_shape_names(rig: str | os.PathLike) -> list[str]:
    """List the names of all morph targets in a glb, each once."""
    document, _ = read_glb(Path(rig))
    with _valid(rig):
        return list(dict.fromkeys(name for mesh in document.get("meshes", []) for name in _target_names(mesh)))


def glb_can_turn(rig: str | os.PathLike) -> bool:
    """Say whether head motion can be put on a glb: its face has no skeleton, or one with a joint called head."""
    document, _ = read_glb(Path(rig))
    with _valid(rig):
        nodes, meshes = document["nodes"], document["meshes"]
        skinned = [i for i, node in enumerate(nodes) if "skin" in node and _target_names(meshes[node["mesh"]])]
        return not skinned or head_joint(document, skinned) is not None


@contextmanager
def _valid(rig: str | os.PathLike) -> Iterator[None]:
    """Turn whatever reading a broken document raises into a FaceTalkError of one line."""
    try:
        yield
    except FaceTalkError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise FaceTalkError(f"{rig} is not a valid glb: {type(error).__name__} {error}") from error


def _target_names(mesh: dict) -> list[str]:
    """Return the names of a mesh's morph targets, none where it has no names."""
    return mesh.get("extras", {}).get("targetNames", [])


def _morph_tracks(
    document: dict, animation: HeadAnimation, rig: str, ignore_unknown: bool
) -> list[tuple[int, np.ndarray]]:
    """Find every node with named targets: its number, and the weights (T, n) of all of its mesh's targets."""
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
        rest = np.asarray(node.get("weights", mesh.get("weights", [0.0] * len(names))), np.float32)
        weights = np.tile(rest, (len(animation), 1))
        columns = [index for index, name in enumerate(names) if name in known]
        weights[:, columns] = channel_weights(animation, [names[index] for index in columns])
        if columns:
            tracks.append((number, weights))
    if not tracks:
        raise FaceTalkError(f"{rig} has no morph targets with ARKit's names (extras.targetNames of its meshes)")
    return tracks


def _known_names(names: Sequence[str], place: str, ignore_unknown: bool, needed: bool = True) -> list[str]:
    """Return those names that are ARKit channels; FaceTalkError for what must not be among them."""
    unknown = [name for name in names if not (canonical_channel(name) or is_viseme(name) or name in TONGUE)]
    if unknown and not ignore_unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise FaceTalkError(
            f"{place} has shapes that are no ARKit channels: {shown}; rename them, or leave them at rest by "
            "ignore_unknown (--ignore-unknown)"
        )
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


def _read_shape(path: Path) -> MeshFile:
    """Read an obj with at least one vertex; FaceTalkError names the file."""
    try:
        shape = read_obj(path)
        if not len(shape.vertices) or not np.isfinite(shape.vertices).all():
            raise ValueError("it has no vertices of three finite numbers")
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"{path} cannot be read as obj: {error}") from error
    return shape
