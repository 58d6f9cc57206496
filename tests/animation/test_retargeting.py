# SPDX-License-Identifier: MIT
"""The motion on heads of others: obj folders and glb files, and what is wrong with some of them."""

import json
import struct

import numpy as np
import pytest
from animations import Glb, change, head, other, talk  # noqa: F401

from facetalk_hf.animation.arkit import ARKIT, channel_weights
from facetalk_hf.animation.retargeting import missing_channels, read_obj_rig, retarget, retarget_glb
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.errors import FaceTalkError


SQUARE = np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]], float)


def obj(vertices: np.ndarray, face: str = "f 1/1/1 2/2/1 3/3/1 4/4/1", color: str = "") -> str:
    return "# made by hand\n" + "\n".join(f"v {x} {y} {z}{color}" for x, y, z in vertices) + f"\nvn 0 0 1\n{face}\n"


@pytest.fixture
def shapes(tmp_path):
    """A folder with a square that has three shapes, each named in another program's way."""
    folder = tmp_path / "rig"
    folder.mkdir()
    (folder / "Neutral.obj").write_text(obj(SQUARE, color=" 1 0.5 0"))
    for name, step in (("jawOpen", (0, -5, 0)), ("EyeBlinkLeft", (0, 0, 3)), ("browInnerUp_R", (1, 2, 0))):
        (folder / f"{name}.obj").write_text(obj(SQUARE + step * np.array([[0], [1], [1], [0.5]])))
    return folder


def test_a_folder_of_obj_takes_the_motion(shapes, tmp_path):
    animation = talk(fps=30).replace(audio=np.zeros(99))
    rig = read_obj_rig(shapes)
    assert rig.num_frames == 0 and set(rig.target_names) == {"jawOpen", "EyeBlinkLeft", "browInnerUp_R"}
    np.testing.assert_array_equal(rig.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(rig.colors[0], [255, 128, 0])
    moved = retarget(animation, rig)
    jaw, blink, brow = (animation.weights[:, INDEX[name]] for name in ("jawOpen", "eyeBlink_L", "browInnerUp_R"))
    assert (moved.fps, moved.num_frames, len(moved.audio)) == (30, 5, 99)
    for frame in range(5):
        step = jaw[frame] * np.array([0, -5, 0]) + blink[frame] * np.array([0, 0, 3])
        step += brow[frame] * np.array([1, 2, 0])
        expected = SQUARE + step * np.array([[0], [1], [1], [0.5]])
        np.testing.assert_allclose(moved.vertices(frame), expected, atol=1e-5)
    large = read_obj_rig(shapes, millimetres_per_unit=10)
    np.testing.assert_allclose(large.targets, 10 * rig.targets, atol=1e-5)
    np.testing.assert_allclose(large.base, 10 * rig.base, atol=1e-5)
    glb = Glb(moved.save(tmp_path / "a.glb").read_bytes())
    assert set(glb.json["meshes"][0]["extras"]["targetNames"]) == set(rig.target_names)
    assert "mouthClose" in missing_channels(animation, rig.target_names)
    assert not {"jawOpen", "browInnerUp_L"} & set(missing_channels(animation, rig.target_names))


def test_folders_that_are_no_rig(shapes, tmp_path):
    def refused(*words: str, **options) -> None:
        with pytest.raises(FaceTalkError) as caught:
            read_obj_rig(shapes, **options)
        assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value), caught.value

    (shapes / "jawLeft.obj").write_text(obj(SQUARE[:3], "f 1 2 3"))
    refused("jawLeft.obj", "3 vertices", "4")
    (shapes / "jawLeft.obj").write_text("v 1 2\nv one two three\n")
    refused("jawLeft.obj", "cannot be read")
    (shapes / "jawLeft.obj").write_text("v 1 2 nan\n" * 4)
    refused("jawLeft.obj", "finite")
    (shapes / "jawLeft.obj").rename(shapes / "smirk.obj")
    refused("smirk", "no ARKit channel")
    assert len(read_obj_rig(shapes, ignore_unknown=True).targets) == 3
    (shapes / "smirk.obj").rename(shapes / "jaw_open.obj")
    refused("jaw_open and jawOpen", "both")
    (shapes / "jaw_open.obj").rename(shapes / "base.obj")
    refused("neutral.obj", "base.obj and Neutral.obj")
    for path in shapes.iterdir():
        path.unlink()
    refused("neutral.obj", "none")
    (shapes / "neutral.obj").write_text(obj(SQUARE))
    refused("no shapes")
    (shapes / "neutral.obj").write_text(obj(SQUARE, "f 1 2 9"))
    (shapes / "jawOpen.obj").write_text(obj(SQUARE))
    refused("neutral.obj", "4 vertices")
    shapes = tmp_path / "missing"
    refused("neutral.obj")


