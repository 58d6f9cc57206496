# SPDX-License-Identifier: MIT
"""ARKit's 52 weights: names, order, joined shapes, and the files that Unreal and others read."""

import csv
import json

import numpy as np
import pytest
from animations import talk  # noqa: F401

from facetalk_hf.animation.arkit import (  # fmt: skip
    ARKIT,
    ROTATIONS,
    arkit_weights,
    canonical_channel,
    channel_weights,
    timecode,
    weights_from_arkit,
)
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.errors import FaceTalkError


# The header of a take that the app recorded, as public importers quote it.
HEADER = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,"
    "TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def test_every_weight_of_ours_has_its_channel_and_only_tongue_has_none_of_ours():
    animation = talk()
    weights = arkit_weights(animation)
    assert weights.shape == (5, 52) and len(set(ARKIT)) == 52
    seen = set()
    for name in EXPRESSIONS:
        single = animation.replace(weights=np.float32(0.8) * (np.array(EXPRESSIONS) == name)[None])
        (column,) = np.flatnonzero(arkit_weights(single)[0])
        expected = name.replace("_L", "Left").replace("_R", "Right")
        joined = name[:-2] in ("browInnerUp", "cheekPuff")
        assert ARKIT[column] == (name[:-2] if joined else expected)
        assert arkit_weights(single)[0, column] == pytest.approx(0.4 if joined else 0.8)
        seen.add(ARKIT[column])
    assert set(ARKIT) - seen == {"tongueOut"}
    both = animation.weights[:, [INDEX["cheekPuff_L"], INDEX["cheekPuff_R"]]]
    np.testing.assert_allclose(weights[:, ARKIT.index("cheekPuff")], both.mean(1), atol=1e-6)


def test_arkit_weights_come_back_as_they_were():
    values = np.random.default_rng(0).uniform(0, 1, (4, 52)).astype(np.float32)
    ours = weights_from_arkit(values)
    assert ours.shape == (4, 53) and ours[0, INDEX["jawOpen"]] == values[0, ARKIT.index("jawOpen")]
    again = arkit_weights(talk(4).replace(weights=ours))
    values[:, ARKIT.index("tongueOut")] = 0
    np.testing.assert_allclose(again, values, atol=1e-6)


def test_values_stay_in_the_range_of_arkit():
    weights = arkit_weights(talk(50, low=-1, high=2))
    assert weights.min() == 0 and weights.max() == 1


def test_names_of_others_and_names_that_are_none():
    for name in ("eyeBlink_L", "EyeBlinkLeft", "eyeblink.l", "Eye_Blink_Left", "eyeBlink_l"):
        assert canonical_channel(name) == "eyeBlinkLeft"
    assert canonical_channel("browInnerUp_R") == "browInnerUp_R"
    for name in ("jawopening", "viseme_aa", "L", "", "component_00"):
        assert canonical_channel(name) is None
    arkit = talk(names=ARKIT)
    np.testing.assert_allclose(arkit_weights(arkit), arkit.weights, atol=1e-6)
    with pytest.raises(FaceTalkError, match="'component_00' is no ARKit channel"):
        arkit_weights(talk(names=("jawOpen", "component_00")))


def test_channels_of_another_head():
    animation = talk()
    values = channel_weights(animation, ["jaw_open", "browInnerUp_L", "browInnerUp", "tongueOut"])
    left, right = (animation.weights[:, INDEX[f"browInnerUp_{side}"]] for side in "LR")
    expected = np.stack([animation.weights[:, INDEX["jawOpen"]], left, (left + right) / 2, 0 * left], 1)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    # ARKit's own weights have no sides here: both of the other head's get the one.
    one = talk(names=ARKIT)
    sides = channel_weights(one, ["cheekPuff_L", "cheekPuff_R"])
    np.testing.assert_allclose(sides, one.weights[:, [ARKIT.index("cheekPuff")] * 2], atol=1e-6)
    with pytest.raises(FaceTalkError, match="'smirk'"):
        channel_weights(animation, ["jawOpen", "smirk"])


def test_timecodes():
    assert [timecode(n, 24) for n in (0, 23, 24)] == ["00:00:00:00.000", "00:00:00:23.000", "00:00:01:00.000"]
    assert timecode(60 * 3723 + 59, 60) == "01:02:03:59.000"
    assert timecode(30, 29.97) == "00:00:01:00.000"
    assert timecode(3, 0.2) == "00:00:03:00.000"


def test_csv_is_laid_out_as_live_link_face_records_it(tmp_path):
    animation = talk(50, fps=30)
    lines = animation.save(tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == HEADER and len(lines) == 51
    rows = list(csv.DictReader(lines))
    assert rows[31]["Timecode"] == "00:00:01:01.000" and {row["BlendShapeCount"] for row in rows} == {"61"}
    assert all(len(line.split(",")) == 63 for line in lines)
    values = np.array([[float(row[name[0].upper() + name[1:]]) for name in ARKIT] for row in rows])
    np.testing.assert_allclose(values, arkit_weights(animation), atol=1e-7)
    assert float(rows[7]["EyeLookInRight"]) == pytest.approx(animation.weights[7, INDEX["eyeLookIn_R"]], abs=1e-6)
    still = [name for name in ROTATIONS if name.startswith("Head") or name.endswith("Roll")]
    assert {float(row[name]) for row in rows for name in still} == {0}
    out, into = (animation.weights[7, INDEX[f"eyeLook{way}_R"]].clip(0, 1) for way in ("Out", "In"))
    assert float(rows[7]["RightEyeYaw"]) == pytest.approx(np.radians(30 * (into - out)), abs=1e-6)


def test_json_names_its_channels_and_its_rate(tmp_path):
    animation = talk(4, fps=25)
    data = json.loads(animation.save(tmp_path / "a.json").read_text())
    assert (data["fps"], data["frames"], data["names"]) == (25.0, 4, list(ARKIT))
    np.testing.assert_allclose(data["weights"], arkit_weights(animation), atol=1e-6)
    assert json.loads(talk(0).save(tmp_path / "b.json").read_text())["weights"] == []


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_a_head_without_arkit_names_leaves_no_file(tmp_path, name):
    with pytest.raises(FaceTalkError, match="format weights") as caught:
        talk(names=("component_00",)).save(tmp_path / name)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
