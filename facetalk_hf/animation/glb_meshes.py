# SPDX-License-Identifier: MIT
"""Meshes of a glb in two ways: as core glTF 2.0 has them, or in whole steps (KHR_mesh_quantization), compressed."""

from typing import Any

import numpy as np

from ..errors import FaceTalkError
from .gltf import BYTE, INDEX_BUFFER, SHORT, UINT, USHORT, VERTEX_BUFFER, GlbBuffer


STEP = 0.04 / 1000
"""Of quantised positions, in metres: a vertex is off by .035 mm at most, and a morph target adds as much."""


class PlainMesh:
    """Attributes as floats, targets sparsely."""

    node: dict[str, Any] = {}
    extensions: tuple[str, ...] = ()

    def __init__(self, buffer: GlbBuffer) -> None:
        self.buffer = buffer

    def positions(self, values: np.ndarray) -> int:
        """Append positions (V, 3) in metres."""
        return self.buffer.vertices(values)

    def normals(self, values: np.ndarray) -> int:
        """Append unit normals (V, 3)."""
        return self.buffer.vertices(values)

    def target(self, values: np.ndarray, kept: np.ndarray) -> int:
        """Append displacements (V, 3) in metres of the vertices `kept`, (n,) int."""
        return self.buffer.target(values, kept)

    def target_normals(self, values: np.ndarray, kept: np.ndarray) -> int:
        """Append changes of normals (V, 3) of the vertices `kept`, (n,) int."""
        return self.buffer.target(values, kept, bounds=False)


class QuantisedMesh:
    """Positions in whole steps, normals in bytes, targets for all vertices, which compression makes small."""

    node: dict[str, Any] = {"scale": [STEP * 1.0] * 3}
    extensions: tuple[str, ...] = ("KHR_mesh_quantization",)

    def __init__(self, buffer: GlbBuffer) -> None:
        self.buffer = buffer

    def positions(self, values: np.ndarray) -> int:
        """Append positions (V, 3) in metres."""
        return self._append(values / STEP, SHORT, True)

    def normals(self, values: np.ndarray) -> int:
        """Append unit normals (V, 3)."""
        return self._append(values * 127, BYTE, False)

    def target(self, values: np.ndarray, kept: np.ndarray) -> int:
        """Append displacements (V, 3) in metres, zero but for the vertices `kept`, (n,) int."""
        return self._append(_only(values / STEP, kept), SHORT, True)

    def target_normals(self, values: np.ndarray, kept: np.ndarray) -> int:
        """Append changes of normals (V, 3), zero but for the vertices `kept`, (n,) int."""
        return self._append(_only(values * 127, kept).clip(-127, 127), BYTE, False)

    def _append(self, values: np.ndarray, kind: int, bounds: bool) -> int:
        """Append rows of three, padded to four, as vertex attributes must be aligned."""
        whole = np.round(values)
        if kind == SHORT and np.abs(whole).max(initial=0) > 32767:
            raise FaceTalkError("a head of more than a metre cannot be compressed: write it without compression")
        rows = np.zeros((len(whole), 4), "<i2" if kind == SHORT else "i1")
        rows[:, :3] = whole
        view = self.buffer.view(rows.tobytes(), VERTEX_BUFFER, rows.itemsize * 4)
        more = {} if bounds else {"normalized": True}
        return self.buffer.accessor(view, kind, len(rows), "VEC3", rows[:, :3] if bounds else None, **more)


def _only(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    result = np.zeros_like(values)
    result[kept] = values[kept]
    return result


def compressed(buffer: GlbBuffer) -> tuple[bytes, list[dict]]:
    """Compress the views of vertices and of indices (EXT_meshopt_compression), in place.

    Returns: the binary chunk, and the document's buffers: that chunk, and the one that a reader unpacks views to.

    Raises:
        FaceTalkError: meshoptimizer is not installed.
    """
    try:
        from meshoptimizer import (
            encode_index_buffer,
            encode_vertex_buffer,
            encode_vertex_version,
            optimize_vertex_cache,
        )
    except ImportError as error:
        raise FaceTalkError(
            'a compressed glb needs meshoptimizer (and a C++ compiler to install it): pip install "facetalk_hf[web]"'
        ) from error
    encode_vertex_version(0)  # the only one that EXT_meshopt_compression knows
    data, packed, unpacked = buffer.data(), GlbBuffer(), 0
    strides = {accessor["bufferView"]: accessor for accessor in buffer.accessors if "bufferView" in accessor}
    for number, view in enumerate(buffer.views):
        content = data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        if view.get("target") == INDEX_BUFFER:
            size = {USHORT: 2, UINT: 4}[strides[number]["componentType"]]
            indices = np.frombuffer(content, f"<u{size}").astype(np.uint32)
            ordered = np.zeros_like(indices)
            optimize_vertex_cache(ordered, indices, len(indices), int(indices.max()) + 1)
            mode, count, small = "TRIANGLES", len(indices), encode_index_buffer(ordered)
        elif view.get("target") == VERTEX_BUFFER:
            size = view["byteStride"]
            count = len(content) // size
            mode, small = "ATTRIBUTES", encode_vertex_buffer(np.frombuffer(content, "u1").reshape(count, size))
        else:
            place = packed.views[packed.view(content)]
            view["byteOffset"] = place["byteOffset"]
            continue
        place = packed.views[packed.view(small)]
        view["extensions"] = {
            "EXT_meshopt_compression": {
                "buffer": 0, "byteOffset": place["byteOffset"], "byteLength": len(small), "byteStride": size,
                "mode": mode, "count": count,
            }
        }  # fmt: skip
        view |= {"buffer": 1, "byteOffset": unpacked}
        unpacked += len(content) + -len(content) % 4
    fallback = {"byteLength": unpacked, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}
    return packed.data(), [{"byteLength": packed.size}, fallback]
