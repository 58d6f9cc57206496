# SPDX-License-Identifier: MIT
"""Audio features for training from a frozen encoder: made once and kept, or made anew at every step."""

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModel, PreTrainedModel, SequenceFeatureExtractor

from ..audio.augmentation import Augmenter
from ..audio.encoding import encode_speech
from ..audio.io import num_frames
from ..audio.log_mel import LogMelFeatureExtractor
from ..audio.whisper import MODEL_TYPE as WHISPER
from ..audio.whisper import whisper_encoder
from ..errors import FaceTalkError
from ..models.audio_encoder import LogMelEncoder, LogMelEncoderConfig
from ..models.digest import weights_digest
from ..paths import TINY, TINY_NAME
from . import corpus
from .checks import check_finite
from .segments import Clip, EncodedClips


BABBLE = 50
"""Clips of which a murmur of voices is made."""

COLUMNS = ("id", "audio", "sampling_rate", "expression", "fps", "head_pose", "conditions")


def load_audio_encoder(
    encoder: str | Path, feature_extractor: str | Path | None = None
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Load our log-mel encoder from a folder, or one of the wav2vec 2.0 family or Whisper's from a folder or the Hub.

    All are frozen; a Whisper model leaves its decoder behind.

    Raises:
        FaceTalkError: there is none, with the reason.

    Args:
        encoder (`str` or `Path`): folder, or that of a whole pipeline; a Hub id; or "facetalk-tiny", the shipped one.
        feature_extractor (`str` or `Path`, *optional*): the same for the feature extractor, where it lies elsewhere.
    """
    if str(encoder) == TINY_NAME and not Path(encoder).exists():
        encoder = TINY
    if (Path(encoder) / "audio_encoder").is_dir():  # of a whole pipeline, or of train_audio_encoder.py
        feature_extractor = feature_extractor or Path(encoder) / "feature_extractor"
        encoder = Path(encoder) / "audio_encoder"
    try:
        path = Path(encoder) / "config.json"
        ours = path.exists() and json.loads(path.read_text())["model_type"] == LogMelEncoderConfig.model_type
        model_class = LogMelEncoder if ours else AutoModel
        extractor_class = LogMelFeatureExtractor if ours else AutoFeatureExtractor
        model = model_class.from_pretrained(encoder, dtype=torch.float32).eval().requires_grad_(False)
        if model.config.model_type == WHISPER:
            model = whisper_encoder(model)
        return model, extractor_class.from_pretrained(feature_extractor or encoder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"no audio encoder can be loaded from {encoder}: {reason}") from error


def check_rate(place: str, fps: float, feature_extractor: SequenceFeatureExtractor) -> None:
    """Raise [`FaceTalkError`] where an encoder has frames of its own, and a corpus has others."""
    own = getattr(feature_extractor, "fps", None)
    if own is not None and abs(own - fps) > 1e-3:
        raise FaceTalkError(
            f"{place} has {fps:g} frames a second, the audio encoder works at {own:g}: build the corpus by "
            f"`facetalk corpus --model-fps {own:g}`, which resamples it"
        )


def _rows(folder: str | Path, split: str, label: str) -> Iterator[dict]:
    size: int | None = None
    for row in tqdm(corpus.read(folder, (split,), COLUMNS), desc=f"{label} {split}", unit=" clips"):
        if row.get("expression") is None:
            raise FaceTalkError(f"{folder} has no expression codes; training/build_corpus.py adds them")
        size = row["expression"].shape[1] if size is None else size
        if row["expression"].shape[1] != size:
            raise FaceTalkError(
                f"{folder}: row {row['id']} has codes of {row['expression'].shape[1]} numbers, those before it have "
                f"{size}: they belong to another head or basis"
            )
        for name in ("expression", "head_pose"):
            if row.get(name) is not None:
                check_finite(row[name], f"{folder}: row {row['id']}: {name}")
        yield row


def encode_corpus(
    folder: str | Path,
    split: str,
    encoder: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    cache_dir: str | Path | None = None,
    augmentation: float | None = None,
) -> EncodedClips:
    """Encode the clips of a split, or take them from the cache: codes and audio features.

    Args:
        folder (`str` or `Path`): corpus with expression codes.
        split (`str`): "train", "validation" or "test".
        encoder, feature_extractor: see `load_audio_encoder`.
        cache_dir (`str` or `Path`, *optional*): keep the result there, under a name made from the encoder's weights
            and the corpus; in memory otherwise.
        augmentation (`float`, *optional*): share of the clips that are heard in a room, through a line or with noise;
            an encoder with a choice of look-aheads then hears half of all clips with one of the shorter ones. What
            follows such an encoder must not trust it more than it may on a stranger's voice.

    Raises:
        FaceTalkError: a corpus without codes or without clips of this split.
    """
    target = None
    if cache_dir is not None:
        key = hashlib.sha256(f"{split} {feature_extractor.to_json_string()}".encode())
        key.update(weights_digest(encoder.state_dict()))
        for shard in corpus.shards(folder):
            key.update(f"{shard.name} {shard.stat().st_size} {shard.stat().st_mtime_ns}".encode())
        if corpus.has_columns(folder, ("head_pose", "conditions")):
            key.update(b"head_pose conditions")  # caches of such a corpus by earlier versions lack them
        if augmentation is not None:
            key.update(f"augmentation {augmentation}".encode())
        target = Path(cache_dir) / f"{split}-{key.hexdigest()[:16]}"
        if target.exists():
            return EncodedClips.load(target)

    shorter = sorted(getattr(encoder, "look_aheads", ()))[:-1]
    heard: deque[np.ndarray] = deque(maxlen=BABBLE)

    def vary(samples: np.ndarray, row: dict) -> tuple[np.ndarray, float | None]:
        """Draw from the row's name the samples that are heard, and the look-ahead in seconds."""
        rng = np.random.default_rng([3, zlib.crc32(row["id"].encode())])
        heard.append(samples)
        if rng.random() < (augmentation or 0):
            samples = Augmenter(list(heard), row["sampling_rate"]).disturb(samples, rng)
        return samples, int(rng.choice(shorter)) / row["fps"] if shorter and rng.random() < 0.5 else None

    @torch.inference_mode()
    def clips() -> Iterator[Clip]:
        for row in _rows(folder, split, "encoding"):
            check_rate(f"{folder}: row {row['id']}", row["fps"], feature_extractor)
            samples, ahead = corpus.decode_audio(row), None
            if augmentation is not None:
                samples, ahead = vary(samples, row)
            features, _ = encode_speech(encoder, feature_extractor, [samples], row["fps"], row["sampling_rate"], ahead)
            yield Clip(row["expression"], features[0].cpu().numpy(), row.get("head_pose"), row.get("conditions"))

    return EncodedClips.collect(clips(), target)


class OnlineAudio:
    """Encodes the audio of every segment when it is drawn: nothing is kept, and every step pays for the encoder.

    The whole clip is encoded and the segment cut from its features. The encoders normalise over a clip and look
    around in it, so the features of a segment's own samples would be others, which no sampling ever sees. So this
    gives what the cache holds, up to the cache's rounding.

    Args:
        clips: (S_i,) int16, samples of the clips.
        starts ((C + 1,) int64): first frame of each clip, as in [`EncodedClips`].
        encoder, feature_extractor: see `load_audio_encoder`.
        fps (`float`): video frames a second.
        sampling_rate (`int`): of the clips, Hz.
    """

    def __init__(
        self,
        clips: Sequence[np.ndarray],
        starts: np.ndarray,
        encoder: PreTrainedModel,
        feature_extractor: SequenceFeatureExtractor,
        fps: float = 24.0,
        sampling_rate: int = 16000,
    ) -> None:
        self.clips, self.starts, self.fps, self.sampling_rate = clips, starts, fps, sampling_rate
        self.encoder, self.feature_extractor = encoder, feature_extractor

    @torch.no_grad()
    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode the audio of a [`SegmentDataset`]'s batch, (B, N, A) float, zero where frames are padding."""
        start = batch["start"].cpu().numpy()
        clip = np.searchsorted(self.starts, start, side="right") - 1
        waveforms = [self.clips[index].astype(np.float32) / 32768 for index in clip]
        features, _ = encode_speech(self.encoder, self.feature_extractor, waveforms, self.fps, self.sampling_rate)
        mask = batch["frame_mask"]
        result = torch.zeros(*mask.shape, features.shape[2], device=features.device)
        for row, (first, length) in enumerate(zip(start - self.starts[clip], mask.sum(dim=1).tolist(), strict=True)):
            result[row, :length] = features[row, first : first + length]
        return result


def read_speech(
    folder: str | Path, split: str, encoder: PreTrainedModel, feature_extractor: SequenceFeatureExtractor
) -> tuple[EncodedClips, OnlineAudio]:
    """Read a split for training without cached features: the clips' codes, and what encodes their audio on demand.

    Args:
        folder, split, encoder, feature_extractor: as for `encode_corpus`.

    Raises:
        FaceTalkError: as for `encode_corpus`; clips of different rates.
    """
    clips: list[np.ndarray] = []
    rates: set[tuple[float, int]] = set()

    def codes() -> Iterator[Clip]:
        for row in _rows(folder, split, "reading"):
            check_rate(f"{folder}: row {row['id']}", row["fps"], feature_extractor)
            samples = corpus.decode_audio(row)
            clips.append(np.round(samples * 32768).clip(-32768, 32767).astype(np.int16))
            rates.add((float(row["fps"]), row["sampling_rate"]))
            silent = np.zeros((num_frames(len(samples), row["sampling_rate"], row["fps"]), 0))
            yield Clip(row["expression"], silent, row.get("head_pose"), row.get("conditions"))

    encoded = EncodedClips.collect(codes())
    if len(rates) > 1:
        raise FaceTalkError(f"the clips of {folder} have several frame or sampling rates: {sorted(rates)}")
    return encoded, OnlineAudio(clips, encoded.starts, encoder, feature_extractor, *rates.pop())
