# SPDX-License-Identifier: MIT
"""Head motion for a glb of any other head: which node turns, and its tracks."""

import re

import numpy as np
from scipy.spatial.transform import Rotation

from .head_animation import HeadAnimation


def turn_head(document: dict, animation: HeadAnimation, faces: list[int]) -> list[tuple[int, str, np.ndarray]]:
    """Make tracks that turn the head of a glb as the animation's poses say; `document` gets what they need.

    A face on a skeleton goes with the joint that is called head (`mixamorig:Head`, `CC_Base_Head`), about that joint.
    Any other face goes with all that is below its root nodes: two nodes are put above these, and the head turns about
    the middle of the bottom of the face's bounding box.

    Args:
        document (`dict`): the json of the glb; changed in place.
        animation (`HeadAnimation`): the motion. faces (list of `int`): the nodes whose meshes carry the expression.

    Returns: a list of node, path ("rotation" or "translation") and values, (T, 4) x, y, z, w or (T, 3) in metres.
    Empty where nothing moves, or where the face's skeleton has no joint of that name.
    """
    matrices = animation.pose_matrices()
    if animation.poses is None or matrices is None:
        return []
    turns = Rotation.from_matrix(matrices[:, :3, :3])
    shift = animation.poses[:, 3:].astype(np.float64) / 1000
    nodes, parents = document["nodes"], _parents(document)
    if any("skin" in nodes[face] for face in faces):
        joint = head_joint(document, faces)
        return [] if joint is None else _turn_joint(nodes, joint, parents, turns, shift)
    corners = np.concatenate([_corners(document, face, parents) for face in faces])
    low, high = corners.min(0), corners.max(0)
    pivot = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    roots = sorted({_root(face, parents) for face in faces})
    stand = len(nodes)
    nodes.append({"name": "head motion", "translation": pivot.tolist(), "children": [stand + 1]})
    nodes.append({"name": "head rest", "translation": (-pivot).tolist(), "children": roots})
    for scene in document.get("scenes", []):
        # In place of the first of them, so that the order of the scene stays.
        shown = [stand if node in roots else node for node in scene.get("nodes", [])]
        if shown:
            scene["nodes"] = list(dict.fromkeys(shown))
    return [(stand, "rotation", _smooth_signs(turns)), (stand, "translation", pivot + shift)]


def head_joint(document: dict, faces: list[int]) -> int | None:
    """Find the joint called head that is nearest to the root of these nodes' skeletons; `None` where there is none."""
    nodes, parents = document["nodes"], _parents(document)
    skins = {nodes[face]["skin"] for face in faces if "skin" in nodes[face]}
    joints = {joint for skin in skins for joint in document["skins"][skin]["joints"]}
    named = [joint for joint in joints if _is_head(nodes[joint].get("name", ""))]
    return min(named, key=lambda joint: (len(_chain(joint, parents)), joint), default=None)


def _is_head(name: str) -> bool:
    """Say whether a joint's name has the word head, and none that means only its end."""
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return "head" in words and not {"top", "end", "nub", "eye"} & set(words)


def _turn_joint(
    nodes: list[dict], joint: int, parents: dict[int, int], turns: Rotation, shift: np.ndarray
) -> list[tuple[int, str, np.ndarray]]:
    """Make a joint's tracks of rotation and translation, so that it turns where it is, in the axes of the world."""
    node = nodes[joint]
    if "matrix" in node:  # which cannot be animated
        matrix = np.array(node.pop("matrix"), float).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0) * (np.sign(np.linalg.det(matrix[:3, :3])), 1, 1)
        node["translation"], node["scale"] = matrix[:3, 3].tolist(), scale.tolist()
        node["rotation"] = Rotation.from_matrix(matrix[:3, :3] / scale).as_quat().tolist()
    above = np.eye(4) if joint not in parents else _world(nodes, parents[joint], parents)
    inside = np.linalg.inv(above)
    at = _world(nodes, joint, parents)[:3, 3]
    # from_matrix takes the nearest rotation, should a parent be scaled unevenly.
    local = Rotation.from_matrix(inside[:3, :3] @ turns.as_matrix() @ above[:3, :3])
    rotation = local * Rotation.from_quat(node.get("rotation", [0, 0, 0, 1]))
    translation = (at + shift) @ inside[:3, :3].T + inside[:3, 3]
    return [(joint, "rotation", _smooth_signs(rotation)), (joint, "translation", translation)]


def _smooth_signs(turns: Rotation) -> np.ndarray:
    """Return quaternions (T, 4), each on the side of the sphere where the one before it is."""
    values = turns.as_quat()
    flips = np.where((values[1:] * values[:-1]).sum(1) < 0, -1.0, 1.0)
    values[1:] *= np.cumprod(flips)[:, None]
    return values


def _parents(document: dict) -> dict[int, int]:
    """Return the number of each node's parent, for those that have one."""
    return {child: number for number, node in enumerate(document["nodes"]) for child in node.get("children", [])}


def _chain(number: int, parents: dict[int, int]) -> list[int]:
    """List the node and all above it, from the root; ValueError where they run in a circle."""
    chain = [number]
    while chain[0] in parents:
        if parents[chain[0]] in chain:
            raise ValueError("its nodes run in a circle")
        chain.insert(0, parents[chain[0]])
    return chain


def _root(number: int, parents: dict[int, int]) -> int:
    """Find the root that a node hangs from."""
    return _chain(number, parents)[0]


def _world(nodes: list[dict], number: int, parents: dict[int, int]) -> np.ndarray:
    """Return the matrix (4, 4) from a node's axes to those of the scene, at rest."""
    result = np.eye(4)
    for node in (nodes[index] for index in _chain(number, parents)):
        local = np.eye(4)
        if "matrix" in node:
            local = np.array(node["matrix"], float).reshape(4, 4).T
        else:
            turn = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, :3] = turn * np.array(node.get("scale", [1, 1, 1]), float)
            local[:3, 3] = node.get("translation", [0, 0, 0])
        result = result @ local
    return result


def _corners(document: dict, number: int, parents: dict[int, int]) -> np.ndarray:
    """Return the corners (n, 3) of the boxes around a node's primitives, in the axes of the scene."""
    nodes = document["nodes"]
    boxes = []
    for primitive in document["meshes"][nodes[number]["mesh"]]["primitives"]:
        accessor = document["accessors"][primitive["attributes"]["POSITION"]]
        if not len(accessor["min"]) == len(accessor["max"]) == 3:
            raise ValueError("the box around its vertices has not three numbers")
        boxes.append(np.stack(np.meshgrid(*zip(accessor["min"], accessor["max"], strict=True)), -1).reshape(-1, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = _world(nodes, number, parents)
        corners = np.concatenate(boxes) @ matrix[:3, :3].T + matrix[:3, 3]
    if not np.isfinite(corners).all():
        raise ValueError("the box around its vertices is not finite")
    return corners
