# SPDX-License-Identifier: MIT
"""Rows of a study are measured once; tables replace what lies between their markers and nothing else."""

import json
import sys

import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.studies import StudyResults, command, markdown_table, write_between_markers


def test_rows_are_kept_as_they_are_measured(tmp_path):
    path, calls = tmp_path / "results.json", []

    def measure(value):
        calls.append(value)
        if value is None:
            raise KeyboardInterrupt
        return {"error": value}

    results = StudyResults(path, {"clips": 2, "steps": (1, 2)})
    results.measure("first", lambda: measure(0.5))
    with pytest.raises(KeyboardInterrupt):
        results.measure("second", lambda: measure(None))
    again = StudyResults(path, {"clips": 2, "steps": (1, 2)})
    assert again.measure("first", lambda: measure(0.25))["error"] == 0.5
    assert again.measure("second", lambda: measure(0.75))["error"] == 0.75
    assert calls == [0.5, None, 0.75]
    written = json.loads(path.read_text())
    assert list(written["rows"]) == ["first", "second"] and "torch" in written["machine"]
    assert written["rows"]["first"]["wall_seconds"] >= 0


def test_rows_of_other_settings_are_not_mixed(tmp_path):
    path = tmp_path / "results.json"
    StudyResults(path, {"clips": 2, "seed": 0}).measure("first", dict)
    with pytest.raises(FaceTalkError, match="other settings .clips, limit."):
        StudyResults(path, {"clips": 3, "seed": 0, "limit": 1})
    path.write_text("[]")
    with pytest.raises(FaceTalkError, match="no results file"):
        StudyResults(path, {})


def test_command_names_no_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "benchmarks" / "x.py"), "--corpus", str(tmp_path / "c"), "a/b"])
    assert command() == "python benchmarks/x.py --corpus c a/b"


def test_table():
    text = markdown_table(("model", "r", "n"), [("full", 0.123456, 3), ("none", float("nan"), None)])
    assert text.splitlines() == [
        "| model | r | n |", "| --- | ---: | ---: |", "| full | 0.1235 | 3 |", "| none | – | – |",
    ]  # fmt: skip


def test_table_replaces_its_own_place_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- one -->\nold\n<!-- /one -->\n\nprose \\1\n")
    write_between_markers(page, "one", r"new \1")
    write_between_markers(page, "two", "more")
    expected = "# Title\n\n<!-- one -->\nnew \\1\n<!-- /one -->\n\nprose \\1\n\n<!-- two -->\nmore\n<!-- /two -->\n"
    assert page.read_text() == expected
    write_between_markers(page, "two", "more")
    assert page.read_text() == expected
