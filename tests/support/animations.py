# SPDX-License-Identifier: MIT
"""Small animations, and readers of the files that they are written to."""

import json
import struct

import numpy as np
import pytest
import trimesh

from facetalk_hf.animation.gltf import pack_glb
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import EXPRESSIONS


KINDS = {5126: np.float32, 5123: np.uint16, 5125: np.uint32}


WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def head(frames: int = 6) -> HeadAnimation:
    """Skin with a patch of mouth, an eye and a tooth; targets that move all, few, one part, or nothing."""
    rng = np.random.default_rng(0)
    skin, eye = trimesh.creation.icosphere(subdivisions=3, radius=90), trimesh.creation.icosphere(subdivisions=1)
    count, small = len(skin.vertices), len(eye.vertices)
    base = np.concatenate([skin.vertices, eye.vertices * 12 + [30, 20, 90], eye.vertices * 8 + [0, -40, 80]])
    faces = np.concatenate([skin.faces, eye.faces + count, eye.faces + count + small])
    parts = np.repeat([0, 1, 2], [count, small, small])
    parts[:count][skin.vertices[:, 2] > 80] = 3
    targets = np.zeros((5, len(base), 3))
    targets[0] = rng.normal(size=base.shape)
    targets[1, :20] = 5
    targets[2, count : count + small] = [0, 1, 0]
    targets[3, count + small :] = [0, -9, 0]
    targets[4] = 7
    weights = rng.random((frames, 5))
    weights[:, 4] = 0
    names = ("all", "few", "eyeLookUp_L", "jawOpen", "never")
    colors = rng.integers(0, 256, base.shape)
    return HeadAnimation(base, targets, weights, names, faces, colors, parts, fps=25.0, seed=3,
                         expressions=rng.random((frames, 64)), identity=rng.random(9),
                         landmarks=rng.random((frames, 68, 3)), lip_aperture=rng.random(frames))  # fmt: skip


class Glb:
    """A reader of its own, by the glTF 2.0 specification, for what the writer may use."""

    def __init__(self, data: bytes) -> None:
        magic, version, length, size, kind = struct.unpack("<4sIII4s", data[:20])
        assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
        self.json = json.loads(data[20 : 20 + size])
        tail, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
        assert kind == b"BIN\0" and 28 + size + tail == len(data) and size % 4 == tail % 4 == 0
        self.binary = data[28 + size :]
        assert self.json["buffers"][0]["byteLength"] == tail

    def view(self, index: int, kind: int, count: int, width: int) -> np.ndarray:
        view = self.json["bufferViews"][index]
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(self.binary)
        return np.frombuffer(self.binary, KINDS[kind], count * width, view["byteOffset"]).reshape(count, width)

    def accessor(self, index: int) -> np.ndarray:
        a = self.json["accessors"][index]
        kind, count, width = a["componentType"], a["count"], WIDTH[a["type"]]
        values = np.zeros((count, width), KINDS[kind])
        if "bufferView" in a:
            values = self.view(a["bufferView"], kind, count, width).copy()
        if "sparse" in a:
            s = a["sparse"]
            place = self.view(s["indices"]["bufferView"], s["indices"]["componentType"], s["count"], 1)[:, 0]
            assert (np.diff(place.astype(int)) > 0).all()
            values[place] = self.view(s["values"]["bufferView"], kind, s["count"], width)
        if "min" in a:
            np.testing.assert_array_equal(values.min(0), np.array(a["min"], values.dtype))
            np.testing.assert_array_equal(values.max(0), np.array(a["max"], values.dtype))
        return values / np.float32(65535) if a.get("normalized") and width == 1 else values


def living(frames: int = 6) -> HeadAnimation:
    """The head of test_export, with a second eye, whose gaze wanders while it sways and nods."""
    animation = head(frames).replace(target_names=("mouthLeft", "jawLeft", "eyeLookUp_L", "jawOpen", "mouthRight"))
    eye = animation.parts == 1
    count = len(animation.base)
    mirrored = np.cumsum(eye) - 1 + count
    faces = animation.faces[eye[animation.faces].all(1)]
    animation = animation.replace(
        base=np.concatenate([animation.base, animation.base[eye] * (-1, 1, 1)]),
        targets=np.concatenate([animation.targets, animation.targets[:, eye]], 1),
        faces=np.concatenate([animation.faces, mirrored[faces][:, ::-1]]),
        colors=np.concatenate([animation.colors, animation.colors[eye]]),
        parts=np.concatenate([animation.parts, animation.parts[eye]]),
    )
    time = np.linspace(0, 1, frames)
    poses = np.stack([5 * np.sin(6 * time), -4 * time, 3 * np.cos(4 * time), 4 * time, -2 * time, 3 * time], 1)
    animation = animation.with_gaze(25 * np.sin(5 * time), -18 * np.cos(3 * time))
    return animation.replace(poses=poses.astype(np.float32), pivot=np.array([2, -88, -15], np.float32))


def pxr():
    """The modules of usd-core, or a skip that says so."""
    pytest.importorskip("pxr", reason='needs usd-core: pip install "facetalk_hf[usd]"')
    from pxr import Usd, UsdGeom, UsdMedia, UsdShade, UsdSkel

    return Usd, UsdGeom, UsdMedia, UsdShade, UsdSkel


def points(path, frames: int, bake: bool) -> np.ndarray:
    """(T, V, 3) mm: what a reader of the stage sees, after pxr's own skinning where it has blend shapes."""
    Usd, UsdGeom, _, _, UsdSkel = pxr()
    stage = Usd.Stage.Open(str(path))
    if bake:
        assert UsdSkel.BakeSkinning(stage.Traverse())
    (mesh,) = [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    scale = UsdGeom.GetStageMetersPerUnit(stage) * 1000
    return np.stack([np.array(mesh.GetPointsAttr().Get(frame)) * scale for frame in range(frames)])


@pytest.fixture
def other(tmp_path):
    """A glb of a head with our names in three meshes, and what a program could have put beside them."""
    animation = head()
    names = ("jawOpen", "mouthFunnel", "eyeLookUp_L", "MouthClose", "never")
    weights = animation.weights.copy()
    weights[:, 4] = 0
    path = animation.replace(target_names=names, weights=weights).save(tmp_path / "other.glb")
    glb = Glb(path.read_bytes())
    glb.json["materials"][0]["name"] = "my paint"
    glb.json["animations"][0]["name"] = "old"
    path.write_bytes(pack_glb(glb.json, glb.binary))
    return path


def change(path, edit) -> None:
    glb = Glb(path.read_bytes())
    edit(glb.json)
    path.write_bytes(pack_glb(glb.json, glb.binary))


def talk(frames: int = 5, fps: float = 24.0, names=EXPRESSIONS, low=0.0, high=1.0) -> HeadAnimation:
    """A triangle with a target for every name: only the weights matter here."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(low, high, (frames, len(names)))
    return HeadAnimation(np.eye(3), np.zeros((len(names), 3, 3)), weights, names, [[0, 1, 2]], fps=fps)
