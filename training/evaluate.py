# SPDX-License-Identifier: MIT
"""Measure a pipeline on the test voices of the corpus: table on the screen, JSON in a file.

    python training/evaluate.py --corpus DIR --model DIR --output metrics.json [--clips 40] [--samples 10]

"regression" is the audio encoder's own deterministic prediction, "diffusion" the whole pipeline. Every score is
agreement with the rule-based teacher, not with captured faces; docs/evaluation.md says what each one is.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from facetalk_hf import FaceTalkError, FaceTalkPipeline
from facetalk_hf.evaluation.scores import (
    FixedMesh,
    evaluate,
    held_out_voices,
    pipeline_predictor,
    regression_predictor,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.hub.eval_results import plain_table
from facetalk_hf.scripts import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", required=True, help="folder or Hub id of a pipeline")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=40, help="of each voice")
    parser.add_argument("--samples", type=int, default=1, help="of each clip; from 2 on also diversity")
    parser.add_argument("--steps", type=int, help="denoising steps; the pipeline's default if left out")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--mouth-temperature", type=float)
    parser.add_argument("--blink-contrast", type=float)
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; the next one has the next")
    parser.add_argument("--batch-size", type=int, default=8, help="clips at once; changes the time, not the scores")
    parser.add_argument("--window", type=int, help="frames between the seams of a motion made in windows")
    parser.add_argument("--encoder-only", action="store_true", help="the regression alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    if pipe.head is None:
        raise FaceTalkError(f"{options.model} has no head, so its codes cannot be compared with the corpus")
    settings = {"num_inference_steps": options.steps}
    settings |= {name: getattr(options, name) for name in ("guidance_scale", "mouth_temperature", "blink_contrast")}
    settings = {name: value for name, value in settings.items() if value is not None}
    models = {}
    if hasattr(pipe.audio_encoder, "predict_motion"):
        models["regression"] = (regression_predictor(pipe), 1)
    if not options.encoder_only:
        models["diffusion"] = (pipeline_predictor(pipe, **settings), options.samples)

    voices = held_out_voices(options.corpus, options.clips, options.split)
    mesh, scores, begin = FixedMesh(pipe.head), {}, time.time()
    for voice, rows in voices.items():
        scores[voice] = {}
        for name, (predict, samples) in models.items():
            scores[voice][name] = evaluate(
                predict, rows, pipe.head, samples=samples, batch=options.batch_size, seed=options.seed,
                window=options.window, mesh=mesh,
            )  # fmt: skip
            print(f"{voice}, {name}: {len(rows)} clips, {time.time() - begin:.0f} s", flush=True)
    print(plain_table(scores))
    settings |= {"clips": options.clips, "samples": options.samples, "seed": options.seed, "split": options.split}
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "scores": scores}, indent=1))


if __name__ == "__main__":
    run_script(main)
