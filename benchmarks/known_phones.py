# SPDX-License-Identifier: MIT
"""Motion that is steered by known phones: lip events, speed of the lips, cost, by `phone_strength`.

    python benchmarks/known_phones.py --recordings phones.json --clips 12 [--ear openai/whisper-base]

The recordings are a list of training/align_speech.py; the table goes to docs/phones.md, between its markers.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from facetalk_hf import FaceTalkPipeline, LargeEar
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.evaluation.recordings import RATE, RecordingScorer, read_recordings, rules_codes
from facetalk_hf.evaluation.scores import large_ear_predictor, phones_predictor, pipeline_predictor
from facetalk_hf.evaluation.studies import StudyResults, digest, markdown_table, write_between_markers
from facetalk_hf.paths import FEW_STEPS, TINY
from facetalk_hf.phones.visemes import RULED
from facetalk_hf.scripts import run_script


DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = {
    "stop F1": "f1", "open": "open_auc", "round": "round_auc", "f v": "bite_auc", "silence p95 mm": "silence_p95",
    "lips mm/s": "speed", "lips mm/s²": "acceleration", "cost": "cost",
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, help="aligned recordings, JSON")
    parser.add_argument("--model", type=Path, default=Path(TINY), help="folder of a pipeline")
    parser.add_argument("--output", type=Path, default=DOCS / "results" / "known_phones.json", help="all scores")
    parser.add_argument("--page", type=Path, default=DOCS / "phones.md", help="page with the table")
    parser.add_argument("--ear", help="also phones that this Whisper encoder hears, by folder or Hub id")
    parser.add_argument("--clips", type=int, help="of the recordings, evenly spread; all if left out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    recordings = read_recordings(args.recordings)
    chosen = np.linspace(0, len(recordings) - 1, min(args.clips or len(recordings), len(recordings))).round()
    recordings = [recordings[int(index)] for index in chosen]
    settings = {"model": digest(args.model), "recordings": args.recordings.name, "clips": args.clips}
    results = StudyResults(args.output, settings | {"seed": args.seed})
    pipe = FaceTalkPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    ear = LargeEar.from_pretrained(args.ear) if args.ear else None
    fps = float(pipe.config["fps"])
    scorer = RecordingScorer(pipe.head, recordings, fps)
    seconds = sum(len(item.samples()) for item in recordings) / RATE

    def scores(make: Callable[[], Any]) -> dict[str, Any]:
        begin = process_time()
        codes = make()
        cost = (process_time() - begin) / seconds
        result = scorer(codes)
        speed = [np.diff(item) * fps for item in result.apertures.values()]
        faster = np.concatenate([np.abs(np.diff(item)) * fps for item in speed])
        return result.scores.as_dict() | {
            "speed": float(np.abs(np.concatenate(speed)).mean()), "acceleration": float(faster.mean()), "cost": cost,
        }  # fmt: skip

    def variance() -> dict[str, float]:
        """What the sound leaves open: variance of samples about their expectation over theirs, mouth alone."""
        few = RecordingScorer(pipe.head, recordings[:4], fps)
        plain = {"guidance_scale": 1.0}
        made = [
            np.concatenate(few.predict(pipeline_predictor(pipe, mouth_temperature=kept, **plain), None, args.seed, 1))
            @ pipe.head.expression_basis.float().numpy()[:, [INDEX[name] for name in RULED]]
            for kept in (1.0, 0.0)
        ]
        return {"left": float((made[0] - made[1]).var(0).sum() / made[0].var(0).sum())}

    pipes = {"": pipe}
    if pipe.model_folder is not None and (pipe.model_folder / FEW_STEPS).is_dir():
        pipes["few steps, "] = pipe.few_steps()
    if not results.rows:
        scorer.predict(pipeline_predictor(pipe, num_inference_steps=1), batch=1)  # what is loaded late costs no row
    table = []
    for which, model in pipes.items():
        kinds: dict[str, Callable[[], Any]] = {
            "sound alone": lambda model=model: scorer.predict(pipeline_predictor(model), None, args.seed, 1)
        }
        if ear is not None:
            kinds["phones of the large ear"] = lambda model=model: scorer.predict(
                large_ear_predictor(model, ear), None, args.seed, 1
            )
        for strength in (1.0, 0.75, 0.5, 0.25, 0.0):
            predict = phones_predictor(model, phone_strength=strength)
            kinds[f"`phone_strength={strength:g}`" + ", the default" * (strength == 1)] = lambda predict=predict: (
                scorer.predict(predict, None, args.seed, 1, with_phones=True)
            )
        for name, make in kinds.items():
            row = results.measure(which + name, lambda make=make: scores(make))
            table.append([which + name, *(row[key] for key in COLUMNS.values())])
            print(markdown_table(["", *COLUMNS], table[-1:]).splitlines()[-1], flush=True)
    row = results.measure("the rules themselves", lambda: scores(lambda: rules_codes(recordings, pipe.head, fps)))
    table.append(["the rules themselves", *(row[key] for key in list(COLUMNS.values())[:-1]), None])
    about = (
        f"{len(recordings)} recordings of {len(scorer.speakers)} speakers, {seconds:.0f} s, seed {args.seed}; the "
        "scores are those of [evaluation.md](evaluation.md). Speed and acceleration: means of the absolute values of "
        "those of the aperture. Cost: seconds of one core for a second of sound, from reading it to the codes. "
        f"Of the variance of the mouth the sound leaves {results.measure('variance', variance)['left']:.2f} open "
        f"(first 4 recordings). {results.provenance()}"
    )
    write_between_markers(args.page, "known phones", f"{about}\n\n{markdown_table(['', *COLUMNS], table)}")


if __name__ == "__main__":
    run_script(main)
