# SPDX-License-Identifier: MIT
"""Estimation of the head's pose in each frame: by landmarks, or by ICP against the head's distance field."""

import re

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import FaceTalkError
from ..mesh.geometry import similarity
from ..units import MILLIMETRES
from .inputs import SequenceInputs
from .posed_field import PosedField
from .poses import Poses, check_placed, check_unit, read_transforms


STABLE = (0, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45)
"""Landmarks that speech hardly moves: the ears' ends of the jaw line, the nose, the corners of the eyes."""


def find_poses(field: PosedField, inputs: SequenceInputs) -> Poses:
    """Find the head's pose in each frame: from a file, from landmarks, or by ICP, with the shape of `field`.

    Raises:
        FaceTalkError: a frame that is no head's size or not at a head's place; transforms that cannot be read.
    """
    files, frames, marks, unit = inputs.files, inputs.frames, inputs.landmarks, inputs.unit
    if inputs.transforms is not None:
        scales, rotation, move = read_transforms(inputs.transforms, len(frames))
        if np.ptp(scales) > 1e-6 * scales[0]:
            raise FaceTalkError(f"{inputs.transforms}: the scale changes between frames; a head has one")
        poses = Poses(float(scales[0]), rotation, move, np.full(len(frames), np.nan))
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), str(inputs.transforms))
        return poses
    if marks is not None:
        scale = None if unit == "auto" else check_unit(frames[0].points, unit, str(files[0]))
        try:
            poses = align_landmarks(marks, field.landmarks.numpy(), scale)
        except FaceTalkError as error:
            number = re.match(r"frame (\d+)", str(error))
            raise FaceTalkError(f"{files[int(number[1])]}: {error}" if number else str(error)) from error
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), "these landmarks")
        return poses
    if inputs.rough_pose is not None:
        scales, rotation, move = read_transforms(inputs.rough_pose, 1)
        first = Poses(float(scales[0]), rotation, move, np.full(1, np.nan))
        check_placed(first.to_model(0, frames[0].points), str(files[0]), str(inputs.rough_pose))
        return align_clouds(field, [frame.points for frame in frames], first.scale, rotation[0], move[0])
    units = [check_unit(frame.points, unit, str(path)) for frame, path in zip(frames, files, strict=True)]
    if len(set(units)) > 1:
        odd = next(i for i, other in enumerate(units) if other != units[0])
        raise FaceTalkError(f"{files[odd]}: its points are not in the unit of {files[0].name}; use one for all frames")
    return align_clouds(field, [frame.points for frame in frames], units[0])


def align_landmarks(landmarks: np.ndarray, canonical: np.ndarray, scale: float | None = None) -> Poses:
    """Estimate poses from 68 landmarks a frame, robustly.

    Args:
        landmarks ((T, 68, 3)): recorded; NaN for unknown ones. canonical ((68, 3)): the head's at rest, model units.
        scale (`float`, *optional*): known; else the median of the frames' own.

    Raises:
        FaceTalkError: a frame has fewer than four of the stable landmarks.
    """

    def solve(index: int, fixed: float | None) -> tuple[float, np.ndarray, np.ndarray, float]:
        points = landmarks[index, STABLE, :].astype(np.float64)
        known = np.isfinite(points).all(1)
        if known.sum() < 4:
            raise FaceTalkError(f"frame {index} has {known.sum()} of the 15 landmarks that pose a head; 4 are needed")
        source, target = points[known], canonical[list(STABLE)][known].astype(np.float64)
        weight = np.ones(len(source))
        for _ in range(5):  # one landmark that is elsewhere must not turn the head
            s, r, t = similarity(source, target, weight, fixed)
            error = np.linalg.norm(s * source @ r.T + t - target, axis=1) * MILLIMETRES
            weight = 1 / (1 + (error / 4) ** 2) ** 2
        return s, r, t, float(np.average(error, weights=weight))

    if scale is None:
        scale = float(np.median([solve(index, None)[0] for index in range(len(landmarks))]))
    _, rotations, moves, residuals = zip(*(solve(index, scale) for index in range(len(landmarks))), strict=True)
    return Poses(scale, np.stack(rotations), np.stack(moves), np.array(residuals))


