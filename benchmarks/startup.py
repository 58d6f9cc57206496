# SPDX-License-Identifier: MIT
"""How long the `facetalk` command takes to start: help, complaints about input, and what needs no model.

`python benchmarks/startup.py [--page docs/performance.md]`: each command in processes of its own, the fastest of
`--repeat`. CPU time is that of the process and all its threads. Ends with exit code 1 where a command needs more than
is wanted of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import conditions


# Arguments, the exit code that is right, and the CPU seconds that are wanted.
COMMANDS: tuple[tuple[str, int, float], ...] = (
    ("--help", 0, 0.5),
    ("--version", 0, 0.5),
    ("generate missing.wav --output-dir out", 2, 1.0),
    ("generate text.wav --output-dir out", 2, 1.0),
    ("info", 0, 1.0),
    ("info talk.npz", 0, 1.0),
    ("export talk.npz --output talk.csv", 0, 1.0),
    ("export talk.npz --output talk.json", 0, 1.0),
)


def write_inputs(folder: Path) -> None:
    """Write what the commands read: 100 frames of motion without a head, and a file that is no sound."""
    weights = np.random.default_rng(0).random((100, len(EXPRESSIONS)))
    head = {"base": np.zeros((0, 3)), "targets": np.zeros((len(EXPRESSIONS), 0, 3)), "faces": np.zeros((0, 3), int)}
    HeadAnimation(**head, weights=weights, target_names=EXPRESSIONS).save(folder / "talk.npz")
    (folder / "text.wav").write_text("no sound in here\n")


def measure(arguments: str, code: int, folder: Path) -> tuple[float, float]:
    """Run a command once; wall and CPU seconds of its process."""
    start, before = perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "facetalk_hf.cli", *arguments.split()], cwd=folder, capture_output=True, text=True
    )
    after, wall = os.times(), perf_counter() - start
    if done.returncode != code:
        raise SystemExit(f"facetalk {arguments} ended with {done.returncode}: {done.stderr}")
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="processes for each command")
    parser.add_argument("--page", type=Path, default=None, help="also write the table into this Markdown page")
    args = parser.parse_args()
    machine, rows, slow = conditions(), [], []
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        for arguments, code, wanted in COMMANDS:
            runs = [measure(arguments, code, Path(folder)) for _ in range(args.repeat)]
            wall, cpu = (min(times) for times in zip(*runs, strict=True))
            rows.append((f"`facetalk {arguments}`", wall, cpu, wanted))
            slow += [arguments] if cpu > wanted else []
    where = f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, load average {machine['load']} before"
    table = markdown_table(("command", "wall s", "CPU s", "wanted: less than"), rows)
    text = f"{where}; python {machine['python']}, the fastest of {args.repeat}. Measured by `{command()}`.\n\n{table}"
    print(text)
    if args.page:
        write_between_markers(args.page, "startup", text)
    if slow:
        raise SystemExit("more CPU time than wanted: " + "; ".join(slow))


if __name__ == "__main__":
    main()
