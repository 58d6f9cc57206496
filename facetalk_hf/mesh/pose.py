# SPDX-License-Identifier: MIT
"""Rotations about the axes and rigid poses, as arrays.

scipy's Rotation would do the same, but takes 0.3 s to import and rounds differently in the last bit of saved files.
"""

import numpy as np


def apply_pose(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (..., 3) float by a rigid matrix (4, 4) for column vectors; float32."""
    return (points @ matrix[:3, :3].T.astype(np.float32) + matrix[:3, 3].astype(np.float32)).astype(np.float32)


def axis_rotations(axis: int, angles: np.ndarray) -> np.ndarray:
    """Make right-handed rotations by angles (T,) in radians about x, y or z (0, 1, 2): (T, 3, 3) float64."""
    result = np.tile(np.eye(3), (len(angles), 1, 1))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    result[:, first, first] = result[:, second, second] = np.cos(angles)
    result[:, second, first] = np.sin(angles)
    result[:, first, second] = -np.sin(angles)
    return result
