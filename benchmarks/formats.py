# SPDX-License-Identifier: MIT
"""How large the files of a clip are, and how far their frames are from the animation's when they are read back.

`python benchmarks/formats.py TALK.npz [--model PATH_OR_ID]`, with an npz of `facetalk generate`: size and the largest
distance of any vertex in any frame, gaze and head motion included, for glb, usdc and the first frames of ply and obj.
"""

import argparse
import json
import struct
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from facetalk_hf import TINY
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.animation.npz import load_animation
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.mesh.parts import PARTS
from facetalk_hf.scripts import run_script


KINDS = {5126: "<f4", 5123: "<u2", 5125: "<u4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def glb_frames(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """World positions (n, 3) in mm of each mesh of a glb of ours, by its name, frame by frame."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    document, start = json.loads(data[20 : 20 + size]), 28 + size

    def view(index: int, kind: int, count: int, width: int) -> np.ndarray:
        place = start + document["bufferViews"][index]["byteOffset"]
        return np.frombuffer(data, KINDS[kind], count * width, place).reshape(count, width)

    def accessor(index: int) -> np.ndarray:
        a = document["accessors"][index]
        kind, width = a["componentType"], WIDTHS[a["type"]]
        if "bufferView" in a:
            found = view(a["bufferView"], kind, a["count"], width)
            return found / 65535 if a.get("normalized") else found
        values, sparse = np.zeros((a["count"], width), np.float32), a["sparse"]
        rows = view(sparse["indices"]["bufferView"], sparse["indices"]["componentType"], sparse["count"], 1)[:, 0]
        values[rows] = view(sparse["values"]["bufferView"], kind, sparse["count"], width)
        return values

    motion = document["animations"][0]
    samplers = [(accessor(item["input"])[:, 0], accessor(item["output"])) for item in motion["samplers"]]
    times = np.arange(
        round(max(when[-1] for when, _ in samplers) * document["asset"]["extras"]["framesPerSecond"]) + 1
    )
    times = times / document["asset"]["extras"]["framesPerSecond"]
    frames, tracks = len(times), {}
    for channel in motion["channels"]:
        when, values = samplers[channel["sampler"]]
        columns = values.reshape(len(when), -1).T
        track = np.stack([np.interp(times, when, column) for column in columns], 1)
        tracks[channel["target"]["node"], channel["target"]["path"]] = track
    root, meshes = document["nodes"][0], {}
    for number in root["children"]:
        node = document["nodes"][number]
        primitive = document["meshes"][node["mesh"]]["primitives"][0]
        shapes = [accessor(target["POSITION"]) for target in primitive.get("targets", [])]
        weights = tracks.get((number, "weights"), np.zeros((0, 1))).reshape(frames, -1)
        base = accessor(primitive["attributes"]["POSITION"])
        meshes[node["name"]] = (base, shapes, weights, np.array(node.get("translation", (0, 0, 0))))
    for frame in range(frames):
        turn = rotation(tracks.get((0, "rotation"), np.array([[0, 0, 0, 1.0]] * frames))[frame].astype(float))
        shift = tracks.get((0, "translation"), np.zeros((frames, 3)))[frame]
        result = {}
        for name, (base, shapes, weights, offset) in meshes.items():
            points = base + sum(w * shape for w, shape in zip(weights[frame], shapes, strict=True))
            result[name] = ((points + offset) @ turn.T + shift) * 1000
        yield result


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of x, y, z, w."""
    x, y, z, w = quaternion
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def glb_error(path: Path, animation: HeadAnimation) -> float:
    """Largest distance in mm of a vertex of the file from the animation's."""
    part = animation.parts[animation.faces].max(1)
    groups = {"head": ("skin", "mouth"), "eyes": ("eyes",), "teeth": ("teeth",)}
    used = {
        name: np.unique(animation.faces[np.isin(part, [PARTS.index(kind) for kind in kinds])])
        for name, kinds in groups.items()
    }
    return max(
        float(np.linalg.norm(points - vertices[used[name]], axis=1).max())
        for found, vertices in zip(glb_frames(path), animation.iterate_posed(), strict=True)
        for name, points in found.items()
    )


def usd_error(path: Path, animation: HeadAnimation) -> float:
    """The same for a USD stage, skinned by pxr."""
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.Open(str(path))
    UsdSkel.BakeSkinning(stage.Traverse())
    mesh, scale, worst = UsdGeom.Mesh(stage.GetPrimAtPath("/facetalk/head")), UsdGeom.GetStageMetersPerUnit(stage), 0.0
    for frame, vertices in enumerate(animation.iterate_posed()):
        matrix = np.array(mesh.ComputeLocalToWorldTransform(frame))
        points = np.array(mesh.GetPointsAttr().Get(frame)) @ matrix[:3, :3] + matrix[3, :3]
        worst = max(worst, float(np.linalg.norm(points * scale * 1000 - vertices, axis=1).max()))
    return worst


def sequence_error(path: Path, animation: HeadAnimation) -> float:
    """The same for the first frames of a folder of meshes."""
    import trimesh

    pairs = zip(sorted(path.iterdir()), islice(animation.iterate_posed(), 3), strict=False)
    return max(float(np.abs(trimesh.load(f, process=False).vertices - v).max()) for f, v in pairs)


def main() -> None:
    """Write, read back, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=TINY)
    arguments = parser.parse_args()
    animation = load_animation(arguments.file, make_decoder(load_head(arguments.model)))
    print(f"{animation}, gaze and targets: {len(animation.target_names)}, head motion: {animation.poses is not None}")
    print(f"{'format':12}{'MB':>8}{'error, mm':>12}")
    first = slice(0, 3)
    start = animation.replace(
        weights=animation.weights[first], expressions=None, landmarks=None, lip_aperture=None,
        poses=None if animation.poses is None else animation.poses[first],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (
            ("glb", glb_error),
            ("usdc", usd_error),
            ("ply", sequence_error),
            ("obj", sequence_error),
        ):
            mesh = name in ("ply", "obj")
            path = (start if mesh else animation).save(
                Path(folder) / f"clip.{name}", format=name, **({"detail": "full"} if name == "glb" else {})
            )
            size = sum(f.stat().st_size for f in path.iterdir()) / len(start) if mesh else path.stat().st_size
            error = measure(path, animation)
            print(f"{name + ' a frame' if mesh else name:12}{size / 1e6:8.2f}{error:12.5f}", flush=True)
            if name == "glb":
                data = path.read_bytes()
                extras = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])["asset"]["extras"]
                print(f"{'  as stated':20}{extras['geometryErrorMillimetres']:12.5f}")


if __name__ == "__main__":
    run_script(main)
