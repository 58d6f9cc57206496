# SPDX-License-Identifier: MIT
"""Speech features of sound that comes in pieces: resampling, log-mel columns, running statistics, the encoder.

Nothing depends on where one piece ends and the next begins: all arithmetic is done in portions of a fixed size.
"""

import math

import numpy as np
import torch

from ..errors import FaceTalkError
from ..models.audio_encoder import COLUMNS_PER_FRAME, LogMelEncoder
from .io import num_frames
from .log_mel import NATS_PER_DECIBEL, LogMelFeatureExtractor


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
            from scipy.signal import firwin

            longest = max(self.up, self.down)
            half = 10 * longest  # resample_poly's own choice of filter
            taps = self.up * firwin(2 * half + 1, 1 / longest, window=("kaiser", 5.0))
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
        extractor ([`LogMelFeatureExtractor`]): whose columns come.
        memory (`float`, *optional*, defaults to 20.0), warm_up (`float`, *optional*, defaults to 1.5): seconds of
            active columns.
        prior_level (`float`, *optional*, defaults to -25.0): dB of full scale.
    """

    def __init__(
        self,
        extractor: LogMelFeatureExtractor,
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
        self.columns = torch.full((max(1, round(memory * rate)), extractor.feature_size + 1), -1e4)
        self.recent = torch.zeros(0)
        self.next = 0
        self._measure()

    def update(self, log_mel: torch.Tensor) -> None:
        """Take in the next columns, (K, M + 1) float from `log_mel`."""
        for column in log_mel:
            self.recent = torch.cat((self.recent, column[-1:].exp()))[-8:]
            # The first windows of `normalize` hold four columns too: a click of one column counts as little.
            smooth = self.recent.mean().log() if len(self.recent) >= 4 else column[-1]
            if column[-1] >= self._threshold(torch.maximum(self.loudest, smooth)):
                self.columns[self.next] = torch.cat((column, smooth[None]))
                self.next = (self.next + 1) % len(self.columns)
        self._measure()

    def _threshold(self, loudest: torch.Tensor) -> torch.Tensor:
        return loudest - self.extractor.active_range * NATS_PER_DECIBEL

    def _measure(self) -> None:
        bins, level, smooth = self.columns[:, :-2], self.columns[:, -2], self.columns[:, -1]
        heard = smooth.max()
        quiet = self.extractor.quiet_level * NATS_PER_DECIBEL
        # What is quieter than any speech is no speech: it takes the place of no expectation.
        count = (level >= self._threshold(heard)).sum() if heard >= quiet else 0
        missing = max(0.0, 1 - float(count) / self.needed) if self.needed else 0.0
        # The expectation of loud speech fades as something else is heard.
        self.loudest = heard.maximum(torch.tensor(quiet + missing * (self.prior_level - quiet)))
        active = (level >= self._threshold(self.loudest)).float() * float(heard >= quiet)
        total = active.sum()
        prior = (self.needed - total).clamp_min(0)
        weight = (total + prior).clamp_min(1)
        mean = self.loudest + self.prior_mean
        self.mean = (active @ bins + prior * mean) / weight
        squares = active @ (bins - self.mean).square().mean(1)
        prior_square = self.prior_scale**2 + (mean - self.mean).square().mean()
        self.scale = ((squares + prior * prior_square) / weight).sqrt()

    def normalize(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Normalise (K, M + 1) float as `LogMelFeatureExtractor.normalize`, with the statistics so far."""
        return self.extractor.standardize(log_mel, self.mean, self.scale, self.loudest)


def _speech_spectrum(extractor: LogMelFeatureExtractor) -> torch.Tensor:
    """Model the mean log-mel column of speech above its loudest 80 ms, (M,) float, nats.

    Fitted to three recordings and fourteen synthetic voices: -29 dB to 500 Hz, then 7.5 dB down an octave.
    """
    low, high = (2595 * math.log10(1 + f / 700) for f in (extractor.min_frequency, extractor.max_frequency))
    mel = torch.linspace(low, high, extractor.feature_size + 1)[1:-1]
    octaves = (700 * (10 ** (mel / 2595) - 1) / 500).log2().clamp_min(0)
    return (-29 - 7.5 * octaves) * NATS_PER_DECIBEL


