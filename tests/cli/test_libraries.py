# SPDX-License-Identifier: MIT
"""The shortcuts of the command's imports give what the libraries would have found."""

import gc
import importlib.metadata
from types import SimpleNamespace

from transformers.utils import import_utils

from facetalk_hf.cli import libraries


def test_what_is_wanted_later_is_made_once_and_only_if_it_is_wanted():
    made = []
    packages = libraries._Later(lambda: made.append(1) or {"PIL": ["pillow"], "yaml": ["PyYAML", "other"]})
    assert made == []
    assert "PIL" in packages and packages["yaml"] == ["PyYAML", "other"] and packages.get("absent") is None
    assert dict(packages) == {"PIL": ["pillow"], "yaml": ["PyYAML", "other"]} and made == [1]


def test_the_structure_of_a_folder_is_that_of_a_file_in_it(tmp_path):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "modeling_some.py").write_text('__all__ = ["SomeModel"]\n')
    scan = import_utils.create_import_structure_from_path
    quick = libraries._by_folder(scan)
    assert quick(tmp_path / "__init__.py") == quick(tmp_path) == scan(str(tmp_path / "__init__.py")) != {}


def test_what_was_replaced_is_itself_again_and_what_is_not_there_is_left_alone():
    before, place = importlib.metadata.packages_distributions, SimpleNamespace(double=lambda value: 2 * value)
    with libraries._replaced(place, "double", lambda double: lambda value: double(value) + 1):
        assert place.double(2) == 5
    with libraries._replaced(place, "absent", lambda function: function):
        assert not hasattr(place, "absent")
    assert place.double(2) == 4
    libraries.import_libraries()
    assert gc.isenabled() and importlib.metadata.packages_distributions is before
    gc.unfreeze()
