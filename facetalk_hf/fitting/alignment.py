# SPDX-License-Identifier: MIT
"""Where the head is in each frame: similarities from recorded to canonical space, x = s R p + t."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from ..units import MILLIMETRES, UNITS
from .inputs import SequenceInputs
from .posed_field import PosedField


STABLE = (0, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45)
"""Landmarks that speech hardly moves: the ears' ends of the jaw line, the nose, the corners of the eyes."""


@dataclass
class Alignment:
    """One scale for the sequence and a rigid pose a frame: x_model = scale * R_t p + t_t.

    Args:
        scale (`float`): model units in a recorded one. rotations ((T, 3, 3)), translations ((T, 3)): float64.
        residual ((T,) mm): what each frame was left with, NaN where nothing was measured.
    """

    scale: float
    rotations: np.ndarray
    translations: np.ndarray
    residual: np.ndarray

    def to_model(self, index: int, points: np.ndarray) -> np.ndarray:
        """Recorded points (P, 3) of a frame in canonical space, float32."""
        return (self.scale * points @ self.rotations[index].T + self.translations[index]).astype(np.float32)

    def turned(self, index: int, directions: np.ndarray) -> np.ndarray:
        """Recorded directions (P, 3) of a frame in canonical space, float32."""
        return (directions @ self.rotations[index].T).astype(np.float32)

    def from_model(self, index: int, points: np.ndarray) -> np.ndarray:
        """The inverse of `to_model`."""
        return ((points - self.translations[index]) @ self.rotations[index] / self.scale).astype(np.float32)


def similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, scale: float | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares s, R, t with target = s R source + t for points (P, 3) (Umeyama 1991); s may be given."""
    weight = np.ones(len(source)) if weight is None else weight
    weight = weight / weight.sum()
    a, b = weight @ source, weight @ target
    x, y = source - a, target - b
    u, size, vt = np.linalg.svd((y * weight[:, None]).T @ x)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    if scale is None:
        scale = float((size * sign).sum() / (weight @ (x**2).sum(1)))
    return scale, rotation, b - scale * rotation @ a


def align_landmarks(landmarks: np.ndarray, canonical: np.ndarray, scale: float | None = None) -> Alignment:
    """From 68 landmarks a frame.

    Args:
        landmarks ((T, 68, 3)): recorded; NaN for unknown ones. canonical ((68, 3)): the head's at rest, model units.
        scale (`float`, *optional*): known; else the median of the frames' own.

    Raises:
        FaceTalkError: a frame has fewer than four of the stable landmarks.
    """

    def solve(index: int, fixed: float | None) -> tuple:
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
    poses = [solve(index, scale) for index in range(len(landmarks))]
    return Alignment(scale, *(np.stack([pose[part] for pose in poses]) for part in (1, 2)),
                     np.array([pose[3] for pose in poses]))  # fmt: skip


def align_clouds(
    field: PosedField, clouds: list[np.ndarray], scale: float, rotation: np.ndarray | None = None,
    translation: np.ndarray | None = None, points: int = 500, iterations: int = 12,
) -> Alignment:  # fmt: skip
    """Robust ICP of each frame against the head's own distance field, from a rough pose and then frame to frame.

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
    pose, poses = (rotation, translation), []
    for index, cloud in enumerate(clouds):
        rows = np.random.default_rng(index).choice(len(cloud), min(points, len(cloud)), replace=False)
        first = iterations if index else 3 * iterations
        pose = register(field, scale * cloud[rows].astype(np.float64), pose, first, 30.0 if not index else 10.0)
        poses.append(pose)
    return Alignment(scale, np.stack([p[0] for p in poses]), np.stack([p[1] for p in poses]),
                     np.array([p[2] for p in poses]))  # fmt: skip


def register(
    field: PosedField, points: np.ndarray, pose: tuple, iterations: int, reach: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rigid Gauss-Newton of scaled points (P, 3) on the head at rest: R, t and the mean distance of inliers in mm."""
    rotation, move = pose[:2]
    still = torch.zeros(field.size)
    for step in range(iterations):
        scale = max(3.0, reach * 0.75**step)
        x = torch.from_numpy((points @ rotation.T + move).astype(np.float32))
        distance, gradient, jacobian = field.slopes(x, still)
        distance = distance.double().numpy() * MILLIMETRES
        normal, place = gradient.double().numpy(), x.double().numpy()
        moved = np.linalg.norm(jacobian.double().numpy(), axis=1) * MILLIMETRES
        weight = 1 / (1 + (distance / scale) ** 2) ** 2 / (1 + (moved / 10) ** 2)
        weight *= inside(field, x)
        rows = np.concatenate([np.cross(place, normal), normal], 1) * MILLIMETRES
        curve = (rows * weight[:, None]).T @ rows + 1e-6 * np.eye(6)
        change = -np.linalg.solve(curve, rows.T @ (weight * distance))
        change[:3] = np.clip(change[:3], -0.2, 0.2)
        turn = rotation_matrix(change[:3])
        rotation, move = turn @ rotation, turn @ move + change[3:]
        if np.abs(change).max() * MILLIMETRES < 0.02 and scale == 3.0:
            break
    return rotation, move, float(np.average(np.abs(distance), weights=weight + 1e-12))


def inside(field: PosedField, points: torch.Tensor) -> np.ndarray:
    """(P,) bool: above the cut through the neck, and no further than 20 cm from the head's middle."""
    near = np.linalg.norm(points.numpy(), axis=1) < 0.9
    return near & (field.head.above_neck(points).numpy() > 0.04)


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) by a rotation vector (3,) in radians."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


