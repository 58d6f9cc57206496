# SPDX-License-Identifier: MIT
"""Eyes turn by the angles asked for, measured on the vertices, in every format, and stay behind closed lids."""

import csv

import numpy as np
import pytest

import facetalk_hf
from facetalk_hf import FaceTalkError, HeadAnimation, NPHMModel
from facetalk_hf.animation.arkit import ARKIT, arkit_weights
from facetalk_hf.animation.gaze import Motion, find_eyeballs, gaze_angles, without_gaze
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.eyes import eyeballs
from facetalk_hf.mesh.geometry import Part, join


CENTER, RADIUS = np.array([[31.0, 36.0, 20.0], [-31.0, 36.0, 20.0]]), np.array([14.5, 15.5])
FRAMES = 24
YAW, PITCH = 30 * np.sin(np.linspace(0, 6, FRAMES)), 25 * np.cos(np.linspace(0, 9, FRAMES))


def face(named: bool = True, frames: int = FRAMES) -> HeadAnimation:
    """Two eyeballs over a strip of skin that eyeLookUp raises, eyeLookDown and eyeBlink lower; or without names."""
    skin = Part(
        np.array([[31, 45, 36], [31, 25, 36], [-31, 45, 36], [-31, 25, 36]], np.float32),
        np.array([[0, 1, 2], [2, 1, 3]]),
        np.full((4, 3), 200, np.uint8), np.zeros(4, np.uint8),
    )  # fmt: skip
    for name, y in (("eyeLookUp", 4), ("eyeLookDown", -7), ("eyeBlink", -10)):
        for side, rows in (("L", [0, 1]), ("R", [2, 3])):
            skin.targets[f"{name}_{side}"] = np.zeros((4, 3), np.float32)
            skin.targets[f"{name}_{side}"][rows, 1] = y
    part = join([skin, eyeballs(CENTER, RADIUS)])
    names = sorted(part.targets) if named else ["field_00"]
    targets = np.stack(
        [part.targets.get(name, np.ones_like(part.vertices) * (part.parts == 0)[:, None]) for name in names]
    )
    return HeadAnimation(
        base=part.vertices, targets=targets, weights=np.zeros((frames, len(names))), target_names=tuple(names),
        faces=part.faces, colors=part.colors, parts=part.parts,
    )  # fmt: skip


def looks(animation: HeadAnimation, frame: int) -> np.ndarray:
    """Yaw and pitch in degrees from the back of each ball to its pupil's middle, (2, 2)."""
    vertices, result = animation.vertices(frame), []
    for ball, _ in find_eyeballs(animation.base, animation.parts):
        depth = animation.base[ball, 2]
        way = vertices[ball[depth.argmax()]] - vertices[ball[depth.argmin()]]
        result.append(np.degrees([np.arctan2(way[0], way[2]), np.arctan2(way[1], np.hypot(way[0], way[2]))]))
    return np.array(result)


@pytest.mark.parametrize("named", [True, False])
def test_the_iris_turns_by_the_stated_angles_and_the_ball_stays_round(named):
    turned = face(named).with_gaze(YAW, PITCH)
    for frame in range(FRAMES):
        np.testing.assert_allclose(looks(turned, frame), [[YAW[frame], PITCH[frame]]] * 2, atol=0.05)
        for (ball, center), radius in zip(find_eyeballs(turned.base, turned.parts), RADIUS, strict=True):
            reach = np.linalg.norm(turned.vertices(frame)[ball] - center, axis=1)
            assert radius - 0.02 < reach.min() and reach.max() < radius + 0.47


def test_a_fixed_gaze_costs_one_target_and_straight_ahead_none():
    assert len(face().with_gaze(20, -10).targets) == len(face().targets) + 1
    ahead = face().with_gaze()
    assert ahead.target_names == face().target_names
    np.testing.assert_array_equal(ahead.vertices(3), face().base)


def test_a_second_call_replaces_the_first():
    twice = face().with_gaze(YAW, PITCH).with_gaze(12.0)
    np.testing.assert_allclose(looks(twice, 5), [[12, 0]] * 2, atol=0.05)
    assert len(twice.targets) == len(face().targets) + 1
    removed = without_gaze(Motion(twice.weights, twice.targets, twice.target_names))
    assert removed.target_names == face().target_names and len(removed.targets) == len(face().targets)
    np.testing.assert_allclose(gaze_angles(twice.weights, twice.target_names)[:, 5], [12, 0], atol=1e-4)


