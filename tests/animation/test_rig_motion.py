# SPDX-License-Identifier: MIT
"""Head motion in glb files, ours and those of others: evaluated node by node, as the glTF 2.0 specification says."""

import numpy as np
import pytest
from animations import (  # noqa: F401
    Glb,
    change,
    head,
    living,  # noqa: F401
    other,
)
from scipy.spatial.transform import Rotation

from facetalk_hf.animation.retargeting import glb_can_turn, retarget_glb


def worlds(glb: Glb, frame: int) -> list[np.ndarray]:
    """The matrix of every node at a frame of the first animation."""
    nodes = [dict(node) for node in glb.json["nodes"]]
    motion = glb.json["animations"][0]
    for channel in motion["channels"]:
        values = channel["target"]
        if values["path"] != "weights":
            output = glb.accessor(motion["samplers"][channel["sampler"]]["output"])
            nodes[values["node"]][values["path"]] = output[frame].tolist()
    result: list = [None] * len(nodes)

    def visit(number: int, above: np.ndarray) -> None:
        node, local = nodes[number], np.eye(4)
        if "matrix" in node:
            local = np.array(node["matrix"]).reshape(4, 4).T
        else:
            local[:3, :3] = Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))).as_matrix() * node.get("scale", 1)
            local[:3, 3] = node.get("translation", (0, 0, 0))
        result[number] = above @ local
        for child in node.get("children", ()):
            visit(child, result[number])

    for root in glb.json["scenes"][0]["nodes"]:
        visit(root, np.eye(4))
    return result


def played(glb: Glb, frame: int, frames: int) -> dict[str, np.ndarray]:
    """World positions in mm of every mesh without a skin, by the name of its node."""
    motion = glb.json["animations"][0]
    tracks = {c["target"]["node"]: c["sampler"] for c in motion["channels"] if c["target"]["path"] == "weights"}
    matrices, result = worlds(glb, frame), {}
    for number, node in enumerate(glb.json["nodes"]):
        if "mesh" not in node:
            continue
        primitive = glb.json["meshes"][node["mesh"]]["primitives"][0]
        points = glb.accessor(primitive["attributes"]["POSITION"]).astype(float)
        if number in tracks:
            weights = glb.accessor(motion["samplers"][tracks[number]]["output"]).reshape(frames, -1)[frame]
            deltas = np.stack([glb.accessor(target["POSITION"]) for target in primitive["targets"]])
            points = points + np.tensordot(weights, deltas, 1)
        result[node["name"]] = (points @ matrices[number][:3, :3].T + matrices[number][:3, 3]) * 1000
    return result


def test_our_glb_plays_gaze_and_head_motion_within_the_error_that_it_states(tmp_path):
    animation = living()
    assert any(name.startswith("gaze_") for name in animation.target_names)
    path = animation.save(tmp_path / "a.glb")
    glb = Glb(path.read_bytes())
    stated = glb.json["asset"]["extras"]["geometryErrorMillimetres"]
    part, worst = animation.parts[animation.faces].max(1), 0.0
    for frame, vertices in enumerate(animation.iterate_posed()):
        assert np.abs(vertices - animation.vertices(frame)).max() > 1
        found = played(glb, frame, 6)
        for name, kinds in (("head", (0, 3)), ("eyes", (1,)), ("teeth", (2,))):
            used = np.unique(animation.faces[np.isin(part, kinds)])
            worst = max(worst, np.linalg.norm(found[name] - vertices[used], axis=1).max())
    assert worst < stated < 0.05
    tight = animation.save(tmp_path / "b.glb", tolerance=0.0)
    assert Glb(tight.read_bytes()).json["asset"]["extras"]["geometryErrorMillimetres"] < 0.001


def test_a_face_without_skeleton_turns_with_all_that_hangs_on_it(other, tmp_path):  # noqa: F811
    still = living().replace(poses=None)
    plain = Glb(retarget_glb(tmp_path / "a.glb", still, other, True).read_bytes())
    path = retarget_glb(tmp_path / "b.glb", living(), other, True)
    moved = Glb(path.read_bytes())
    assert glb_can_turn(other) and len(moved.json["nodes"]) == len(plain.json["nodes"]) + 2
    base = head().base
    middle = (base.min(0) + base.max(0)) / 2
    pivot = np.array([middle[0], base[:, 1].min(), middle[2]])
    for frame in range(6):
        before, after = played(plain, frame, 6), played(moved, frame, 6)
        turn = living().pose_matrices()[frame][:3, :3]
        for name in ("head", "eyes", "teeth"):
            wanted = (before[name] - pivot) @ turn.T + pivot + living().poses[frame, 3:]
            np.testing.assert_allclose(after[name], wanted, atol=1e-3)
    # Retargeted again, with no new pose: the nodes that are there stay at rest.
    again = Glb(retarget_glb(tmp_path / "c.glb", still, path, True).read_bytes())
    np.testing.assert_allclose(played(again, 3, 6)["head"], played(plain, 3, 6)["head"], atol=1e-3)


@pytest.mark.parametrize("as_matrix", [False, True])
def test_a_face_on_a_skeleton_turns_with_its_head_joint(other, tmp_path, as_matrix):  # noqa: F811
    turned = Rotation.from_euler("zyx", (100, 20, -70), degrees=True)

    def edit(document):
        count = len(document["nodes"])
        head_rest = {"translation": [0, 0.1, 0.02], "rotation": Rotation.from_euler("x", 40, True).as_quat().tolist()}
        if as_matrix:
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = Rotation.from_quat(head_rest["rotation"]).as_matrix(), [0, 0.1, 0.02]
            head_rest = {"matrix": matrix.T.reshape(-1).tolist()}
        document["nodes"] += [
            {"name": "hips", "scale": [2, 2, 2], "rotation": turned.as_quat().tolist(), "children": [count + 1]},
            {"name": "mixamorig:Head", "children": [count + 2], **head_rest},
            {"name": "HeadTop_End", "translation": [0, 0.2, 0]},
        ]
        document["scenes"][0]["nodes"].append(count)
        document["skins"] = [{"joints": [count, count + 1, count + 2]}]
        for node in document["nodes"]:
            if "mesh" in node:
                node["skin"] = 0

    change(other, edit)
    assert glb_can_turn(other)
    animation = living()
    glb = Glb(retarget_glb(tmp_path / "a.glb", animation, other, True).read_bytes())
    names = [node["name"] for node in glb.json["nodes"]]
    joint = names.index("mixamorig:Head")
    assert names.count("head motion") == 0
    upright = Rotation.from_quat(turned.as_quat()).as_matrix()
    at = 2 * upright @ [0, 0.1, 0.02]
    rest = np.eye(4)
    rest[:3, :3] = 2 * upright @ Rotation.from_euler("x", 40, True).as_matrix()
    rest[:3, 3] = at
    for frame in range(6):
        pose = animation.pose_matrices()[frame]
        wanted = rest.copy()
        wanted[:3, :3] = pose[:3, :3] @ rest[:3, :3]
        wanted[:3, 3] = at + animation.poses[frame, 3:] / 1000
        np.testing.assert_allclose(worlds(glb, frame)[joint], wanted, atol=1e-5)
    # A skeleton without such a joint: the expression alone, and a way to know.
    change(other, lambda document: [node.update(name="bone") for node in document["nodes"]])
    assert not glb_can_turn(other)
    glb = Glb(retarget_glb(tmp_path / "b.glb", animation, other, True).read_bytes())
    assert {channel["target"]["path"] for channel in glb.json["animations"][0]["channels"]} == {"weights"}
