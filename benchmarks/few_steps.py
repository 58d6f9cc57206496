# SPDX-License-Identifier: MIT
"""Few steps against many: the distilled denoiser and the plain one on held-out voices, and the verdict.

    python benchmarks/few_steps.py --corpus data/corpus
    python benchmarks/few_steps.py --corpus data/corpus --live

With --live the motion is that of a stream, in chunks of 0.1 s, with lids as a user sees them, and the table, which
goes to docs/live.md, says what part of real time a stream takes: why few steps are its default.

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
from facetalk_hf.evaluation.timing import hop_durations
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
COLUMNS = columns(
    "lve_rooted", "aperture", "f1", "blinks", "blinks_shut", "speed_ratio", "jerk_ratio", "diversity",
    clip_ms="CPU ms per 10 s",
)  # fmt: skip
LIVE_COLUMNS = {label: score for label, score in COLUMNS.items() if score != "clip_ms"} | {
    "real time, hop 1": "hop_1", "real time, hop 2": "hop_2",
}  # fmt: skip


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


def stream_predictor(pipe: FaceTalkPipeline, steps: int):
    """Like `pipeline_predictor`, of a stream."""

    def predict(clips: list[np.ndarray], seeds: list[int]) -> list[torch.Tensor]:
        result = []
        for clip, seed in zip(clips, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            stream = pipe.open_stream(16000, num_inference_steps=steps, generator=generator)
            codes = [stream.push(clip[start : start + 1600]) for start in range(0, len(clip), 1600)]
            result.append(torch.cat((*codes, stream.finish())))
        return result

    return predict


def stream_shares(pipe: FaceTalkPipeline, steps: int) -> dict[str, float]:
    """Parts of real time that a stream takes of one core, by the median portion, with one and two frames in it."""
    clip = (0.05 * np.random.default_rng(0).standard_normal(80000)).astype(np.float32)
    found = {hop: hop_durations(pipe, clip, 16000, hop, num_inference_steps=steps) for hop in (1, 2)}
    return {f"hop_{hop}": float(np.median(item.cpu)) * pipe.config["fps"] / hop for hop, item in found.items()}


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
    add("--live", action="store_true", help="streams in place of calls")
    parser.set_defaults(output=None, page=None)
    args = parser.parse_args(argv)
    place, page = ("live_steps", "live.md") if args.live else ("few_steps", "sampling.md")
    args.output, args.page = args.output or docs / "results" / f"{place}.json", args.page or docs / page
    shown = LIVE_COLUMNS if args.live else COLUMNS
    study = open_study(args, few_steps=digest(args.few_steps or args.model / "few_steps"))
    results, plain, few = study.results, study.pipe, study.pipe.few_steps(args.few_steps)

    table = []
    for name, pipe, numbers in (("plain", plain, args.plain_steps), ("few-step", few, args.steps)):
        for steps in numbers:
            if args.live:
                predict, cost = stream_predictor(pipe, steps), partial(stream_shares, pipe, steps)
            else:  # with the network's own blinks
                predict = pipeline_predictor(pipe, num_inference_steps=steps, blink_contrast=0.0)
                cost = partial(clip_milliseconds, pipe, steps)
            row = study.measure(f"{name} {steps}", predict, args.samples, cost)
            table.append([name, steps, *(row[key] for key in shown.values())])
    parts = [
        f"Model {results.settings['model']}, {args.clips} clips of each held-out voice, {args.samples} samples, seed "
        f"{args.seed}. {results.provenance()}",
        markdown_table(["weights", "steps", *shown], table),
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
    print(study.write(place.replace("_", "-"), *parts))


if __name__ == "__main__":
    run_script(main)
