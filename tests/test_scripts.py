# SPDX-License-Identifier: MIT
"""Options of scripts are fields of a dataclass; a YAML file and the command line override their defaults."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.scripts import REQUIRED, make_parser, option, parse_config, run_script


@dataclass(kw_only=True)
class Base:
    """Options of everybody."""

    output_dir: Path = option(REQUIRED, "folder")
    batch_size: int = option(4, "samples")


@dataclass(kw_only=True)
class Options(Base):
    """Options of a test."""

    batch_size: int = option(8, "more samples")
    rate: float | None = option(None, "a number")
    kind: Literal["a", "b"] = option("a", "one of two")
    range: tuple[float, float] = option((1.0, 2.0), "a pair", metavar=("A", "B"))
    names: list[str] = option([], "words")
    model: dict = option({}, "JSON")
    fast: bool = option(False, "off")
    careful: bool = option(True, "on")

    def __post_init__(self) -> None:
        if self.fast and self.rate is None:
            raise FaceTalkError("--fast needs --rate")


def read(*words: str) -> Options:
    return parse_config(Options, "What it does.\n\nMore.", list(words))


def test_defaults_and_types():
    assert read("--output-dir", "x") == Options(output_dir=Path("x"))
    words = ["--output-dir", "x", "--batch-size", "3", "--rate", "1e-3", "--kind", "b", "--range", "0", "1.5"]
    words += ["--names", "p", "q", "--model", '{"k": [1]}', "--fast", "--no-careful"]
    assert read(*words) == Options(
        output_dir=Path("x"), batch_size=3, rate=1e-3, kind="b", range=(0.0, 1.5), names=["p", "q"],
        model={"k": [1]}, fast=True, careful=False,
    )  # fmt: skip
    first, second = read("--output-dir", "x"), read("--output-dir", "x")
    first.model["k"] = 1
    assert second.model == {} and read("--output-dir", "x").model == {}


def test_a_file_overrides_defaults_and_the_command_line_overrides_both(tmp_path):
    (tmp_path / "a.yaml").write_text("output_dir: y\nbatch_size: 2\nrange: [0.5, 1]\nrate: 1e-4\nfast: true\n")
    found = read("--config", str(tmp_path / "a.yaml"), "--batch-size", "5")
    assert found == Options(output_dir=Path("y"), batch_size=5, range=(0.5, 1), rate=1e-4, fast=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--output-dir is needed"),
        (("--output-dir", "x", "--fast"), "--fast needs --rate"),
        (("--output_dir", "x"), "unrecognized arguments: --output_dir"),
        (("--output-dir", "x", "--kind", "c"), "invalid choice"),
        (("--output-dir", "x", "--batch", "3"), "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        read(*words)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_help_shows_every_option_once():
    text = make_parser(Options, "What it does.\n\nMore.").format_help()
    assert "What it does." in text and "More." not in text and "--range A B" in text
    assert all(text.count(f"  --{name}") == 1 for name in ("output-dir", "batch-size", "names", "careful"))


@pytest.mark.parametrize("error, line", [
    (FaceTalkError("no corpus in x"), "no corpus in x"),
    (PermissionError(13, "Permission denied", "x/a.npz"), "x/a.npz: Permission denied"),
    (OSError(28, "No space left on device"), "the disk: No space left on device"),
])  # fmt: skip
def test_what_a_user_can_mend_ends_a_script_with_one_line_and_code_2(monkeypatch, capsys, error, line):
    monkeypatch.setattr("sys.argv", ["some/where/build.py"])

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run_script(fail)
    assert end.value.code == 2 and capsys.readouterr().err == f"build.py: {line}\n"


def test_a_second_process_ends_like_the_first(tmp_path):
    """It would otherwise wait for the others, or end in a traceback."""
    script = tmp_path / "train.py"
    script.write_text(
        "from facetalk_hf.errors import FaceTalkError\nfrom facetalk_hf.scripts import run_script\n"
        "def main():\n    raise FaceTalkError('no corpus in x')\nrun_script(main)\n"
    )
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "train.py: no corpus in x\n")


@pytest.mark.parametrize("content", ["- a", "a: [", None])
def test_a_file_of_options_that_cannot_be_read(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(SystemExit) as end:
        read("--config", str(tmp_path / "a.yaml"))
    assert end.value.code == 2 and "a.yaml" in capsys.readouterr().err
