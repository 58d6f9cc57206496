# SPDX-License-Identifier: MIT
"""VRM avatars and animations hold what the specifications of VRMC_vrm 1.0 and VRMC_vrm_animation 1.0 ask for."""

import numpy as np
import pytest
from animations import Glb, living, talk

from facetalk_hf import FaceTalkError
from facetalk_hf.animation.arkit import arkit_weights
from facetalk_hf.animation.arkit_names import ARKIT
from facetalk_hf.animation.vrm import write_vrm, write_vrma


# humanoid.md: required bones, and the nearest ancestor that is a bone.
REQUIRED = {
    "hips": None, "spine": "hips", "head": "neck", "leftUpperArm": "chest", "leftLowerArm": "leftUpperArm",
    "leftHand": "leftLowerArm", "rightUpperArm": "chest", "rightLowerArm": "rightUpperArm",
    "rightHand": "rightLowerArm", "leftUpperLeg": "hips", "leftLowerLeg": "leftUpperLeg", "leftFoot": "leftLowerLeg",
    "rightUpperLeg": "hips", "rightLowerLeg": "rightUpperLeg", "rightFoot": "rightLowerLeg",
}  # fmt: skip
PRESETS = (
    "aa ih ou ee oh blink blinkLeft blinkRight lookUp lookDown lookLeft lookRight happy angry sad relaxed surprised "
    "neutral"
).split()


def parents(document):
    return {child: number for number, node in enumerate(document["nodes"]) for child in node.get("children", [])}


def bones_hold(document, humanoid):
    """Check bones: all that are required, each once, below each other as the specification's tree says."""
    bones = {name: bone["node"] for name, bone in humanoid["humanBones"].items()}
    assert len(set(bones.values())) == len(bones) and set(REQUIRED) <= set(bones)
    above, names = parents(document), {node: name for name, node in bones.items()}
    for name, wanted in REQUIRED.items():
        node = above.get(bones[name])
        while node is not None and node not in names:
            node = above.get(node)
        assert (None if node is None else names[node]) == wanted, name
        assert "rotation" not in document["nodes"][bones[name]]  # a T-pose without rotations
    return bones


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    animation = living()
    names = {"mouthLeft": "browInnerUp_L", "mouthRight": "browInnerUp_R", "jawLeft": "eyeBlink_L"}
    animation = animation.replace(target_names=[names.get(name, name) for name in animation.target_names])
    path = animation.save(tmp_path_factory.mktemp("vrm") / "a.vrm")
    return Glb(path.read_bytes())


def test_the_avatar_has_the_bones_and_its_meshes_hang_from_the_head(avatar):
    document = avatar.json
    bones, above = bones_hold(document, document["extensions"]["VRMC_vrm"]["humanoid"]), parents(document)
    assert "VRMC_vrm" in document["extensionsUsed"]
    meshes = [number for number, node in enumerate(document["nodes"]) if "mesh" in node]
    assert meshes
    for node in meshes:
        place = np.zeros(3)
        while node != bones["head"]:
            place += document["nodes"][node].get("translation", [0, 0, 0])
            node = above[node]
        # Where the skull is, above the bone at the base of the neck: the mesh's origin is its middle.
        assert np.abs(place).max() < 0.4


def test_meta_names_authors_and_licence_and_can_be_replaced(avatar, tmp_path):
    meta = avatar.json["extensions"]["VRMC_vrm"]["meta"]
    assert meta["name"] and meta["authors"][0] and meta["licenseUrl"] == "https://vrm.dev/licenses/1.0/"
    allowed = {
        "avatarPermission": {"onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"},
        "commercialUsage": {"personalNonProfit", "personalProfit", "corporation"},
        "creditNotation": {"required", "unnecessary"},
        "modification": {"prohibited", "allowModification", "allowModificationRedistribution"},
    }
    assert all(meta[name] in values for name, values in allowed.items())
    private = {"name": "me", "authors": ["I"], "avatarPermission": "onlyAuthor"}
    written = Glb(write_vrm(tmp_path / "b.vrm", living(), meta=private).read_bytes())
    assert private.items() <= written.json["extensions"]["VRMC_vrm"]["meta"].items()
    with pytest.raises(FaceTalkError):
        write_vrm(tmp_path / "c.vrm", living(), meta={"authors": []})


def test_expressions_move_the_targets_that_they_name(avatar):
    document = avatar.json
    expressions = document["extensions"]["VRMC_vrm"]["expressions"]
    assert set(expressions["preset"]) == set(PRESETS) and set(expressions["custom"]) == set(ARKIT)

    def moved(expression):
        found = set()
        for bind in expression.get("morphTargetBinds", ()):
            mesh = document["meshes"][document["nodes"][bind["node"]]["mesh"]]
            assert 0 < bind["weight"] <= 1 and bind["index"] < len(mesh["weights"])
            found.add(mesh["extras"]["targetNames"][bind["index"]])
        return found

    there = {name for mesh in document["meshes"] for name in mesh.get("extras", {}).get("targetNames", ())}
    for name, expression in expressions["custom"].items():
        ours = {name, f"{name}_L", f"{name}_R", name.replace("Left", "_L"), name.replace("Right", "_R")}
        assert moved(expression) == ours & there, name
    assert moved(expressions["preset"]["blinkLeft"]) == {"eyeBlink_L"} & there
    assert moved(expressions["preset"]["lookLeft"]) == {"eyeLookOut_L", "eyeLookIn_R"} & there
    assert {"browInnerUp_L", "browInnerUp_R", "eyeBlink_L"} < there
    assert "jawOpen" in moved(expressions["preset"]["aa"]) and not moved(expressions["preset"]["neutral"])


def test_gaze_is_an_expression_whose_ranges_are_those_of_the_shapes(avatar):
    look = avatar.json["extensions"]["VRMC_vrm"]["lookAt"]
    assert look["type"] == "expression" and len(look["offsetFromHeadBone"]) == 3
    assert look["rangeMapHorizontalOuter"] == {"inputMaxValue": 30.0, "outputScale": 1.0}
    assert look["rangeMapVerticalUp"] == {"inputMaxValue": 25.0, "outputScale": 1.0}


def test_the_animation_has_a_node_for_every_channel_whose_x_is_its_weight(tmp_path):
    animation = talk()
    animation = animation.replace(poses=np.tile([10.0, 0, 0, 0, 0, 0], (len(animation), 1)))
    file = Glb(write_vrma(tmp_path / "a.vrma", animation).read_bytes())
    document, found = file.json, file.json["extensions"]["VRMC_vrm_animation"]
    bones = bones_hold(document, found["humanoid"])
    assert found["specVersion"] == "1.0" and set(found["expressions"]["custom"]) == set(ARKIT)
    (motion,) = document["animations"]
    tracks = {
        (channel["target"]["node"], channel["target"]["path"]): file.accessor(
            motion["samplers"][channel["sampler"]]["output"]
        )
        for channel in motion["channels"]
    }
    for name, values in zip(ARKIT, arkit_weights(animation).T, strict=True):
        node = found["expressions"]["custom"][name]["node"]
        x = tracks.pop((node, "translation"), np.zeros((len(values), 3)))
        assert np.abs(x - np.stack([values, 0 * values, 0 * values], 1)).max() < 1e-6, name
    turn = tracks.pop((bones["head"], "rotation"))
    assert np.allclose(turn, [0, np.sin(np.radians(5)), 0, np.cos(np.radians(5))], atol=1e-6)
    assert not tracks  # nothing but the hips may shift, and nothing does
