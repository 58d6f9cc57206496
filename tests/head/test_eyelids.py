# SPDX-License-Identifier: MIT
"""A blink that stops short is made to close, along the eyeball and nowhere else."""

import numpy as np
import pytest

from facetalk_hf.head.eyelids import seal_blink
from facetalk_hf.mesh.geometry import smoothstep


RADIUS, HALF_WIDTH, HALF_HEIGHT = 14.0, 0.85, 0.3


def lids() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skin 0.4 mm in front of a ball about the origin with an almond-shaped opening: points, rim, which are upper."""
    azimuth = np.linspace(-1.3, 1.3, 61)
    points, rim, upper = [], [], []
    for side in (1.0, -1.0):
        for step in np.linspace(0, 0.7, 15):
            edge = HALF_HEIGHT * np.sqrt(np.clip(1 - (azimuth / HALF_WIDTH) ** 2, 0, 1))
            height = side * (edge + step)
            flat = np.cos(height)
            points.append(14.4 * np.stack([np.sin(azimuth) * flat, np.sin(height), np.cos(azimuth) * flat], 1))
            rim.append((step == 0) & (np.abs(azimuth) <= HALF_WIDTH))
            upper.append(np.full(len(azimuth), side > 0))
    return np.concatenate(points).astype(np.float32), np.flatnonzero(np.concatenate(rim)), np.concatenate(upper)


@pytest.fixture
def sealed() -> tuple[np.ndarray, ...]:
    points, rim, upper = lids()
    blink = np.zeros_like(points)
    # The network's lid goes three quarters of the way down, straight through the ball.
    blink[upper, 1] = -0.75 * 2 * RADIUS * np.sin(HALF_HEIGHT) * smoothstep(13.0, 4.0, points[upper, 1])
    return points, blink, seal_blink(points, blink, rim, np.zeros(3), RADIUS), rim, upper


def elevation(points: np.ndarray) -> np.ndarray:
    return np.arctan2(points[:, 1], np.hypot(points[:, 0], points[:, 2]))


def test_upper_edge_reaches_the_lower_one(sealed):
    points, blink, result, rim, upper = sealed
    middle = rim[np.abs(points[rim, 0]) < 8]
    above, below = middle[upper[middle]], middle[~upper[middle]]
    for motion, gap in ((blink, True), (result, False)):
        open_millimetres = RADIUS * (
            elevation(points[above] + motion[above]) - elevation(points[below] + motion[below])
        )
        assert (open_millimetres.max() > 1.0) == gap


def test_lid_stays_clear_of_the_ball(sealed):
    points, blink, result, rim, upper = sealed
    near = rim[upper[rim] & (np.abs(points[rim, 0]) < 8)]
    assert np.linalg.norm(points[near] + blink[near], axis=1).min() < RADIUS
    assert np.linalg.norm(points[near] + result[near], axis=1).min() > RADIUS + 0.9


def test_lower_lid_does_not_rise_and_the_brow_stays(sealed):
    points, blink, result, _, upper = sealed
    assert np.abs(elevation(points + result) - elevation(points + blink))[~upper].max() < 1e-3
    brow = upper & (elevation(points) > HALF_HEIGHT + 0.66)
    np.testing.assert_allclose(result[brow], blink[brow], atol=1e-4)


def test_a_head_without_an_opening_is_left_alone():
    points, _, _ = lids()
    blink = np.ones_like(points)
    assert seal_blink(points, blink, np.arange(3), np.zeros(3), RADIUS) is blink
