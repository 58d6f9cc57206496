# SPDX-License-Identifier: MIT
"""A pinhole camera: rigid poses of a head in front of it, and what moves landmarks in the picture.

Axes: +x to the picture's right, +y up, +z towards the camera, which is at the origin, in mm; pixels go down.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass
class HeadPoses:
    """Rigid poses of T frames: rotations (T, 3, 3) and translations (T, 3) in mm, X = R Y + t."""

    rotations: np.ndarray
    translations: np.ndarray

    def take(self, frames: slice | np.ndarray) -> "HeadPoses":
        """Select some of the frames."""
        return HeadPoses(self.rotations[frames].copy(), self.translations[frames].copy())

    def place(self, points: np.ndarray) -> np.ndarray:
        """Carry points (T, N, 3) of the head into the camera's axes."""
        return points @ self.rotations.transpose(0, 2, 1) + self.translations[:, None]

    def moved(self, turn: np.ndarray, move: np.ndarray, pivot: np.ndarray) -> "HeadPoses":
        """Turn each head by rotation vectors (T, 3) about `pivot` ((3,), of the head), then move it by (T, 3) mm."""
        matrix = Rotation.from_rotvec(turn).as_matrix()
        center = self.rotations @ pivot + self.translations
        rotations = matrix @ self.rotations
        return HeadPoses(rotations, center + move - rotations @ pivot)


def join_poses(parts: list[HeadPoses]) -> HeadPoses:
    """Put poses one after the other."""
    return HeadPoses(
        np.concatenate([part.rotations for part in parts]), np.concatenate([part.translations for part in parts])
    )


@dataclass
class Camera:
    """A pinhole camera of focal length `focal` and middle `center` (x, y), in pixels."""

    focal: float
    center: tuple[float, float]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) in the camera's axes to pixels (..., 2)."""
        depth = np.maximum(-points[..., 2:], 1.0)
        return np.array(self.center) + self.focal * points[..., :2] * (1, -1) / depth

    def error(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Compute how far points (..., 3) are from where they are seen (..., 2), in mm at their own distance."""
        return (self.project(points) - seen) * -points[..., 2:] / self.focal

    def rows(self, points: np.ndarray) -> np.ndarray:
        """Differentiate [`error`], its scale held, by the points: (..., 2, 3)."""
        result = np.zeros((*points.shape[:-1], 2, 3))
        result[..., 0, 0], result[..., 1, 1] = 1, -1
        result[..., 0, 2], result[..., 1, 2] = (points[..., 0] / -points[..., 2], -points[..., 1] / -points[..., 2])
        return result


def first_poses(base: np.ndarray, seen: np.ndarray, camera: Camera, use: np.ndarray) -> HeadPoses:
    """Estimate poses (T) from landmarks at rest (N, 3) and pixels (T, N, 2) by scaled orthography, then Gauss-Newton.

    Args:
        use ((N,)): weight of each landmark; those that expressions move should count little.
    """
    frames, share = len(seen), use / use.sum()
    middle, places = share @ base, np.einsum("n,tnc->tc", share, seen)
    pivot, y = base - middle, seen - places[:, None]
    # POS (DeMenthon and Davis 1995): two rows of the rotation, scaled, by least squares.
    root = np.sqrt(share)[:, None]
    rows = np.einsum("cn,tnk->tkc", np.linalg.pinv(pivot * root), y * root)
    rows[:, 1] *= -1
    scale = np.linalg.norm(rows, axis=2).mean(1)
    matrix = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None] / scale[:, None, None]], 1)
    u, _, v = np.linalg.svd(matrix)
    u[..., 2] *= np.linalg.det(u @ v)[:, None]  # a rotation, no mirror
    rotations = u @ v
    depth = camera.focal / scale
    offset = (places - np.array(camera.center)) * (1, -1) / camera.focal * depth[:, None]
    center = np.concatenate([offset, -depth[:, None]], 1)
    poses = HeadPoses(rotations, center - rotations @ middle)
    still = np.broadcast_to(base, (frames, *base.shape))
    for _ in range(8):
        points = poses.place(still)
        error, turns = camera.error(points, seen), pose_rows(camera, points, poses, middle)
        weight = use / (1 + (np.linalg.norm(error, axis=-1) / 6) ** 2) ** 2
        weighted = turns * weight[..., None, None]
        hessian = np.einsum("tnki,tnkj->tij", weighted, turns) + 1e-6 * np.eye(6)
        step = -np.linalg.solve(hessian, np.einsum("tnki,tnk->ti", weighted, error)[..., None])[..., 0]
        step[:, :3] = step[:, :3].clip(-0.3, 0.3)
        poses = poses.moved(step[:, :3], step[:, 3:], middle)
    return poses


def pose_rows(camera: Camera, points: np.ndarray, poses: HeadPoses, pivot: np.ndarray) -> np.ndarray:
    """Differentiate errors by small turns about `pivot` and moves: (T, N, 2, 6) at placed points (T, N, 3)."""
    rows = camera.rows(points)
    lever = points - (poses.rotations @ pivot + poses.translations)[:, None]
    # d(w x l) . row = w . (l x row)
    turns = np.cross(lever[:, :, None], rows)
    return np.concatenate([turns, rows], -1)
