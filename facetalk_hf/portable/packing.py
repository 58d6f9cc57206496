# SPDX-License-Identifier: MIT
"""ONNX files made smaller without loss: the bytes of 16-bit numbers sorted, then deflate.

The first bytes of half-precision weights (sign, exponent, two bits) are much alike, the others are noise; sorted
apart, as by the byte shuffle of HDF5 and Blosc, they let deflate find what there is to find. Browsers inflate it by
themselves (`DecompressionStream`). A packed file is a zlib stream of: length of the header (4 bytes, little-endian);
header (JSON: [start, length] of the file's runs of 16-bit numbers, in bytes); what lies outside of the runs; the high
bytes of all runs; the low bytes of all runs.
"""

import json
import zlib
from collections.abc import Sequence

import numpy as np


def pack(data: bytes, runs: Sequence[tuple[int, int]]) -> bytes:
    """Pack a file; `runs` are start and length in bytes, in their order, of what is made of 16-bit numbers."""
    body, outside = np.frombuffer(data, np.uint8), np.ones(len(data), bool)
    for start, length in runs:
        outside[start : start + length] = False
    inside = body[~outside].reshape(-1, 2)  # little-endian
    header = json.dumps([list(run) for run in runs]).encode()
    # Level 9, all memory; short repetitions, which noise is full of, are not looked for.
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    plain = (len(header).to_bytes(4, "little"), header, body[outside], inside[:, 1], inside[:, 0])
    return packer.compress(b"".join(map(bytes, plain))) + packer.flush()


def unpack(data: bytes) -> bytes:
    """Unpack what `pack` has packed, byte for byte.

    Raises:
        ValueError: this is no packed file.
    """
    try:
        plain = zlib.decompress(data)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    first = 4 + int.from_bytes(plain[:4], "little")
    body = np.frombuffer(plain, np.uint8, offset=first)
    runs = json.loads(plain[4:first])
    numbers = sum(length for _, length in runs) // 2
    inside = body[len(body) - 2 * numbers :].reshape(2, numbers)[::-1].T.ravel()
    parts, outside, taken = [], 0, 0
    for start, length in runs:
        gap = start - outside - taken
        parts += [body[outside : outside + gap], inside[taken : taken + length]]
        outside, taken = outside + gap, taken + length
    parts.append(body[outside : len(body) - 2 * numbers])
    return b"".join(map(bytes, parts))
