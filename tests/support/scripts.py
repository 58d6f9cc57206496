# SPDX-License-Identifier: MIT
"""Scripts of training/ and benchmarks/ as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType


ROOT = Path(__file__).parents[2]


def load_script(path: str) -> ModuleType:
    """The module of a script, by its path in the repository."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