class FeatureStream:
    """Samples at the extractor's rate in, speech features out, `hop` frames at a time.

    The encoder sees as many frames before and after as its convolutions reach, so that its result is that for the
    whole clip; only the statistics of the normalisation are those so far.

    Args:
        encoder ([`LogMelEncoder`]), feature_extractor ([`LogMelFeatureExtractor`]): which belong together.
        hop (`int`): frames that come at a time.
        statistics ([`RunningStatistics`], *optional*): any object with its methods.
        look_ahead (`int`, *optional*): frames, one of the encoder's `look_aheads`; by default the longest.
    """

    def __init__(
        self,
        encoder: LogMelEncoder,
        feature_extractor: LogMelFeatureExtractor,
        hop: int = 1,
        statistics: RunningStatistics | None = None,
        look_ahead: int | None = None,
    ):
        if not isinstance(encoder, LogMelEncoder):
            raise FaceTalkError(
                f"{type(encoder).__name__} hears the whole clip at once and cannot work live, use a LogMelEncoder"
            )
        self.encoder, self.extractor, self.hop = encoder, feature_extractor, hop
        self.statistics = RunningStatistics(feature_extractor) if statistics is None else statistics
        self.ahead = max(encoder.look_aheads) if look_ahead is None else look_ahead
        self.past = encoder.past_frames()
        self.columns = torch.zeros(COLUMNS_PER_FRAME * self.past, feature_extractor.feature_size)
        self.num_columns = 0  # that came
        self.first_sample = int(feature_extractor.window_starts(0, 1)[0])  # of those kept
        self.samples = torch.zeros(-self.first_sample)
        self.position = 0  # frames done
        self.end: int | None = None  # frames in all, once it is known

    def push(self, samples: np.ndarray) -> None:
        """Take in (S,) float32 at the extractor's rate."""
        self.samples = torch.cat((self.samples, torch.from_numpy(samples)))

    def finish(self) -> None:
        """Say that the sound has ended; what is missing of the last frames is silence."""
        count = self.first_sample + len(self.samples)
        self.end = num_frames(count, self.extractor.sampling_rate, self.extractor.fps) if count else 0

    def samples_for(self, frames: int) -> int:
        """Count the samples that the features of so many first frames need."""
        last = self._columns_for(frames) - 1
        return int(self.extractor.window_starts(last, 1)) + self.extractor.window_samples

    def _columns_for(self, frames: int) -> int:
        return COLUMNS_PER_FRAME * (frames + self.ahead) - 1

    def ready(self) -> bool:
        """Tell whether `pull` can be called."""
        if self.end is not None:
            return self.position < self.end
        return self.first_sample + len(self.samples) >= self.samples_for(self.position + self.hop)

    @torch.no_grad()
    def pull(self) -> torch.Tensor:
        """Compute features (hop, A) float of the next frames, on the encoder's device; meaningless beyond the end."""
        if self.num_columns == 0:
            self._take(self._columns_for(0))
        self._take(COLUMNS_PER_FRAME * self.hop)
        # The encoder's stem has no use for the last column of its last frame: any value will do.
        columns = torch.nn.functional.pad(self.statistics.normalize(self.columns), (0, 0, 0, 1))
        frame = torch.arange(self.position - self.past, self.position + self.hop + self.ahead)
        mask = frame >= 0 if self.end is None else (frame >= 0) & (frame < self.end)
        encoder = self.encoder
        columns = columns[None].to(encoder.device, encoder.dtype)
        hidden = encoder(columns, mask[None].to(encoder.device), look_ahead=self.ahead)
        self.columns = self.columns[COLUMNS_PER_FRAME * self.hop :]
        self.position += self.hop
        return hidden.last_hidden_state[0, self.past : self.past + self.hop]

    def _take(self, count: int) -> None:
        """Compute the next columns, and forget the samples that no later one needs."""
        starts = self.extractor.window_starts(self.num_columns, count + 1) - self.first_sample
        length = self.extractor.window_samples
        missing = int(starts[-2]) + length - len(self.samples)
        if missing > 0:
            self.samples = torch.nn.functional.pad(self.samples, (0, missing))
        columns = self.extractor.log_mel_of_windows(self.samples.unfold(0, length, 1)[starts[:-1]])
        heard = count if self.end is None else max(0, COLUMNS_PER_FRAME * self.end - self.num_columns)
        self.statistics.update(columns[:heard])
        self.columns = torch.cat((self.columns, columns))
        self.num_columns += count
        self.samples = self.samples[int(starts[-1]) :].clone()
        self.first_sample += int(starts[-1])
