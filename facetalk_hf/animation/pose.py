# SPDX-License-Identifier: MIT
"""Rigid head poses."""

import numpy as np


def apply_pose(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) float moved by a matrix (4, 4); float32."""
    return (points @ matrix[:3, :3].T.astype(np.float32) + matrix[:3, 3].astype(np.float32)).astype(np.float32)


def _rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Right-handed rotations by angles (T,) in radians about x, y or z: (T, 3, 3)."""
    result = np.tile(np.eye(3), (len(angle), 1, 1))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    result[:, first, first] = result[:, second, second] = np.cos(angle)
    result[:, second, first] = np.sin(angle)
    result[:, first, second] = -np.sin(angle)
    return result
