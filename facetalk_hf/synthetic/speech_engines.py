# SPDX-License-Identifier: MIT
"""Text to speech with exact phone times: flite, festival and espeak-ng of Debian, and Kokoro's neural voices.

Measured against the energy of vowels and sibilants the times of Debian's are within 10 ms of the sound; see
docs/corpus.md for Kokoro's. Only
training/build_speech.py needs this; nothing here runs when faces are generated.
"""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import load_audio, resample
from .kokoro import Kokoro
from .speech import RATE, Phones, Speech, SpeechEngine


ESPEAK_ENGLISH = ("en-us", "en-gb-x-gbclan", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us")
ESPEAK_WORLD = ("de fr es es-419 pl pt pt-br nl sv tr ro ru hu id it ca cs fi").split()
ESPEAK_VARIANTS = (
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alex Alicia Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee "
    "Marco Mario Michael Mike Nguyen adam anika antonio aunty belinda benjamin boris caleb david ed edward grandma "
    "grandpa gustave iven john kaukovalta klatt klatt2 klatt3 klatt4 klatt5 klatt6 linda marcelo max michel miguel "
    "norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3 travis victor zac croak whisper "
    "whisperf"
).split()
"""Voices of espeak-ng 1.51 without those that have an echo, which would blur the phone times."""

_FLITE_PITCH = {"slt": 175, "rms": 100, "awb": 115, "kal16": 105}


def _rows(ends: list[tuple[float, str]]) -> Phones:
    """Turn rows (end, phone) into (phone, start, end)."""
    starts = [0.0] + [end for end, _ in ends[:-1]]
    return [(name, start, end) for start, (end, name) in zip(starts, ends, strict=True) if end > start]


def flite(voice: str, texts: Sequence[str], rng: np.random.Generator) -> list[Speech | None]:
    """Speak texts with a voice of flite ("slt", "rms", "awb", "kal16"), each at its own speed and pitch."""
    result: list[Speech | None] = []
    for text in texts:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            stretch, pitch = rng.uniform(0.85, 1.25), _FLITE_PITCH[voice] * rng.uniform(0.85, 1.25)
            settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch:.1f}"]
            command = ["flite", "-voice", voice, *settings, "-psdur", "-t", text, "-o", file.name]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            samples = load_audio(file.name)
        ends = [item.rsplit(":", 1) for item in run.stdout.split()]
        result.append(Speech(samples, _rows([(float(end), name) for name, end in ends])))
    return result


def festival(voice: str, texts: Sequence[str], rng: np.random.Generator) -> list[Speech | None]:
    """Speak texts with a voice of festival, all in one process, each at its own speed; None where it fails.

    Args:
        voice (`str`): as in `(voice.list)`; statistical voices ("hts" in the name) also change pitch.
        texts, rng: as for [`SpeechEngine`].
    """
    encoding = "iso-8859-2" if voice.startswith("czech") else "iso-8859-1"  # of the voice's language
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{voice})"]
        if "hts" in voice:
            lines.append("(define base_params hts_engine_params)")
        for index, text in enumerate(texts):
            stretch, shift = rng.uniform(0.85, 1.25), rng.uniform(-3, 3)
            plain = text.encode(encoding, "ignore").decode(encoding).replace('"', "").replace("\\", "")
            tune = f"(Parameter.set 'Duration_Stretch {stretch:.3f})"
            if "hts" in voice:
                values = f'(list \'("-r" {1 / stretch:.3f}) \'("-fm" {shift:.2f}))'
                tune = f"(set! hts_engine_params (append base_params {values}))"
            make = f'(set! utt (Utterance Text "{plain}")) (utt.synth utt)'
            save = f'(utt.save.segs utt "{folder}/{index}.seg") (utt.save.wave utt "{folder}/{index}.wav" \'riff)'
            lines.append(f"(unwind-protect (begin {tune} {make} {save}) nil)")
        script = Path(folder) / "run.scm"
        script.write_bytes("\n".join(lines).encode(encoding))
        subprocess.run(["festival", "-b", str(script)], capture_output=True, timeout=600)
        result: list[Speech | None] = []
        for index in range(len(texts)):
            if not (Path(folder) / f"{index}.wav").exists():
                result.append(None)
                continue
            labels = Path(f"{folder}/{index}.seg").read_text(encoding=encoding).split("#\n", 1)[1].splitlines()
            fields = [line.split() for line in labels if line.strip()]
            samples = load_audio(f"{folder}/{index}.wav")
            result.append(Speech(samples, _rows([(float(end), name) for end, _, name in fields])))
        return result


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


