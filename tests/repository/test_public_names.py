# SPDX-License-Identifier: MIT
"""The names that `facetalk_hf` offers: imported when they are first used, and seen by help and type checkers."""

import ast
import pickle
import pydoc
import sys
from pathlib import Path

import pytest
from fresh import run_fresh

import facetalk_hf


SOURCE = Path(facetalk_hf.__file__)


def test_the_package_alone_loads_no_library(tmp_path):
    program = "import sys, facetalk_hf; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(run_fresh(program, cwd=tmp_path).split()) - set(sys.stdlib_module_names)
    assert not loaded & {"numpy", "scipy", "torch", "diffusers", "transformers", "huggingface_hub"}


def test_every_name_comes_from_its_place():
    for name in facetalk_hf.__all__:
        assert getattr(facetalk_hf, name) is not None and name in dir(facetalk_hf)
    assert not hasattr(facetalk_hf, "no_such_name")
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from facetalk_hf import no_such_name")


def test_star_and_submodules(tmp_path):
    names: dict[str, object] = {}
    exec("from facetalk_hf import *", names)
    assert not set(facetalk_hf.__all__) - set(names)
    # A module that is imported by nobody yet is no attribute; importing it makes it one, as in any package.
    program = "import facetalk_hf.audio.io as io; import facetalk_hf; print(facetalk_hf.audio.io is io)"
    assert run_fresh(program, cwd=tmp_path) == "True\n"


def test_help_shows_the_names():
    text = pydoc.plain(pydoc.render_doc(facetalk_hf))
    assert all(name in text for name in set(facetalk_hf.__all__) - {"__version__"}) and facetalk_hf.__version__ in text


def test_pickles_are_read_where_nothing_is_imported(tmp_path):
    from animations import talk

    (tmp_path / "talk.pickle").write_bytes(pickle.dumps(talk(frames=3)))
    program = "import pickle; print(pickle.load(open('talk.pickle', 'rb')).num_frames)"
    assert run_fresh(program, cwd=tmp_path) == "3\n"


def test_type_checkers_see_what_python_gives():
    """The imports for type checkers name the same places as those that are made when a name is used."""
    (block,) = [node for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == facetalk_hf._PLACES
    assert set(seen) | {"TINY", "__version__", "FaceTalkError"} == set(facetalk_hf.__all__)
