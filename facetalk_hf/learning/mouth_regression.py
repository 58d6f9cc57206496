# SPDX-License-Identifier: MIT
"""Training of the small audio encoder: augmented clips, the rules' motion for them, and the loss of a regression."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ..audio.analysis import loudness, pitch_rise
from ..audio.augmentation import Augmenter
from ..audio.log_mel import LogMelFeatureExtractor
from ..blendshapes import EXPRESSIONS, INDEX
from ..data.corpus import decode_audio
from ..models.audio_encoder import LogMelEncoder
from ..phones.segments import Segment
from ..phones.visemes import LIP_SEAL, PHONES, mouth_weights, split_diphthongs
from ..scripts import REQUIRED, option
from .loop import TrainingOptions


RATE, FPS, COLUMNS = 16000, 24, 4
IMPORTANCE = {
    "jawOpen": 3.0, "mouthPucker": 2.0, "mouthFunnel": 1.5, "mouthClose": 1.0, "mouthRollLower": 1.0,
    "mouthUpperUp_L": 0.5, "mouthUpperUp_R": 0.5, "mouthPress_L": 0.3, "mouthPress_R": 0.3, "mouthRollUpper": 0.3,
    "mouthSmile_L": 0.5, "mouthSmile_R": 0.5, "mouthStretch_L": 0.4, "mouthStretch_R": 0.4, "mouthLowerDown_L": 0.3,
    "mouthLowerDown_R": 0.3, "mouthShrugUpper": 0.2, "browInnerUp_L": 0.15, "browInnerUp_R": 0.15,
    "browOuterUp_L": 0.15, "browOuterUp_R": 0.15,
}  # fmt: skip
"""Weight of each channel's squared error; the others count 0.01."""
BROWS = [name for name in IMPORTANCE if name.startswith("brow")]
CHANNELS = len(EXPRESSIONS) + 3
"""Values a frame of what is wanted: weights, closure, two numbers of phones."""


@dataclass(kw_only=True)
class AudioEncoderOptions(TrainingOptions):
    """Options of training/train_audio_encoder.py."""

    corpus: list[Path] = option(REQUIRED, "folders of corpora with phones (build_speech.py, align_speech.py)")
    share: list[float] = option([], "how much is drawn of each corpus; by default by its length")
    init: Path | None = option(None, "folder of an encoder to go on from")
    leave_out: list[str] = option([], "speakers to measure on, whatever their split is")
    hidden_size: int = option(256, "channels of the features")
    num_hidden_layers: int = option(7, "blocks at the frame rate")
    stem_size: int = option(128, "channels at twice the frame rate")
    num_stem_layers: int = option(3, "blocks at twice the frame rate")
    look_ahead_choices: list[int] = option([1, 2, 5, 10], "frames of look-ahead that can be chosen afterwards")
    mixed_precision: Literal["no", "bf16"] = option("no", "bf16 is twice as fast on a CPU that has it")
    batch_size: int = option(32, "crops in a batch")
    max_train_steps: int = option(5000, "updates")
    learning_rate: float = option(2e-3, "of AdamW, at its highest")
    ema_decay: float = option(0.998, "the result is a moving average of the weights; 0 for none")
    crop: int = option(84, "frames of a crop")
    renew: int = option(6, "clips augmented a step")
    pool: int = option(384, "augmented clips that crops are cut from")
    checkpointing_steps: int = option(250, "updates from one checkpoint to the next; 0 for none")
    validation_steps: int = option(500, "updates from one validation to the next; 0 for none but the last")
    phone_head_steps: int = option(0, "updates of the phone head alone at the end, on loud, faint and noisy sound")


PHONE_NUMBER = {phone: number for number, phone in enumerate(PHONES)}
"""Class of the phone head of each phone of the rules."""


def phones_at(segments: Sequence[Segment], times: np.ndarray) -> np.ndarray:
    """Find which of `PHONES` is said at times (n,) in seconds, by its number: (n,) int64."""
    halves = split_diphthongs(segments)
    numbers = np.array([PHONE_NUMBER[segment.phone] for segment in halves])
    return numbers[np.searchsorted([segment.end for segment in halves], times).clip(max=len(halves) - 1)]


