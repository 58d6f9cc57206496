# SPDX-License-Identifier: MIT
"""Train the small audio encoder by regression of the mouth; afterwards it is frozen, as the paper's wav2vec 2.0 is.

    python training/train_audio_encoder.py --corpus DIR --output DIR [--steps 5000]

The result is OUTPUT/audio_encoder and OUTPUT/feature_extractor (averaged weights). A run that is killed goes on from
OUTPUT/state.pt. Everything random comes from --seed and the step. One process, one thread.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from facetalk_hf.audio.analysis import loudness
from facetalk_hf.audio.augmentation import Augmenter
from facetalk_hf.audio.log_mel import LogMelFeatureExtractor
from facetalk_hf.audio_features import LogMelEncoder, LogMelEncoderConfig
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.data.corpus import decode_audio, read
from facetalk_hf.evaluation.metrics import closure_score, correlation, lip_aperture
from facetalk_hf.files import atomic_path
from facetalk_hf.synthetic.visemes import LIP_SEAL, Segment, mouth_weights


RATE, FPS, COLUMNS = 16000, 24, 4
IMPORTANCE = {
    "jawOpen": 3.0, "mouthPucker": 2.0, "mouthFunnel": 1.5, "mouthClose": 1.0, "mouthRollLower": 1.0,
    "mouthUpperUp_L": 0.5, "mouthUpperUp_R": 0.5, "mouthPress_L": 0.3, "mouthPress_R": 0.3, "mouthRollUpper": 0.3,
    "mouthSmile_L": 0.5, "mouthSmile_R": 0.5, "mouthStretch_L": 0.4, "mouthStretch_R": 0.4, "mouthLowerDown_L": 0.3,
    "mouthLowerDown_R": 0.3, "mouthShrugUpper": 0.2, "browInnerUp_L": 0.15, "browInnerUp_R": 0.15,
    "browOuterUp_L": 0.15, "browOuterUp_R": 0.15,
}  # fmt: skip
BROWS = [INDEX[name] for name in IMPORTANCE if name.startswith("brow")]


class Clip:
    """One sequence in memory: 16-bit samples, phones, brows."""

    def __init__(self, row: dict):
        self.audio = np.round(decode_audio(row) * 32767).astype(np.int16)
        self.phones = [Segment(p["phone"], p["start"], p["end"]) for p in row["phones"]]
        self.brows = row["weights"][:, BROWS].astype(np.float16)
        self.speaker = row["id"].rsplit("-", 2)[0]

    def target(self, speed: float, frames: int, audio: np.ndarray) -> np.ndarray:
        """The teacher's mouth for the clip played `speed` times as fast, (frames, 54): 53 weights and the closure."""
        phones = [Segment(phone, start / speed, end / speed) for phone, start, end in self.phones]
        weights, closure = mouth_weights(phones, frames, FPS, loudness(audio, RATE, frames, FPS))
        at = (np.arange(frames) + 0.5) * speed - 0.5
        for column, index in enumerate(BROWS):
            weights[:, index] = np.interp(at, np.arange(len(self.brows)), self.brows[:, column].astype(np.float32))
        return np.concatenate([weights, closure[:, None]], axis=1)


