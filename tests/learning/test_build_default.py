# SPDX-License-Identifier: MIT
"""The one command that rebuilds facetalk-tiny: its stages are scripts that exist and know their options."""

import subprocess
import sys
from pathlib import Path

from code_blocks import check_python


TRAINING = Path(__file__).parents[2] / "training"


def test_every_stage_is_a_script_with_these_options(tmp_path):
    command = [sys.executable, TRAINING / "build_default.py", "--ict", "ict", "--work", tmp_path / "w"]
    command += ["--people", "people"]
    result = subprocess.run([*command, "--output-dir", tmp_path / "o", "--dry-run"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {"build_heads.py", "train_nphm.py", "train_audio_encoder.py", "train_denoiser.py"} <= {
        Path(words[1]).name for words in lines
    }
    for first, *words in lines:
        assert first == "running"
        check_python(words)
    assert not (tmp_path / "w").exists()


def test_what_has_finished_is_left_out_and_a_failure_is_told(tmp_path):
    work = tmp_path / "w"
    work.mkdir()
    (work / "build_heads.done").touch()
    command = [
        sys.executable,
        TRAINING / "build_default.py",
        "--ict",
        "ict",
        "--work",
        work,
        "--output-dir",
        tmp_path / "o",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "train_nphm.py ended with exit code 2" in result.stderr
    assert result.stdout.startswith("done") and not (work / "train_nphm.done").exists()