def test_a_glb_takes_the_motion_and_keeps_all_else(other, tmp_path):
    animation = talk(frames=7, fps=30)
    before, glb = Glb(other.read_bytes()), Glb(retarget_glb(tmp_path / "a.glb", animation, other).read_bytes())
    for key in ("materials", "meshes", "nodes", "scenes"):
        assert glb.json[key] == before.json[key]
    assert [motion["name"] for motion in glb.json["animations"]] == ["speech", "old"]
    motion = glb.json["animations"][0]
    assert len(motion["channels"]) == 3
    for channel in motion["channels"]:
        sampler = motion["samplers"][channel["sampler"]]
        np.testing.assert_allclose(glb.accessor(sampler["input"])[:, 0], np.arange(7) / 30, atol=1e-6)
        mesh = glb.json["meshes"][glb.json["nodes"][channel["target"]["node"]]["mesh"]]
        names = mesh["extras"]["targetNames"]
        weights = glb.accessor(sampler["output"]).reshape(7, len(names))
        np.testing.assert_allclose(weights, channel_weights(animation, names), atol=1e-6)
    old = before.json["animations"][0]["samplers"]
    for sampler, kept in zip(old, glb.json["animations"][1]["samplers"], strict=True):
        np.testing.assert_array_equal(before.accessor(sampler["output"]), glb.accessor(kept["output"]))
    # Retargeted again, by the whole of ARKit's channels.
    again = retarget_glb(tmp_path / "b.glb", talk(names=ARKIT), tmp_path / "a.glb")
    assert len(Glb(again.read_bytes()).json["animations"]) == 3


def test_unknown_targets_of_a_glb_keep_their_default_where_that_is_allowed(other, tmp_path):
    def edit(document):
        document["meshes"][0]["extras"]["targetNames"][0] = "smirk"
        document["meshes"][0]["weights"][0] = 0.25

    change(other, edit)
    with pytest.raises(FaceTalkError, match="smirk"):
        retarget_glb(tmp_path / "a.glb", talk(), other)
    glb = Glb(retarget_glb(tmp_path / "a.glb", talk(), other, ignore_unknown=True).read_bytes())
    count = len(glb.json["meshes"][0]["weights"])
    weights = glb.accessor(glb.json["animations"][0]["samplers"][0]["output"]).reshape(5, count)
    np.testing.assert_allclose(weights[:, 0], 0.25)
    assert np.ptp(weights[:, 1]) > 0.1


def test_a_gltf_with_its_files_becomes_a_glb(other, tmp_path):
    glb = Glb(other.read_bytes())
    place = tmp_path / "parts"
    place.mkdir()
    (place / "my head.bin").write_bytes(glb.binary)
    (place / "skin.png").write_bytes(b"\x89PNG" + bytes(9))
    document = glb.json | {"images": [{"uri": "skin.png"}]}
    document["buffers"] = [{"uri": "my%20head.bin", "byteLength": len(glb.binary)}]
    (place / "a.gltf").write_text(json.dumps(document))
    found = Glb(retarget_glb(tmp_path / "a.glb", talk(), place / "a.gltf").read_bytes())
    expected = Glb(retarget_glb(tmp_path / "b.glb", talk(), other).read_bytes())
    for mine, its in zip(
        found.json["animations"][0]["samplers"], expected.json["animations"][0]["samplers"], strict=True
    ):
        np.testing.assert_array_equal(found.accessor(mine["output"]), expected.accessor(its["output"]))
    image = found.json["images"][0]
    view = found.json["bufferViews"][image["bufferView"]]
    assert "uri" not in image and image["mimeType"] == "image/png" and len(found.json["buffers"]) == 1
    assert found.binary[view["byteOffset"] :][:4] == b"\x89PNG" and view["byteLength"] == 13
    for uri, message in (
        ("far.bin", "far.bin"),
        ("/etc/passwd", "no file beside it"),
        ("http://a/b", "no file beside"),
    ):
        document["buffers"][0]["uri"] = uri
        (place / "a.gltf").write_text(json.dumps(document))
        with pytest.raises(FaceTalkError, match=message):
            retarget_glb(tmp_path / "c.glb", talk(), place / "a.gltf")


