# SPDX-License-Identifier: MIT
"""Augmentation of speech: other speakers, rooms and microphones, for an audio encoder that meets unknown voices.

What helped most in trials is the vocal-tract-length warp (of the mel axis, see `LogMelFeatureExtractor.log_mel`).
Playing a clip faster or slower moves pitch and formants together; with the warp they become independent.
"""

from collections.abc import Sequence

import numpy as np


class Augmenter:
    """A source of variants of a clip.

    Args:
        babble: (S_i,) int16 clips from which a murmur of voices is mixed.
        sampling_rate (`int`): Hz.
    """

    def __init__(self, babble: Sequence[np.ndarray], sampling_rate: int):
        self.babble = list(babble)
        self.rate = sampling_rate

    def __call__(self, audio: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Draw a variant of a clip.

        Args:
            audio (`(S,)` float32): a clean clip.
            rng (`np.random.Generator`): everything random comes from it.

        Returns:
            clean (S',) float32 at the new speed, noisy (S',) float32, speed (1.2 = a sixth shorter), and the warp for
            the mel axis that makes the vocal tract independent of the speed.
        """
        speed = float(np.exp(rng.uniform(np.log(0.82), np.log(1.3)))) if rng.random() < 0.6 else 1.0
        if speed != 1.0:
            at = np.arange(int(len(audio) / speed)) * speed
            audio = np.interp(at, np.arange(len(audio)), audio).astype(np.float32)
        tract = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))) if rng.random() < 0.85 else 1.0
        warp = float(np.clip(speed * tract, 0.74, 1.36))
        noisy = audio
        if rng.random() < 0.6:
            noisy = self._channel(noisy, rng)
        if rng.random() < 0.7:
            noisy = noisy + self._noise(len(noisy), rng) * 10 ** ((-23 - rng.uniform(5, 45)) / 20)
        noisy = noisy * 10 ** (rng.uniform(-24, 8) / 20)
        return audio, np.clip(noisy, -1, 1).astype(np.float32), speed, round(warp, 2)

    def _channel(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Apply room, colour and band limits as one filter in the frequency domain."""
        tail = int(0.4 * self.rate)
        size = 1 << (len(audio) + tail - 1).bit_length()
        spectrum = np.fft.rfft(audio, size)
        frequency = np.fft.rfftfreq(size, 1 / self.rate)
        if rng.random() < 0.6:
            decay = rng.uniform(0.08, 0.6) / 6.9  # RT60 -> time constant of the amplitude
            response = rng.standard_normal(tail) * np.exp(-np.arange(tail) / (decay * self.rate))
            response[: int(0.002 * self.rate)] = 0
            response *= 10 ** (rng.uniform(-18, 0) / 20) / np.sqrt((response**2).sum())
            response[0] = 1
            spectrum *= np.fft.rfft(response, size)
        if rng.random() < 0.6:
            octaves = np.log2(np.maximum(frequency, 30) / 1000)
            colour = rng.uniform(-4, 4) * octaves
            colour += rng.uniform(-8, 8) * np.sin(octaves * rng.uniform(1, 3) + rng.uniform(0, 6))
            spectrum *= 10 ** (np.clip(colour, -20, 20) / 20)
        if rng.random() < 0.3:
            spectrum /= np.sqrt(1 + (frequency / rng.uniform(3200, 7500)) ** 16)
        if rng.random() < 0.3:
            spectrum /= np.sqrt(1 + (rng.uniform(60, 300) / np.maximum(frequency, 1)) ** 6)
        result = np.fft.irfft(spectrum, size)[: len(audio)]
        return result * (np.sqrt(np.mean(audio**2)) / (np.sqrt(np.mean(result**2)) + 1e-9))

    def _noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (length,) noise of unit power: of any colour, a murmur of voices, or both, slowly swelling."""
        noise = np.zeros(length)
        if rng.random() < 0.75 or not self.babble:
            size = 1 << (length - 1).bit_length()
            # A block is coloured and repeated: long stretches of fresh random numbers cost more than they teach.
            block = np.fft.rfft(rng.standard_normal(min(size, 32768)))
            frequency = np.fft.rfftfreq(min(size, 32768), 1 / self.rate)
            block *= np.maximum(frequency, 40) ** (-rng.uniform(-0.2, 1.2))
            noise += np.resize(np.fft.irfft(block), length)
        if (rng.random() < 0.3 or not noise.any()) and self.babble:
            murmur = np.zeros(length)
            for _ in range(rng.integers(3, 8)):
                voice = self.babble[rng.integers(len(self.babble))]
                murmur += np.resize(np.roll(voice, int(rng.integers(len(voice)))), length).astype(np.float32)
            noise = noise / (noise.std() + 1e-9) + murmur / (murmur.std() + 1e-9)
        if rng.random() < 0.3:
            knots = np.exp(rng.normal(0, 0.5, 8))
            noise *= np.interp(np.linspace(0, 7, length), np.arange(8), knots)
        return noise / (noise.std() + 1e-9)
