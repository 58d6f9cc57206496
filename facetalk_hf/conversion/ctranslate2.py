# SPDX-License-Identifier: MIT
"""Read the tensors of a model.bin of CTranslate2. Its own library runs such files, but gives no tensor back.

The format is that of `ModelSpec._serialize` in CTranslate2's python/ctranslate2/specs/model_spec.py.
"""

import os
import struct
from pathlib import Path

import numpy as np

from ..errors import FaceTalkError


VERSIONS = (4, 5, 6)  # of the binary format: before 4 a tensor doesn't say its type
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # bfloat16, number 5, is none of numpy's
MAX_RANK = 8  # no model has more: what claims to is another file


def read_ctranslate2(path: str | os.PathLike) -> tuple[str, dict[str, np.ndarray]]:
    """Read a model.bin of CTranslate2 without unpickling or running anything of it.

    Args:
        path: the file. Pieces of it are put together first, `cat model.bin.part1 model.bin.part2 > model.bin`.

    Returns:
        The name of its kind ("WhisperSpec"), and its tensors by their names, aliases included.

    Raises:
        FaceTalkError: the file is missing, cut, of another format or of a type that is not read.
    """
    try:
        reader = _Reader(Path(path))
    except OSError as error:
        raise FaceTalkError(f"cannot read {path}: {error.strerror or error}") from error
    version = reader.number("I")
    if version not in VERSIONS:
        raise FaceTalkError(f"{path} is no model.bin of CTranslate2, format {VERSIONS[0]} to {VERSIONS[-1]}")
    kind, _ = reader.name(), reader.number("I")
    tensors = {}
    for _ in range(reader.number("I")):
        name, rank = reader.name(), reader.number("B")
        reader.check(rank <= MAX_RANK)
        shape = [reader.number("I") for _ in range(rank)]
        number, size = reader.number("B"), reader.number("I")
        if number >= len(TYPES):
            raise FaceTalkError(f"{path} holds {name} in bfloat16, convert it with --quantization float16")
        values = np.frombuffer(reader.take(size), np.dtype(TYPES[number]).newbyteorder("<"))
        reader.check(values.size == int(np.prod(shape, dtype=object)))
        tensors[name] = values.reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.name(), reader.name()
        reader.check(name in tensors)
        tensors[alias] = tensors[name]
    reader.check(reader.place == len(reader.data))
    return kind, tensors


class _Reader:
    """A file and the place where reading stands."""

    def __init__(self, path: Path):
        self.path, self.place = path, 0
        self.data = path.read_bytes()

    def check(self, fits: bool) -> None:
        if not fits:
            raise FaceTalkError(f"{self.path} is damaged or no whole model.bin of CTranslate2: are its pieces joined?")

    def take(self, size: int) -> bytes:
        part = self.data[self.place : self.place + size]
        self.check(len(part) == size)
        self.place += size
        return part

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def name(self) -> str:
        text = self.take(self.number("H"))
        self.check(text.isascii() and text.endswith(b"\0"))
        return text[:-1].decode()
