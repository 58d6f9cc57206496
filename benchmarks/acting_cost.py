# SPDX-License-Identifier: MIT
"""What acting costs: the same weights with and without emotion, pose and tongue, and older weights beside them.

    git archive d77558a^ facetalk_hf/checkpoints/facetalk-tiny | tar x -C OLD     # version 0.1's weights
    python benchmarks/acting_cost.py --before OLD/facetalk_hf/checkpoints/facetalk-tiny --page docs/performance.md

All variants take turns, a call and a stream of each, --repeat times over: what else the machine does meets all of
them. Processor time of one thread; of a call the least one, of a stream the median portion of the least run.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import TINY, FaceTalkPipeline, load_audio
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import clocks, hop_durations, machine, since
from facetalk_hf.scripts import run_script


DEMO = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
RATE, HOP = 16000, 2
BEFORE, PLAIN, TOLD, GUIDED = "version 0.1's weights", "nothing asked, no tongue", "emotion told", "emotion guided"
NOTHING: dict[str, Any] = {}
EMOTION = {"emotion": {"happy": 0.8}}
VARIANTS: dict[str, tuple[bool, dict[str, Any]]] = {  # whether a tongue is made; controls
    BEFORE: (True, NOTHING),
    PLAIN: (False, NOTHING),
    "tongue": (True, NOTHING),
    "tongue, head": (True, {"head_motion": 1.0}),
    TOLD: (True, {**EMOTION, "head_motion": 1.0, "emotion_scale": 1.0}),
    GUIDED: (True, {**EMOTION, "head_motion": 1.0, "emotion_scale": 1.5}),
}


@contextmanager
def mouth(tongue: bool) -> Iterator[None]:
    """Leave the tongue out of pipeline and streams where it is not wanted."""
    with ExitStack() as stack:
        for module in () if tongue else ("tongue", "streaming"):
            stack.enter_context(patch(f"facetalk_hf.pipeline.{module}.hears_tongue", lambda *_: False))
        yield


def measure(pipe: FaceTalkPipeline, clip: np.ndarray, tongue: bool, controls: dict) -> tuple[float, float]:
    """Take seconds of processor time of a call, and of the median portion of a stream."""
    with mouth(tongue):
        start = clocks()
        pipe(clip, RATE, generator=torch.Generator().manual_seed(0), output_type="expression", **controls)
        call = since(start).cpu
        return call, float(np.median(hop_durations(pipe, clip, RATE, hop=HOP, **controls).cpu))


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="folder of older weights")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the clip")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--page", type=Path, help="docs/performance.md: write the table between its markers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip = np.resize(load_audio(DEMO, RATE), round(args.seconds * RATE))
    rows = []
    for kind, steps in (("30 steps", "own"), ("few steps", "few")):
        names = [name for name in VARIANTS if (name != BEFORE or args.before) and (name != GUIDED or steps == "own")]
        pipes = {}
        for folder in dict.fromkeys(args.before if name == BEFORE else TINY for name in names):
            pipes[folder] = FaceTalkPipeline.from_pretrained(folder)
            pipes[folder].set_progress_bar_config(disable=True)
            pipes[folder] = pipes[folder].few_steps() if steps == "few" else pipes[folder]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(args.repeat + 1):
            for name in names:
                pipe = pipes[args.before if name == BEFORE else TINY]
                took = measure(pipe, clip, *VARIANTS[name])
                if turn:  # the first one warms up
                    found[name].append(took)
        least = {name: np.min(took, axis=0) for name, took in found.items()}
        first = least[names[0]]
        for name in names:
            call, hop = least[name]
            more = (least[name] / first - 1) * 100
            cells = (f"{call / args.seconds:.4f}", f"{more[0]:+.1f} %", f"{1e3 * hop:.2f}", f"{more[1]:+.1f} %")
            rows.append((kind, name, *cells))
            print(*rows[-1], sep=" | ", flush=True)
    table = markdown_table(
        ("sampling", "what", "call, x real time", "more", f"stream, ms a portion of {HOP}", "more "), rows
    )
    if args.page:
        about = f"Least of {args.repeat}, {args.seconds:g} s of sound, processor time; {machine()}. `{command()}`"
        write_between_markers(args.page, "acting-cost", f"{table}\n\n{about}")


if __name__ == "__main__":
    run_script(main)
