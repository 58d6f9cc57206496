# SPDX-License-Identifier: MIT
"""Few steps against many: the distilled denoiser and the plain one on held-out voices, and the verdict.

    python benchmarks/few_steps.py --corpus data/corpus

Every row has the same clips and the same initial noise. Rows are measured once: the script can be interrupted and
started again. It writes the table of docs/sampling.md between its markers, and all scores to --output.
"""

from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.evaluation.scores import pipeline_predictor
from facetalk_hf.evaluation.studies import columns, digest, markdown_table, open_study, study_parser
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
COLUMNS = columns(
    "lve_rooted", "aperture", "f1", "blinks", "blinks_shut", "speed_ratio", "jerk_ratio", "diversity",
    clip_ms="CPU ms per 10 s",
)  # fmt: skip


def clip_milliseconds(pipe: FaceTalkPipeline, steps: int, repeat: int = 5) -> dict[str, float]:
    """Processor time from features to codes of 10 s of speech, the fastest run: other programs do not count."""
    clip = (0.05 * np.random.default_rng(0).standard_normal(160000)).astype(np.float32)
    features, own = pipe.encode_audio(clip, sampling_rate=16000), pipe.encode_audio
    pipe.encode_audio = lambda *_, **__: features
    times = []
    for _ in range(repeat):
        start = process_time()
        pipe(clip, sampling_rate=16000, num_inference_steps=steps, output_type="expression")
        times.append(process_time() - start)
    pipe.encode_audio = own
    return {"clip_ms": 1000 * min(times)}


def verdict(student: dict, teacher: dict, tolerance: float) -> dict[str, tuple[float, bool]]:
    """Score -> (ratio to the teacher's, whether it holds). Errors may not grow, correlations and shut blinks not fall
    by more than the tolerance; speed may differ by as much either way."""

    def shut(row: dict) -> float:
        return (row["blinks"] or 0) * (row["blinks_shut"] or 0)

    def ratio(name: str) -> float:
        return student[name] / teacher[name] if teacher[name] else float("nan")

    errors = {"LVE": ratio("lve_rooted")}
    gains = {"aperture r": ratio("aperture"), "closure F1": ratio("f1"), "diversity": ratio("diversity")}
    gains["shut blinks a minute"] = shut(student) / shut(teacher) if shut(teacher) else float("nan")
    result = {name: (value, value <= 1 + tolerance) for name, value in errors.items()}
    result |= {name: (value, value >= 1 - tolerance) for name, value in gains.items()}
    speed = ratio("speed_ratio")
    return result | {"speed": (speed, abs(speed - 1) <= tolerance)}


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    docs = ROOT / "docs"
    parser = study_parser(__doc__, docs / "results" / "few_steps.json", docs / "sampling.md", 4, 2)
    add = parser.add_argument
    add("--few-steps", type=Path, help="folder of training/distill_denoiser.py; default: the model's own")
    add("--steps", type=int, nargs="+", default=[1, 2, 4], help="of the few-step weights")
    add("--plain-steps", type=int, nargs="+", default=[4, 10, 30], help="of the plain ones")
    add("--reference", type=int, default=30, help="plain steps that the verdict compares with")
    add("--tolerance", type=float, default=0.05)
    args = parser.parse_args(argv)
    study = open_study(args, few_steps=digest(args.few_steps or args.model / "few_steps"))
    results, plain, few = study.results, study.pipe, study.pipe.few_steps(args.few_steps)

    table = []
    for name, pipe, numbers in (("plain", plain, args.plain_steps), ("few-step", few, args.steps)):
        for steps in numbers:
            predict = pipeline_predictor(pipe, num_inference_steps=steps, blink_contrast=0.0)  # the network's own
            cost = partial(clip_milliseconds, pipe, steps)
            row = study.measure(f"{name} {steps}", predict, args.samples, cost)
            table.append([name, steps, *(row[key] for key in COLUMNS.values())])
    parts = [
        f"Model {results.settings['model']}, {args.clips} clips of each held-out voice, {args.samples} samples, seed "
        f"{args.seed}. {results.provenance()}",
        markdown_table(["weights", "steps", *COLUMNS], table),
    ]
    teacher = results.rows.get(f"plain {args.reference}")
    for steps in args.steps if teacher else ():
        checks = verdict(results.rows[f"few-step {steps}"], teacher, args.tolerance)
        said = "; ".join(
            f"{name} × {ratio:.3f}{'' if holds else ' (fails)'}" for name, (ratio, holds) in checks.items()
        )
        held = "holds" if all(holds for _, holds in checks.values()) else "does not hold"
        parts.append(
            f"Few-step weights in {steps} step(s) against {args.reference} plain ones, within "
            f"{100 * args.tolerance:g} %: **{held}**. {said}."
        )
    print(study.write("few-steps", *parts))


if __name__ == "__main__":
    run_script(main)
