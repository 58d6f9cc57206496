# SPDX-License-Identifier: MIT
"""Points are simple as the definition has it, and what grows by them keeps its topology."""

import numpy as np
from scipy import ndimage

from facetalk_hf.mesh.simple_points import are_simple, grow


BESIDE, BETWEEN, AROUND = (ndimage.generate_binary_structure(3, reach) for reach in (1, 2, 3))


def simple_by_definition(cube: np.ndarray) -> bool:
    """Count the parts of a (3, 3, 3) neighbourhood as Bertrand and Malandain do."""
    middle = np.zeros((3, 3, 3), bool)
    middle[1, 1, 1] = True
    among, complement = cube & ~middle, ~cube & BETWEEN & ~middle
    label, _ = ndimage.label(complement, BESIDE)
    touching = set(label[BESIDE & ~middle].tolist()) - {0}
    return ndimage.label(among, AROUND)[1] == 1 and len(touching) == 1


def test_points_are_simple_as_defined():
    rng = np.random.default_rng(0)
    cubes = np.concatenate([rng.random((300, 3, 3, 3)) < share for share in (0.1, 0.3, 0.5, 0.7, 0.9)])
    # A point's bit is x + 3 y + 9 z.
    bits = (cubes.transpose(0, 3, 2, 1).reshape(-1, 27) << np.arange(27)).sum(1).astype(np.int32)
    expected = [simple_by_definition(cube) for cube in cubes]
    np.testing.assert_array_equal(are_simple(bits), expected)
    assert 0.1 < np.mean(expected) < 0.9


def test_a_ring_is_left_open_where_it_is_thinnest():
    x, y, z = np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij")
    angle = np.arctan2(y, x)
    thickness = 3.5 - 1.5 * np.exp(-((np.abs(angle) - np.pi) ** 2) / 0.1)  # thinnest at x < 0
    ring = np.hypot(np.hypot(x, y) - 8, z) - thickness
    start = (x == 8) & (y == 0) & (z == 0)
    grown = grow(ring, start, np.linspace(-3.5, 0, 15))
    missing = (ring < 0) & ~grown
    assert 5 <= missing.sum() <= 25 and x[missing].max() < -4 and np.ptp(y[missing]) <= 2
    assert ndimage.label(grown, AROUND)[1] == 1


def test_a_ball_fills_and_another_is_not_reached():
    x, y, z = np.meshgrid(*[np.arange(-10, 11)] * 3, indexing="ij")
    ball, other = np.sqrt((x + 4) ** 2 + y**2 + z**2) - 4.5, np.sqrt((x - 6) ** 2 + y**2 + z**2) - 3
    start = (x == -4) & (y == 0) & (z == 0)
    grown = grow(np.minimum(ball, other), start, [-2.0, -1.0, 0.0])
    np.testing.assert_array_equal(grown, ball < 0)
