# SPDX-License-Identifier: MIT
"""NumPy's files read with care: nothing in them is run, and no header is believed that the bytes behind it belie."""

import io
import math
import os
import zipfile
from collections.abc import Container
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import FaceTalkError


LONGEST_HEADER = 10_000
"""Bytes of an array's header, at most, as NumPy has it."""
DEFLATE_RATIO = 1032
"""Bytes that a byte of a deflated member can become, at most (zlib's technical notes)."""


def read_limit() -> int:
    """Read how many bytes the arrays of one file may take: FACETALK_MAX_GIB in the environment, 8 GiB by default.

    Raises:
        FaceTalkError: the variable is no positive number.
    """
    text = os.environ.get("FACETALK_MAX_GIB", "8")
    try:
        limit = float(text) * 2**30
        if limit > 0:
            return int(limit)
    except (ValueError, OverflowError):
        pass
    raise FaceTalkError(f"FACETALK_MAX_GIB must be a positive number of GiB, not {text!r}")


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """Read an .npy file.

    Raises:
        OSError: it cannot be opened.
        FaceTalkError: it is damaged, holds Python objects, or more than `read_limit` allows; the message is the reason
            alone, without the file's name.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        return _read_array(stream, size, size, read_limit())


def map_npy(path: str | os.PathLike) -> np.ndarray:
    """Map an .npy file into memory, to read parts of it; errors are those of `read_npy`."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        shape, fortran, dtype = _read_header(stream, size, size)
        start = stream.tell()
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def to_float32(values: Any) -> np.ndarray:
    """Convert what a file holds to float32; what is too large becomes infinite, for the checks that follow.

    Raises:
        FaceTalkError: it holds no real numbers; the message is the reason alone.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(_real(values), np.float32)


def to_float64(values: Any) -> np.ndarray:
    """Convert what a file holds to float64, as `to_float32` does."""
    return np.asarray(_real(values), np.float64)


def _real(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise FaceTalkError(f"{values.dtype} of shape {values.shape} are no numbers")
    return values


def read_npz(path: str | os.PathLike, wanted: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file by their names, or those that are wanted; errors are those of `read_npy`."""
    left, arrays = read_limit(), {}
    try:
        with zipfile.ZipFile(path) as archive:
            size = Path(path).stat().st_size
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if wanted is not None and name not in wanted:
                    continue
                packed = min(member.compress_size, size)
                most = packed if member.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO * packed
                with archive.open(member) as stream:
                    array = _read_array(stream, member.file_size, most, left)
                arrays[name] = array
                left -= array.nbytes
    except (FaceTalkError, OSError):
        raise
    except Exception as error:  # zipfile: from BadZipFile and zlib.error to RuntimeError for a password
        raise FaceTalkError(f"it is damaged or no npz: {_reason(error)}") from error
    return arrays


def _read_header(stream: Any, size: int, most: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type of an array from a stream of `size` bytes, of which `most` can be there."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it is of version {version} of NumPy's format")
        length = stream.read(2 * version[0])
        # Read here: of version 2 NumPy asks for as much memory as four bytes of the file say.
        text = stream.read(min(int.from_bytes(length, "little"), LONGEST_HEADER))
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(io.BytesIO(length + text))
    except Exception as error:  # Python reads the header: SyntaxError, TokenError, RecursionError ...
        raise FaceTalkError(f"it is damaged or no NumPy array: {_reason(error)}") from error
    if dtype.hasobject:
        raise FaceTalkError("it holds Python objects, which are not read: save plain arrays")
    # Elements without a byte (strings of no letters) would be free, and not what anybody saves.
    needed = math.prod(shape) * max(dtype.itemsize, 1)
    if min(shape, default=0) < 0 or needed > min(most, size - stream.tell()) or max(shape, default=0) >= 2**48:
        raise FaceTalkError(f"it is cut short: its header promises an array of shape {shape}")
    return shape, fortran, dtype


def _read_array(stream: Any, size: int, most: int, left: int) -> np.ndarray:
    """Read one array from a stream, as `_read_header`, of which `left` bytes may be taken."""
    shape, fortran, dtype = _read_header(stream, size, most)
    needed = math.prod(shape) * dtype.itemsize
    if needed > left:
        raise FaceTalkError(f"it holds more than {read_limit() / 2**30:g} GiB: set FACETALK_MAX_GIB to allow more")
    try:
        array = np.empty(math.prod(shape), dtype)
        if needed:
            _fill(stream, array)
            _check_text(array)
        return array.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError) as error:  # more than 64 dimensions; a type that is no plain memory
        raise FaceTalkError(f"it is damaged or no NumPy array: {_reason(error)}") from error


def _fill(stream: BinaryIO, array: np.ndarray) -> None:
    """Read the bytes of an array."""
    place = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # arrays of bytes are buffers
    done = 0
    while done < len(place):
        part = stream.read(min(2**20, len(place) - done))
        if not part:
            raise FaceTalkError("it is cut short")
        place[done : done + len(part)] = part
        done += len(part)


def _check_text(array: np.ndarray) -> None:
    """Check that strings hold characters alone: of other numbers Python makes a SystemError, later and elsewhere."""
    if array.dtype.kind == "U":
        letters = array.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if (letters > 0x10FFFF).any() or ((letters >= 0xD800) & (letters < 0xE000)).any():
            raise ValueError("its text is none")


def _reason(error: Exception) -> str:
    """Say in one line what a library complains of."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
