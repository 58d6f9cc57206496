# SPDX-License-Identifier: MIT
"""Log-mel features of speech."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BatchFeature, SequenceFeatureExtractor

from ..errors import FaceTalkError
from ..units import COLUMNS_PER_FRAME
from . import columns
from .columns import NATS_PER_DECIBEL


def mel_filterbank(
    num_mel_bins: int, fft_size: int, sampling_rate: int, low: float, high: float, warp: float = 1.0
) -> torch.Tensor:
    """Make triangular filters as `facetalk_hf.audio.columns.mel_filterbank`, (fft_size // 2 + 1, bins) float."""
    return torch.from_numpy(columns.mel_filterbank(num_mel_bins, fft_size, sampling_rate, low, high, warp))


class LogMelFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Log-mel columns on a grid that fits the video frames exactly, normalised per clip.

    Column `k` is a 25 ms Hann window centred at `(k + 0.5) / (4 * fps)` seconds, so that columns `4 i .. 4 i + 3` lie
    symmetrically in video frame `i`. Each clip is treated on its own: a clip in a batch gives what it gives alone.

    Args:
        feature_size (`int`, *optional*, defaults to 41): values a column, one more than the number of mel bins: the
            last one is the level.
        sampling_rate (`int`, *optional*, defaults to 16000): Hz.
        padding_value (`float`, *optional*, defaults to 0.0): value of the columns beyond the end of a clip.
        fps (`float`, *optional*, defaults to 24.0): video frames a second.
        min_frequency (`float`, *optional*, defaults to 60.0), max_frequency (`float`, *optional*, defaults to 7600.0):
            outer edges of the mel filters, Hz.
        window_length (`float`, *optional*, defaults to 0.025): seconds.
        active_range (`float`, *optional*, defaults to 35.0): a column counts as active within so many dB of the
            loudest 80 ms of its clip. Mean and scale are those of the active columns.
        quiet_level (`float`, *optional*, defaults to -50.0): dB of full scale. A clip whose loudest 80 ms lie below is
            not lifted to the level of speech: room noise and digital silence stay recognisable.
        min_scale (`float`, *optional*, defaults to 1.5): floor of the scale, nats, so that steady noise stays flat.
        max_value (`float`, *optional*, defaults to 3.5): normalised values are clamped to +- this.
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 41,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        fps: float = 24.0,
        min_frequency: float = 60.0,
        max_frequency: float = 7600.0,
        window_length: float = 0.025,
        active_range: float = 35.0,
        quiet_level: float = -50.0,
        min_scale: float = 1.5,
        max_value: float = 3.5,
        **kwargs: Any,
    ):
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.fps = fps
        self.min_frequency = min_frequency
        self.max_frequency = max_frequency
        self.window_length = window_length
        self.active_range = active_range
        self.quiet_level = quiet_level
        self.min_scale = min_scale
        self.max_value = max_value

    def log_mel(self, waveform: np.ndarray | torch.Tensor, warp: float = 1.0) -> torch.Tensor:
        """Compute the columns of one clip before normalisation.

        Args:
            waveform: (S,) float in -1..1 at `sampling_rate`.
            warp (`float`, *optional*, defaults to 1.0): vocal-tract-length factor, sensibly 0.8 to 1.25.
                Another speaker says the same.

        Returns:
            `torch.Tensor`: (4 N, M + 1) float, natural log of power; full scale is about 0, the floor -27.6.
            The last column is the level between `min_frequency` and `max_frequency`, which no warp touches.
        """
        return torch.from_numpy(columns.log_mel(self, np.asarray(waveform, np.float32), warp))

    @property
    def window_samples(self) -> int:
        """Samples under one column."""
        return columns.window_samples(self)

    def window_starts(self, first: int, count: int) -> torch.Tensor:
        """Place the windows of `count` columns from number `first` on: first samples (count,) int, some below 0."""
        return torch.from_numpy(columns.window_starts(self, first, count))

    def log_mel_of_windows(self, windows: torch.Tensor, warp: float = 1.0) -> torch.Tensor:
        """Compute `log_mel` of samples cut into windows: (K, window_samples) float to (K, M + 1) float."""
        return torch.from_numpy(columns.log_mel_of_windows(self, np.asarray(windows, np.float32), warp))

    @torch.no_grad()
    def normalize(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Remove the channel and the loudness of one clip, keep its silence.

        Every bin loses its mean over the active columns; all bins share one scale (the standard deviation over the
        active columns). A clip quieter than `quiet_level` stays below zero by what it lacks.

        Args:
            log_mel: (K, M + 1) float from `log_mel`, K any number of columns.

        Returns:
            `torch.Tensor`: (K, M + 1) float, clamped to +- `max_value`. The last column is 1 at the loudest 80 ms and
            falls by 1 each 20 dB.
        """
        return self.standardize(log_mel, *self.statistics(log_mel))

    def statistics(self, log_mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Measure what `normalize` takes from a clip: `mean`, `scale` and `loudest` of `standardize`."""
        bins, level = log_mel[:, :-1], log_mel[:, -1]
        smooth = F.avg_pool1d(level.exp()[None], 8, stride=1, padding=4, count_include_pad=False)
        loudest = smooth.max().log()
        active = level >= (level.max().minimum(loudest) - self.active_range * NATS_PER_DECIBEL)
        mean = bins[active].mean(0)
        return mean, (bins[active] - mean).square().mean().sqrt(), loudest

    def standardize(
        self, log_mel: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, loudest: torch.Tensor
    ) -> torch.Tensor:
        """Normalise as `normalize`, with given statistics of the clip.

        Args:
            log_mel: (K, M + 1) float from `log_mel`.
            mean: (M,) float, of the active columns.
            scale: () float, their standard deviation over columns and bins.
            loudest: () float, level of the loudest 80 ms, nats.
        """
        values = columns.standardize(self, np.asarray(log_mel), np.asarray(mean), float(scale), float(loudest))
        return torch.from_numpy(values)

    def __call__(
        self,
        raw_speech: np.ndarray | torch.Tensor | Sequence,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Encode clips as normalised columns, padded to the longest.

        Args:
            raw_speech: one clip, (S,) float, or a list of clips of any lengths.
            sampling_rate (`int`, *optional*): of the clips in Hz; must be the extractor's own.
            return_tensors (`str`, *optional*): `"pt"`, `"np"` or `None`.

        Returns:
            `BatchFeature` with `input_features` (B, 4 N, M + 1) float and `attention_mask` (B, N) bool, one value a
            video frame. N is that of the longest clip.

        Raises:
            FaceTalkError: another sampling rate, or a clip without samples.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise FaceTalkError(f"speech at {sampling_rate} Hz was given, resample it to {self.sampling_rate} Hz")
        if isinstance(raw_speech, (np.ndarray, torch.Tensor)):
            single = raw_speech.ndim == 1
        else:
            single = isinstance(raw_speech, (list, tuple)) and bool(raw_speech) and np.ndim(raw_speech[0]) == 0
        clips: list[Any] = [raw_speech] if single else list(raw_speech)
        if not clips or any(len(clip) == 0 for clip in clips):
            raise FaceTalkError("the audio has no samples")
        features = [self.normalize(self.log_mel(clip)) for clip in clips]
        frames = torch.tensor([len(item) // COLUMNS_PER_FRAME for item in features])
        return BatchFeature(
            {
                "input_features": nn.utils.rnn.pad_sequence(features, True, self.padding_value),
                "attention_mask": torch.arange(int(frames.max()))[None] < frames[:, None],
            },
            tensor_type=return_tensors,
        )
