# SPDX-License-Identifier: MIT
"""Training of the large ear's phone recogniser: features of a frozen encoder, made once, and crops of them."""

import hashlib
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..audio.augmentation import Augmenter
from ..audio.whisper import STRIDE, whisper_features
from ..data.corpus import decode_audio, read
from ..data.feature_cache import BABBLE
from ..errors import FaceTalkError
from ..files import atomic_path
from ..models.digest import weights_digest
from ..phones.segments import Segment
from ..phones.visemes import PHONES, STOPS
from ..scripts import REQUIRED, option
from .loop import TrainingOptions
from .mouth_regression import RATE, phones_at


SPLITS = ("train", "validation", "test")


@dataclass(kw_only=True)
class PhoneRecognizerOptions(TrainingOptions):
    """Options of training/train_phone_recognizer.py."""

    corpus: list[Path] = option(REQUIRED, "folders of corpora with phones (build_speech.py, align_speech.py)")
    hours: list[float] = option([], "at most so much is drawn of each corpus; by default all")
    variants: list[int] = option([], "how often each clip is heard: as it is, then in rooms, lines, noise; default 2")
    encoder: str = option("openai/whisper-base", "Whisper model, folder or Hub id")
    encoder_name: str = option("openai/whisper-base", "Hub id that the result names as its encoder")
    cache_dir: Path = option(REQUIRED, "features are kept there")
    leave_out: list[str] = option([], "speakers to measure on, whatever their split is")
    hidden_size: int = option(192, "channels")
    num_blocks: int = option(2, "blocks")
    mixed_precision: Literal["no", "bf16"] = option("bf16", "of the encoder; twice as fast on a CPU that has it")
    batch_size: int = option(16, "crops in a batch")
    crop: int = option(120, "features of a crop, 50 a second")
    max_train_steps: int = option(1500, "updates")
    learning_rate: float = option(2e-3, "of AdamW, at its highest")
    ema_decay: float = option(0.998, "the result is a moving average of the weights; 0 for none")
    label_smoothing: float = option(0.05, "of the cross-entropy")
    checkpointing_steps: int = option(500, "updates from one checkpoint to the next; 0 for none")
    validation_steps: int = option(500, "updates from one validation to the next; 0 for none but the last")


@dataclass
class Heard:
    """One clip as the encoder hears it: features (L, A) float16, phones (L,) int64, and who speaks."""

    features: np.ndarray
    phones: np.ndarray
    left_out: bool


def hear_corpora(options: PhoneRecognizerOptions, encoder: Any, feature_extractor: Any) -> list[Heard]:
    """Encode the training clips and those of speakers left out, or read what an earlier run encoded.

    A variant is a function of seed, row, number and who is left out, so that a run that was killed goes on where it
    was, and nobody who is left out is heard in a murmur behind others.

    Raises:
        FaceTalkError: lists of another length than that of corpora; no clips.
    """
    hours, variants = options.hours or [np.inf] * len(options.corpus), options.variants or [2] * len(options.corpus)
    for name, values in (("--hours", hours), ("--variants", variants)):
        if len(values) != len(options.corpus):
            raise FaceTalkError(f"{name} has {len(values)} numbers for {len(options.corpus)} corpora")
    place = f"{weights_digest(encoder.encoder.state_dict()).hex()} {options.seed} {options.mixed_precision}".encode()
    folder, found = options.cache_dir / hashlib.sha256(place).hexdigest()[:16], []
    folder.mkdir(parents=True, exist_ok=True)
    out = hashlib.sha256(" ".join(sorted(options.leave_out)).encode()).hexdigest()
    for corpus, limit, count in zip(options.corpus, hours, variants, strict=True):
        chosen = choose_rows(corpus, limit, options)
        babble: deque[np.ndarray] = deque(maxlen=BABBLE)
        columns = ("id", "audio", "phones", "sampling_rate")
        rows = (row for row in read(corpus, SPLITS, columns) if row["id"] in chosen)
        for row in tqdm(rows, desc=f"hearing {corpus.name}", total=len(chosen), disable=None):
            if row["sampling_rate"] != RATE:
                raise FaceTalkError(f"{corpus}: row {row['id']} has {row['sampling_rate']} Hz, not {RATE}")
            samples, left_out = decode_audio(row), chosen[row["id"]]
            segments = [Segment(item["phone"], item["start"], item["end"]) for item in row["phones"]]
            for variant in range(1 if left_out else count):
                name = f"{corpus.name} {row['id']} {variant}" + (f" {out}" if variant else "")
                path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npy"
                if not path.exists():
                    heard = samples
                    if variant:
                        rng = np.random.default_rng([options.seed, zlib.crc32(row["id"].encode()), variant])
                        heard = Augmenter(list(babble), RATE).disturb(samples, rng)
                    features = _encode(encoder, feature_extractor, heard, options.mixed_precision == "bf16")
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.save(file, features)
                features = np.load(path)
                times = np.arange(len(features)) * feature_extractor.hop_length * STRIDE / RATE
                found.append(Heard(features, phones_at(segments, times), left_out))
            if not left_out:
                babble.append((32767 * samples).astype(np.int16))
    if all(item.left_out for item in found):
        raise FaceTalkError("there are no training clips with phones")
    return found


