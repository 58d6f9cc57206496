# SPDX-License-Identifier: MIT
"""Recorded motion at another frame rate: the one that an audio encoder and a model work at."""

import math
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp

from ..errors import FaceTalkError
from .checks import FRAMES
from .corpus import pack_poses, unpack_poses


def resample_fields(fields: dict[str, Any], fps: float, target: float) -> dict[str, Any]:
    """Sample the motion of a row at another frame rate, at the same speed.

    Frame i of the result is the motion at i / target seconds: between recorded frames a monotone cubic (Fritsch and
    Carlson 1980), which does not swing beyond them; of poses the rotation moves along the great arc. T frames become
    ceil(T * target / fps), and the last recorded frame is held, as in `facetalk_hf.motion.editing.retime`.

    Args:
        fields (`dict`): of a row; those of [`FRAMES`] have T frames, the others stay as they are.
        fps, target (`float`): frames a second before and after.

    Raises:
        FaceTalkError: a frame rate that cannot be.
    """
    if not (math.isfinite(fps) and math.isfinite(target) and 0 < fps <= 1000 and 0 < target <= 1000):
        raise FaceTalkError(f"frame rates must be above 0 and at most 1000, not {fps:g} and {target:g}")
    if fps == target:
        return fields
    changed = {}
    for name in FRAMES:
        if fields.get(name) is None:
            continue
        values = np.asarray(fields[name], np.float32)
        count = math.ceil(len(values) * target / fps - 1e-6)
        times = np.minimum(np.arange(count) * fps / target, len(values) - 1)
        if len(values) < 2:
            changed[name] = np.repeat(values, count, axis=0)
        elif name == "poses":
            changed[name] = _poses(values, times)
        elif name == "residual":  # NaN where nothing was measured: the nearest frame's
            changed[name] = values[np.round(times).astype(int)]
        else:
            changed[name] = PchipInterpolator(np.arange(len(values)), values, axis=0)(times).astype(np.float32)
    return fields | changed


def _poses(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Interpolate poses (T, 13) at times in frames."""
    scale, rotation, move = unpack_poses(poses)
    frames = np.arange(len(poses))
    turned = Slerp(frames, Rotation.from_matrix(rotation))(times).as_matrix()
    moved = np.stack([np.interp(times, frames, move[:, axis]) for axis in range(3)], 1)
    return pack_poses(np.interp(times, frames, scale), turned, moved)
