# SPDX-License-Identifier: MIT
"""What modules of the library import: layers, circles, late imports. The contracts are in pyproject.toml."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest


ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "facetalk_hf"
MODULES = sorted(LIBRARY.rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the contracts of pyproject.toml against the library in a folder."""
    program = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo", str(ROOT / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_contracts_hold():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("place", "line", "word"),
    [
        ("animation/x.py", "from ..pipeline.facetalk import FaceTalkPipeline", "Layers"),
        ("mesh/x.py", "def f():\n    from ..head.eyes import make_eyes", "Layers"),
        ("head/x.py", "from ..motion import controls", "Layers"),
        ("audio/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..data import corpus", "Layers"),
        ("hub/x.py", "from .. import FaceTalkPipeline", "Layers"),
        ("gestures/__init__.py", "", "gestures"),
        ("animation/x.py", "def f():\n    import torch", "torch"),
        ("animation/x.py", "from ..models.denoiser import FaceTalkDenoiser", "torch"),
        ("hub/x.py", "import typer", "typer"),
        ("synthetic/x.py", "def f():\n    import onnxruntime", "onnxruntime"),
    ],
)
def test_contracts_bite(tmp_path, place, line, word):
    shutil.copytree(LIBRARY, tmp_path / "facetalk_hf", ignore=shutil.ignore_patterns("checkpoints", "assets"))
    path = tmp_path / "facetalk_hf" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n", encoding="utf-8")
    done = lint_imports(tmp_path)
    name = "gestures" if path.stem == "__init__" else f"facetalk_hf.{path.parent.name}.x ->"
    assert done.returncode == 1 and word in done.stdout and name in done.stdout, done.stdout + done.stderr


def test_no_circles():
    """No module imports itself through others, late imports counted; imports for type checkers are not."""
    graph = grimp.build_graph("facetalk_hf", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def late_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports inside functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


def is_ours(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").split(".")[0] == "facetalk_hf"
    return any(alias.name.split(".")[0] == "facetalk_hf" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_modules_of_ours_are_imported_at_the_top(path):
    """Only the command imports them late, to start at once; a circle is opened by design, not by a late import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [f"line {node.lineno}" for node in late_imports(tree) if is_ours(node)]
    assert not late or path.parent.name == "cli"
    names = [node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(tree)]
    if path != LIBRARY / "__init__.py":  # the public names, imported when they are first used
        assert not {"import_module", "__import__"} & set(names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__new__"]
