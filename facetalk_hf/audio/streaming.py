# SPDX-License-Identifier: MIT
"""Speech features of sound that comes in pieces: resampling, log-mel columns, running statistics, the encoder.

Nothing depends on where one piece ends and the next begins: all arithmetic is done in portions of a fixed size. It is
NumPy's, so that a stream whose networks run elsewhere needs no torch.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import FaceTalkError
from ..units import COLUMNS_PER_FRAME
from . import columns
from .columns import NATS_PER_DECIBEL, Layout
from .io import num_frames, read_audio


class ColumnEncoder(Protocol):
    """What a stream needs of [`~facetalk_hf.models.audio_encoder.LogMelEncoder`], whose methods say what they do."""

    @property
    def look_aheads(self) -> Sequence[int]:
        """Frames of look-ahead that can be chosen."""

    def past_frames(self) -> int:
        """Count the frames before one that can have an influence on it."""

    def encode_columns(self, columns: np.ndarray, mask: np.ndarray, look_ahead: int) -> np.ndarray:
        """Encode normalised columns (4 N, M + 1) float32 of the frames in a mask (N,) bool to features (n, A).

        Those of the n frames between `past_frames` and `look_ahead`.
        """


def read_chunk(samples: Any, sampling_rate: int | None, rate: int) -> np.ndarray:
    """Read a chunk of a stream at `rate` Hz, (S,) float32; S may be 0.

    Args:
        samples: (S,) numbers, an array or a tensor; integers are scaled by the range of their type.
        sampling_rate (`int`, *optional*): Hz, to be checked.

    Raises:
        FaceTalkError: no row of finite numbers, or another rate.
    """
    if sampling_rate is not None and sampling_rate != rate:
        raise FaceTalkError(f"a chunk at {sampling_rate} Hz in a stream at {rate} Hz: resample it")
    if isinstance(samples, (bytes, bytearray, memoryview, str)) or not hasattr(samples, "ndim"):
        raise FaceTalkError(
            f"a chunk must be a NumPy array or a tensor, not {type(samples).__name__}: of raw 16-bit sound, "
            "np.frombuffer(chunk, np.int16) makes one"
        )
    if samples.ndim != 1:
        raise FaceTalkError(f"a chunk must be one channel, an array of one dimension, not of shape {samples.shape}")
    return read_audio(samples, rate)[0] if len(samples) else np.zeros(0, np.float32)


class StreamingResampler:
    """`audio.resample` for samples that come in pieces; the same filter, to rounding the same result.

    Args:
        sampling_rate, target_rate (`int`): Hz.
    """

    def __init__(self, sampling_rate: int, target_rate: int):
        divisor = math.gcd(sampling_rate, target_rate)
        self.up, self.down = target_rate // divisor, sampling_rate // divisor
        self.reach = 0  # samples of the input that a sample of the output needs on each side
        if self.up != self.down:
            longest = max(self.up, self.down)
            half = 10 * longest  # resample_poly's own choice of filter: firwin(2 half + 1, 1 / longest, kaiser 5.0)
            taps = np.sinc(np.arange(-half, half + 1) / longest) * np.kaiser(2 * half + 1, 5.0)
            taps *= self.up / taps.sum()
            self.reach = half // self.up + 1
            # Row p holds the weights of the samples -reach ... reach around an output of phase p.
            offset = np.arange(self.up)[:, None] - self.up * np.arange(-self.reach, self.reach + 1) + half
            inside = (offset >= 0) & (offset < len(taps))
            self.taps = np.where(inside, taps[offset.clip(0, len(taps) - 1)], 0)
        self.buffer = np.zeros(self.reach)
        self.received = self.made = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take in (S,) float, return (S',) float32: all samples of the output that can be computed by now."""
        self.received += len(samples)
        if not self.reach:
            return samples.astype(np.float32)
        self.buffer = np.concatenate((self.buffer, samples))
        return self._make(-(-(self.received - self.reach) * self.up // self.down))

    def finish(self) -> np.ndarray:
        """Return the rest of the output, with silence after the end."""
        if not self.reach:
            return np.zeros(0, np.float32)
        self.buffer = np.concatenate((self.buffer, np.zeros(self.reach + 1)))
        return self._make(-(-self.received * self.up // self.down))

    def _make(self, end: int) -> np.ndarray:
        """Compute the output up to sample `end`."""
        if end <= self.made:
            return np.zeros(0, np.float32)
        whole, phase = np.divmod(np.arange(self.made, end) * self.down, self.up)
        first = int(whole[0])  # the buffer begins `reach` samples before the input that this one stands on
        start = self.made * self.down // self.up
        windows = np.lib.stride_tricks.sliding_window_view(self.buffer, 2 * self.reach + 1)
        result = (windows[whole - first] * self.taps[phase]).sum(1).astype(np.float32)
        self.made = end
        self.buffer = self.buffer[end * self.down // self.up - start :]
        return result


class RunningStatistics:
    """Mean, scale and loudness of the speech so far, in the place of those of a whole clip.

    They are those of the last `memory` seconds of active columns: a pause, however long, changes nothing. Until
    `warm_up` seconds of speech were heard, a prior stands in for what is missing: the average spectrum of speech (flat
    to 500 Hz, then 7.5 dB down an octave), and `prior_level` for the loudest 80 ms.

    Args:
        extractor: layout of the columns that come, such as a [`LogMelFeatureExtractor`].
        memory (`float`, *optional*, defaults to 20.0), warm_up (`float`, *optional*, defaults to 1.5): seconds of
            active columns.
        prior_level (`float`, *optional*, defaults to -25.0): dB of full scale.
    """

    def __init__(
        self,
        extractor: Layout,
        memory: float = 20.0,
        warm_up: float = 1.5,
        prior_level: float = -25.0,
    ):
        rate = COLUMNS_PER_FRAME * extractor.fps
        self.extractor = extractor
        self.needed = warm_up * rate
        self.prior_level = prior_level * NATS_PER_DECIBEL
        self.prior_mean = _speech_spectrum(extractor)
        self.prior_scale = 3.0
        # Columns with, at the end, the level of the 80 ms around; what is empty lies below any threshold.
        self.columns = np.full((max(1, round(memory * rate)), extractor.feature_size + 1), -1e4, np.float32)
        self.recent: list[np.float32] = []
        self.next = 0
        self._measure()

    def update(self, log_mel: np.ndarray) -> None:
        """Take in the next columns, (K, M + 1) float32 from `columns.log_mel`."""
        for column in np.asarray(log_mel):
            level = column[-1]
            self.recent = [*self.recent, np.exp(level)][-8:]
            # The first windows of `normalize` hold four columns too: a click of one column counts as little.
            smooth = np.log(np.mean(self.recent)) if len(self.recent) >= 4 else level
            if level >= self._threshold(max(self.loudest, float(smooth))):
                self.columns[self.next, :-1], self.columns[self.next, -1] = column, smooth
                self.next = (self.next + 1) % len(self.columns)
        self._measure()

    def _threshold(self, loudest: float) -> float:
        return loudest - self.extractor.active_range * NATS_PER_DECIBEL

    def _measure(self) -> None:
        bins, level = self.columns[:, :-2], self.columns[:, -2]
        heard = float(self.columns[:, -1].max())
        quiet = self.extractor.quiet_level * NATS_PER_DECIBEL
        # What is quieter than any speech is no speech: it takes the place of no expectation.
        count = int((level >= self._threshold(heard)).sum()) if heard >= quiet else 0
        missing = max(0.0, 1 - count / self.needed) if self.needed else 0.0
        # The expectation of loud speech fades as something else is heard.
        self.loudest = max(heard, quiet + missing * (self.prior_level - quiet))
        active = (level >= self._threshold(self.loudest)) & (heard >= quiet)
        total = int(active.sum())
        prior = max(0.0, self.needed - total)
        weight = max(1.0, total + prior)
        mean = np.float32(self.loudest) + self.prior_mean
        spoken = bins[active]
        self.mean = (spoken.sum(0) + np.float32(prior) * mean) / np.float32(weight)
        squares = float(np.square(spoken - self.mean).mean(1).sum())
        prior_square = self.prior_scale**2 + float(np.square(mean - self.mean).mean())
        self.scale = math.sqrt((squares + prior * prior_square) / weight)

    def normalize(self, log_mel: np.ndarray) -> np.ndarray:
        """Normalise (K, M + 1) float32 as `LogMelFeatureExtractor.normalize`, with the statistics so far."""
        return columns.standardize(self.extractor, np.asarray(log_mel), self.mean, self.scale, self.loudest)


def _speech_spectrum(extractor: Layout) -> np.ndarray:
    """Model the mean log-mel column of speech above its loudest 80 ms, (M,) float, nats.

    Fitted to three recordings and fourteen synthetic voices: -29 dB to 500 Hz, then 7.5 dB down an octave.
    """
    low, high = (2595 * math.log10(1 + f / 700) for f in (extractor.min_frequency, extractor.max_frequency))
    mel = np.linspace(low, high, extractor.feature_size + 1)[1:-1]
    octaves = np.log2(700 * (10 ** (mel / 2595) - 1) / 500).clip(0)
    return ((-29 - 7.5 * octaves) * NATS_PER_DECIBEL).astype(np.float32)


class FeatureStream:
    """Samples at the extractor's rate in, speech features out, `hop` frames at a time.

    The encoder sees as many frames before and after as its convolutions reach, so that its result is that for the
    whole clip; only the statistics of the normalisation are those so far.

    Args:
        encoder ([`ColumnEncoder`]): a [`LogMelEncoder`], or anything with these methods.
        feature_extractor ([`Layout`]): that belongs to it, a [`LogMelFeatureExtractor`] or its numbers.
        hop (`int`): frames that come at a time.
        statistics ([`RunningStatistics`], *optional*): any object with its methods.
        look_ahead (`int`, *optional*): frames, one of the encoder's `look_aheads`; by default the longest.
    """

    def __init__(
        self,
        encoder: ColumnEncoder,
        feature_extractor: Layout,
        hop: int = 1,
        statistics: Any = None,
        look_ahead: int | None = None,
    ):
        if not hasattr(encoder, "encode_columns"):
            raise FaceTalkError(
                f"{type(encoder).__name__} hears the whole clip at once and cannot work live, use a LogMelEncoder"
            )
        self.encoder, self.extractor, self.hop = encoder, feature_extractor, hop
        self.statistics = RunningStatistics(feature_extractor) if statistics is None else statistics
        self.ahead = max(encoder.look_aheads) if look_ahead is None else look_ahead
        self.past = encoder.past_frames()
        self.columns = np.zeros((COLUMNS_PER_FRAME * self.past, feature_extractor.feature_size), np.float32)
        self.num_columns = 0  # that came
        self.first_sample = int(columns.window_starts(feature_extractor, 0, 1)[0])  # of those kept
        self.samples = np.zeros(-self.first_sample, np.float32)
        self.position = 0  # frames done
        self.end: int | None = None  # frames in all, once it is known
        self._heard = self._features = np.zeros(0)  # what was encoded last, and its features

    def push(self, samples: np.ndarray) -> None:
        """Take in (S,) float32 at the extractor's rate."""
        self.samples = np.concatenate((self.samples, samples))

    def finish(self) -> None:
        """Say that the sound has ended; what is missing of the last frames is silence."""
        count = self.first_sample + len(self.samples)
        self.end = num_frames(count, self.extractor.sampling_rate, self.extractor.fps) if count else 0

    def samples_for(self, frames: int) -> int:
        """Count the samples that the features of so many first frames need."""
        last = self._columns_for(frames) - 1
        return int(columns.window_starts(self.extractor, last, 1)[0]) + columns.window_samples(self.extractor)

    def _columns_for(self, frames: int) -> int:
        return COLUMNS_PER_FRAME * (frames + self.ahead) - 1

    def ready(self) -> bool:
        """Tell whether `pull` can be called."""
        if self.end is not None:
            return self.position < self.end
        return self.first_sample + len(self.samples) >= self.samples_for(self.position + self.hop)

    def pull(self) -> np.ndarray:
        """Compute features (hop, A) float32 of the next frames; meaningless beyond the end."""
        if self.num_columns == 0:
            self._take(self._columns_for(0))
        self._take(COLUMNS_PER_FRAME * self.hop)
        # The encoder's stem has no use for the last column of its last frame: any value will do.
        values = np.pad(np.asarray(self.statistics.normalize(self.columns)), ((0, 1), (0, 0)))
        frame = np.arange(self.position - self.past, self.position + self.hop + self.ahead)
        mask = frame >= 0 if self.end is None else (frame >= 0) & (frame < self.end)
        heard = np.column_stack((values, mask.repeat(COLUMNS_PER_FRAME)))
        if not np.array_equal(heard, self._heard):  # silence between turns goes on and on
            self._heard, self._features = heard, self.encoder.encode_columns(values, mask, self.ahead)
        self.columns = self.columns[COLUMNS_PER_FRAME * self.hop :]
        self.position += self.hop
        return self._features

    def _take(self, count: int) -> None:
        """Compute the next columns, and forget the samples that no later one needs."""
        starts = columns.window_starts(self.extractor, self.num_columns, count + 1) - self.first_sample
        length = columns.window_samples(self.extractor)
        missing = int(starts[-2]) + length - len(self.samples)
        if missing > 0:
            self.samples = np.pad(self.samples, (0, missing))
        windows = np.lib.stride_tricks.sliding_window_view(self.samples, length)[starts[:-1]]
        new = columns.log_mel_of_windows(self.extractor, windows)
        heard = count if self.end is None else max(0, COLUMNS_PER_FRAME * self.end - self.num_columns)
        self.statistics.update(new[:heard])
        self.columns = np.concatenate((self.columns, new))
        self.num_columns += count
        self.samples = self.samples[int(starts[-1]) :].copy()
        self.first_sample += int(starts[-1])
