# SPDX-License-Identifier: MIT
"""benchmarks/benchmark.py runs to its end and says what it was run with."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from conftest import make_pipeline


SCRIPT = Path(__file__).parent.parent / "benchmarks" / "benchmark.py"


def test_benchmark_prints_ratios_and_versions(tmp_path, monkeypatch, capsys):
    make_pipeline().save_pretrained(tmp_path / "model")
    results = tmp_path / "results.json"
    options = ["--model", tmp_path / "model", "--seconds", "1", "--repeat", "1", "--json", results]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, options)])
    runpy.run_path(str(SCRIPT))["main"]()
    text = capsys.readouterr().out
    assert "x real time" in text and "torch" in text
    written = json.loads(results.read_text())
    assert written["audio_seconds"] == 1 and written["machine"]["torch"]
    assert [row["what"] for row in written["rows"]] == ["audio encoding", "denoising", "audio to codes"]
    assert all(row["seconds"] > 0 for row in written["rows"][::2])
    assert written["rows"][0]["real_time"] == pytest.approx(written["rows"][0]["seconds"])


def test_training_benchmark_runs(tmp_path, monkeypatch, capsys):
    options = [
        "--preset",
        "tiny",
        "--seconds",
        "1",
        "--steps",
        "1",
        "--clips",
        "2",
        "--json",
        str(tmp_path / "x.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    runpy.run_path(str(SCRIPT.with_name("training.py")))["main"]()
    assert "x online" in capsys.readouterr().out
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["speedup"] > 1 and set(written["seconds"]) == {"loader", "encoder", "update"}


def test_official_heads_benchmark_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["official_heads.py", "--resolution", "24", "--points", "500"])
    runpy.run_path(str(SCRIPT.with_name("official_heads.py")))["main"]()
    assert " 0 wrong signs" in capsys.readouterr().out
