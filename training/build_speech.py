# SPDX-License-Identifier: MIT
"""Synthesise the spoken corpus: speech with exact phone times, and the motion that the rules of `visemes` give it.

    python training/build_speech.py --output-dir DIR --hours 5 [--processes 2]  # resumable: finished shards are kept
    python training/build_speech.py --output-dir DIR --hours 5 --neural       # by Kokoro: docs/corpus.md
    python training/build_speech.py --statistics [--neural]                   # phone shares of the text, no speech
    python training/build_speech.py --demo facetalk_hf/assets/demo.wav        # the clip that ships in the wheel

Debian packages: espeak-ng libespeak-ng1 flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
festival-ca festvox-ca-ona-hts festival-czech festvox-czech-dita festvox-czech-krb festvox-czech-machac
festvox-czech-ph festvox-italp16k festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv. Text comes from
training/texts (ours).
"""

import argparse
import multiprocessing
import time
from pathlib import Path

import datasets
import numpy as np
import soundfile

from facetalk_hf.data.building import building, complete, write_splits
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.files import atomic_path
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.kokoro_spelling import Speller
from facetalk_hf.synthetic.speech_engines import ESPEAK_WORLD, RATE, flite
from facetalk_hf.synthetic.texts import Text, phone_shares
from facetalk_hf.synthetic.voices import (
    CLIPS,
    NEURAL_TEST_VOICES,
    NEURAL_VOICES,
    TEST_VOICES,
    VOICES,
    silence_rows,
    voice_rows,
)


TEXTS = Path(__file__).parent / "texts"
CLIP_SECONDS = 6.3
ABOUT = "Synthesised speech with exact phone times, and the motion that facetalk_hf.phones.visemes gives it."


def build_shard(task: tuple[str, int, int, int, Path]) -> tuple[str, float, float]:
    """A shard of a voice, or of silence, a file a split, the last of which is `path`: its name, seconds, time."""
    name, number, clips, seed, path = task
    if path.exists():
        return path.name, 0, 0
    began = time.time()
    datasets.disable_progress_bars()
    rows, seconds = silence_rows(clips, seed), 0.0
    if name != "silence":
        rows, seconds = voice_rows(name, number, seed, TEXTS, clips)
    write_splits(rows, path.parents[1], path.stem)
    return path.name, seconds, time.time() - began


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


def print_statistics(neural: bool, seed: int, count: int = 1000) -> None:
    """Print how often phones come in the text of every language, in percent, as espeak-ng and misaki spell it."""
    voices = NEURAL_VOICES if neural else VOICES
    languages = {row[2] for row in voices.values()} - {""} | (
        {name[:2] for name in ESPEAK_WORLD} if not neural else set()
    )
    columns = "m n ng b d p t k g f v w bh".split()
    print("language", "phones", *columns, sep="\t")
    spell = Speller()
    for language in sorted(languages):
        text, rng = Text(TEXTS, language), np.random.default_rng(seed)
        sentences = [text.sentence(rng) for _ in range(count)]
        try:
            shares, total = phone_shares(sentences, {"en": "en-us", "pt": "pt-br"}.get(language, language), spell)
        except FaceTalkError as error:
            print(f"{language}\t{error}")
            continue
        print(language, total, *(f"{100 * shares.get(phone, 0):.1f}" for phone in columns), sep="\t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, help="folder of the corpus")
    parser.add_argument("--hours", type=float, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neural", action="store_true", help="voices of Kokoro in place of Debian's programs")
    parser.add_argument(
        "--voices", nargs="*", default=[], help="names as in facetalk_hf.synthetic.voices; all by default"
    )
    parser.add_argument("--statistics", action="store_true", help="print the phone shares of the text and stop")
    parser.add_argument("--demo", type=Path, help="write the demo clip to this file and stop")
    options = parser.parse_args()
    if options.demo:
        write_demo(options.demo)
        return
    if options.statistics:
        print_statistics(options.neural, options.seed)
        return
    if options.output_dir is None:
        raise FaceTalkError("say where the corpus goes: --output-dir DIR")
    if complete(options.output_dir):
        print(f"{options.output_dir} is complete; remove it to build it anew")
        return
    with building(options.output_dir, about=ABOUT, keep=True) as work:
        build(options, work)


def plan(options: argparse.Namespace, work: Path) -> list[tuple[str, int, int, int, Path]]:
    """Shards as (voice, number, clips, seed, path); fewer clips in each where a whole shard a voice is too much."""
    voices, test_voices = (NEURAL_VOICES, NEURAL_TEST_VOICES) if options.neural else (VOICES, TEST_VOICES)
    if options.voices:
        if unknown := sorted(set(options.voices) - set(voices | test_voices)):
            raise FaceTalkError(f"no voice {unknown[0]}; there are {', '.join(voices | test_voices)}")
        voices = {name: row for name, row in voices.items() if name in options.voices}
        test_voices = {name: row for name, row in test_voices.items() if name in options.voices}
    total, wanted = sum(share for *_, share in voices.values()), options.hours * 3600 / CLIP_SECONDS
    clips = int(np.clip(round(wanted / max(1, len(voices))), 2, CLIPS))
    seed = options.seed
    tasks = [(name, 0, clips, seed, work / "test" / f"test-{name}-000.parquet") for name in test_voices]
    for name, (*_, share) in voices.items():
        count = max(1, round(wanted / clips * share / total))
        tasks += [(name, n, clips, seed, work / "train" / f"{name}-{n:03d}.parquet") for n in range(count)]
    silences = max(20, int(8 * options.hours))
    return [*tasks, ("silence", 0, silences, seed, work / "train" / "silence-000.parquet")]


def build(options: argparse.Namespace, work: Path) -> None:
    """All shards that are not there yet."""
    tasks = plan(options, work)
    seconds = 0.0
    # A process a shard: espeak's next sentence depends on the last one, and a shard must not depend on its neighbours.
    with multiprocessing.get_context("fork").Pool(options.processes, maxtasksperchild=1) as pool:
        for done, (name, length, spent) in enumerate(pool.imap_unordered(build_shard, tasks), 1):
            seconds += length
            report = f"{name}: {length:.0f} s of speech in {spent:.1f} s, {seconds / 3600:.2f} h"
            print(f"{done}/{len(tasks)} {report}", flush=True)


if __name__ == "__main__":
    run_script(main)
