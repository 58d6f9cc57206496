# SPDX-License-Identifier: MIT
"""Rows of a study are measured once; tables replace what lies between their markers and nothing else."""

import json
import sys

import numpy as np
import pytest
import torch
from components import make_pipeline, speech_like

from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.studies import (
    StudyResults,
    blink_peaks,
    command,
    markdown_table,
    one_step_predictor,
    write_between_markers,
)


def test_blink_peaks():
    weights = np.zeros((20, len(EXPRESSIONS)), np.float32)
    weights[:2] = 0.5  # begins within a blink
    weights[5:8, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = np.array([[0.4], [0.9], [0.4]])
    weights[12, INDEX["eyeBlink_L"]] = 0.4  # a wink of half the floor
    weights[17:, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = [0.7, 1.0]
    assert blink_peaks(weights) == pytest.approx([0.5, 0.9, 0.85])
    assert len(blink_peaks(np.zeros_like(weights))) == 0


def test_one_step_is_the_pipeline_from_zeros():
    pipe, clip = make_pipeline(), speech_like(1.0)
    made = one_step_predictor(pipe)([clip], [3])[0]
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "expression", "sampling_rate": 16000}
    expected = pipe(clip, latents=torch.zeros(1, len(made), made.shape[1]), **options).expressions[0]
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


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
