# SPDX-License-Identifier: MIT
"""The container of glb files and the accessors in it (Khronos glTF 2.0 specification, sections 3.6 and 4.4)."""

import base64
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..errors import FaceTalkError


BYTE, SHORT, USHORT, UINT, FLOAT = 5120, 5122, 5123, 5125, 5126
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
KEY_TOLERANCE = 1e-4
"""How far a weight may be from where it should be, at a frame that is left to interpolation."""


def pack_glb(document: dict, binary: bytes) -> bytes:
    """Join a document and its binary chunk to the bytes of a glb file."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


OTHER_FORMATS = (".fbx", ".blend", ".dae", ".usd", ".usdc", ".usda", ".usdz", ".max", ".ma", ".mb", ".obj")
"""Files of heads that are not read; `read_glb` says what to export from them."""


def read_glb(path: Path) -> tuple[dict, bytes]:
    """Read a .glb, or a .gltf with the files that it names, as a document and one binary chunk.

    Raises:
        FaceTalkError: it cannot be read, is not glTF 2.0, or a .glb keeps its first buffer in another file.
    """
    if path.suffix.lower() in OTHER_FORMATS:
        raise FaceTalkError(
            f"{path} is not read: export the head as glb with its shape keys (Blender: File, Export, glTF 2.0), "
            "or as a folder of obj files, one a shape"
        )
    if path.suffix.lower() == ".gltf":
        return read_gltf(path)
    try:
        data = path.read_bytes()
        magic, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
        if (magic, version, kind) != (b"glTF", 2, b"JSON") or length > len(data):
            raise ValueError("its header is not that of glTF 2.0")
        document = json.loads(data[20 : 20 + size])
        binary, start = b"", 20 + size
        if start + 8 <= length:
            tail, kind = struct.unpack_from("<I4s", data, start)
            binary = data[start + 8 : start + 8 + tail] if kind == b"BIN\0" else b""
        if not isinstance(document, dict) or "uri" in (document.get("buffers") or [{}])[0]:
            raise ValueError("its first buffer lies in another file; pack it into the glb")
    except (OSError, ValueError, TypeError, LookupError, RecursionError, struct.error) as error:
        raise FaceTalkError(f"{path} cannot be read as glb: {error}") from error
    return document, binary


def read_gltf(path: Path) -> tuple[dict, bytes]:
    """Read a .gltf with its buffers and pictures, which lie in files beside it or in the document, as [`read_glb`].

    Raises:
        FaceTalkError: it cannot be read, is not glTF 2.0, or a file that it names is missing or too short.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        if str(document["asset"]["version"])[:2] != "2.":
            raise ValueError("it is not glTF 2.0")
        starts, binary = [], b""
        for buffer in document.get("buffers", []):
            content = _linked(path, buffer["uri"])
            if len(content) < buffer["byteLength"]:
                raise ValueError(f"its buffer of {buffer['byteLength']} bytes has only {len(content)}")
            starts.append(len(binary))
            binary += content + b"\0" * (-len(content) % 4)
        views = document.setdefault("bufferViews", [])
        for view in views:
            view["byteOffset"] = view.get("byteOffset", 0) + starts[view["buffer"]]
            view["buffer"] = 0
        for image in document.get("images", []):
            if "uri" in image:
                name = image.pop("uri")
                content = _linked(path, name)
                kind = "image/png" if content[:4] == b"\x89PNG" else "image/jpeg"
                image |= {"bufferView": len(views), "mimeType": image.get("mimeType", kind)}
                views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)})
                binary += content + b"\0" * (-len(content) % 4)
        document["buffers"] = [{"byteLength": len(binary)}]
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise FaceTalkError(f"{path} cannot be read as glTF: {reason}") from error
    return document, binary


def _linked(path: Path, uri: str) -> bytes:
    """Read what a URI of a .gltf stands for: data in it, or a file beside it."""
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition(",")[2], validate=True)
    name = unquote(uri)
    if ":" in name or Path(name).is_absolute():
        raise ValueError(f"it names {name[:80]}, which is no file beside it")
    return (path.parent / name).read_bytes()