class Espeak:
    """The engine of libespeak-ng, through ctypes; phones are IPA.

    One instance a process: `ENGINES` keeps it. Its speech depends a little on what it has spoken before, so use a
    fresh process where results must be repeatable.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self._library.espeak_Initialize(2, 0, None, 1 | 2)  # synchronous; phoneme events, in IPA
        self._samples: list[bytes] = []
        self._events: list[tuple[int, str]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._samples.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != 0:
            if events[index].type == 7:
                self._events.append((events[index].sample, events[index].string.decode("utf-8", "ignore")))
            index += 1
        return 0

    def __call__(self, voice: str, texts: Sequence[str], rng: np.random.Generator) -> list[Speech | None]:
        """Speak texts with "language+variant", each at its own speed, pitch and range; None if that is unknown."""
        return [self._speak(voice, text, rng) for text in texts]

    def _speak(self, voice: str, text: str, rng: np.random.Generator) -> Speech | None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            return None
        for parameter, value in {1: rng.integers(130, 210), 3: rng.integers(25, 80), 4: rng.integers(20, 80)}.items():
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._samples, self._events = [], []
        data = text.encode("utf-8")
        self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, 1 | 0x1000, None, None)
        self._library.espeak_Synchronize()
        samples = np.frombuffer(b"".join(self._samples), np.int16).astype(np.float32) / 32768
        events = [(sample / self.rate, name) for sample, name in self._events]
        if len(events) < 3 or len(samples) < self.rate // 4:
            return None
        ends = [start for start, _ in events[1:]] + [len(samples) / self.rate]
        phones = [(name, start, end) for (start, name), end in zip(events, ends, strict=True) if end > start]
        return Speech(resample(samples, self.rate, RATE), self._give_silence_to_stops(phones, samples))

    def _give_silence_to_stops(self, phones: Phones, samples: np.ndarray) -> Phones:
        """Give stops the near-silent run before them, which is their closure: espeak reports a stop at its burst."""
        hop = self.rate // 200
        power = (samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(1)
        quiet = power < 10**-3.2 * np.percentile(power, 95)
        fixed: list[list[Any]] = [list(row) for row in phones]
        for before, row in zip(fixed[:-1], fixed[1:], strict=True):
            if row[0][:1] in tuple("pbtdkgɡcqɟʈɖ"):
                step = int(row[1] * 200) - 1
                lowest = max(before[1] + 0.02, row[1] - 0.13)
                while step > 0 and quiet[min(step, len(quiet) - 1)] and step / 200 > lowest:
                    step -= 1
                start = max((step + 1) / 200, lowest)
                if start < row[1] and not (before[0] == "" and row[1] - start < 0.02):
                    # After a pause a stop's closure cannot be heard; 60 ms are what speakers take.
                    row[1] = before[2] = start if before[0] else max(start, row[1] - 0.06)
        return [(name, start, end) for name, start, end in fixed]


ENGINES: dict[str, Callable[[], SpeechEngine]] = {
    "flite": lambda: flite, "festival": lambda: festival, "espeak": cache(Espeak), "kokoro": cache(Kokoro),
}  # fmt: skip
"""Factories of the engines by name: libraries are loaded when an engine is made."""
