# SPDX-License-Identifier: MIT
"""The command line in one process, and what its tests share."""

import wave
from pathlib import Path

import numpy as np
import pytest
from components import make_pipeline

import facetalk_hf
from facetalk_hf.cli.main import main


RATE = 16000


needs_model = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """Write (S,) float as 16-bit mono at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A tiny pipeline without a head, saved: enough for every check that comes before the first step."""
    folder = tmp_path_factory.mktemp("models") / "headless"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def facetalk(capsys):
    """Run the command in this process; gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leave:
            main([str(argument) for argument in arguments])
        return leave.value.code, *capsys.readouterr()

    return run


def assert_one_line(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr, with these words in it."""
    code, out, error = result
    assert code == 2 and out == ""
    assert error.startswith("facetalk: ") and error.count("\n") == 1 and "Traceback" not in error, error
    assert all(word in error for word in words), error
