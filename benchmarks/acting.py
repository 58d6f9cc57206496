# SPDX-License-Identifier: MIT
"""Measure how a model acts: moods told apart, strength, lips in every mood, nods at accents, variety of the head.

    python benchmarks/acting.py --recordings phones.json --model DIR [--amount 0.8] [--teacher-clips 60]

A classifier learns the seven moods from the rules, acted over half of the recordings' phones, and is tried on rules
and model over the other half. All lines but the first two are of the model. One seed, one thread.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.evaluation.moods import MOODS, MoodClassifier, accent_ratio
from facetalk_hf.evaluation.recordings import RATE, Recording, RecordingScorer, read_recordings
from facetalk_hf.files import atomic_path
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.acting import perform
from facetalk_hf.synthetic.prosody import prosody


AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (1.0, 1.5, 2.0)


def by_rules(recording: Recording, mood: str, amount: float, fps: float, seed: int) -> np.ndarray:
    """Weights (T, 53) of a recording acted by the teacher."""
    samples = recording.samples()
    frames = max(1, int(np.ceil(len(samples) * fps / RATE - 1e-6)))
    told = np.zeros((frames, len(CONDITIONS)), np.float32)
    if mood != "neutral":
        told[:, CONDITIONS.index(mood)] = amount
    return perform(recording.phones, samples, RATE, frames, fps, told, np.random.default_rng(seed)).weights


class Actor:
    """The model, that speaks recordings in a mood: codes and poses of each."""

    def __init__(self, pipe: FaceTalkPipeline, scorer: RecordingScorer, batch: int) -> None:
        self.pipe, self.scorer, self.batch = pipe, scorer, batch

    def __call__(self, mood: str, amount: float, seed: int = 0, **options: object) -> tuple[list, list]:
        poses: dict[int, np.ndarray] = {}

        def predict(clips: list[np.ndarray], seeds: list[int]) -> list[torch.Tensor]:
            result = self.pipe(
                clips, sampling_rate=RATE, output_type="expression", head_motion=1.0,
                emotion={mood: amount} if amount else None,
                generator=[torch.Generator().manual_seed(item) for item in seeds], **options,
            )  # fmt: skip
            for clip, pose in zip(clips, result.poses or [], strict=False):
                poses[hash(clip.tobytes())] = pose
            return result.expressions

        codes = self.scorer.predict(predict, None, seed, self.batch)
        heard = [hash(item.samples().tobytes()) for item in self.scorer.recordings]
        return codes, [poses[clip] for clip in heard] if poses else []

    def weights(self, codes: list[np.ndarray]) -> list[np.ndarray]:
        head = self.pipe.head
        return [head.weights_from_expression(torch.from_numpy(item)).clamp(0, 1).numpy() for item in codes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, required=True, help="as for training/evaluate.py")
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument("--fast", action="store_true", help="the model's few-step weights")
    parser.add_argument("--amount", type=float, default=0.8, help="of every mood")
    parser.add_argument("--clips", type=int, default=10**9, help="of the recordings that the model is tried on")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output", type=Path, help="JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = FaceTalkPipeline.from_pretrained(args.model)
    pipe = pipe.few_steps() if args.fast else pipe
    pipe.set_progress_bar_config(disable=True)
    fps, began = float(pipe.config["fps"]), perf_counter()

    recordings = read_recordings(args.recordings)
    learn, tried = recordings[::2], recordings[1::2][: args.clips]
    taught = [(by_rules(item, mood, amount, fps, index), number) for index, item in enumerate(learn)
              for number, mood in enumerate(MOODS) for amount in (0.5, 1.0)]  # fmt: skip
    classifier = MoodClassifier(*zip(*taught, strict=True))
    shown = [classifier([by_rules(item, mood, args.amount, fps, 7) for item in tried]) for mood in MOODS]
    result: dict = {"amount": args.amount, "learnt": len(taught), "tried": len(tried)}
    result["rules"] = float(np.mean([(row.argmax(1) == number).mean() for number, row in enumerate(shown)]))
    print(f"classifier: {len(taught)} clips of rules; rules on {len(tried)} others told apart {result['rules']:.3f}")

    actor = Actor(pipe, RecordingScorer(pipe.head, tried, fps), args.batch_size)
    result["moods"], right, neutral = {}, [], []
    print(f"model, every mood at {args.amount}: told apart, stop F1, open, round, f v, silence p95 mm")
    for number, mood in enumerate(MOODS):
        codes, poses = actor(mood, 0 if mood == "neutral" else args.amount)
        neutral = neutral or poses
        share = float((classifier(actor.weights(codes)).argmax(1) == number).mean())
        lips = actor.scorer(codes).scores
        right.append(share)
        row = (share, lips.f1, lips.open_auc, lips.round_auc, lips.bite_auc, lips.silence_p95)
        result["moods"][mood] = row
        print(f"  {mood:10}", *(f"{value:7.3f}" for value in row), flush=True)
    result["told_apart"] = float(np.mean(right))
    print(f"model told apart: {result['told_apart']:.3f}")

    few, result["strength"], result["scales"] = actor.scorer.recordings[:6], {}, {}
    actor.scorer = RecordingScorer(pipe.head, few, fps)
    print(f"probability of the mood on {len(few)} clips at", *AMOUNTS)
    for number, mood in enumerate(MOODS[1:], 1):
        row = [float(classifier(actor.weights(actor(mood, amount)[0]))[:, number].mean()) for amount in AMOUNTS]
        result["strength"][mood] = row
        print(f"  {mood:10}", *(f"{value:6.3f}" for value in row), flush=True)
    if not pipe.config["is_distilled"]:
        print(f"emotion_scale, its probability at {AMOUNTS[1]}, mean over the moods")
        for scale in SCALES:
            row = []
            for number, mood in enumerate(MOODS[1:], 1):
                found = classifier(actor.weights(actor(mood, AMOUNTS[1], emotion_scale=scale)[0]))
                row.append(float(found[:, number].mean()))
            result["scales"][scale] = float(np.mean(row))
            print(f"  {scale}: {result['scales'][scale]:.3f}", flush=True)

    if neutral:
        accents = [[item.time for item in prosody(item.samples(), RATE, item.phones, len(pose), fps).accents]
                   for item, pose in zip(tried, neutral, strict=True)]  # fmt: skip
        found = np.array([accent_ratio(pose, times, fps) for pose, times in zip(neutral, accents, strict=True)])
        result["nods"] = [float(np.nanmean(found[:, 0])), float(np.nanmean(found[:, 0] > 1))]
        several = [actor("neutral", 0, seed)[1] for seed in range(3)]
        spread = np.mean([np.std(np.stack(takes), 0).mean(0) for takes in zip(*several, strict=True)], 0)
        within = np.mean([pose.std(0) for pose in neutral], 0)
        result["head"] = {"across_seeds": spread.tolist(), "within_clip": within.tolist()}
        print(
            f"nods: speed at accents over chance {result['nods'][0]:.3f}, above 1 in {result['nods'][1]:.2f} of clips"
        )
        print(
            "head, yaw pitch roll in degrees: across seeds", spread[:3].round(2), "within a clip", within[:3].round(2)
        )
    print(f"{perf_counter() - began:.0f} s")
    if args.output:
        with atomic_path(args.output) as temporary:
            temporary.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run_script(main)