class Clip:
    """One sequence in memory.

    Args:
        audio ((S,) int16): at 16 kHz.
        phones: its segments, in the alphabet of `phones.alphabets`.
        speaker (`str`): who speaks.
    """

    def __init__(self, audio: np.ndarray, phones: list[Segment], speaker: str) -> None:
        self.audio, self.phones, self.speaker = audio, phones, speaker
        # What the pitch says of the brows, as in `synthetic.upper_face`: features must keep the pitch.
        frames = max(1, int(np.ceil(len(audio) * FPS / RATE)))
        self.brows = pitch_rise(audio.astype(np.float32) / 32767, RATE, frames, FPS).astype(np.float16)

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Clip":
        """Make a clip of a row of a corpus with "id", "audio" and "phones"."""
        audio = np.round(decode_audio(row) * 32767).astype(np.int16)
        phones = [Segment(p["phone"], p["start"], p["end"]) for p in row["phones"]]
        return cls(audio, phones, row["id"].rsplit("-", 2)[0])

    def target(self, speed: float, frames: int, audio: np.ndarray) -> np.ndarray:
        """Compute what is wanted of the clip played `speed` times as fast: (frames, 56).

        53 weights and the closure by the rules, then the numbers of the phones in the two halves of the frame.
        """
        phones = [Segment(phone, start / speed, end / speed) for phone, start, end in self.phones]
        weights, closure = mouth_weights(phones, frames, FPS, loudness(audio, RATE, frames, FPS))
        at = (np.arange(frames) + 0.5) * speed - 0.5
        rise = np.interp(at, np.arange(len(self.brows)), self.brows.astype(np.float32))
        for name in BROWS:
            weights[:, INDEX[name]] = rise if "Inner" in name else 0.7 * rise
        half = (np.arange(2 * frames) + 0.5) / (2 * FPS) * speed
        numbers = phones_at(self.phones, half).reshape(frames, 2)
        return np.concatenate([weights, closure[:, None], numbers], axis=1).astype(np.float32)