def check_unit(points: np.ndarray, unit: str, place: str) -> float:
    """Model units in one unit of the points (P, 3); "auto" picks the one in which they are as large as a head.

    Raises:
        FaceTalkError: the points are no head in that unit; the message names the one they would fit.
    """
    size = float(np.linalg.norm(np.subtract(*np.percentile(points, [98, 2], axis=0))))
    fitting = [name for name, factor in UNITS.items() if 0.4 < size * factor < 3.2]  # 10 to 80 cm across
    guess = min(fitting, key=lambda name: abs(np.log(size * UNITS[name] / 1.3)), default=None)
    if unit == "auto":
        if guess is None:
            raise FaceTalkError(
                f"{place}: the points are {size:.3g} across, no head in m, cm, mm or model units; "
                "give landmarks or a transform with its scale"
            )
        return UNITS[guess]
    if unit not in fitting:
        hint = f"they look like {guess}: use --unit {guess}" if guess else "is the cloud a head?"
        raise FaceTalkError(f"{place}: the points are {size:.3g} {unit} across, no head's size; {hint}")
    return UNITS[unit]


def check_placed(points: np.ndarray, place: str, source: str) -> None:
    """Points (P, 3) in canonical space, where `source` put them, are a head's size and at the head's place.

    Raises:
        FaceTalkError: they are not; where another unit would explain it, the message names it.
    """
    size = float(np.linalg.norm(np.subtract(*np.percentile(points, [98, 2], axis=0))))
    if not 0.4 < size < 3.2:
        steps = {"mm, not m": 1e-3, "cm, not m": 1e-2, "mm, not cm": 0.1, "m, not mm": 1e3, "m, not cm": 100.0}
        fits = [name for name, factor in steps.items() if 0.4 < size * factor < 3.2]
        hint = f"the points seem to be in {fits[0]}, that s was made for" if fits else "is s right?"
        raise FaceTalkError(
            f"{place}: with {source} the points are {size * 250:.3g} mm across, no head's size; {hint}"
        )
    middle = float(np.linalg.norm(np.median(points, axis=0)))
    if middle > 1.2:
        raise FaceTalkError(
            f"{place}: with {source} the points are {middle * 250:.0f} mm away from where a head is; are R and t for "
            "x_model = s R x + t?"
        )


def read_transforms(path: Path, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known similarities x_model = s R x + t: scales (T,), rotations (T, 3, 3), translations (T, 3) float64.

    `path` is an .npz or .json with `s`, `R` and `t` (once, or one a frame), or a folder with NPHM's s.npy, R.npy and
    t.npy.

    Raises:
        FaceTalkError: a part is missing, has another shape, is not finite, or R is no rotation.
    """
    path, parts = Path(path), {}
    try:
        if path.is_dir():
            parts = {name: np.load(path / f"{name}.npy", allow_pickle=False) for name in "sRt"}
        elif path.suffix == ".json":
            parts = {name: np.asarray(value, float) for name, value in json.loads(path.read_text()).items()}
        else:
            with np.load(path, allow_pickle=False) as data:
                parts = {name: data[name] for name in data.files}
        scale, rotation, move = (np.asarray(parts[name], np.float64) for name in "sRt")
    except (OSError, ValueError, KeyError, EOFError, AttributeError) as error:
        raise FaceTalkError(f"{path} holds no transform s, R, t: {error}") from error
    try:
        scale = np.broadcast_to(scale.reshape(-1), (frames,))
        rotation = np.broadcast_to(rotation.reshape(-1, 3, 3), (frames, 3, 3))
        move = np.broadcast_to(move.reshape(-1, 3), (frames, 3))
    except ValueError as error:
        raise FaceTalkError(f"{path}: s, R and t must be given once, or for each of the {frames} frames") from error
    if not all(np.isfinite(part).all() for part in (scale, rotation, move)) or (scale <= 0).any():
        raise FaceTalkError(f"{path}: a transform is not finite, or its scale is not positive")
    wrong = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > 1e-3
    if wrong.any() or (np.linalg.det(rotation) < 0).any():
        raise FaceTalkError(f"{path}: R of frame {int(wrong.argmax())} is no rotation; the scale belongs in s")
    return scale.copy(), rotation.copy(), move.copy()


def find_poses(field: PosedField, inputs: SequenceInputs) -> Alignment:
    """Where the head is in each frame: from a file, from landmarks, or by ICP, with the shape of `field`.

    Raises:
        FaceTalkError: a frame that is no head's size or not at a head's place; transforms that cannot be read.
    """
    files, frames, marks, unit = inputs.files, inputs.frames, inputs.landmarks, inputs.unit
    if inputs.transforms is not None:
        scale, rotation, move = read_transforms(inputs.transforms, len(frames))
        if np.ptp(scale) > 1e-6 * scale[0]:
            raise FaceTalkError(f"{inputs.transforms}: the scale changes between frames; a head has one")
        poses = Alignment(float(scale[0]), rotation, move, np.full(len(frames), np.nan))
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
        scale, rotation, move = read_transforms(inputs.rough_pose, 1)
        first = Alignment(float(scale[0]), rotation, move, np.full(1, np.nan))
        check_placed(first.to_model(0, frames[0].points), str(files[0]), str(inputs.rough_pose))
        return align_clouds(field, [frame.points for frame in frames], float(scale[0]), rotation[0], move[0])
    scales = [check_unit(frame.points, unit, str(path)) for frame, path in zip(frames, files, strict=True)]
    if len(set(scales)) > 1:
        odd = next(i for i, scale in enumerate(scales) if scale != scales[0])
        raise FaceTalkError(f"{files[odd]}: its points are not in the unit of {files[0].name}; use one for all frames")
    return align_clouds(field, [frame.points for frame in frames], scales[0])
