# SPDX-License-Identifier: MIT
"""Registry of the file formats that animations are saved to and loaded from.

A module registers its writers and readers when it is imported; `facetalk_hf.animation` imports those of the library.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar


Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Writer:
    """Writer of one format.

    Args:
        write (`Callable`): called with the path, the animation and the options of the format; returns the path.
        needs_head (`bool`): whether it needs the head's mesh; otherwise the motion alone is enough.
    """

    write: Callable[..., Path]
    needs_head: bool


WRITERS: dict[str, Writer] = {}
"""What `HeadAnimation.save` can write, by the name of the format, in the order in which they were registered."""

READERS: dict[str, Callable[..., Any]] = {}
"""What `HeadAnimation.load` can read: functions of a path and a decoder."""


def register_writer(*names: str, needs_head: bool = True) -> Callable[[Function], Function]:
    """Register the decorated function `write(path, animation, **options)` as the writer of formats of these names."""

    def register(function: Function) -> Function:
        WRITERS.update(dict.fromkeys(names, Writer(function, needs_head)))
        return function

    return register


def register_reader(*names: str) -> Callable[[Function], Function]:
    """Register the decorated function `read(path, decode)` as the reader of formats of these names."""

    def register(function: Function) -> Function:
        READERS.update(dict.fromkeys(names, function))
        return function

    return register


def format_of(path: str | os.PathLike) -> str:
    """Return the format that a path's suffix stands for, known or not: a path without suffix is a folder of ply."""
    path = Path(path)
    for name in ("weights", "visemes"):
        if path.name.lower().endswith(f".{name}.csv"):
            return name
    return path.suffix[1:].lower() or "ply"
