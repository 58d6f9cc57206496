# SPDX-License-Identifier: MIT
"""What samples see, against plain NumPy: small triangles and large ones go through loops of their own."""

import numpy as np
import pytest

from facetalk_hf.rendering.raster import rasterize


def in_turn(faces, screen, near, offsets, shape):
    """Ask every sample which triangles hold it: the face in front, -1 where there is none."""
    height, width = shape
    y, x = np.mgrid[:height, :width] * 256
    seen = np.full((height, width, len(offsets)), -1)
    nearest = np.zeros(seen.shape)
    for number, (a, c, b) in enumerate(faces):  # y points down
        for s, (right, down) in enumerate(offsets):
            at = np.stack([x + right, y + down], -1).astype(np.int64)
            (pa, pb, pc) = (screen[corner].astype(np.int64) for corner in (a, b, c))
            ways = [
                (q[0] - p[0]) * (at[..., 1] - p[1]) - (q[1] - p[1]) * (at[..., 0] - p[0])
                for p, q in ((pb, pc), (pc, pa), (pa, pb))
            ]
            area = sum(ways)
            inside = (ways[0] >= 0) & (ways[1] >= 0) & (ways[2] >= 0) & (area > 0)
            depth = sum(way * float(near[corner]) for way, corner in zip(ways, (a, b, c), strict=True))
            depth = np.where(inside, depth / np.maximum(area, 1), 0)
            front = inside & (depth > nearest[..., s])
            seen[..., s] = np.where(front, number, seen[..., s])
            nearest[..., s] = np.maximum(nearest[..., s], depth)
    return seen


@pytest.mark.parametrize("samples", [1, 3, 4, 16, 20])
@pytest.mark.parametrize("largest", [4, 90])
def test_every_sample_sees_the_nearest_triangle_that_holds_it(samples, largest):
    rng = np.random.default_rng(samples)
    height, width, count = 17, 21, 60
    middle = rng.uniform([-3, -3], [width + 3, height + 3], (count, 2))
    corners = middle[:, None] + rng.uniform(-1, 1, (count, 3, 2)) * rng.uniform(0.3, largest, (count, 1, 1))
    screen = np.round(corners.reshape(-1, 2) * 256).astype(np.int32)
    near = np.repeat(rng.permutation(np.linspace(0.001, 0.01, count)), 3).astype(np.float32)  # none cuts another
    faces = np.arange(3 * count, dtype=np.uint32).reshape(-1, 3)
    offsets = rng.integers(0, 256, (samples, 2)).astype(np.int32)

    buffer = np.zeros((height, width, samples), np.int64)
    top, bottom, left, right = rasterize(faces, np.arange(count, dtype=np.uint32), screen, near, offsets, buffer)
    found = np.where(buffer != 0, buffer & 0xFFFFFFFF, -1)
    wanted = in_turn(faces, screen, near, offsets, (height, width))
    assert np.unique(wanted).size > 1 and np.array_equal(found, wanted)
    rows, columns = np.nonzero((wanted >= 0).any(2))
    assert top <= rows.min() and rows.max() < bottom and left <= columns.min() and columns.max() < right
