# SPDX-License-Identifier: MIT
"""Synthesise the spoken corpus: speech with exact phone times, and the motion that the rules of `visemes` give it.

    python training/build_speech.py --output-dir DIR --hours 5 [--processes 2]  # resumable: finished shards are kept
    python training/build_speech.py --output-dir DIR --hours 5 --neural       # by Kokoro: docs/corpus.md
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
from facetalk_hf.files import atomic_path
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.speech_engines import RATE, flite
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
ABOUT = "Synthesised speech with exact phone times, and the motion that facetalk_hf.phones.visemes gives it."


def build_shard(task: tuple[str, int, int, Path]) -> tuple[str, float, float]:
    """A shard of a voice, or of silence, a file a split, the last of which is `path`: its name, seconds, time."""
    name, number, seed, path = task
    if path.exists():
        return path.name, 0, 0
    began = time.time()
    datasets.disable_progress_bars()
    rows, seconds = (silence_rows(number, seed), 0) if name == "silence" else voice_rows(name, number, seed, TEXTS)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, help="folder of the corpus")
    parser.add_argument("--hours", type=float, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neural", action="store_true", help="voices of Kokoro in place of Debian's programs")
    parser.add_argument("--demo", type=Path, help="write the demo clip to this file and stop")
    options = parser.parse_args()
    if options.demo:
        write_demo(options.demo)
        return
    if complete(options.output_dir):
        print(f"{options.output_dir} is complete; remove it to build it anew")
        return
    with building(options.output_dir, about=ABOUT, keep=True) as work:
        build(options, work)


def build(options: argparse.Namespace, work: Path) -> None:
    """All shards that are not there yet."""
    voices, test_voices = (NEURAL_VOICES, NEURAL_TEST_VOICES) if options.neural else (VOICES, TEST_VOICES)
    total = sum(share for *_, share in voices.values())
    tasks = [(name, 0, options.seed, work / "test" / f"test-{name}-000.parquet") for name in test_voices]
    for name, (*_, share) in voices.items():
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
    run_script(main)
