# SPDX-License-Identifier: MIT
"""Measure a pipeline on the test voices of the corpus: table on the screen, JSON in a file.

    python training/evaluate.py --corpus DIR --model DIR --output metrics.json [--clips 20] [--encoder-only]

Every score is agreement with the rule-based teacher, not with captured faces. "regression" is the audio encoder's
own deterministic prediction, "diffusion" one sample of the whole pipeline. Correlations and F1 are over all frames of
a voice, lag and silence are of single clips (median, worst).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import FaceTalkError, FaceTalkPipeline, metrics, motion_metrics
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.corpus import decode_audio, read
from facetalk_hf.files import atomic_path
from facetalk_hf.phonemes import LIP_SEAL


CLOSED = 0.25  # of what the jaw leaves open between the lips: below it they are seen as shut
SHAPES = {"jaw": "jawOpen", "pucker": "mouthPucker", "funnel": "mouthFunnel", "bite": "mouthRollLower"}


def aperture(weights: np.ndarray) -> np.ndarray:
    return metrics.lip_aperture(weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]], LIP_SEAL)


def closed(weights: np.ndarray) -> np.ndarray:
    """(T,) bool: the jaw has dropped but the lips are held together. A mouth at rest is not a closure."""
    jaw = weights[:, INDEX["jawOpen"]]
    return (jaw > 0.02) & (aperture(weights) < CLOSED * np.maximum(jaw, 1e-6))


def silent(row: dict, frames: int) -> np.ndarray:
    times = (np.arange(frames) + 0.5) / row["fps"]
    result = np.ones(frames, bool)
    for phone in row["phones"]:
        if phone["phone"] != "pau":
            result &= (times < phone["start"]) | (times > phone["end"])
    return result


def score(rows: list[dict], made: list[np.ndarray]) -> dict[str, float]:
    wanted = [row["weights"] for row in rows]
    both, target = np.concatenate(made), np.concatenate(wanted)
    result = {"aperture": metrics.correlation(aperture(both), aperture(target))}
    result |= {name: metrics.correlation(both[:, INDEX[key]], target[:, INDEX[key]]) for name, key in SHAPES.items()}
    hit = np.concatenate([row["closure"] for row in rows]) > 0.5
    result["f1"] = metrics.closure_score(closed(both), hit)["f1"]
    result["f1_1"] = metrics.closure_score(closed(both), hit, tolerance=1)["f1"]
    lags = [metrics.lag(aperture(a), aperture(b)) for a, b in zip(made, wanted, strict=True)]
    result["lag"] = float(np.median(lags))
    quiet = [metrics.silence_aperture(aperture(a), silent(row, len(a))) for a, row in zip(made, rows, strict=True)]
    result["silence"] = float(max(quiet))
    result["open_ratio"] = float(aperture(both).std() / aperture(target).std())
    return result


@torch.no_grad()
def regression(pipe, audio: np.ndarray) -> np.ndarray:
    features = pipe.encode_audio(torch.from_numpy(audio), sampling_rate=16000)
    return pipe.audio_encoder.predict_motion(features)[0][0].float().clamp(0, 1).numpy()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", required=True, help="folder or Hub id of a pipeline")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=20, help="of each voice")
    parser.add_argument("--samples", type=int, default=1, help="of each clip; more than one also measures diversity")
    parser.add_argument("--steps", type=int, help="denoising steps; the pipeline's default if left out")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--encoder-only", action="store_true", help="the regression alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    basis = pipe.head.expression_basis.float().numpy() if pipe.head is not None else None
    if basis is None and not options.encoder_only:
        raise SystemExit(f"{options.model} has no head, so its codes cannot be read as weights")
    settings = {"num_inference_steps": options.steps, "guidance_scale": options.guidance_scale}
    settings = {name: value for name, value in settings.items() if value is not None}

    voices: dict[str, list[dict]] = {}
    for row in read(options.corpus, (options.split,), ("id", "audio", "phones", "weights", "closure", "fps")):
        rows = voices.setdefault(row["id"].rsplit("-", 2)[0], [])
        if len(rows) < options.clips:
            rows.append(row)
    table: dict[str, dict] = {}
    for voice, rows in voices.items():
        made: dict[str, list[np.ndarray]] = {"regression": [], "diffusion": []}
        spread = []
        for index, row in enumerate(tqdm(rows, desc=voice, unit=" clips", leave=False)):
            audio = decode_audio(row)
            if hasattr(pipe.audio_encoder, "predict_motion"):
                made["regression"].append(regression(pipe, audio))
            if not options.encoder_only:
                generator = torch.Generator().manual_seed(index)
                output = pipe(
                    audio, sampling_rate=16000, generator=generator, output_type="expression",
                    num_samples=options.samples, **settings,
                )  # fmt: skip
                codes = [np.asarray(item, np.float32) @ basis for item in output.expressions]
                made["diffusion"].append(codes[0].clip(0, 1))
                spread += [motion_metrics.diversity(np.stack(codes))] if len(codes) > 1 else []
        table[voice] = {name: score(rows, items) for name, items in made.items() if items}
        if spread:
            table[voice]["diffusion"]["diversity"] = float(np.mean(spread))

    names = list(next(iter(next(iter(table.values())).values())))
    print(f"{'voice':16}{'by':12}" + "".join(f"{name:>11}" for name in names))
    for voice, results in table.items():
        for kind, values in results.items():
            print(f"{voice:16}{kind:12}" + "".join(f"{values[name]:11.3f}" for name in names))
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(str(error)) from None
