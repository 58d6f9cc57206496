# SPDX-License-Identifier: MIT
"""Animated glb files, read back by a reader of our own and by trimesh."""

import numpy as np
import pytest
import trimesh
from animations import Glb, head  # noqa: F401

from facetalk_hf.animation.glb import write_glb


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
    # Shapes with ARKit's names are there for whoever animates the head further.
    assert [mesh["extras"]["targetNames"] for mesh in glb.json["meshes"][1:]] == [["eyeLookUp_L"], ["jawOpen"]]
    assert "animations" in Glb(write_glb(tmp_path / "b.glb", head(frames)).read_bytes()).json
