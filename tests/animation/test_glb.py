# SPDX-License-Identifier: MIT
"""Files of the motion, read back with readers of our own or trimesh's."""

import csv
import importlib.util
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
import trimesh
from animations import Glb, head  # noqa: F401

from facetalk_hf.animation.glb import write_glb
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.animation.mesh_sequences import write_obj_sequence, write_ply_sequence
from facetalk_hf.animation.npz import write_npz
from facetalk_hf.animation.tables import write_csv
from facetalk_hf.errors import FaceTalkError


def test_glb_plays_the_same_motion(tmp_path):
    animation = head()
    glb = Glb(write_glb(tmp_path / "a.glb", animation).read_bytes())
    document = glb.json
    motion = document["animations"][0]
    times = glb.accessor(motion["samplers"][0]["input"])[:, 0]
    np.testing.assert_allclose(times, np.arange(6) / 25, atol=1e-6)
    part = animation.parts[animation.faces].max(1)
    seen, stated = [], document["asset"]["extras"]["geometryErrorMillimetres"]
    for channel in motion["channels"]:
        sampler = motion["samplers"][channel["sampler"]]
        assert sampler["interpolation"] == "LINEAR" and channel["target"]["path"] == "weights"
        node = document["nodes"][channel["target"]["node"]]
        mesh = document["meshes"][node["mesh"]]
        names = mesh["extras"]["targetNames"]
        assert len(mesh["weights"]) == len(names)
        seen.append((mesh["name"], tuple(names)))
        weights = glb.accessor(sampler["output"]).reshape(6, len(names))
        for primitive in mesh["primitives"]:
            kind = ("skin", "eyes", "teeth", "mouth").index(document["materials"][primitive["material"]]["name"])
            position = glb.accessor(primitive["attributes"]["POSITION"])
            deltas = np.stack([glb.accessor(target["POSITION"]) for target in primitive["targets"]])
            triangles = glb.accessor(primitive["indices"]).reshape(-1, 3)
            for frame in range(6):
                moved = (position + np.tensordot(weights[frame], deltas, 1))[triangles] * 1000
                expected = animation.vertices(frame)[animation.faces[part == kind]]
                np.testing.assert_allclose(moved, expected, atol=1e-4 + stated)
    assert seen == [("head", ("all", "few")), ("eyes", ("all", "eyeLookUp_L")), ("teeth", ("all", "jawOpen"))]
    assert stated < 0.021
    assert "Synthetic" in document["asset"]["extras"]["comment"]


def test_glb_leaves_out_what_never_moves_and_stores_little_motion_sparsely(tmp_path):
    animation = head()
    text = write_glb(tmp_path / "a.glb", animation).read_bytes()
    assert b"never" not in text
    glb = Glb(text)
    few = glb.json["meshes"][0]["primitives"][0]["targets"][1]["POSITION"]
    assert glb.json["accessors"][few]["sparse"]["count"] == 20
    dense = glb.json["meshes"][0]["primitives"][0]["targets"][0]["POSITION"]
    assert "sparse" not in glb.json["accessors"][dense]


