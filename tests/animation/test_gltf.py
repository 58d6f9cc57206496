# SPDX-License-Identifier: MIT
"""Accessors of small and of large meshes, and a buffer that is added to."""

import numpy as np
import pytest
from animations import Glb

from facetalk_hf.animation.gltf import GlbBuffer, pack_glb


def packed(buffer: GlbBuffer) -> Glb:
    document = {"accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": buffer.size}]}
    return Glb(pack_glb(document, buffer.data()))


@pytest.mark.parametrize("count", [65535, 65536, 70000])
def test_vertex_numbers_beyond_two_bytes(count):
    buffer = GlbBuffer()
    flat = np.array([0, 1, count - 1])
    delta = np.zeros((count, 3), np.float32)
    delta[[5, count - 1]] = [[1, 2, 3], [-4, 5, 6]]
    indices, target = buffer.indices(flat), buffer.target(delta, np.array([5, count - 1]))
    glb = packed(buffer)
    np.testing.assert_array_equal(glb.accessor(indices)[:, 0], flat)
    np.testing.assert_array_equal(glb.accessor(target), delta)


def test_what_is_added_leaves_what_was_there():
    buffer = GlbBuffer()
    first = buffer.vertices(np.eye(3))
    more = GlbBuffer(buffer.views, buffer.accessors, buffer.data() + b"xy")  # not a multiple of four bytes
    times = np.array([0.5, 1.5], np.float32)
    second = more.scalars(times, times[:, None])
    glb = packed(more)
    np.testing.assert_array_equal(glb.accessor(first), np.eye(3))
    np.testing.assert_array_equal(glb.accessor(second)[:, 0], times)
    assert glb.json["accessors"][second]["max"] == [1.5]
