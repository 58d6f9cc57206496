# SPDX-License-Identifier: MIT
"""Augmentation of speech: other speakers, rooms and microphones, for an audio encoder that meets unknown voices.

What helped most in trials is the vocal-tract-length warp (of the mel axis, see `LogMelFeatureExtractor.log_mel`).
Playing a clip faster or slower moves pitch and formants together; with the warp they become independent.
"""

from collections.abc import Sequence

import numpy as np
import scipy.signal


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
        return audio, self.disturb(audio, rng), speed, round(warp, 2)

    def disturb(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Play a clip (S,) float32 in a room, through a line, with noise or music, as `rng` draws it: (S,) float32."""
        noisy = audio
        if rng.random() < 0.6:
            noisy = self._channel(noisy, rng)
        # Digital silence before a burst gives stops away, and no recording has it: most clips get some noise.
        if rng.random() < 0.92:
            noisy = noisy + self._noise(len(noisy), rng) * 10 ** ((-23 - rng.uniform(3, 50)) / 20)
        if rng.random() < 0.12:
            noisy = noisy + self._music(len(noisy), rng) * 10 ** ((-23 - rng.uniform(5, 30)) / 20)
        noisy = noisy * 10 ** (rng.uniform(-24, 8) / 20)
        noisy = np.clip(noisy, -1, 1)
        if rng.random() < 0.15:
            noisy = self._telephone(noisy, rng)
        elif rng.random() < 0.15:
            noisy = self._codec(noisy, rng)
        return noisy.astype(np.float32)

    def _telephone(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Limit (S,) to a telephone's band, at times with mu-law's 8 bits."""
        low, high = rng.uniform(150, 350), rng.uniform(3200, 3900)
        sections = scipy.signal.butter(4, (low, high), "bandpass", fs=self.rate, output="sos")
        audio = scipy.signal.sosfilt(sections, audio)
        if rng.random() < 0.6:
            peak = np.abs(audio).max() + 1e-9
            code = np.round(np.sign(audio) * np.log1p(255 * np.abs(audio) / peak) / np.log(256) * 127) / 127
            audio = np.sign(code) * (256 ** np.abs(code) - 1) / 255 * peak
        return audio

    def _codec(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Do to (S,) what perceptual codecs do at low rates: weak parts of the spectrum vanish, the rest is coarse."""
        _, _, spectrum = scipy.signal.stft(audio, self.rate, nperseg=512)
        size = np.abs(spectrum)
        floor = size.max(0, keepdims=True) * 10 ** (-rng.uniform(25, 45) / 20)
        step = 10 ** (rng.uniform(1.5, 6) / 20)
        coarse = step ** np.round(np.log(size + 1e-9) / np.log(step))
        spectrum = np.where(size > floor, spectrum * (coarse / (size + 1e-9)), 0)
        return scipy.signal.istft(spectrum, self.rate, nperseg=512)[1][: len(audio)]

    def _music(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (length,) of music of unit power: chords of harmonic tones that fade, one after another."""
        result, at = np.zeros(length), 0
        root = rng.uniform(80, 250)
        while at < length:
            count = min(length - at, int(rng.uniform(0.2, 1.2) * self.rate))
            time = np.arange(count) / self.rate
            notes = root * 2 ** (rng.choice([0, 3, 4, 5, 7, 9, 12, 16, 19], 3, replace=False) / 12)
            for note in notes:
                for harmonic in range(1, 7):
                    result[at : at + count] += np.sin(2 * np.pi * note * harmonic * time) / harmonic ** rng.uniform(
                        1, 2
                    )
            result[at : at + count] *= np.exp(-time * rng.uniform(0.5, 6))
            at += count
        return result / (result.std() + 1e-9)

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
