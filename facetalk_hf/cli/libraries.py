# SPDX-License-Identifier: MIT
"""The heavy imports of the command, without work that the libraries do twice or at every start.

A quarter of the command's processor time was theirs. Each shortcut gives what the library would have found itself, and
is left out where a version of it has no such place.
"""

import gc
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def import_libraries() -> None:
    """Import torch, diffusers, transformers and the pipeline on top of them."""
    # They make a million objects that stay: the collector would walk through these again and again, then and later.
    gc.disable()
    try:
        with _replaced(importlib.metadata, "packages_distributions", _kept_packages):
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


def _kept_packages(find: Callable[[], Any]) -> Callable[[], dict[str, list[str]]]:
    """Keep on disk which distribution a package is of: diffusers reads every installed file's name for it.

    What is installed or removed changes the folder that it lies in, and is looked up anew.
    """

    def packages() -> dict[str, list[str]]:
        import numpy as np

        from ..files import kept_arrays

        folders = [(path, os.stat(path).st_mtime_ns) for path in sys.path if os.path.isdir(path)]
        key = hashlib.sha256(repr((sys.version, folders)).encode()).digest()
        kept = kept_arrays("packages", key, lambda: {"json": np.array(json.dumps(dict(find())))})
        return json.loads(str(kept["json"]))

    return packages


def _by_folder(scan: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Ask for a folder's structure by the folder: transformers asks by a file in it and misses what it has cached.

    It reads the source of all its models for this, 3,300 files, and would read them twice.
    """
    return lambda path: scan(Path(path).parent if Path(path).is_file() else path)
