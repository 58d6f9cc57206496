# SPDX-License-Identifier: MIT
"""What calls and streams cost in an older revision and in this one, each with its own code and weights.

    python benchmarks/versions.py --old a0b6dc7 --page docs/performance.md

a0b6dc7 is of before emotion, poses, tongue, and an ear of twice the size.

The two take turns, --repeat times, in processes of their own: what else the machine does meets both. Processor time of
one thread; of a call the least of three (24 of few steps), of a stream the least median portion; then the least of all
turns.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.studies import command, markdown_table, revision, write_between_markers
from facetalk_hf.evaluation.timing import machine
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
WHAT = [
    f"{steps}, {what}"
    for steps in ("30 steps", "few steps")
    for what in ("call, x real time", "stream, ms a portion of 1", "stream, ms a portion of 2")
]

# Names that every version has.
PROGRAM = """
import sys
from pathlib import Path
from time import process_time
import numpy as np, torch
import facetalk_hf
from facetalk_hf import TINY, FaceTalkPipeline, load_audio
torch.set_num_threads(1)
seconds = float(sys.argv[1])
clip = np.resize(load_audio(Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"), round(16000 * seconds))
plain = FaceTalkPipeline.from_pretrained(TINY)
plain.set_progress_bar_config(disable=True)
for pipe in (plain, plain.few_steps()):
    calls = []
    for _ in range(3 if pipe is plain else 24):  # a call of few steps is too short for three
        begun = process_time()
        pipe(clip, 16000, generator=torch.Generator().manual_seed(0), output_type="expression")
        calls.append(process_time() - begun)
    print(min(calls) / seconds)
    for hop in (1, 2):
        stream = pipe.open_stream(16000, generator=torch.Generator().manual_seed(0), hop=hop)
        size, portions = 16000 * hop // 24, []
        for start in range(0, len(clip) - size, size):
            begun = process_time()
            if len(stream.push(clip[start : start + size])):
                portions.append(process_time() - begun)
        print(1e3 * float(np.median(portions)))
"""


def measure(checkout: Path, seconds: float) -> list[float]:
    """Take the numbers of `WHAT` in a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", PROGRAM, str(seconds)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, cwd=checkout)
    if done.returncode:
        raise FaceTalkError(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", metavar="REV", required=True, help="git revision to compare with")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the clip")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--page", type=Path, help="docs/performance.md: write the table between its markers")
    args = parser.parse_args()
    found: list[list[list[float]]] = [[], []]
    with revision(args.old, ROOT) as older:
        for _ in range(args.repeat):
            for numbers, checkout in zip(found, (older, ROOT), strict=True):
                numbers.append(measure(checkout, args.seconds))
    before, now = (np.min(numbers, axis=0) for numbers in found)
    rows = [
        (name, f"{old:.4g}", f"{new:.4g}", f"{100 * (new / old - 1):+.1f} %")
        for name, old, new in zip(WHAT, before, now, strict=True)
    ]
    table = markdown_table(("", args.old, "now", "more"), rows)
    print(table)
    if args.page:
        about = f"Least of {args.repeat}, {args.seconds:g} s of sound, processor time; {machine()}. `{command()}`"
        write_between_markers(args.page, "versions", f"{table}\n\n{about}")


if __name__ == "__main__":
    run_script(main)
