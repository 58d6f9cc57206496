# SPDX-License-Identifier: MIT
"""Measure a pipeline on the test voices of the corpus: table on the screen, JSON in a file.

    python training/evaluate.py --corpus DIR --model DIR --output metrics.json [--clips 40] [--samples 10]
    python training/evaluate.py --recordings phones.json --model DIR --output lips.json [--band telephone] [--noise 10]
        [--look-ahead 0.1] [--emotion happy=0.8]

"regression" is the audio encoder's own deterministic prediction, "diffusion" the whole pipeline. Every score is
agreement with the rule-based teacher, not with captured faces; docs/evaluation.md says what each one is.
With --recordings it is measured on speech whose phones are known, of people or engines, without a motion beside it.
"""

import argparse
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from facetalk_hf import FaceTalkError, FaceTalkPipeline, LargeEar
from facetalk_hf.evaluation.recordings import (
    RecordingScorer,
    conditions,
    read_recordings,
    recordings_table,
    rules_codes,
)
from facetalk_hf.evaluation.scores import (
    FixedMesh,
    evaluate,
    held_out_voices,
    large_ear_predictor,
    phones_predictor,
    pipeline_predictor,
    regression_predictor,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.hub.eval_results import plain_table
from facetalk_hf.scripts import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="score against the motion of a corpus")
    parser.add_argument(
        "--recordings",
        type=Path,
        action="append",
        help="score lip events: JSON list of aligned recordings, or a corpus",
    )
    parser.add_argument("--model", required=True, help="folder or Hub id of a pipeline")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=40, help="of each voice")
    parser.add_argument("--samples", type=int, default=1, help="of each clip; from 2 on also diversity")
    parser.add_argument("--steps", type=int, help="denoising steps; the pipeline's default if left out")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--mouth-temperature", type=float)
    parser.add_argument("--blink-contrast", type=float)
    parser.add_argument("--look-ahead", type=float, help="seconds; by default as far as the model can")
    parser.add_argument("--emotion", help="such as happy=0.8, for the whole of every clip")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; the next one has the next")
    parser.add_argument("--batch-size", type=int, default=8, help="clips at once; changes the time, not the scores")
    parser.add_argument("--window", type=int, help="frames between the seams of a motion made in windows")
    parser.add_argument("--encoder-only", action="store_true", help="the regression alone")
    parser.add_argument("--band", choices=["telephone"], help="with --recordings: also 300 to 3400 Hz at 8 kHz")
    parser.add_argument("--noise", type=float, help="with --recordings: also white noise so many dB below the speech")
    parser.add_argument("--rules", action="store_true", help="with --recordings: also a mouth that knows the phones")
    parser.add_argument("--ear", help="with --recordings: also told what this Whisper hears; folder or Hub id")
    parser.add_argument("--recognizer", help="of --ear: folder of a phone recogniser; the embedded one if left out")
    parser.add_argument("--with-phones", action="store_true", help="with --recordings: also the model told the phones")
    options = parser.parse_args()
    if (options.corpus is None) == (options.recordings is None):
        parser.error("give either --corpus or --recordings")
    torch.set_num_threads(1)
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    if pipe.head is None:
        raise FaceTalkError(f"{options.model} has no head, so its codes cannot be compared with the corpus")
    settings = {"num_inference_steps": options.steps}
    told = ("guidance_scale", "mouth_temperature", "blink_contrast", "look_ahead", "emotion")
    settings |= {name: getattr(options, name) for name in told}
    settings = {name: value for name, value in settings.items() if value is not None}
    models = {}
    if hasattr(pipe.audio_encoder, "predict_motion"):
        models["regression"] = (regression_predictor(pipe), 1)
    if not options.encoder_only:
        models["diffusion"] = (pipeline_predictor(pipe, **settings), options.samples)

    if options.recordings:
        scores = on_recordings(options, pipe, {name: predict for name, (predict, _) in models.items()}, settings)
        settings |= {"seed": options.seed}
    else:
        scores = on_corpus(options, pipe, models)
        settings |= {name: getattr(options, name) for name in ("clips", "samples", "seed", "split")}
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "scores": scores}, indent=1))


def on_corpus(options: argparse.Namespace, pipe: FaceTalkPipeline, models: dict[str, tuple[Any, int]]) -> dict:
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
    return scores


def on_recordings(
    options: argparse.Namespace, pipe: FaceTalkPipeline, models: dict[str, Callable], settings: dict[str, Any]
) -> dict[str, Any]:
    recordings = [item for path in options.recordings for item in read_recordings(path)]
    fps = float(pipe.config["fps"])
    scorer, results = RecordingScorer(pipe.head, recordings, fps), {}
    print(f"{len(recordings)} recordings of {len(scorer.speakers)} speakers, {scorer.phones} phones", flush=True)
    changes = conditions(options.band is not None, options.noise)
    if options.with_phones:
        if "phones" not in inspect.signature(type(pipe).__call__).parameters:
            raise FaceTalkError("this pipeline cannot be told phones")
        models["with phones"] = phones_predictor(pipe, **settings)
    if options.ear:
        ear = LargeEar.from_pretrained(options.ear, options.recognizer)
        models["large ear"] = large_ear_predictor(pipe, ear, **settings)
    for name, predict in models.items():
        for condition, change in changes.items():
            title = f"{name}, {condition}"
            with tqdm(total=len(recordings), desc=title, unit="clip", disable=None) as bar:
                codes = scorer.predict(
                    predict, change, options.seed, options.batch_size, name == "with phones", bar.update
                )
            results[title] = scorer(codes, None if condition == "clean" else results[f"{name}, clean"])
    if options.rules:
        results["rules"] = scorer(rules_codes(recordings, pipe.head, fps))
    print(recordings_table(results))
    return {name: result.as_dict() for name, result in results.items()}


if __name__ == "__main__":
    run_script(main)
