# SPDX-License-Identifier: MIT
"""How many denoising steps a model needs, and by which scheduler: lip error, blinks, liveliness and time.

    python benchmarks/sampling.py --corpus data/corpus                       # the shipped model, hours on one core
    python benchmarks/sampling.py --corpus data/corpus --steps 1 4 10 30 --schedulers ddim dpm++ --clips 2

Every row has the same clips and the same initial noise. Rows are measured once, the cheap ones first: the script can
be interrupted and started again. It writes the tables of docs/sampling.md between its markers, and all scores to
--output.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import torch

from facetalk_hf import FaceTalkError, FaceTalkPipeline
from facetalk_hf.data.corpus import decode_audio
from facetalk_hf.evaluation.scores import pipeline_predictor
from facetalk_hf.evaluation.studies import Study, columns, markdown_table, open_study, study_parser
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
STEPS = (1, 2, 4, 8, 10, 15, 20, 30, 50, 100, 250, 1000)
# Name -> class in diffusers, what differs from the model's own configuration.
SCHEDULERS = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
# Tried for one clip only, to say which of diffusers' schedulers take a network that predicts x_0.
OTHERS = {
    "dpm++ sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++ single step": ("DPMSolverSinglestepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "sa": ("SASolverScheduler", {"algorithm_type": "data_prediction"}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "edm euler": ("EDMEulerScheduler", {}),
}
OWN = {"blink_contrast": 0.0}  # the blinks that are counted are the network's own
COLUMNS = columns(
    "lve_rooted", "aperture", "f1", "blinks", "blinks_shut", "speed_ratio", "jerk_ratio", "fdd", "ms"
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    docs = ROOT / "docs"
    parser = study_parser(__doc__, docs / "results" / "sampling.json", docs / "sampling.md", 8, None)
    add = parser.add_argument
    add("--steps", type=int, nargs="+", default=STEPS)
    add("--schedulers", nargs="+", choices=SCHEDULERS, default=[*SCHEDULERS])
    add("--reference", default="dpm++", choices=SCHEDULERS, help="scheduler of the reference, at the most steps")
    add("--guidance-scale", type=float, help="default: the pipeline's")
    add("--tolerance", type=float, default=0.02, help="by which a lip error may be larger than the reference's")
    args = parser.parse_args(argv)
    if args.reference not in args.schedulers:
        parser.error(f"--reference {args.reference} is not among --schedulers")
    return args


def make_scheduler(base: dict, kind: tuple[str, dict]) -> diffusers.SchedulerMixin:
    """A scheduler with the noise schedule of the model's own; codes are not within -1 ... 1, so nothing is clipped."""
    return getattr(diffusers, kind[0]).from_config(base, clip_sample=False, prediction_type="sample", **kind[1])


def attempt(pipe: FaceTalkPipeline, make: Callable[[], diffusers.SchedulerMixin], clip: np.ndarray, seed: int) -> dict:
    """One clip in 20 steps: how far its codes lie from those of DDIM in 100, over their deviation; or the error."""
    try:
        pipe.scheduler = make()
        codes = pipeline_predictor(pipe, num_inference_steps=20, **OWN)([clip], [seed])[0]
    except (NotImplementedError, ValueError, KeyError, TypeError, IndexError, FaceTalkError) as error:
        return {"works": False, "message": f"{type(error).__name__}: {error}".split("\n")[0][:120]}
    return {"works": bool(codes.isfinite().all()), "codes": codes}


def support(pipe: FaceTalkPipeline, base: dict, clip: np.ndarray, seed: int) -> dict[str, dict]:
    """Name -> "works", "distance" to the exact path or "message", of every scheduler."""
    pipe.scheduler = make_scheduler(base, SCHEDULERS["ddim"])
    exact = pipeline_predictor(pipe, num_inference_steps=100, **OWN)([clip], [seed])[0]
    result = {}
    for name, kind in (SCHEDULERS | OTHERS).items():
        found = attempt(pipe, partial(make_scheduler, base, kind), clip, seed)
        if (codes := found.pop("codes", None)) is not None:
            found["distance"] = float((codes - exact).square().mean().sqrt() / exact.std())
        result[name] = found
    return result


