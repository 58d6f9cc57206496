# SPDX-License-Identifier: MIT
"""Loudness and pitch of speech."""

import numpy as np


def loudness(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Measure the smoothed level in decibels, 0 at 32 dB below the clip's loud parts, 1 at them: (frames,) float.

    Args:
        audio (`(S,)` float): the clip.
    """
    edges = np.round(np.arange(frames + 1) / fps * sampling_rate).astype(int).clip(0, len(audio))
    total = np.concatenate([[0.0], np.cumsum(np.asarray(audio, float) ** 2)])
    power = (total[edges[1:]] - total[edges[:-1]]) / np.maximum(edges[1:] - edges[:-1], 1)
    level = 10 * np.log10(power + 1e-9)
    top = np.percentile(level, 95)
    value = np.clip((level - top + 32) / 32, 0, 1) if top > -60 else np.zeros(frames)
    return gaussian(value, 1.5)


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth (frames,) float with a Gaussian of `sigma` frames, edges held.

    scipy's gaussian_filter1d(mode="nearest") sums in another order: the last bits of published motion would change.
    """
    reach = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, (reach, reach), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def pitch(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Measure the fundamental frequency by autocorrelation of 50 ms windows: (frames,) Hz, 0 where unvoiced."""
    step = max(1, sampling_rate // 8000)
    signal = np.asarray(audio, float)[::step]
    rate = sampling_rate / step
    width = int(0.05 * rate)
    centre = ((np.arange(frames) + 0.5) / fps * rate).astype(int)
    padded = np.pad(signal, (width, width + int(rate / fps)))
    windows = padded[(centre + width // 2)[:, None].clip(0, len(padded) - width) + np.arange(width)]
    windows = (windows - windows.mean(1, keepdims=True)) * np.hanning(width)
    size = 1 << (2 * width - 1).bit_length()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(windows, size)) ** 2, size)[:, :width]
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(width), size)) ** 2, size)[:width]
    correlation = correlation / (correlation[:, :1] + 1e-9) / (taper / taper[0] + 1e-3)
    low, high = int(rate / 400), int(rate / 65)
    best = correlation[:, low:high].argmax(1) + low
    voiced = (correlation[np.arange(frames), best] > 0.5) & (windows.std(1) > 0.1 * windows.std())
    return np.where(voiced, rate / best, 0.0)


def pitch_rise(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Measure how far the pitch lies above the clip's median, smoothed: (frames,), 0 to 0.8, 0 where unvoiced."""
    f0 = pitch(audio, sampling_rate, frames, fps)
    voiced = f0 > 0
    if voiced.sum() <= 5:
        return np.zeros(frames)
    octaves = np.log2(np.maximum(f0, 1) / np.median(f0[voiced]))
    return gaussian(np.where(voiced, octaves.clip(0, 0.6), 0), 3) * 1.3