class Pool:
    """A pool of augmented clips that is renewed a few at a time; batches are crops of it.

    Augmenting whole clips keeps the per-clip normalisation as it is in use. That costs time, so each is cropped a few
    times before it goes.
    """

    def __init__(self, clips: list[Clip], extractor: LogMelFeatureExtractor, size: int, crop: int):
        self.clips, self.extractor, self.size, self.crop = clips, extractor, size, crop
        self.augmenter = Augmenter([clip.audio for clip in clips[:: max(1, len(clips) // 200)]], RATE)
        self.items: list[tuple[torch.Tensor, torch.Tensor]] = []

    def renew(self, count: int, rng: np.random.Generator) -> None:
        for _ in range(count):
            clip = self.clips[rng.integers(len(self.clips))]
            audio = clip.audio.astype(np.float32) / 32767
            clean, noisy, speed, warp = self.augmenter(audio, rng)
            features = self.extractor.normalize(self.extractor.log_mel(noisy, warp=warp))
            target = torch.from_numpy(clip.target(speed, len(features) // COLUMNS, clean))
            if len(self.items) < self.size:
                self.items.append((features, target))
            else:
                self.items[rng.integers(self.size)] = (features, target)

    def batch(self, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features (B, 4 N, M + 1), targets (B, N, 54), mask (B, N)."""
        features = torch.zeros(size, COLUMNS * self.crop, self.extractor.feature_size)
        target = torch.zeros(size, self.crop, len(EXPRESSIONS) + 1)
        mask = torch.zeros(size, self.crop, dtype=torch.bool)
        for index in range(size):
            source, wanted = self.items[rng.integers(len(self.items))]
            start = int(rng.integers(0, max(len(wanted) - self.crop, 0) + 1))
            length = min(self.crop, len(wanted) - start)
            features[index, : COLUMNS * length] = source[COLUMNS * start : COLUMNS * (start + length)]
            target[index, :length] = wanted[start : start + length]
            mask[index, :length] = True
        return features, target, mask


class Objective:
    """Weighted squared error of weights, aperture and their velocities, and cross-entropy of the closure."""

    def __init__(self, targets: torch.Tensor):
        self.scale = targets[..., :-1].std(dim=0).clamp_min(0.02)
        self.scale[[name not in IMPORTANCE for name in EXPRESSIONS]] = 0.2
        self.importance = torch.full((len(EXPRESSIONS),), 0.01)
        for name, value in IMPORTANCE.items():
            self.importance[INDEX[name]] = value

    def __call__(self, weights, logits, target, mask) -> dict[str, torch.Tensor]:
        target, closure = target[..., :-1], target[..., -1]
        error = (weights - target) / self.scale
        gap = 2 * self._aperture(weights - target) / self.scale[INDEX["jawOpen"]]
        error = torch.cat([error * self.importance.sqrt(), gap[..., None]], dim=-1)
        pair = mask[:, 1:] & mask[:, :-1]
        entropy = F.binary_cross_entropy_with_logits(logits[mask], closure[mask])
        squared = error.square().sum(-1)[mask].mean() / 10
        velocity = error.diff(dim=1).square().sum(-1)[pair].mean() / 10
        return {"loss": squared + 0.5 * velocity + 0.7 * entropy, "mse": squared, "velocity": velocity, "bce": entropy}

    @staticmethod
    def _aperture(weights: torch.Tensor) -> torch.Tensor:
        return weights[..., INDEX["jawOpen"]] - weights[..., INDEX["mouthClose"]] / LIP_SEAL


@torch.no_grad()
def evaluate(model: LogMelEncoder, held_out: dict) -> dict[str, dict[str, float]]:
    """Agreement with the teacher on clean, whole clips, by voice: pooled frames, closure at logit 0."""
    model.eval()
    table = {}
    for voice, items in held_out.items():
        made, wanted = [], []
        for features, target in items:
            motion = model.predict_motion(model(features[None]).last_hidden_state)
            made.append(np.concatenate([motion.weights[0].numpy(), motion.closure_logits[0, :, None].numpy()], axis=1))
            wanted.append(target)
        made, wanted = np.concatenate(made), np.concatenate(wanted)
        aperture = [lip_aperture(x[:, INDEX["jawOpen"]], x[:, INDEX["mouthClose"]]) for x in (made, wanted)]
        table[voice] = {
            "aperture": correlation(*aperture),
            "jaw": correlation(made[:, INDEX["jawOpen"]], wanted[:, INDEX["jawOpen"]]),
            "pucker": correlation(made[:, INDEX["mouthPucker"]], wanted[:, INDEX["mouthPucker"]]),
            "funnel": correlation(made[:, INDEX["mouthFunnel"]], wanted[:, INDEX["mouthFunnel"]]),
            "bite": correlation(made[:, INDEX["mouthRollLower"]], wanted[:, INDEX["mouthRollLower"]]),
            "f1": closure_score(made[:, -1] > 0, wanted[:, -1] > 0.5)["f1"],
            "f1_1": closure_score(made[:, -1] > 0, wanted[:, -1] > 0.5, tolerance=1)["f1"],
        }
    model.train()
    return table


def load(corpus: Path, extractor: LogMelFeatureExtractor) -> tuple[list[Clip], dict]:
    clips, held_out = [], {}
    for row in read(corpus, ("train", "validation", "test"), ("id", "audio", "phones", "weights", "split")):
        clip = Clip(row)
        if row["split"] == "train":
            clips.append(clip)
            continue
        group = clip.speaker if row["split"] == "test" else "validation"
        audio = clip.audio.astype(np.float32) / 32767
        features = extractor.normalize(extractor.log_mel(audio))
        held_out.setdefault(group, []).append((features, clip.target(1.0, len(features) // COLUMNS, audio)))
    return clips, held_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--crop", type=int, default=84, help="frames of a crop")
    parser.add_argument("--renew", type=int, default=6, help="clips augmented a step")
    parser.add_argument("--pool", type=int, default=384)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)

    extractor = LogMelFeatureExtractor()
    clips, held_out = load(options.corpus, extractor)
    hours = sum(len(clip.audio) for clip in clips) / RATE / 3600
    pool = Pool(clips, extractor, options.pool, options.crop)
    pool.renew(options.pool // 2, np.random.default_rng([options.seed, 1]))
    targets = torch.cat([target for _, target in pool.items])
    objective = Objective(targets)
    model = LogMelEncoder(LogMelEncoderConfig()).train()
    with torch.no_grad():  # start from the mean face: weights are small numbers, their errors count in units of spread
        model.motion_head.weight.mul_(0.1)
        model.motion_head.bias[:-1].copy_(targets[:, :-1].mean(0))
    average = copy.deepcopy(model).eval()
    count = sum(value.numel() for value in model.parameters())
    print(f"{len(clips)} clips, {hours:.2f} h; {count / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        progress = step / options.steps
        return min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    step, state = 0, options.output / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        step = saved["step"]
        for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(saved[name])
        print(f"goes on at step {step}", flush=True)

    began, first, seen = time.time(), step, {}
    while step < options.steps:
        rng = np.random.default_rng([options.seed, 2, step])
        torch.manual_seed(options.seed * 1_000_003 + step)
        pool.renew(options.renew, rng)
        features, target, mask = pool.batch(options.batch_size, rng)
        motion = model.predict_motion(model(features, mask).last_hidden_state)
        losses = objective(motion.weights, motion.closure_logits, target, mask)
        if not torch.isfinite(losses["loss"]):
            raise SystemExit(f"the loss is {losses['loss'].item()} at step {step}; {state} holds the last good state")
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        keep = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        for name, value in losses.items():
            seen[name] = 0.98 * seen.get(name, value.item()) + 0.02 * value.item()
        if step % 50 == 0:
            pace = (time.time() - began) / (step - first)
            report = " ".join(f"{name} {value:.4f}" for name, value in seen.items())
            print(f"{step} {report} {pace:.2f} s/step, {pace * (options.steps - step) / 60:.0f} min left", flush=True)
        if step % options.save_every == 0 or step == options.steps:
            parts = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
            with atomic_path(state) as temporary:
                torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, temporary)
        if step % options.evaluate_every == 0 or step == options.steps:
            table = evaluate(average, held_out)
            for voice, row in table.items():
                print(f"   {voice:14}", " ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
            average.save_pretrained(options.output / "audio_encoder")
            extractor.save_pretrained(options.output / "feature_extractor")
            with atomic_path(options.output / "metrics.json") as temporary:
                temporary.write_text(json.dumps({"step": step, **table}, indent=1))


if __name__ == "__main__":
    main()
