# SPDX-License-Identifier: MIT
"""The arithmetic of log-mel columns, in NumPy alone: `LogMelFeatureExtractor` and live streams without torch share it.

Every function is told how columns are laid out by an object with the attributes of [`ColumnLayout`], which a
`LogMelFeatureExtractor` has as well.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from ..units import COLUMNS_PER_FRAME
from .io import num_frames


NATS_PER_DECIBEL = math.log(10) / 10


WINDOWS_AT_ONCE = 128
"""Whose spectra stay in the cache: all of a clip of 6 s at once take three times as long."""


class Layout(Protocol):
    """What the functions of this module read; `LogMelFeatureExtractor` says what each means."""

    feature_size: Any
    sampling_rate: Any
    fps: Any
    min_frequency: Any
    max_frequency: Any
    window_length: Any
    active_range: Any
    quiet_level: Any
    min_scale: Any
    max_value: Any


@dataclass
class ColumnLayout:
    """The numbers of a `LogMelFeatureExtractor`, without one."""

    feature_size: int
    sampling_rate: int
    fps: float
    min_frequency: float
    max_frequency: float
    window_length: float
    active_range: float
    quiet_level: float
    min_scale: float
    max_value: float


@lru_cache(maxsize=64)
def mel_filterbank(
    num_mel_bins: int, fft_size: int, sampling_rate: int, low: float, high: float, warp: float = 1.0
) -> np.ndarray:
    """Make triangular filters on the HTK mel scale, `mel = 2595 log10(1 + f / 700)`.

    Args:
        low, high (`float`): outer edges in Hz before the warp.
        warp (`float`, *optional*, defaults to 1.0): factor of the vocal-tract-length warp. The edges move to
            `warp * f` up to a knee, then linearly to the Nyquist frequency, so that no filter leaves the spectrum
            (Jaitly and Hinton 2013).

    Returns:
        (fft_size // 2 + 1, num_mel_bins) float32.
    """
    nyquist = sampling_rate / 2
    mel = np.linspace(2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700), num_mel_bins + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    knee = 0.6 * nyquist * min(1.0, 1.0 / warp)
    beyond = warp * knee + (edges - knee) * (nyquist - warp * knee) / (nyquist - knee)
    edges = np.where(edges <= knee, warp * edges, beyond)
    frequencies = np.linspace(0, nyquist, fft_size // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.minimum(rising, falling).clip(0).astype(np.float32)


def window_samples(layout: Layout) -> int:
    """Count the samples under one column."""
    return round(layout.window_length * layout.sampling_rate)


def window_starts(layout: Layout, first: int, count: int) -> np.ndarray:
    """Place the windows of `count` columns from number `first` on: first samples (count,) int, some below 0."""
    centers = (np.arange(first, first + count) + 0.5) * (layout.sampling_rate / (COLUMNS_PER_FRAME * layout.fps))
    return np.round(centers).astype(np.int64) - window_samples(layout) // 2


def log_mel(layout: Layout, waveform: np.ndarray, warp: float = 1.0) -> np.ndarray:
    """Compute the columns (4 N, M + 1) float32 of a clip (S,) float, see `LogMelFeatureExtractor.log_mel`."""
    waveform = np.asarray(waveform, np.float32)
    frames = num_frames(len(waveform), layout.sampling_rate, layout.fps)
    starts, length = window_starts(layout, 0, COLUMNS_PER_FRAME * frames), window_samples(layout)
    # The padded waveform begins where the first window does.
    before = -int(starts[0])
    end = int(starts[-1]) + length
    waveform = np.pad(waveform[:end], (before, max(0, end - len(waveform))))
    windows = np.lib.stride_tricks.sliding_window_view(waveform, length)
    parts = np.split(starts + before, range(WINDOWS_AT_ONCE, len(starts), WINDOWS_AT_ONCE))
    return np.concatenate([log_mel_of_windows(layout, windows[part], warp) for part in parts])


@lru_cache(maxsize=4)
def _hann(length: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def log_mel_of_windows(layout: Layout, windows: np.ndarray, warp: float = 1.0) -> np.ndarray:
    """Compute columns of samples cut into windows: (K, window_samples) float32 to (K, M + 1) float32."""
    rate, length = layout.sampling_rate, window_samples(layout)
    fft_size = 1 << (length - 1).bit_length()
    window = _hann(length)
    spectrum = np.fft.rfft(windows * window, n=fft_size)
    power = spectrum.real**2 + spectrum.imag**2
    # Parseval: the sum over the bins is the mean square of the windowed signal.
    power *= np.float32(2 / (fft_size * np.square(window).sum()))
    bank = mel_filterbank(
        layout.feature_size - 1, fft_size, rate, layout.min_frequency, layout.max_frequency, round(float(warp), 3)
    )
    band = slice(round(layout.min_frequency * fft_size / rate), round(layout.max_frequency * fft_size / rate) + 1)
    return np.log(np.concatenate([power @ bank, power[:, band].sum(1, keepdims=True)], axis=1) + np.float32(1e-12))


def standardize(layout: Layout, columns: np.ndarray, mean: np.ndarray, scale: float, loudest: float) -> np.ndarray:
    """Normalise columns (K, M + 1) float32 with given statistics, see `LogMelFeatureExtractor.standardize`."""
    bins, level = columns[:, :-1], columns[:, -1:]
    quiet = layout.quiet_level * NATS_PER_DECIBEL
    lacking = np.float32(max(0.0, quiet - loudest))
    relative = (level - np.float32(max(loudest, quiet))) / np.float32(20 * NATS_PER_DECIBEL) + 1
    values = np.concatenate([(bins - mean - lacking) / np.float32(max(scale, layout.min_scale)), relative], axis=1)
    return values.clip(-layout.max_value, layout.max_value)
