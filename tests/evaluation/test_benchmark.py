# SPDX-License-Identifier: MIT
"""The timings in benchmarks/ run to their end, say what they were run with, and can be taken up again."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from components import RATE, make_denoiser, make_pipeline, speech_like
from scripts import run_forked

from facetalk_hf import FaceTalkError
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.evaluation.timing import Duration, best, hop_durations, peak_memory, step_duration


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "benchmark.py"


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys):
    """Run the script with a pipeline; what it printed and what it kept."""

    def run(pipe, *options):
        pipe.save_pretrained(tmp_path / "model")
        options = ["--model", tmp_path / "model", "--seconds", "1", "--repeat", "1", "--steps", "2", *options]
        options += ["--json", tmp_path / "results.json", "--page", tmp_path / "page.md"]
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, options)])
        runpy.run_path(str(SCRIPT))["main"]()
        return capsys.readouterr().out, json.loads((tmp_path / "results.json").read_text())["sections"]

    return run


def test_stages_are_ratios_with_versions_and_can_be_taken_up_again(benchmark, tmp_path):
    (tmp_path / "page.md").write_text("# Title\n\n<!-- performance -->\nold\n<!-- /performance -->\n\nThe end.\n")
    pipe = make_pipeline(denoiser=make_denoiser(attention_mode="local"))
    text, sections = benchmark(pipe, "--only", "batch", "stages", "--batches", "1", "2")
    assert "x real time" in text and "torch" in text
    stages = sections["stages"]
    assert stages["conditions"]["torch"] == torch.__version__ and stages["conditions"]["cpu"]
    first, step, whole = stages["rows"]
    assert [row["what"] for row in stages["rows"]] == ["audio encoding", "denoising", "audio to codes, 2 steps"]
    assert min(first["seconds"], step["seconds"], whole["cpu_seconds"]) > 0
    assert first["real_time"] == pytest.approx(first["seconds"]) and first["encoding"] == 1
    assert whole["encoding"] == pytest.approx(whole["cpu_seconds"] / first["cpu_seconds"])
    assert [row["clips"] for row in sections["batch"]["rows"]] == [1, 2]
    assert sections["batch"]["rows"][1]["throughput"] == pytest.approx(2 / sections["batch"]["rows"][1]["seconds"])

    # Another section later: the two stay as they were, and the page has all of them between its markers.
    _, again = benchmark(pipe, "--only", "streaming")
    assert again["stages"] == stages and again["batch"] == sections["batch"]
    assert again["streaming"]["rows"] == [] and "not causal" in again["streaming"]["problem"]
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Title\n\n<!-- performance -->") and page.endswith("The end.\n") and "old" not in page
    assert "Not measured: this model's denoiser is not causal." in page
    assert [line for line in page.splitlines() if line.startswith("###")] == [
        "### Stages",
        "### Batch",
        "### Streaming",
    ]

    # What was measured with other weights is no row of this table.
    _, other = benchmark(make_pipeline(denoiser=make_denoiser(num_layers=1)), "--only", "streaming")
    assert list(other) == ["streaming"]
    rows = other["streaming"]["rows"]
    assert [(row["hop"], row["clock"]) for row in rows] == [(1, "wall"), (1, "CPU"), (2, "wall"), (2, "CPU")]
    assert all(0 < row["p5"] <= row["p50"] <= row["p95"] <= row["p99"] <= row["worst"] for row in rows)
    assert rows[0]["hops"] > 1.5 * rows[2]["hops"] and rows[0]["delay"] < rows[2]["delay"]


def test_pictures_and_exports_are_measured(tmp_path):
    base = np.float32([[0, 0, 0], [90, 0, 0], [0, 90, 0], [0, 0, 90]])
    faces = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    animation = HeadAnimation(base, np.zeros((1, 4, 3)), np.zeros((3, 1)), ("jawOpen",), faces)
    script = runpy.run_path(str(SCRIPT))
    rows = list(script["files"](animation, script["parse_args"](["--frames", "2", "--size", "32"])))
    assert all(took.wall > 0 for _, took, _ in rows)
    measured = [what.split(" ")[-1] for what, _, unit in rows if what.startswith("export")]
    assert {"glb", "npz", "csv"} <= set(measured) and [what[:6] for what, _, _ in rows[:3]] == [
        "render",
        "render",
        "mp4 of",
    ]


def test_time_and_memory_against_length(benchmark, monkeypatch):
    monkeypatch.setattr(subprocess, "run", run_forked)
    text, sections = benchmark(make_pipeline(), "--only", "length", "batch", "--lengths", "2", "-1", "--batches", "1")
    row, bad = sections["length"]["rows"]
    assert row["audio_seconds"] == 2 and row["steps"] == 2 and row["seconds"] > 0
    assert 0.05 < row["loaded_gb"] <= row["peak_gb"] < 8
    # A process that ends badly does not end the run.
    assert bad == {"audio_seconds": -1, "steps": 2, "failed": 1}
    assert "-1 s: the process ended with exit code 1." in text and sections["batch"]["rows"]


def test_results_of_another_script_are_left_alone(benchmark, tmp_path):
    (tmp_path / "results.json").write_text('{"rows": {}}')
    with pytest.raises(FaceTalkError, match="no results file of this script"):
        benchmark(make_pipeline(), "--only", "batch")


def test_best_takes_the_fastest_by_each_clock():
    assert Duration.fastest([Duration(1, 5), Duration(2, 3)]) == (1, 3)
    calls = []
    best(lambda: calls.append(0), 3)
    assert len(calls) == 4
    assert peak_memory() > 0.05


def test_a_step_is_what_a_call_takes_more_with_each():
    pipe = make_pipeline()
    assert 0 < step_duration(pipe, speech_like(1.0), RATE, 4).cpu < 1
    found = hop_durations(pipe, speech_like(2.0), RATE, 2, num_inference_steps=2)
    # 48 frames, two at a time; the last ones still wait for sound, and the first portion does not count.
    assert 10 < len(found.wall) < 24 and (found.cpu > 0).all()


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
        "--segment-frames",
        "12",
        "--json",
        str(tmp_path / "x.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    runpy.run_path(str(SCRIPT.with_name("training.py")))["main"]()
    assert "x online" in capsys.readouterr().out
    written = json.loads((tmp_path / "x.json").read_text())
    part, whole = written["rows"]
    assert (part["segment_frames"], whole["segment_frames"]) == (12, 24)
    for row in written["rows"]:
        assert row["speedup"]["wall"] > 1 and min(row[name]["cpu"] for name in ("loader", "encoder", "update")) > 0
        cached = row["loader"]["wall"] + row["update"]["wall"]
        assert row["speedup"]["wall"] == pytest.approx(1 + row["encoder"]["wall"] / cached)


def test_official_heads_benchmark_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["official_heads.py", "--resolution", "24", "--points", "500"])
    runpy.run_path(str(SCRIPT.with_name("official_heads.py")))["main"]()
    assert " 0 wrong signs" in capsys.readouterr().out
