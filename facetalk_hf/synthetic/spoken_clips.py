# SPDX-License-Identifier: MIT
"""Clips of synthesised speech: sentences, pauses, breaths and noise, with phone times and the motion of the rules."""

from typing import Any

import numpy as np
import scipy.signal

from ..data.corpus import encode_audio
from ..phones.alphabets import SILENCE
from ..phones.segments import Segment
from .acting import draw_conditions, perform
from .speech_engines import RATE, Speech


FPS = 24


def breath(length: int, rng: np.random.Generator) -> np.ndarray:
    """Make a breath of unit power, (length,) samples."""
    low, high = rng.uniform(300, 900), rng.uniform(2500, 6500)
    sections = scipy.signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    noise = scipy.signal.sosfilt(sections, rng.standard_normal(length)) * np.hanning(length) ** 1.5
    return noise / (noise.std() + 1e-9)


def assemble_clip(pieces: list[Speech], rng: np.random.Generator) -> tuple[np.ndarray, list[Segment]]:
    """Join sentences to one clip with pauses before, between and after, some with a breath or a faint noise.

    Args:
        pieces: the sentences, with phones of the common alphabet.
        rng (`np.random.Generator`): all chance comes from it.

    Returns:
        samples (S,) float and the segments of the clip.
    """
    audio: list[np.ndarray] = []
    segments: list[Segment] = []
    at = 0.0

    def pause(seconds: float) -> None:
        nonlocal at
        count = int(seconds * RATE)
        quiet = np.zeros(count)
        if seconds > 0.35 and rng.random() < 0.3:
            length = int(count * rng.uniform(0.5, 0.9))
            start = rng.integers(0, count - length)
            quiet[start : start + length] += breath(length, rng) * 10 ** (rng.uniform(-42, -26) / 20)
        if rng.random() < 0.2:
            quiet += rng.standard_normal(count) * 10 ** (rng.uniform(-80, -55) / 20)
        audio.append(quiet)
        segments.append(Segment(SILENCE, at, at + count / RATE))
        at += count / RATE

    pause(rng.uniform(0, 0.7))
    for index, (samples, phones) in enumerate(pieces):
        # Engines pad with 0.1 to 0.5 s of silence: keep a little, so that the pauses are ours and vary.
        first, last = phones[0], phones[-1]
        start = max(0.0, first[2] - 0.03) if first[0] == SILENCE else 0.0
        end = min(len(samples) / RATE, last[1] + 0.06) if last[0] == SILENCE else len(samples) / RATE
        cut = samples[int(start * RATE) : int(end * RATE)].copy()
        fade = np.linspace(0, 1, 80, dtype=np.float32)
        cut[:80] *= fade
        cut[-80:] *= fade[::-1]
        cut *= 10 ** (-23 / 20) / (np.sqrt(np.mean(cut**2)) + 1e-6)
        for phone, begin, finish in phones:
            begin, finish = max(begin, start), min(finish, end)
            if finish > begin:
                segments.append(Segment(phone, at + begin - start, at + finish - start))
        audio.append(cut)
        at += len(cut) / RATE
        pause(rng.uniform(0.15, 1.2) if index + 1 < len(pieces) else rng.uniform(0, 0.8))
    clip = np.concatenate(audio)
    return clip / max(1.0, np.abs(clip).max() / 0.98), segments


def silence_clip(rng: np.random.Generator) -> np.ndarray:
    """Make silence: digital zeros, or faint noise of any colour, with or without hum; (S,) float at 16 kHz."""
    count = int(rng.uniform(2, 6) * RATE)
    if rng.random() < 0.3:
        return np.zeros(count)
    noise = scipy.signal.lfilter([1], [1, -rng.uniform(0, 0.97)], rng.standard_normal(count))
    noise *= 10 ** (rng.uniform(-85, -45) / 20) / noise.std()
    if rng.random() < 0.3:
        hum = rng.choice([50, 60]) * 2 * np.pi * np.arange(count) / RATE
        noise += 10 ** (rng.uniform(-70, -45) / 20) * (np.sin(hum) + 0.5 * np.sin(2 * hum))
    if rng.random() < 0.3:
        length = int(rng.uniform(0.3, 0.9) * RATE)
        start = rng.integers(0, count - length)
        noise[start : start + length] += breath(length, rng) * 10 ** (rng.uniform(-45, -28) / 20)
    return noise


def make_row(audio: np.ndarray, segments: list[Segment], rng: np.random.Generator, **fields: object) -> dict[str, Any]:
    """Make a row of a corpus from a clip (S,) and its segments: emotion and style at random, motion by the rules."""
    frames = max(1, int(np.ceil(len(audio) * FPS / RATE - 1e-6)))
    told = draw_conditions(frames, FPS, rng)
    weights, closure, pose = perform(segments, audio, RATE, frames, FPS, told, rng)
    phones = [{"phone": phone, "start": start, "end": end} for phone, start, end in segments]
    return {
        "audio": encode_audio(audio, RATE), "sampling_rate": RATE, "weights": weights, "closure": closure, "fps": FPS,
        "phones": phones, "head_pose": pose, "conditions": told, **fields,
    }  # fmt: skip
