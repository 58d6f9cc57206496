# SPDX-License-Identifier: MIT
"""The command starts at once: what needs no model loads no torch. Measured in processes of their own."""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from animations import talk
from fresh import ROOT, run_fresh


# Runs each command in a fork of a new process, and says how it ended and what it left in sys.modules.
PROGRAM = """
import json, os, sys
from facetalk_hf.cli.main import main
for command in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if not os.fork():
        try:
            main(command.split())
        except SystemExit as leave:
            print(json.dumps([command, leave.code, sorted(sys.modules)]), flush=True)
        finally:
            os._exit(0)
    os.wait()
"""
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "huggingface_hub"}


COMMANDS = {
    "--help": 0,
    "--version": 0,
    "generate --help": 0,
    "fit --help": 0,
    "export-onnx --help": 0,
    "export-onnx --output out --hop 0": 2,
    "export-onnx --output talk.wav": 2,
    "generate missing.wav --output-dir out": 2,
    "generate text.wav --output-dir out": 2,
    "generate talk.wav missing.wav --output-dir out": 2,
    "generate talk.wav --output-dir out --steps 0": 2,
    "generate talk.wav --output-dir out --model missing": 2,
    "generate talk.wav --output-dir out --identity table.npy": 2,
    "generate talk.wav --output-dir out --keyframes missing.csv": 2,
    "generate talk.wav --output-dir out --phones text.wav": 2,
    "stream missing.wav": 2,
    "stream text.wav": 2,
    "fit missing --output out": 2,
    "convert mononphm --checkpoint missing.tar --anchors table.npy --output out": 2,
    "convert nphm --identity-checkpoint no.tar --expression-checkpoint no.tar --anchors no.npy --output out": 2,
    "info": 0,
    "info missing": 2,
    "info talk.npz": 0,
    "export missing.npz --output out.csv": 2,
    "export text.npz --output out.glb": 2,
    "export talk.npz --output out.csv": 0,
    "export talk.npz --output out.json": 0,
    "export talk.npz --output weights.csv --format weights --fps 60 --smoothing 0.1": 0,
    "export talk.npz --output out.wav --audio talk.wav": 0,
}
"""Exit codes of what must load none of them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files that the commands below read."""
    folder = tmp_path_factory.mktemp("startup")
    talk().save(folder / "talk.npz")
    (folder / "text.wav").write_text("no sound in here\n")
    (folder / "text.npz").write_text("no archive\n")
    shutil.copy(ROOT / "facetalk_hf" / "assets" / "demo.wav", folder / "talk.wav")
    np.save(folder / "table.npy", np.zeros((2, 3)))
    return folder


@pytest.fixture(scope="module")
def ended(folder) -> dict[str, list]:
    """Exit code and modules of every command."""
    said = run_fresh(PROGRAM, json.dumps(list(COMMANDS)), cwd=folder).splitlines()
    return {command: rest for command, *rest in (json.loads(line) for line in said if line.startswith('["'))}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_torch(ended, command):
    code, modules = ended[command]
    assert code == COMMANDS[command] and not HEAVY & set(modules)


def test_the_benchmark_of_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["startup.py", "--repeat", "1", "--page", str(tmp_path / "page.md")])
    script = runpy.run_path(str(ROOT / "benchmarks" / "startup.py"))
    # As slow as a busy machine may be: how long a command takes is for the benchmark to say, not for the suite.
    commands = tuple((arguments, code, 60.0) for arguments, code, _ in script["COMMANDS"][:3])
    monkeypatch.setitem(script["main"].__globals__, "COMMANDS", commands)
    script["main"]()
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("<!-- startup -->") and "| `facetalk --version` |" in page
    monkeypatch.setitem(script["main"].__globals__, "COMMANDS", (("--version", 0, 0.0),))
    with pytest.raises(SystemExit, match="more CPU time than wanted: --version"):
        script["main"]()
    monkeypatch.setitem(script["main"].__globals__, "COMMANDS", (("--version", 1, 1.0),))
    with pytest.raises(SystemExit, match="ended with 0"):
        script["main"]()


@pytest.mark.parametrize(
    ("given", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3"), ({"OMP_NUM_THREADS": "2"}, "None")]
)
def test_numpy_computes_by_one_thread_unless_somebody_says_otherwise(monkeypatch, given, threads):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    # Said too late, it would change nothing.
    code = "import sys, facetalk_hf.cli, os; print('numpy' in sys.modules, os.environ.get('OPENBLAS_NUM_THREADS'))"
    assert run_fresh(code, cwd=ROOT).split() == ["False", threads]