def test_lids_follow_but_not_while_they_are_shut():
    blinking = face(frames=2)
    index = [blinking.target_names.index(f"eyeBlink_{side}") for side in "LR"]
    weights = blinking.weights.copy()
    weights[1, index] = 1
    turned = blinking.replace(weights=weights).with_gaze(0, -25)
    assert turned.vertices(0)[:4, 1] - face().base[:4, 1] == pytest.approx(-7, abs=1e-4)
    assert turned.vertices(1)[:4, 1] - face().base[:4, 1] == pytest.approx(-10, abs=1e-4)


def test_landmarks_go_with_the_skin_next_to_them():
    points = np.zeros((FRAMES, 68, 3))
    points[:, :2] = [[32, 46, 36], [-30, 44, 36]]  # beside the upper lids
    points[:, 2:] = [31, 36, 35]  # in front of the left ball, which they are not to turn with
    animation = face().replace(landmarks=points)
    looking = animation.with_gaze(0, PITCH)
    lid = [looking.vertices(frame)[0] - face().base[0] for frame in range(FRAMES)]
    assert np.ptp(np.array(lid)[:, 1]) > 5
    np.testing.assert_allclose(looking.landmarks[:, :2] - points[:, :2], np.stack([lid, lid], 1), atol=1e-4)
    np.testing.assert_allclose(np.abs(looking.landmarks - points)[..., [0, 2]], 0, atol=1e-5)
    np.testing.assert_allclose(looking.with_gaze().landmarks, points, atol=1e-4)


@pytest.mark.parametrize(("yaw", "pitch", "words"), [
    (31, 0, "yaw must lie within 30"), (0, -25.5, "pitch must lie within 25"), (np.nan, 0, "yaw"),
    (np.zeros(3), 0, "24 frames"),
])  # fmt: skip
def test_what_an_eye_cannot_do_is_refused(yaw, pitch, words):
    with pytest.raises(FaceTalkError, match=words):
        face().with_gaze(yaw, pitch)
    blind = face().replace(parts=np.zeros(len(face().base), np.uint8))
    with pytest.raises(FaceTalkError, match="no eyeballs"):
        blind.with_gaze(1)


def test_arkit_weights_and_angles_say_the_same(tmp_path):
    turned = face().with_gaze(15, -20)
    weights = dict(zip(ARKIT, arkit_weights(turned)[0], strict=True))
    looking = {name: value for name, value in weights.items() if value > 0}
    assert looking == pytest.approx(
        {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5, "eyeLookDownLeft": 0.8, "eyeLookDownRight": 0.8}
    )
    row = next(csv.DictReader(turned.save(tmp_path / "a.csv").read_text().splitlines()))
    for side in ("Left", "Right"):
        assert float(row[f"{side}EyeYaw"]) == pytest.approx(np.radians(15), abs=1e-6)
        assert float(row[f"{side}EyePitch"]) == pytest.approx(np.radians(20), abs=1e-6)
        assert float(row[f"{side}EyeRoll"]) == float(row["HeadYaw"]) == 0


def test_a_saved_gaze_is_read_back(tmp_path):
    animation = face().replace(expressions=np.zeros((FRAMES, 4)), identity=np.zeros(3))
    path = animation.with_gaze(YAW, PITCH).save(tmp_path / "a.npz")
    again = HeadAnimation.load(path, decode=lambda codes, identity: animation)
    np.testing.assert_allclose(looks(again, 7), [[YAW[7], PITCH[7]]] * 2, atol=0.05)


def test_eyes_stay_behind_closed_lids_while_they_turn():
    """On heads of the shipped model: from in front, no ray that starts at an eyeball leaves a closed face."""
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh, to load the glb again")
    pytest.importorskip("embreex", reason="needs embreex, the ray caster")
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    decoder = make_decoder(head, resolution=96)
    blink = np.isin(EXPRESSIONS, ("eyeBlink_L", "eyeBlink_R")).astype(np.float32)
    angles = [(0, 0), (30, 0), (-30, 20), (0, -25), (10, 25)]
    for identity in (0, 9):
        still = decoder(np.zeros((len(angles), head.config.expression_dim), np.float32), identity)
        neutral = still.vertices(0)
        shut = still.replace(weights=np.tile(blink, (len(angles), 1)))
        turned = shut.with_gaze(*np.array(angles).T)
        skin = still.faces[(still.parts[still.faces] != 1).all(1)]
        for frame in range(len(angles)):
            vertices = turned.vertices(frame)
            mesh = trimesh.Trimesh(vertices, skin, process=False)
            balls = find_eyeballs(turned.base, turned.parts)
            front = np.concatenate([ball[vertices[ball, 2] > center[2] + 6] for ball, center in balls])
            free = ~mesh.ray.intersects_any(vertices[front], np.tile([0.0, 0, 1], (len(front), 1)))
            assert not free.any(), (identity, angles[frame], free.sum())
        np.testing.assert_array_equal(still.with_gaze().vertices(0), neutral)
