# SPDX-License-Identifier: MIT
"""A large ear: the phones that a frozen Whisper encoder hears, told to a pipeline as known ones are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.io import load_audio
from ..audio.whisper import MODEL_TYPE, STRIDE, whisper_features
from ..data.feature_cache import load_audio_encoder
from ..errors import FaceTalkError
from ..models.phone_recognizer import PhoneRecognizer
from ..paths import PHONE_RECOGNIZER
from ..phones.decoding import align_phones, decode_phones
from ..phones.segments import Segment
from ..phones.visemes import PHONES, split_diphthongs


PENALTY = 1.0
"""Natural logarithm by which a change of phone must be outweighed: .5 to 1 are alike on people who were left out, more
loses lip sounds (docs/default-model.md)."""


class LargeEar:
    """Hears the phones of a recording: `pipe(audio, phones=ear(audio))`.

    The encoder sees the whole recording, so nothing of this works live.

    Args:
        encoder (`WhisperModel`): frozen, in eval mode. feature_extractor (`WhisperFeatureExtractor`): its own.
        recognizer ([`PhoneRecognizer`]): trained on the features of this encoder.
        penalty (`float`): natural logarithm by which a change of phone must be outweighed.

    Raises:
        FaceTalkError: another kind of encoder, or one of another size than the recogniser was trained on.
    """

    def __init__(
        self, encoder: Any, feature_extractor: Any, recognizer: PhoneRecognizer, penalty: float = PENALTY
    ) -> None:
        if getattr(encoder.config, "model_type", None) != MODEL_TYPE:
            raise FaceTalkError(f"a large ear is an encoder of Whisper, not {type(encoder).__name__}")
        size, name = recognizer.config["feature_size"], recognizer.config["encoder"]
        if encoder.config.d_model != size:
            raise FaceTalkError(
                f"this Whisper has {encoder.config.d_model} features, the phone recogniser was trained on the {size} "
                f"of {name}"
            )
        self.encoder, self.feature_extractor, self.recognizer = encoder, feature_extractor, recognizer.eval()
        self.penalty = penalty

    @classmethod
    def from_pretrained(
        cls, encoder: str | Path | None = None, recognizer: str | Path | None = None, device: str = "cpu"
    ) -> "LargeEar":
        """Load a Whisper model by folder or Hub id, and the recogniser from its folder or the Hub.

        Args:
            encoder: by default the one that the recogniser was trained on. It may also be what
                training/train_phone_recognizer.py wrote, a folder with `phone_recognizer`, and perhaps an encoder.
            recognizer: by default `phone_recognizer` in the folder of the encoder, or else the embedded one.
            device (`str`): of both.

        Raises:
            FaceTalkError: one of them is not there, or they do not fit together.
        """
        if encoder and (own := Path(encoder) / "phone_recognizer").is_dir():
            recognizer = recognizer or own
            encoder = encoder if (Path(encoder) / "config.json").is_file() else None
        recognizer = recognizer or PHONE_RECOGNIZER
        try:
            head = PhoneRecognizer.from_pretrained(recognizer, torch_dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise FaceTalkError(f"no phone recogniser can be loaded from {recognizer}: {reason}") from error
        model, extractor = load_audio_encoder(encoder or head.config["encoder"])
        model.to(device)  # type: ignore[arg-type]
        return cls(model, extractor, head.to(device))

    @torch.inference_mode()
    def logits(self, samples: np.ndarray) -> torch.Tensor:
        """Compute logits (L, C) of phones, 50 a second, of samples (S,) at the encoder's rate."""
        rate = self.feature_extractor.sampling_rate
        features = whisper_features(self.encoder, self.feature_extractor, samples, rate)
        count = max(1, round(len(samples) / (self.feature_extractor.hop_length * STRIDE)))
        return self.recognizer(features[None, :count].float())[0].float()

    def __call__(self, audio: Any, sampling_rate: int | None = None) -> list[Segment]:
        """Hear the phones of one recording.

        Args:
            audio: path, bytes or samples, as for the pipeline. sampling_rate (`int`, *optional*): Hz, of samples.

        Returns:
            list of [`Segment`]: the names of `phones.visemes.PHONES`, without gaps, from 0 s to the end of the sound.
        """
        found, stride, seconds = self._guesses(audio, sampling_rate)
        return decode_phones(found, PHONES, stride, seconds, self.penalty)

    def align(
        self, audio: Any, words: Sequence[Sequence[str]], sampling_rate: int | None = None
    ) -> tuple[list[Segment], np.ndarray]:
        """Find when each phone of known words is said: forced alignment, of any language.

        Args:
            audio, sampling_rate: as above. words: the phones of each word, in the alphabet of `phones.alphabets`.

        Returns:
            list of [`Segment`], diphthongs as their two halves, and how likely each is, (n,) float in 0..1: the
            geometric mean of the recogniser's probabilities.

        Raises:
            FaceTalkError: the recording is too short for so many phones.
        """
        found, stride, seconds = self._guesses(audio, sampling_rate)
        spoken = [split_diphthongs([Segment(phone, 0, 1) for phone in word]) for word in words]
        halves = [[half.phone for half in word] for word in spoken]
        return align_phones(found, PHONES, halves, stride, seconds)

    def _guesses(self, audio: Any, sampling_rate: int | None) -> tuple[np.ndarray, float, float]:
        """Guess phones of a recording: logarithms of probabilities (L, C), seconds of a guess, and of all."""
        rate = self.feature_extractor.sampling_rate
        samples = load_audio(audio, sampling_rate, rate)
        stride = self.feature_extractor.hop_length * STRIDE / rate
        return self.logits(samples).log_softmax(-1).cpu().numpy(), stride, len(samples) / rate