def smallest(
    rows: dict[tuple[str, int], dict], reference: dict, tolerance: float
) -> dict[str, tuple[int | None, ...]]:
    """Scheduler -> fewest steps by lip error alone, and with the reference's blinks and speed as well.

    Lip error: at most (1 + tolerance) times the reference's. Blinks: at least 95 % as many shut ones a minute. Speed:
    within 5 %. A blurred motion has a small lip error, so the first alone would reward too few steps.
    """

    def lips(row: dict) -> bool:
        return row["lve_rooted"] <= (1 + tolerance) * reference["lve_rooted"]

    def alive(row: dict) -> bool:
        shut = [(item["blinks"] or 0) * (item["blinks_shut"] or 0) for item in (row, reference)]
        speeds = [item["speed_ratio"] or 0 for item in (row, reference)]
        return shut[0] >= 0.95 * shut[1] and abs(speeds[0] - speeds[1]) <= 0.05 * speeds[1]

    result = {}
    for scheduler in dict.fromkeys(name for name, _ in rows):
        own = {steps: row for (name, steps), row in sorted(rows.items()) if name == scheduler}
        result[scheduler] = (
            next((steps for steps, row in own.items() if lips(row)), None),
            next((steps for steps, row in own.items() if lips(row) and alive(row)), None),
        )
    return result


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    args = parse_args(argv)
    study = open_study(args, guidance_scale=args.guidance_scale)
    pipe, base = study.pipe, dict(study.pipe.scheduler.config)
    study.results.measure("support", partial(support, pipe, base, decode_audio(study.rows[0]), args.seed))
    options = OWN if args.guidance_scale is None else OWN | {"guidance_scale": args.guidance_scale}
    for steps in sorted(args.steps):
        for name in args.schedulers:
            pipe.scheduler = make_scheduler(base, SCHEDULERS[name])
            study.measure(f"{name} {steps}", pipeline_predictor(pipe, num_inference_steps=steps, **options))
        text = write(args, study)  # now, so that an interrupted study has its tables
    print(text)


def write(args: argparse.Namespace, study: Study) -> str:
    """The tables of the page, which are returned as well."""
    results = study.results
    keys = {name: name.rsplit(" ", 1) for name in results.rows if name != "support"}
    rows = {(scheduler, int(steps)): results.rows[name] for name, (scheduler, steps) in keys.items()}
    known = [steps for scheduler, steps in rows if scheduler == args.reference]
    if not known:
        return ""
    most = max(known)
    reference = rows[args.reference, most]
    shut = 100 * (reference["blinks_shut_target"] or 0)
    parts = [
        f"Model {results.settings['model']}, {args.clips} clips of each held-out voice, seed {args.seed}. The teacher "
        f"has {reference['blinks_target']:.1f} blinks a minute, {shut:.0f} % of them above 0.8. {results.provenance()}"
    ]
    order = {name: index for index, name in enumerate(SCHEDULERS)}
    table = [
        [scheduler, steps, *(row[key] for key in COLUMNS.values()), row["lve_rooted"] / reference["lve_rooted"]]
        for (scheduler, steps), row in sorted(rows.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    ]
    parts.append(markdown_table(["scheduler", "steps", *COLUMNS, "LVE / reference"], table))
    parts.append(
        f"Fewest steps whose LVE is at most {100 * args.tolerance:g} % above that of {args.reference} in {most} "
        "steps; and those which also keep 95 % of its shut blinks and its speed to 5 %:"
    )
    fewest = smallest(rows, reference, args.tolerance)
    parts.append(
        markdown_table(["scheduler", "by LVE", "and alive"], [[name, *pair] for name, pair in fewest.items()])
    )
    parts.append(
        'Schedulers of diffusers with `prediction_type="sample"`; one clip in 20 steps, root mean square distance of '
        "its codes to those of DDIM in 100 steps, over their deviation. A scheduler that draws noise ends elsewhere."
    )
    table = []
    for name, (kind, _) in (SCHEDULERS | OTHERS).items():
        found = results.rows["support"].get(name)
        if found:
            said = found.get("message", "")
            table.append([f"{name} (`{kind}`)", "yes" if found["works"] else "no", found.get("distance"), said])
    parts.append(markdown_table(["scheduler", "runs", "distance", "error"], table))
    return study.write("sampling", *parts)


if __name__ == "__main__":
    run_script(main)
