# SPDX-License-Identifier: MIT
"""Poses from landmarks, and files of point clouds: what is read and what is refused."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.fitting.alignment import align_landmarks, similarity
from facetalk_hf.fitting.point_clouds import frame_files, read_cloud
from facetalk_hf.fitting.poses import check_unit, read_transforms


def random_pose(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return Rotation.random(rng=generator).as_matrix(), generator.normal(size=3)


def test_similarity_is_found_back():
    points = np.random.default_rng(0).normal(size=(20, 3))
    rotation, move = random_pose(1)
    scale, found, shift = similarity(points, 0.004 * points @ rotation.T + move)
    assert scale == pytest.approx(0.004) and np.allclose(found, rotation) and np.allclose(shift, move)


def test_landmarks_give_a_pose_a_frame_in_spite_of_a_wrong_one():
    canonical = np.random.default_rng(0).normal(size=(68, 3)) * 0.3
    marks, poses = [], [random_pose(seed) for seed in range(3)]
    for rotation, move in poses:
        marks.append((canonical - move) @ rotation / 0.004)
    marks = np.stack(marks)
    marks[1, 30] += 80  # mm, the tip of the nose of one frame
    marks[2, 8] = np.nan
    found = align_landmarks(marks, canonical, 0.004)
    for index, (rotation, move) in enumerate(poses):
        assert np.allclose(found.rotations[index], rotation, atol=2e-3)
        assert np.allclose(found.translations[index], move, atol=2e-3)
        known = np.isfinite(marks[index]).all(1) & (np.arange(68) != (30 if index == 1 else -1))
        assert np.allclose(found.to_model(index, marks[index])[known], canonical[known], atol=5e-3)
    assert align_landmarks(marks, canonical).scale == pytest.approx(0.004, rel=1e-3)


def test_too_few_landmarks():
    marks = np.full((1, 68, 3), np.nan)
    with pytest.raises(FaceTalkError, match="frame 0 has 0 of the 15"):
        align_landmarks(marks, np.zeros((68, 3)))


def cloud(count: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32) * 0.08


@pytest.mark.parametrize("suffix", ["npz", "ply", "obj"])
def test_formats(tmp_path, suffix):
    import trimesh

    path = tmp_path / f"frame_0001.{suffix}"
    if suffix == "npz":
        np.savez(path, points=cloud(), landmarks=np.zeros((68, 3)))
    elif suffix == "ply":
        trimesh.PointCloud(cloud()).export(path)
    else:
        path.write_text("".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in cloud()) + "f 1 2 3\n")
    found = read_cloud(path)
    assert found.points.dtype == np.float32 and np.allclose(found.points, cloud(), atol=1e-5)
    assert (found.landmarks is not None) == (suffix == "npz")


@pytest.mark.parametrize("suffix", ["npz", "ply", "obj"])
def test_normals_are_read_and_lead_outwards(tmp_path, suffix):
    points = cloud(80)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    path, rows = tmp_path / f"frame_1.{suffix}", np.concatenate([points, -2 * normals], 1)  # inwards, not of length 1
    if suffix == "npz":
        np.savez(path, points=points, normals=-2 * normals)
    elif suffix == "ply":
        header = "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
        lines = "\n".join(" ".join(map(str, row)) for row in rows.tolist())
        path.write_text(f"ply\nformat ascii 1.0\nelement vertex 80\n{header}end_header\n{lines}\n")
    else:
        path.write_text("".join("v {} {} {}\nvn {} {} {}\n".format(*row) for row in rows.tolist()))
    assert np.allclose(read_cloud(path).normals, normals, atol=1e-4)


def test_meshes_have_the_normals_of_their_faces(tmp_path):
    import trimesh

    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "frame_1.ply")
    found = read_cloud(tmp_path / "frame_1.ply")
    assert (found.normals * found.points).sum(1).min() > 0.95


def test_files_in_the_order_of_their_numbers(tmp_path):
    for number in (9, 10, 11):
        np.savez(tmp_path / f"frame_{number}.npz", points=cloud())
    assert [path.stem for path in frame_files(tmp_path)] == ["frame_9", "frame_10", "frame_11"]
    (tmp_path / "frame_10.npz").unlink()
    with pytest.raises(FaceTalkError, match="frame 10 is missing between frame_9.npz and frame_11.npz"):
        frame_files(tmp_path)
    (tmp_path / "frame_10.ply").touch()
    (tmp_path / "frame_10.obj").touch()
    with pytest.raises(FaceTalkError, match="are both frame 10"):
        frame_files(tmp_path)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 3)), "0 point"), (np.zeros((1, 3)), "1 point"), (np.full((90, 3), np.nan), "point 0 is NaN"),
        (np.zeros((90, 2)), "shape"),
    ],
)  # fmt: skip
def test_clouds_that_are_none(tmp_path, points, message):
    path = tmp_path / "frame_7.npz"
    np.savez(path, points=points)
    with pytest.raises(FaceTalkError, match=message) as caught:
        read_cloud(path)
    assert "frame_7.npz" in str(caught.value)


def test_broken_files(tmp_path):
    for name in ("frame_0.ply", "frame_1.npz"):
        (tmp_path / name).write_bytes(b"not a cloud")
        with pytest.raises(FaceTalkError, match=name):
            read_cloud(tmp_path / name)


def test_units():
    assert check_unit(cloud(), "auto", "x") == 4.0
    assert check_unit(cloud() * 1000, "auto", "x") == 0.004
    with pytest.raises(FaceTalkError, match="they look like mm: use --unit mm"):
        check_unit(cloud() * 1000, "m", "frame_0.npz")
    with pytest.raises(FaceTalkError, match="no head in m, cm, mm"):
        check_unit(cloud() * 1e6, "auto", "x")


def test_transforms(tmp_path):
    rotation, move = random_pose(3)
    np.savez(tmp_path / "all.npz", s=4.0, R=rotation, t=move)
    for name, value in (("s", 4.0), ("R", rotation), ("t", move)):
        np.save(tmp_path / f"{name}.npy", value)
    (tmp_path / "all.json").write_text(json.dumps({"s": 4.0, "R": rotation.tolist(), "t": move.tolist()}))
    for path in (tmp_path / "all.npz", tmp_path, tmp_path / "all.json"):
        scale, turns, moves = read_transforms(path, 5)
        assert (scale == 4).all() and np.allclose(turns, rotation) and np.allclose(moves, move) and len(moves) == 5
    np.savez(tmp_path / "all.npz", s=4.0, R=rotation * 2, t=move)
    with pytest.raises(FaceTalkError, match="frame 0 is no rotation"):
        read_transforms(tmp_path / "all.npz", 5)
    np.savez(tmp_path / "all.npz", s=4.0, R=rotation * 1e200, t=move)
    with pytest.raises(FaceTalkError, match="frame 0 is no rotation"), np.errstate(over="raise"):
        read_transforms(tmp_path / "all.npz", 5)
    np.savez(tmp_path / "all.npz", s=4.0, R=np.stack([rotation] * 3), t=move)
    with pytest.raises(FaceTalkError, match="for each of the 5 frames"):
        read_transforms(tmp_path / "all.npz", 5)
    for turns in (np.zeros(0, complex), np.zeros(0, "U99999999")):  # found by fuzzing
        np.savez(tmp_path / "odd.npz", s=1.0, R=turns, t=np.zeros(3))
        with pytest.raises(FaceTalkError, match="no numbers"):
            read_transforms(tmp_path / "odd.npz", 5)
