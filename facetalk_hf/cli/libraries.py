# SPDX-License-Identifier: MIT
"""The heavy imports of the command, without work that the libraries do twice or at every start.

A quarter of the command's processor time was theirs. Each shortcut gives what the library would have found itself, and
is left out where a version of it has no such place.
"""

import atexit
import gc
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


def import_libraries() -> None:
    """Import torch, diffusers, transformers and the pipeline on top of them."""
    # They make a million objects that stay: the collector would walk through these again and again, then and later.
    gc.disable()
    try:
        # diffusers would read every installed file's name for what it asks about packages that few have.
        with _replaced(importlib.metadata, "packages_distributions", lambda find: lambda: _Later(find)):
            import diffusers.utils
        import transformers.utils.import_utils as structure

        with _replaced(structure, "create_import_structure_from_path", _by_folder):
            import transformers.models

        assert diffusers and transformers
        from ..pipeline import facetalk

        assert facetalk
    finally:
        gc.freeze()
        gc.enable()
    atexit.register(gc.freeze)  # nor on the way out, when nothing of it is used any more


@contextmanager
def _replaced(place: Any, name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put `wrap(function)` in the place of a module's function for a while."""
    function = getattr(place, name, None)
    if function is None:
        yield
        return
    setattr(place, name, wrap(function))
    try:
        yield
    finally:
        setattr(place, name, function)


class _Later(Mapping):
    """A mapping that is made when somebody first looks into it."""

    def __init__(self, make: Callable[[], Mapping[str, list[str]]]) -> None:
        self._make = cache(make)

    def __getitem__(self, key: str) -> list[str]:
        return self._make()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())


def _by_folder(scan: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Ask for a folder's structure by the folder: transformers asks by a file in it and misses what it has cached.

    It reads the source of all its models for this, 3,300 files, and would read them twice.
    """
    return lambda path: scan(Path(path).parent if Path(path).is_file() else path)