def test_glb_attributes_are_what_the_format_asks_for(tmp_path):
    animation = head()
    glb = Glb(write_glb(tmp_path / "a.glb", animation).read_bytes())
    for mesh in glb.json["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = {name: glb.accessor(index) for name, index in primitive["attributes"].items()}
            np.testing.assert_allclose(np.linalg.norm(attributes["NORMAL"], axis=1), 1, atol=1e-5)
            # Balls about different centres: normals look away from the middle of each.
            outward = attributes["POSITION"] - attributes["POSITION"].mean(0)
            assert (np.einsum("ij,ij->i", outward, attributes["NORMAL"]) > 0).all()
            assert np.abs(attributes["POSITION"]).max() < 0.2
    skin = glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    value = animation.colors[0] / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(glb.accessor(skin)[0, :3] / 65535, linear, atol=1e-4)
    assert glb.json["accessors"][skin]["normalized"] is True
    materials = {m["name"]: m["pbrMetallicRoughness"]["roughnessFactor"] for m in glb.json["materials"]}
    assert materials["eyes"] < materials["teeth"] < materials["skin"]


def test_trimesh_reads_the_glb(tmp_path):
    animation = head()
    scene = trimesh.load_scene(write_glb(tmp_path / "a.glb", animation))
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == len(animation.faces)
    np.testing.assert_allclose(scene.bounds * 1000, [animation.base.min(0), animation.base.max(0)], atol=1e-3)


@pytest.mark.parametrize("frames", [1, 2])
def test_glb_of_a_still_head_and_of_one_frame(tmp_path, frames):
    still = head(frames)
    still.weights[:] = 0
    glb = Glb(write_glb(tmp_path / "a.glb", still).read_bytes())
    assert "animations" not in glb.json and "targets" not in glb.json["meshes"][0]["primitives"][0]
    assert "animations" in Glb(write_glb(tmp_path / "b.glb", head(frames)).read_bytes()).json


def test_npz_holds_the_promised_keys_and_the_same_bytes(tmp_path, monkeypatch):
    animation = head()
    first = write_npz(tmp_path / "a.npz", animation).read_bytes()
    import time

    later = time.time() + 5e6
    monkeypatch.setattr(time, "time", lambda: later)
    assert write_npz(tmp_path / "b.npz", animation).read_bytes() == first
    assert write_npz(tmp_path / "c.npz", animation.replace(seed=4)).read_bytes() != first
    data = np.load(tmp_path / "a.npz")
    assert set(data) == {"comment", "expression", "fps", "identity", "seed", "landmarks", "lip_aperture"} | {
        "weights", "target_names",
    }  # fmt: skip
    assert "Synthetic" in str(data["comment"])
    np.testing.assert_array_equal(data["expression"], animation.expressions)
    np.testing.assert_array_equal(data["landmarks"], animation.landmarks)
    assert (data["fps"], data["seed"]) == (25.0, 3)
    assert tuple(data["target_names"]) == animation.target_names
    bare = HeadAnimation(animation.base, animation.targets, animation.weights, animation.target_names, animation.faces)
    data = np.load(write_npz(tmp_path / "d.npz", bare, geometry=True))
    assert data["seed"] == -1 and data["expression"].shape == (6, 0)
    np.testing.assert_array_equal(data["targets"], animation.targets)


def test_csv_names_every_channel(tmp_path):
    animation = head()
    with open(write_csv(tmp_path / "a.csv", animation), newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert float(rows[5]["time"]) == pytest.approx(0.2)
    values = [[float(row[name]) for name in animation.target_names] for row in rows]
    np.testing.assert_allclose(values, animation.weights, atol=1e-6)


def test_wav_is_the_sound_that_went_in(tmp_path):
    sound = np.sin(np.arange(2205) / 20).astype(np.float32) * 1.2
    with wave.open(str(head().replace(audio=sound, sampling_rate=22050).save(tmp_path / "a.wav"))) as stream:
        assert (stream.getframerate(), stream.getnchannels(), stream.getnframes()) == (22050, 1, 2205)
        samples = np.frombuffer(stream.readframes(2205), "<i2") / 32767
    np.testing.assert_allclose(samples, sound.clip(-1, 1), atol=2e-5)
    with pytest.raises(FaceTalkError, match="no sound"):
        head().save(tmp_path / "b.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("kind", ["ply", "obj"])
def test_sequences_hold_every_frame(tmp_path, kind):
    write_sequence = {"ply": write_ply_sequence, "obj": write_obj_sequence}
    animation = head(3)
    folder = write_sequence[kind](tmp_path / "seq", animation)
    assert [path.name for path in sorted(folder.iterdir())] == [f"frame_0000{i}.{kind}" for i in range(3)]
    mesh = trimesh.load(folder / f"frame_00002.{kind}", process=False)
    np.testing.assert_allclose(mesh.vertices, animation.vertices(2), atol=1e-3)
    np.testing.assert_array_equal(mesh.faces, animation.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], animation.colors)
    # A shorter one replaces it whole.
    write_sequence[kind](folder, animation.replace(
        weights=animation.weights[:1], expressions=None, landmarks=None, lip_aperture=None))  # fmt: skip
    assert len(list(folder.iterdir())) == 1


FULL_DISK = """
import resource, sys
import numpy as np
from facetalk_hf.animation.head_animation import FORMATS
from facetalk_hf.cli.common import save
from facetalk_hf.errors import FaceTalkError
from animations import head

names = ("jawLeft", "jawRight", "mouthLeft", "jawOpen", "cheekPuff")
animation = head(12).replace(audio=np.zeros(9000), target_names=names)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # what comes after is refused, as on a full disk
for name in FORMATS:
    if name != "mp4" and not (name.startswith("usd") and "no usd" in sys.argv):
        try:
            save(animation, name, f"{sys.argv[1]}/a.{name}")
            print("WRITTEN", name)
        except FaceTalkError as error:
            assert "cannot write" in str(error) and "\\n" not in str(error), error
"""


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path):
    (tmp_path / "a.glb").write_text("old")
    words = [] if importlib.util.find_spec("pxr") else ["no usd"]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=here, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"] and (tmp_path / "a.glb").read_text() == "old"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "seq").mkdir()
    (tmp_path / "seq" / "thesis.txt").write_text("mine")
    with pytest.raises(FaceTalkError, match="not a folder of frames"):
        write_ply_sequence(tmp_path / "seq", head(1))
    assert (tmp_path / "seq" / "thesis.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FaceTalkError):
        write_obj_sequence(tmp_path / "file", head(1))
    with pytest.raises(FaceTalkError, match="cannot write"):
        write_ply_sequence(tmp_path / "file" / "seq", head(1))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "seq"]
