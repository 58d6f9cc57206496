# SPDX-License-Identifier: MIT
"""Lips that a network leaves ajar meet at rest, and the face around them stays."""

import numpy as np

from facetalk_hf.head.lips import CORNERS, LOWER, UPPER, seal_lips


def mouth(gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two curved lips `gap` mm apart in the middle: points (n, 3), bool (n,) of the upper one, landmarks (68, 3)."""
    x, y, z = np.meshgrid(np.arange(-30, 30.1, 0.8), np.arange(0, 25, 0.8), (0.0, -2.0), indexing="ij")
    half = 0.5 * gap * np.clip(1 - (x / 25) ** 2, 0, 1)
    upper, lower = (np.stack([x, sign * (half + y), z + 100 - 0.01 * x**2], -1).reshape(-1, 3) for sign in (1, -1))
    points = np.concatenate([upper, lower])
    landmarks = np.zeros((68, 3))
    landmarks[list(CORNERS)] = [[-25, 0, 94], [25, 0, 94]]
    for row, sign in ((UPPER, 1), (LOWER, -1)):
        landmarks[list(row)] = [[at, sign * 0.5 * gap * (1 - (at / 25) ** 2), 99] for at in (-12, 0, 12)]
    return points, np.arange(len(points)) < len(upper), landmarks


def gap_at(points: np.ndarray, upper: np.ndarray, x: float) -> float:
    near = np.abs(points[:, 0] - x) < 0.5
    return points[near & upper, 1].min() - points[near & ~upper, 1].max()


def test_open_lips_are_closed_and_what_is_far_stays():
    wide, upper, canonical_landmarks = mouth(12.0)
    ajar, _, landmarks = mouth(1.6)
    sealed = seal_lips(ajar, wide, landmarks, canonical_landmarks)
    for x in (-15, -8, 0, 8, 15):
        assert gap_at(ajar, upper, x) > 0.9 and -0.5 < gap_at(sealed, upper, x) <= 0.0
    np.testing.assert_array_equal(sealed[:, [0, 2]], ajar[:, [0, 2]])
    far = np.abs(ajar[:, 1]) > 12
    np.testing.assert_array_equal(sealed[far], ajar[far])
    assert np.abs(sealed - ajar).max() < 1.2


def test_lips_that_press_together_are_left_alone():
    wide, _, canonical_landmarks = mouth(12.0)
    closed, _, landmarks = mouth(-1.0)
    np.testing.assert_allclose(seal_lips(closed, wide, landmarks, canonical_landmarks), closed, atol=0.16)


def test_a_face_without_points_there_is_returned_as_it_is():
    wide, _, landmarks = mouth(12.0)
    np.testing.assert_array_equal(seal_lips(wide[:3], wide[:3], landmarks, landmarks), wide[:3])