def align_clouds(
    field: PosedField, clouds: list[np.ndarray], scale: float, rotation: np.ndarray | None = None,
    translation: np.ndarray | None = None, points: int = 500, iterations: int = 12,
) -> Poses:  # fmt: skip
    """Estimate poses by robust ICP against the head's own distance field, from a rough pose and then frame to frame.

    Points that expressions move count little, and Geman-McClure's scale falls from 30 to 3 mm, so neither the mouth
    nor a collar turns the head. The scale stays. Without a rough pose the head is taken to face +z, upright, and the
    front of the cloud's upper part is laid on that of the head.

    Args:
        field: the person, or the mean head. clouds: T arrays (P, 3), recorded. scale: model units in a recorded one.
        rotation ((3, 3)), translation ((3,)): x_model = scale R p + t of the first frame, within about 30 degrees.
    """
    rotation = np.eye(3) if rotation is None else rotation
    if translation is None:
        cloud = scale * clouds[0].astype(np.float64) @ rotation.T
        low, high = np.percentile(cloud, [2, 98], axis=0)
        marks = field.landmarks.numpy().astype(np.float64)
        nose, top = marks[30], float(field.controls[0, :, 1].max())  # the anchor on the crown
        translation = np.array([-(low[0] + high[0]) / 2, top - high[1], nose[2] - high[2]])
    rotations, translations, residuals = [], [], []
    for index, cloud in enumerate(clouds):
        rows = np.random.default_rng(index).choice(len(cloud), min(points, len(cloud)), replace=False)
        steps, start_scale = (iterations, 10.0) if index else (3 * iterations, 30.0)
        part = scale * cloud[rows].astype(np.float64)
        rotation, translation, residual = register(field, part, rotation, translation, steps, start_scale)
        rotations.append(rotation)
        translations.append(translation)
        residuals.append(residual)
    return Poses(scale, np.stack(rotations), np.stack(translations), np.array(residuals))


def register(
    field: PosedField, points: np.ndarray, rotation: np.ndarray, move: np.ndarray, iterations: int, start_scale: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Register scaled points (P, 3) rigidly on the head at rest, by Gauss-Newton with Geman-McClure's weights.

    Args:
        field: the head. points: in model units. rotation ((3, 3)), move ((3,)): where to start.
        iterations (`int`): steps at most. start_scale (mm): of the robust loss; falls by a quarter a step, to 3 mm.

    Returns:
        R (3, 3), t (3,) and the mean distance of inliers in mm.
    """
    neutral = torch.zeros(field.size)
    for step in range(iterations):
        scale = max(3.0, start_scale * 0.75**step)
        x = torch.from_numpy((points @ rotation.T + move).astype(np.float32))
        values, gradient, jacobian = field.linearize(x, neutral)
        distance = values.double().numpy() * MILLIMETRES
        normal, place = gradient.double().numpy(), x.double().numpy()
        moved = np.linalg.norm(jacobian.double().numpy(), axis=1) * MILLIMETRES
        weight = 1 / (1 + (distance / scale) ** 2) ** 2 / (1 + (moved / 10) ** 2)
        weight *= inside(field, x)
        rows = np.concatenate([np.cross(place, normal), normal], 1) * MILLIMETRES
        hessian = (rows * weight[:, None]).T @ rows + 1e-6 * np.eye(6)
        change = -np.linalg.solve(hessian, rows.T @ (weight * distance))
        change[:3] = np.clip(change[:3], -0.2, 0.2)
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        rotation, move = turn @ rotation, turn @ move + change[3:]
        if np.abs(change).max() * MILLIMETRES < 0.02 and scale == 3.0:
            break
    return rotation, move, float(np.average(np.abs(distance), weights=weight + 1e-12))


def inside(field: PosedField, points: torch.Tensor) -> np.ndarray:
    """Select the points (P,) bool above the cut through the neck and within 22.5 cm of the head's middle."""
    near = np.linalg.norm(points.numpy(), axis=1) < 0.9
    return near & (field.head.above_neck(points).numpy() > 0.04)
