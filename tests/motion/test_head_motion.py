# SPDX-License-Identifier: MIT
"""Rigid motion of the head: small, smooth, seeded; and the same in every format."""

import csv
import json
import struct

import numpy as np
import pytest
from components import RATE, speech_like

from facetalk_hf import HeadAnimation
from facetalk_hf.animation.head_animation import neck_pivot
from facetalk_hf.animation.retargeting import retarget
from facetalk_hf.mesh.pose import apply_pose
from facetalk_hf.motion.head_motion import LARGEST, head_motion


POSES = np.array([[0, 0, 0, 0, 0, 0], [5, -3, 2, 1, 2, -3], [-4, 5, -2, 0, -1, 4]], np.float32)
PIVOT = np.array([1, -100, -20], np.float32)


def tetrahedron(**fields) -> HeadAnimation:
    base = np.array([[0, 100, 0], [50, 0, 0], [-50, 0, 30], [0, 0, 80]], np.float32)
    targets = np.zeros((1, 4, 3), np.float32)
    targets[0, 3] = [0, -10, 0]
    faces = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]
    fields = {"poses": POSES, "pivot": PIVOT} | fields
    return HeadAnimation(base, targets, [[0.0], [0.5], [1.0]], ["jawOpen"], faces, fps=24.0, **fields)


@pytest.mark.parametrize("strength", [1.0, 2.0])
@pytest.mark.parametrize("fps", [24, 60])
def test_it_is_small_smooth_and_seeded(strength, fps):
    clip = speech_like(30.0)
    poses = [head_motion(clip, RATE, 30 * fps, fps, np.random.default_rng(n), strength) for n in (0, 0, 1)]
    assert poses[0].shape == (30 * fps, 6) and poses[0].dtype == np.float32
    assert np.array_equal(poses[0], poses[1]) and not np.allclose(poses[0], poses[2])
    for pose in poses:
        assert np.linalg.norm(pose[:, :3], axis=1).max() < LARGEST < 6
        assert (pose[:, :3].std(0) > 0.3).all() and np.abs(pose[:, 3:]).max() < 25
        speed, change = np.diff(pose, axis=0) * fps, np.diff(pose, 2, axis=0) * fps**2
        assert np.abs(speed[:, :3]).max() < 30 * strength and np.abs(change[:, :3]).max() < 400 * strength


def test_a_silent_head_sways_and_does_not_nod():
    silent = head_motion(np.zeros(10 * RATE, np.float32), RATE, 240, 24, np.random.default_rng(0))
    spoken = head_motion(speech_like(10.0), RATE, 240, 24, np.random.default_rng(0))
    assert np.abs(np.diff(silent[:, 1])).max() * 24 < 6 < np.abs(np.diff(spoken[:, 1])).max() * 24
    np.testing.assert_array_equal(silent, head_motion(None, RATE, 240, 24, np.random.default_rng(0)))
    for frames in (0, 1, 2):
        assert head_motion(np.zeros(800), RATE, frames, 24, np.random.default_rng(0)).shape == (frames, 6)


def test_matrices_turn_about_the_neck():
    animation = tetrahedron()
    matrices = animation.pose_matrices()
    np.testing.assert_allclose(matrices[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(apply_pose(matrices[1], PIVOT), PIVOT + POSES[1, 3:], atol=1e-4)
    turns = matrices[:, :3, :3]
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)
    nose, crown = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])
    turned = {}
    for index, name in enumerate(("yaw", "pitch", "roll")):
        pose = np.zeros((3, 6), np.float32)
        pose[:, index] = 5
        matrix = tetrahedron(poses=pose).pose_matrices()[0, :3, :3]
        turned[name] = matrix @ nose, matrix @ crown
    assert turned["yaw"][0][0] > 0.08 and turned["pitch"][0][1] > 0.08 and turned["roll"][1][0] > 0.08
    assert tetrahedron(poses=None).pose_matrices() is None
    assert neck_pivot(animation).tolist() == [0, 0, 40]