def choose_rows(corpus: Path, hours: float, options: PhoneRecognizerOptions) -> dict[str, bool]:
    """Draw rows with phones: up to so many hours of the training split, and all of speakers left out, who are True."""
    rows = list(read(corpus, SPLITS, ("id", "phones", "speaker", "split")))
    chosen, seconds = {}, 0.0
    for index in np.random.default_rng([options.seed, 1]).permutation(len(rows)):
        row = rows[index]
        out = row["speaker"] in options.leave_out
        if row["phones"] and (out or row["split"] == "train" and seconds < 3600 * hours):
            chosen[row["id"]] = out
            seconds += 0 if out else row["phones"][-1]["end"]
    return chosen


@torch.inference_mode()
def _encode(encoder: Any, feature_extractor: Any, samples: np.ndarray, bfloat16: bool) -> np.ndarray:
    """Encode a clip (S,) as features (L, A) float16, those of the silence behind it left out."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        features = whisper_features(encoder, feature_extractor, samples, RATE)
    count = max(1, round(len(samples) / (feature_extractor.hop_length * STRIDE)))
    return features[:count].float().numpy().astype(np.float16)


def crops(clips: Sequence[Heard], options: PhoneRecognizerOptions, steps: range) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut a batch for each of these steps: features (B, L, A), phones (B, L), -100 where a crop is padding."""
    lengths = np.array([len(clip.phones) for clip in clips], np.float64)
    for step in steps:
        rng = np.random.default_rng([options.seed, 2, step])
        torch.manual_seed(options.seed * 1_000_003 + step)
        features = torch.zeros(options.batch_size, options.crop, clips[0].features.shape[1])
        phones = torch.full((options.batch_size, options.crop), -100)
        for row, index in enumerate(rng.choice(len(clips), options.batch_size, p=lengths / lengths.sum())):
            clip = clips[index]
            start = int(rng.integers(0, max(len(clip.phones) - options.crop, 0) + 1))
            part = clip.phones[start : start + options.crop]
            features[row, : len(part)] = torch.from_numpy(clip.features[start : start + options.crop]).float()
            phones[row, : len(part)] = torch.from_numpy(part)
        yield features, phones


def phone_loss(smoothing: float, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """Compute the cross-entropy of the phones of a batch, and the share that is told."""
    features, phones = batch
    logits = model(features)
    loss = F.cross_entropy(logits.flatten(0, 1), phones.flatten(), ignore_index=-100, label_smoothing=smoothing)
    known = phones != -100
    return {"loss": loss, "accuracy": (logits.argmax(-1) == phones)[known].float().mean()}


@torch.inference_mode()
def phone_accuracy(model: torch.nn.Module, clips: Sequence[Heard]) -> dict[str, float]:
    """Measure the share of features whose phone is told, and of lips that close for m, b, p, of clips left out."""
    told, wanted = [], []
    for clip in clips:
        told.append(model(torch.from_numpy(clip.features)[None].float())[0].argmax(-1).numpy())
        wanted.append(clip.phones)
    if not told:
        return {}
    made, right = np.concatenate(told), np.concatenate(wanted)
    lips = np.isin(right, [PHONES.index(name) for name in STOPS])
    closed = np.isin(made, [PHONES.index(name) for name in STOPS])
    hits = (lips & closed).sum()
    return {
        "accuracy": float((made == right).mean()),
        "lips recall": float(hits / max(lips.sum(), 1)),
        "lips precision": float(hits / max(closed.sum(), 1)),
    }