class GlbBuffer:
    """The binary chunk of a glb file, with the views and accessors into it, to which arrays are appended.

    Args:
        views, accessors (lists of `dict`, *optional*), binary (`bytes`): of a file that is added to; the lists grow
            in place.
    """

    def __init__(
        self, views: list[dict] | None = None, accessors: list[dict] | None = None, binary: bytes = b""
    ) -> None:
        self.views: list[dict] = [] if views is None else views
        self.accessors: list[dict] = [] if accessors is None else accessors
        self.chunks = [binary + b"\0" * (-len(binary) % 4)]
        self.size = len(self.chunks[0])

    def data(self) -> bytes:
        """Return the binary chunk, `size` bytes."""
        return b"".join(self.chunks)

    def view(self, data: bytes, target: int | None = None, stride: int | None = None) -> int:
        """Append bytes, aligned to four, and return the number of their view."""
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        if target:
            view["target"] = target
        if stride:
            view["byteStride"] = stride
        self.views.append(view)
        padded = data + b"\0" * (-len(data) % 4)
        self.chunks.append(padded)
        self.size += len(padded)
        return len(self.views) - 1

    def accessor(
        self, view: int | None, kind: int, count: int, shape: str, bounds: np.ndarray | None = None, **more: Any
    ) -> int:
        """Append an accessor of `count` elements and return its number; bounds are those of rows (n, c)."""
        accessor: dict[str, Any] = {} if view is None else {"bufferView": view}
        accessor |= {"componentType": kind, "count": count, "type": shape, **more}
        if bounds is not None:
            accessor |= {"min": bounds.min(0).tolist(), "max": bounds.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def scalars(self, values: np.ndarray, bounds: np.ndarray | None = None) -> int:
        """Append all numbers of an array as float scalars."""
        values = np.ascontiguousarray(values, "<f4")
        return self.accessor(self.view(values.tobytes()), FLOAT, values.size, "SCALAR", bounds)

    def vectors(self, values: np.ndarray) -> int:
        """Append rows (n, 3) or (n, 4) as float vectors."""
        values = np.ascontiguousarray(values, "<f4")
        return self.accessor(self.view(values.tobytes()), FLOAT, len(values), f"VEC{values.shape[1]}")

    def vertices(self, values: np.ndarray) -> int:
        """Append a position or a direction for each vertex, (V, 3)."""
        values = np.ascontiguousarray(values, "<f4")
        return self.accessor(self.view(values.tobytes(), VERTEX_BUFFER), FLOAT, len(values), "VEC3", values)

    def indices(self, flat: np.ndarray) -> int:
        """Append vertex numbers, in two bytes each where that is enough."""
        small = flat.max() < 65535
        data = flat.astype(np.uint16 if small else np.uint32)
        return self.accessor(self.view(data.tobytes(), INDEX_BUFFER), USHORT if small else UINT, len(data), "SCALAR")

    def target(self, delta: np.ndarray, kept: np.ndarray, bounds: bool = True) -> int:
        """Append a morph target (V, 3): only the vertices `kept`, or all of them where that takes less room.

        Positions need `bounds`, which are those of the whole accessor.
        """
        count = len(delta)
        wide = count > 65535
        if not len(kept):
            return self.accessor(None, FLOAT, count, "VEC3", np.zeros((1, 3)) if bounds else None)
        if len(kept) * (12 + (4 if wide else 2)) >= count * 12:
            return self.vertices(delta)
        values = np.ascontiguousarray(delta[kept], "<f4")
        numbers = kept.astype(np.uint32 if wide else np.uint16)
        sparse = {
            "count": len(kept),
            "indices": {"bufferView": self.view(numbers.tobytes()), "componentType": UINT if wide else USHORT},
            "values": {"bufferView": self.view(values.tobytes())},
        }
        # Elements that are not stored are zero.
        whole = np.concatenate([values, np.zeros((1, 3), np.float32)]) if len(kept) < count else values
        return self.accessor(None, FLOAT, count, "VEC3", whole if bounds else None, sparse=sparse)


class Tracks:
    """The tracks of one glTF animation, all over the same times: weights of meshes, motion of nodes.

    Args:
        buffer (`GlbBuffer`): what the values are appended to. times ((T,) float32, s): of the frames, increasing.
        compact (`bool`): only those weights that interpolation needs, in two bytes each where that holds them.
    """

    def __init__(self, buffer: GlbBuffer, times: np.ndarray, compact: bool = False) -> None:
        self.compact = compact
        self.buffer, self.times, self.clock = buffer, times, buffer.scalars(times, times[:, None])
        self.channels: list[dict] = []
        self.samplers: list[dict] = []

    def add(self, node: int, path: str, values: np.ndarray) -> None:
        """Add the track of a node's weights (T, R), rotation (T, 4) x, y, z, w or translation (T, 3) in metres."""
        compact = self.compact and path == "weights"
        kept = needed_keys(self.times, values, KEY_TOLERANCE) if compact else np.arange(len(values))
        clock = self.clock if len(kept) == len(values) else self._clock(kept)
        output = self._weights(values[kept]) if path == "weights" else self.buffer.vectors(values)
        self.channels.append({"sampler": len(self.samplers), "target": {"node": node, "path": path}})
        self.samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})

    def _clock(self, kept: np.ndarray) -> int:
        times = self.times[kept]
        return self.buffer.scalars(times, times[:, None])

    def _weights(self, values: np.ndarray) -> int:
        """Append weights, in two bytes each where they lie within 0..1."""
        if not self.compact or not values.size or values.min() < 0 or values.max() > 1:
            return self.buffer.scalars(values)
        whole = np.round(values.astype(np.float64) * 65535).astype("<u2")
        view = self.buffer.view(whole.tobytes())
        return self.buffer.accessor(view, USHORT, whole.size, "SCALAR", normalized=True)

    def animation(self) -> dict:
        """Return the animation for the document."""
        return {"name": "speech", "channels": self.channels, "samplers": self.samplers}


def needed_keys(times: np.ndarray, values: np.ndarray, tolerance: float) -> np.ndarray:
    """Choose the keys that linear interpolation needs to be within a tolerance everywhere (Ramer, Douglas, Peucker).

    Args:
        times ((T,) float), values ((T, R) float): one key a frame. tolerance (`float`): of the values.

    Returns: their numbers, increasing, the first and the last key among them.
    """
    kept = np.zeros(len(times), bool)
    kept[[0, -1]] = True
    spans = [(0, len(times) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        share = ((times[first + 1 : last] - times[first]) / (times[last] - times[first]))[:, None]
        between = values[first] * (1 - share) + values[last] * share
        error = np.abs(values[first + 1 : last] - between).max(1, initial=0)
        if error.max() > tolerance:
            middle = first + 1 + int(error.argmax())
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    return np.flatnonzero(kept)