def read_glb(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def test_glb_turns_its_root(tmp_path):
    animation = tetrahedron()
    document, binary = read_glb(animation.save(tmp_path / "a.glb"))

    def values(accessor: int) -> np.ndarray:
        accessor = document["accessors"][accessor]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        count = accessor["count"] * width
        return np.frombuffer(binary, "<f4", count, view["byteOffset"]).reshape(-1, width)

    tracks = {
        channel["target"]["path"]: values(document["animations"][0]["samplers"][channel["sampler"]]["output"])
        for channel in document["animations"][0]["channels"] if channel["target"]["node"] == 0
    }  # fmt: skip
    child = np.array(document["nodes"][1]["translation"])
    posed = list(animation.iterate_posed())
    for frame, (quaternion, shift) in enumerate(zip(tracks["rotation"], tracks["translation"], strict=True)):
        x, y, z, w = quaternion.astype(float)
        turn = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        world = ((animation.vertices(frame) / 1000 + child) @ turn.T + shift) * 1000
        np.testing.assert_allclose(world, posed[frame], atol=1e-3)
    plain, _ = read_glb(tetrahedron(poses=None).save(tmp_path / "b.glb"))
    assert "translation" not in plain["nodes"][0] and "translation" not in plain["nodes"][1]


@pytest.mark.parametrize("blend_shapes", [True, False])
def test_usd_moves_its_root(tmp_path, blend_shapes):
    usd = pytest.importorskip("pxr.Usd", reason="needs the extra usd")
    from pxr import UsdGeom

    animation = tetrahedron()
    stage = usd.Stage.Open(str(animation.save(tmp_path / "a.usdc", blend_shapes=blend_shapes, units="centimetres")))
    root = UsdGeom.Xformable(stage.GetPrimAtPath("/facetalk"))
    for frame, posed in enumerate(animation.iterate_posed()):
        matrix = np.array(root.GetLocalTransformation(frame))
        points = np.concatenate([animation.vertices(frame) / 10, np.ones((4, 1))], 1) @ matrix
        np.testing.assert_allclose(points[:, :3] * 10, posed, atol=1e-3)


def test_meshes_and_numbers_carry_it(tmp_path):
    animation = tetrahedron()
    folder = animation.save(tmp_path / "frames", format="obj")
    rows = [line.split() for line in (folder / "frame_00002.obj").read_text().splitlines() if line.startswith("v ")]
    np.testing.assert_allclose(np.array(rows)[:, 1:4].astype(float), list(animation.iterate_posed())[2], atol=1e-3)

    with open(animation.save(tmp_path / "a.csv")) as stream:
        row = list(csv.DictReader(stream))[1]
    angles = [float(row[name]) for name in ("HeadYaw", "HeadPitch", "HeadRoll")]
    np.testing.assert_allclose(np.degrees(angles), [5, 3, -2], atol=1e-5)

    document = json.loads(animation.save(tmp_path / "a.json").read_text())
    assert document["head"][1] == [5, -3, 2, 1, 2, -3] and document["head_names"][0] == "yaw"
    header, _, last, *_ = animation.save(tmp_path / "a.weights.csv").read_text().splitlines()
    assert header.endswith("jawOpen,headYaw,headPitch,headRoll,headX,headY,headZ") and last.endswith("-3.000000")

    back = HeadAnimation.load(animation.save(tmp_path / "a.npz", geometry=True))
    np.testing.assert_array_equal(back.poses, POSES)
    np.testing.assert_array_equal(back.pivot, PIVOT)
    assert HeadAnimation.load(tetrahedron(poses=None, pivot=None).save(tmp_path / "b.npz")).poses is None
    rig = tetrahedron(poses=None, pivot=None)
    moved = retarget(animation, rig)
    np.testing.assert_array_equal(moved.poses, POSES)
    np.testing.assert_array_equal(moved.pivot, neck_pivot(rig))


def test_pictures_show_it():
    pytest.importorskip("embreex", reason="needs embreex")
    from facetalk_hf.rendering.renderer import HeadRenderer, render_frames

    animation = tetrahedron(poses=np.float32([[0] * 6, [0, 0, 0, 20, 0, 0], [0] * 6]))
    plain, moved, _ = render_frames(animation, 64, progress=False, workers=2, key_poses=0)
    assert not np.array_equal(plain, moved)
    renderer = HeadRenderer(animation, 64, key_poses=0)
    np.testing.assert_array_equal(renderer.render(1), moved)
    still = tetrahedron(poses=None)
    assert np.array_equal(HeadRenderer(still, 64, key_poses=0).render(0), plain)