@pytest.mark.parametrize("name", ["head.fbx", "head.blend", "head.FBX"])
def test_other_programs_files_are_told_what_to_export(tmp_path, name):
    (tmp_path / name).write_bytes(b"Kaydara FBX Binary")
    with pytest.raises(FaceTalkError, match="export the head as glb"):
        retarget_glb(tmp_path / "a.glb", talk(), tmp_path / name)


def test_visemes_stay_at_rest_and_typing_errors_are_refused(other, shapes, tmp_path):
    change(other, lambda d: d["meshes"][0]["extras"]["targetNames"].__setitem__(0, "viseme_aa"))
    glb = Glb(retarget_glb(tmp_path / "a.glb", talk(), other).read_bytes())
    count = len(glb.json["meshes"][0]["extras"]["targetNames"])
    weights = glb.accessor(glb.json["animations"][0]["samplers"][0]["output"]).reshape(5, count)
    assert not weights[:, 0].any() and weights[:, 1].any()
    (shapes / "viseme_PP.obj").write_text(obj(SQUARE))
    assert "viseme_PP" not in read_obj_rig(shapes).target_names
    change(other, lambda d: d["meshes"][0]["extras"]["targetNames"].__setitem__(0, "jawOpn"))
    with pytest.raises(FaceTalkError, match="jawOpn.*--ignore-unknown"):
        retarget_glb(tmp_path / "a.glb", talk(), other)


def test_only_channels_that_move_are_missed():
    weights = talk(names=("jawOpen", "mouthClose", "tongueOut")).weights * (1, 1e-3, 0)
    animation = talk(names=("jawOpen", "mouthClose", "tongueOut")).replace(weights=weights)
    assert missing_channels(animation, ["eyeBlinkLeft"]) == ["jawOpen"]
    ours = talk(names=("jawOpen", "tongueTipUp", "tongueOut"))  # hardly a rig has what ARKit has not
    assert missing_channels(ours, ["jawOpen"]) == ["tongueOut"]


def test_files_that_are_no_rig(other, tmp_path):
    whole = other.read_bytes()

    def refused(edit, *words: str, **options) -> None:
        other.write_bytes(whole)
        if callable(edit):
            change(other, edit)
        else:
            other.write_bytes(edit)
        with pytest.raises(FaceTalkError) as caught:
            retarget_glb(tmp_path / "a.glb", talk(**options), other)
        assert all(word in str(caught.value) for word in (*words, "other.glb")), caught.value
        assert "\n" not in str(caught.value) and not (tmp_path / "a.glb").exists()

    def recount(document):
        target = document["meshes"][0]["primitives"][0]["targets"][0]["POSITION"]
        document["accessors"][target]["count"] += 1

    refused(b"", "cannot be read")
    refused(b"solid stl" * 9, "cannot be read")
    refused(whole[:500], "cannot be read")
    refused(struct.pack("<4sIII4s", b"glTF", 2, 24, 4, b"JSON") + b"[1] ", "cannot be read")
    refused(recount, "vertices")
    refused(lambda d: d["meshes"][0]["extras"]["targetNames"].pop(), "one name for each target")
    refused(lambda d: d["meshes"][0]["extras"]["targetNames"].__setitem__(1, "JawOpen"), "both stand")
    refused(lambda d: [mesh.pop("extras") for mesh in d["meshes"]], "no morph targets")
    refused(lambda d: d.pop("meshes"), "not a valid glb")
    refused(lambda d: d["buffers"][0].__setitem__("uri", "far.bin"), "another file")
    other.write_bytes(whole)
    with pytest.raises(FaceTalkError, match="no frames"):
        retarget_glb(tmp_path / "a.glb", talk(0), other)
    with pytest.raises(FaceTalkError, match="missing.glb"):
        retarget_glb(tmp_path / "a.glb", talk(), tmp_path / "missing.glb")
    assert json.loads(whole[20 : 20 + struct.unpack_from("<I", whole, 12)[0]])["asset"]["version"] == "2.0"
