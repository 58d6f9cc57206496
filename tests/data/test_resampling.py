# SPDX-License-Identifier: MIT
"""Recorded motion at the rate of a model: same speed, no swinging, poses that stay poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facetalk_hf.data.corpus import pack_poses, unpack_poses
from facetalk_hf.data.resampling import resample_fields
from facetalk_hf.errors import FaceTalkError


@pytest.mark.parametrize("fps, target, frames, count", [(60, 24, 120, 48), (30, 24, 45, 36), (25, 24, 50, 48),
                                                        (29.97, 24, 300, 241), (12, 24, 10, 20)])  # fmt: skip
def test_a_slow_motion_stays_where_it_is_in_time(fps, target, frames, count):
    times = np.arange(frames) / fps
    codes = np.stack([np.sin(2 * times), times], 1).astype(np.float32)
    found = resample_fields({"expression": codes, "text": "Bob."}, fps, target)
    assert found["text"] == "Bob." and found["expression"].shape == (count, 2)
    expected = np.minimum(np.arange(count) / target, times[-1])
    np.testing.assert_allclose(found["expression"][:, 1], expected, atol=1e-5)
    np.testing.assert_allclose(found["expression"][:, 0], np.sin(2 * expected), atol=0.01)


def test_lips_that_touch_do_not_cross():
    weights = np.array([0, 0, 1, 1, 0, 0], np.float32)[:, None]
    found = resample_fields({"weights": weights}, 30, 24)["weights"]
    assert found.min() >= 0 and found.max() <= 1


def test_poses_stay_poses_and_unknown_residuals_unknown():
    turns = Rotation.from_rotvec(np.linspace(0, np.pi / 2, 31)[:, None] * [0, 1, 0])
    poses = pack_poses(2.0, turns.as_matrix(), np.linspace(0, 3, 31)[:, None] * np.ones(3))
    residual = np.full(31, np.nan, np.float32)
    found = resample_fields({"poses": poses, "residual": residual}, 30, 24)
    scale, rotation, move = unpack_poses(found["poses"])
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    angles = np.degrees(Rotation.from_matrix(rotation).as_rotvec()[:, 1])
    np.testing.assert_allclose(angles[:24], np.arange(24) / 24 * 90, atol=0.01)
    np.testing.assert_allclose(move[:24, 0], np.arange(24) / 8, atol=1e-4)
    assert (scale == 2).all() and np.isnan(found["residual"]).all() and len(found["residual"]) == 25


def test_rates_that_cannot_be():
    with pytest.raises(FaceTalkError, match="frame rates"):
        resample_fields({}, 0, 24)
