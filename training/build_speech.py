# SPDX-License-Identifier: MIT
"""Synthesise the spoken corpus: speech with exact phone times, and the motion that the rules of `phonemes` give it.

    python training/build_speech.py --output DIR --hours 5 [--processes 2]     # resumable: finished shards are kept
    python training/build_speech.py --demo facetalk_hf/assets/demo.wav         # the clip that ships in the wheel

Debian packages: espeak-ng libespeak-ng1 flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
festival-ca festvox-ca-ona-hts festival-czech festvox-czech-dita festvox-czech-krb festvox-czech-machac
festvox-czech-ph festvox-italp16k festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv. Text comes from
training/texts (ours).
"""

import argparse
import multiprocessing
import re
import time
import zlib
from pathlib import Path

import datasets
import numpy as np
import scipy.signal
import soundfile

from facetalk_hf.audio.analysis import loudness
from facetalk_hf.data.building import building, complete, write_splits
from facetalk_hf.data.corpus import encode_audio
from facetalk_hf.files import atomic_path
from facetalk_hf.synthetic.phone_alphabets import SILENCE, normalise_all
from facetalk_hf.synthetic.speech_engines import (
    ESPEAK_ENGLISH,
    ESPEAK_VARIANTS,
    ESPEAK_WORLD,
    RATE,
    Espeak,
    festival,
    flite,
)
from facetalk_hf.synthetic.upper_face import accompany
from facetalk_hf.synthetic.visemes import Segment, mouth_weights


FPS, CLIPS = 24, 40
TEXTS = Path(__file__).parent / "texts"
# name: (engine, engine's voice, language, speaker, share of the hours); flite's slt, kal16 are festival's slt, kal.
VOICES = {
    "flite-awb": ("flite", "awb", "en", "awb", 1.0),
    "flite-slt": ("flite", "slt", "en", "slt", 0.6),
    "flite-kal": ("flite", "kal16", "en", "kal", 0.4),
    "festival-slt": ("festival", "cmu_us_slt_arctic_hts", "en", "slt", 0.6),
    "festival-kal": ("festival", "kal_diphone", "en", "kal", 0.6),
    "festival-ked": ("festival", "ked_diphone", "en", "ked", 1.0),
    "festival-ona": ("festival", "upc_ca_ona_hts", "ca", "ona", 1.0),
    "festival-lp": ("festival", "lp_diphone", "it", "lp", 1.0),
    "festival-mv": ("festival", "hy_fi_mv_diphone", "fi", "mv", 1.0),
    "festival-dita": ("festival", "czech_dita", "cs", "dita", 0.7),
    "festival-krb": ("festival", "czech_krb", "cs", "krb", 0.6),
    "festival-machac": ("festival", "czech_machac", "cs", "machac", 0.6),
    "festival-ph": ("festival", "czech_ph", "cs", "ph", 0.6),
    "espeak-en": ("espeak", "", "en", "espeak", 1.8),
    "espeak-world": ("espeak", "", "", "espeak", 3.0),
}
# Kept for evaluation; no training script may read them.
TEST_VOICES = {
    "flite-rms": ("flite", "rms", "en", "rms", 0),
    "festival-pc": ("festival", "pc_diphone", "it", "pc", 0),
    "festival-lj": ("festival", "suo_fi_lj_diphone", "fi", "lj", 0),
}
ALPHABET = {"en": "english", "ca": "catalan", "it": "italian", "fi": "finnish", "cs": "czech"}
ENCODING = {"cs": "iso-8859-2"}
LICENCE = {
    "flite": "CMU Flite licence",
    "festival": "X11 / LGPL / GPL, see the Debian package",
    "espeak": "GPL-3.0 program",
}