class Pool:
    """A pool of augmented clips that is renewed a few at a time; batches are crops of it.

    Augmenting whole clips keeps the per-clip normalisation as it is in use. That costs time, so each is cropped a few
    times before it goes.

    Args:
        corpora: clips to be augmented, of each corpus, with its share of the draws.
        extractor ([`LogMelFeatureExtractor`]): makes the features.
        size (`int`): clips in the pool.
        crop (`int`): frames of a crop.
        look_aheads: those that are drawn besides the encoder's own.
    """

    def __init__(
        self,
        corpora: Sequence[tuple[float, list[Clip]]],
        extractor: LogMelFeatureExtractor,
        size: int,
        crop: int,
        look_aheads: Sequence[int] = (),
    ) -> None:
        self.corpora = [(share, clips) for share, clips in corpora if clips]
        self.shares = np.array([share for share, _ in self.corpora]) / sum(share for share, _ in self.corpora)
        self.extractor, self.size, self.crop, self.look_aheads = extractor, size, crop, list(look_aheads)
        everybody = [clip.audio for _, clips in self.corpora for clip in clips[:: max(1, len(clips) // 100)]]
        self.augmenter = Augmenter(everybody, RATE)
        self.items: list[tuple[torch.Tensor, torch.Tensor]] = []

    def renew(self, count: int, rng: np.random.Generator) -> None:
        """Augment `count` clips; they take the place of others once the pool is full."""
        for _ in range(count):
            clips = self.corpora[rng.choice(len(self.corpora), p=self.shares)][1]
            clip = clips[rng.integers(len(clips))]
            audio = clip.audio.astype(np.float32) / 32767
            clean, noisy, speed, warp = self.augmenter(audio, rng)
            features = self._normalize(self.extractor.log_mel(noisy, warp=warp), rng)
            target = torch.from_numpy(clip.target(speed, len(features) // COLUMNS, clean))
            if len(self.items) < self.size:
                self.items.append((features, target))
            else:
                self.items[rng.integers(self.size)] = (features, target)

    def _normalize(self, columns: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Normalise a clip, at times by the statistics of a part of it: a stream knows only what came so far."""
        least = int(1.5 * COLUMNS * FPS)
        if rng.random() < 0.7 or len(columns) < 2 * least:
            return self.extractor.normalize(columns)
        length = int(rng.integers(least, len(columns)))
        start = int(rng.integers(0, len(columns) - length))
        mean, scale, loudest = self.extractor.statistics(columns[start : start + length])
        whole = self.extractor.statistics(columns)
        # A part in which nobody speaks says nothing of the voice.
        if loudest < whole[2] - 3:
            mean, scale, loudest = whole
        return self.extractor.standardize(columns, mean, scale, loudest)

    def batch(self, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cut crops at random: features (B, 4 N, M + 1), targets (B, N, 56), mask (B, N)."""
        features = torch.zeros(size, COLUMNS * self.crop, self.extractor.feature_size)
        target = torch.zeros(size, self.crop, CHANNELS)
        mask = torch.zeros(size, self.crop, dtype=torch.bool)
        for index in range(size):
            source, wanted = self.items[rng.integers(len(self.items))]
            start = int(rng.integers(0, max(len(wanted) - self.crop, 0) + 1))
            length = min(self.crop, len(wanted) - start)
            features[index, : COLUMNS * length] = source[COLUMNS * start : COLUMNS * (start + length)]
            target[index, :length] = wanted[start : start + length]
            mask[index, :length] = True
        return features, target, mask

    def batches(self, options: AudioEncoderOptions, steps: range) -> Iterator[tuple[Any, ...]]:
        """Renew the pool and cut a batch, with a look-ahead, for each of these steps; all chance comes from them."""
        for step in steps:
            rng = np.random.default_rng([options.seed, 2, step])
            torch.manual_seed(options.seed * 1_000_003 + step)
            self.renew(options.renew, rng)
            # The longest look-ahead is the default: half of the steps are its.
            look_ahead = None
            if self.look_aheads and rng.random() < 0.5:
                look_ahead = int(rng.choice(self.look_aheads))
            yield *self.batch(options.batch_size, rng), look_ahead

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint has to hold."""
        return {"items": self.items}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.items = state["items"]


class MouthObjective:
    """Weighted squared error of weights, aperture and their velocities; cross-entropy of the closure and of phones.

    Args:
        targets ((F, 56) float): of many frames; errors are divided by their deviation.
    """

    def __init__(self, targets: torch.Tensor) -> None:
        targets = targets[..., : len(EXPRESSIONS)]
        self.scale = targets.std(dim=0).clamp_min(0.02)
        self.scale[[name not in IMPORTANCE for name in EXPRESSIONS]] = 0.2
        self.importance = torch.full((len(EXPRESSIONS),), 0.01)
        for name, value in IMPORTANCE.items():
            self.importance[INDEX[name]] = value

    def __call__(self, model: LogMelEncoder, batch: tuple[Any, ...]) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch of [`Pool`], and its parts."""
        features, target, mask, look_ahead = batch
        hidden = model(features, mask, look_ahead=look_ahead).last_hidden_state
        motion = model.predict_motion(hidden)
        parts = self.compare(motion.weights.float(), motion.closure_logits.float(), target, mask)
        if model.config.num_phones:
            logits = model.predict_phones(hidden).float()
            wanted, halves = target[..., -2:].flatten(1).long(), mask.repeat_interleave(2, dim=1)
            parts["phones"] = F.cross_entropy(logits[halves], wanted[halves], label_smoothing=0.1)
            parts["loss"] = parts["loss"] + 0.5 * parts["phones"]
        return parts

    def compare(
        self, weights: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Compare weights (B, N, 53) and logits (B, N) of the closure with targets where mask (B, N) is."""
        target, closure = target[..., : len(EXPRESSIONS)], target[..., len(EXPRESSIONS)]
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
def start_from_mean(model: LogMelEncoder, targets: torch.Tensor) -> None:
    """Let an untrained encoder predict about the mean face: weights are small, their errors count in deviations."""
    model.motion_head.weight.mul_(0.1)
    model.motion_head.bias[:-1].copy_(targets[:, : len(EXPRESSIONS)].mean(0))


def warm_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate: up in 200 updates, times a cosine down to 1 %; diffusers' cosine ends at 0."""
    return min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1))))