class Text:
    """Sentences of one language: templates, random words, pseudo-words, in a fresh order for every voice."""

    def __init__(self, language: str):
        self.slots: dict[str, list[str]] = {}
        self.parts: dict[str, list[str]] = {}
        self.templates: list[str] = []
        for line in (TEXTS / f"{language}.txt").read_text(encoding="utf-8").splitlines():
            if line[:1] in "@%" and line:
                name, values = line[1:].split(":", 1)
                (self.slots if line[0] == "@" else self.parts)[name] = [value.strip() for value in values.split("|")]
            elif line and line[0] != "#":
                self.templates.append(line)
        self.words = sorted({word for values in self.slots.values() for value in values for word in value.split()})

    def sentence(self, rng: np.random.Generator) -> str:
        kind = rng.random()
        if kind < 0.55:
            text = re.sub(r"{(\w+)}", lambda m: str(rng.choice(self.slots[m[1]])), str(rng.choice(self.templates)))
            return text[:1].upper() + text[1:]
        count = int(rng.integers(3, 9))
        if kind < 0.75:
            words = [str(rng.choice(self.words)) for _ in range(count)]
        else:
            words = ["".join(self._syllable(rng) for _ in range(rng.integers(1, 4))) for _ in range(count)]
        if count > 5 and rng.random() < 0.5:
            words[count // 2] += ","
        return " ".join(words) + str(rng.choice([".", ".", "?"]))

    def _syllable(self, rng: np.random.Generator) -> str:
        return "".join(str(rng.choice(self.parts[part])) for part in ("onset", "vowel", "coda"))


def breath(length: int, rng: np.random.Generator) -> np.ndarray:
    low, high = rng.uniform(300, 900), rng.uniform(2500, 6500)
    sections = scipy.signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    noise = scipy.signal.sosfilt(sections, rng.standard_normal(length)) * np.hanning(length) ** 1.5
    return noise / (noise.std() + 1e-9)


def assemble(pieces: list, rng: np.random.Generator) -> tuple[np.ndarray, list[Segment]]:
    """Sentences -> one clip with pauses before, between and after, some of them with a breath or a faint noise."""
    audio, segments, at = [], [], 0.0

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
    """Digital zeros, or faint noise of any colour, with or without hum: a mouth at rest."""
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


def make_row(audio: np.ndarray, segments: list[Segment], rng: np.random.Generator, **fields) -> dict:
    frames = max(1, int(np.ceil(len(audio) * FPS / RATE - 1e-6)))
    weights, closure = mouth_weights(segments, frames, FPS, loudness(audio, RATE, frames, FPS))
    weights = accompany(weights, audio, RATE, FPS, rng)
    phones = [{"phone": phone, "start": start, "end": end} for phone, start, end in segments]
    return {
        "audio": encode_audio(audio, RATE), "sampling_rate": RATE, "weights": weights, "closure": closure, "fps": FPS,
        "phones": phones, **fields,
    }  # fmt: skip


_espeak: Espeak | None = None


def speak(name: str, texts: list[str], rng: np.random.Generator) -> list:
    """Synthesise texts with one voice -> [(samples at 16 kHz, normalised phones) or None]."""
    global _espeak
    engine, voice, language, _, _ = (VOICES | TEST_VOICES)[name]
    if engine == "espeak":
        _espeak = _espeak or Espeak()
        made = [_espeak(voice_name, text, rng) for voice_name, text in texts]
    elif engine == "flite":
        made = flite(voice, texts, rng)
    else:
        made = festival(voice, texts, rng, ENCODING.get(language, "iso-8859-1"))
    alphabet = "ipa" if engine == "espeak" else ALPHABET[language]
    return [item and (item[0], normalise_all(item[1], alphabet)) for item in made]


def build_shard(task: tuple[str, int, int, Path]) -> tuple[str, float, float]:
    """`CLIPS` clips of a voice, a file a split, the last of which is `path`; all chance comes from the voice, the
    shard's number and the seed."""
    name, number, seed, path = task
    if path.exists():
        return path.name, 0, 0
    if name == "silence":
        return build_silence(seed, number, path)
    began = time.time()
    datasets.disable_progress_bars()
    rng = np.random.default_rng([seed, number, zlib.crc32(name.encode())])
    engine, _, language, speaker, _ = (VOICES | TEST_VOICES)[name]
    plans = []
    for _ in range(CLIPS):
        voice = ""
        if engine == "espeak":
            dialects = ESPEAK_ENGLISH if language == "en" else ESPEAK_WORLD
            voice = f"{rng.choice(dialects)}+{rng.choice(ESPEAK_VARIANTS)}"
        spoken = language or voice[:2]
        text = Text(spoken)
        plans.append((voice, spoken, [text.sentence(rng) for _ in range(rng.choice([1, 2, 2, 3]))]))
    flat = [(voice, text) if engine == "espeak" else text for voice, _, texts in plans for text in texts]
    made = iter(speak(name, flat, rng))
    result, seconds = [], 0.0
    for index, (voice, spoken, texts) in enumerate(plans):
        pieces = [piece for piece in [next(made) for _ in texts] if piece is not None and len(piece[1]) > 2]
        if not pieces:
            continue
        audio, segments = assemble(pieces, rng)
        split = "test" if name in TEST_VOICES else "validation" if index == 0 else "train"
        fields = {"language": spoken, "engine": engine, "licence": LICENCE[engine], "split": split}
        fields |= {"text": " ".join(texts), "speaker": f"espeak {voice}" if voice else speaker}
        result.append(make_row(audio, segments, rng, id=f"{name}-{number:03d}-{index:03d}", **fields))
        seconds += len(audio) / RATE
    write_splits(result, path.parents[1], path.stem)
    return path.name, seconds, time.time() - began


def build_silence(seed: int, count: int, path: Path) -> tuple[str, float, float]:
    datasets.disable_progress_bars()
    rng = np.random.default_rng([seed, 7])
    fields = {"language": "", "engine": "none", "licence": "MIT", "split": "train", "text": "", "speaker": "silence"}
    result = []
    for index in range(count):
        clip = silence_clip(rng)
        result.append(
            make_row(clip, [Segment(SILENCE, 0, len(clip) / RATE)], rng, id=f"silence-000-{index:03d}", **fields)
        )
    write_splits(result, path.parents[1], path.stem)
    return path.name, 0, 0


def write_demo(path: Path) -> None:
    """The clip that ships: flite's slt (free to ship), with closures, round vowels and a pause."""
    texts = ["Mama, would you move the blue balloon?", "Bob, please bring me a bowl of soup."]
    clips = [np.zeros(int(0.25 * RATE), np.float32)]
    for samples, phones in flite("slt", texts, np.random.default_rng(5)):
        start, end = phones[0][2] - 0.1, phones[-1][1] + 0.1
        clips += [samples[int(start * RATE) : int(end * RATE)], np.zeros(int(0.45 * RATE), np.float32)]
    audio = np.concatenate(clips)
    with atomic_path(path) as temporary:
        soundfile.write(temporary, audio / np.abs(audio).max() * 0.9, RATE, subtype="PCM_16")
    print(f"{path}: {len(audio) / RATE:.2f} s, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder of the corpus")
    parser.add_argument("--hours", type=float, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--demo", type=Path, help="write the demo clip to this file and stop")
    options = parser.parse_args()
    if options.demo:
        write_demo(options.demo)
        return
    if complete(options.output):
        print(f"{options.output} is complete; remove it to build it anew")
        return
    about = "Synthesised speech with exact phone times, and the motion that facetalk_hf.synthetic.visemes gives it."
    with building(options.output, about=about, keep=True) as work:
        build(options, work)


def build(options: argparse.Namespace, work: Path) -> None:
    """All shards that are not there yet."""
    total = sum(share for *_, share in VOICES.values())
    tasks = [(name, 0, options.seed, work / "test" / f"test-{name}-000.parquet") for name in TEST_VOICES]
    for name, (*_, share) in VOICES.items():
        count = max(1, round(options.hours * 3600 / 6.3 / CLIPS * share / total))
        tasks += [(name, n, options.seed, work / "train" / f"{name}-{n:03d}.parquet") for n in range(count)]
    tasks.append(("silence", max(20, int(8 * options.hours)), options.seed, work / "train" / "silence-000.parquet"))
    seconds = 0.0
    # A process a shard: espeak's next sentence depends on the last one, and a shard must not depend on its neighbours.
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        for done, (name, length, spent) in enumerate(pool.imap_unordered(build_shard, tasks), 1):
            seconds += length
            report = f"{name}: {length:.0f} s of speech in {spent:.1f} s, {seconds / 3600:.2f} h"
            print(f"{done}/{len(tasks)} {report}", flush=True)


if __name__ == "__main__":
    main()
