# SPDX-License-Identifier: MIT
"""How near a large ear's alignment of a text comes to phone times that are known.

    python benchmarks/alignment.py --phones phones.json --ear openai/whisper-base

phones.json is a list as `align_speech.py --phones` writes it, by another aligner or by hand, with the texts.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from facetalk_hf.importers.aligned_speech import AlignmentLimits, align_utterance
from facetalk_hf.importers.speech_folders import Utterance
from facetalk_hf.phones.visemes import STOPS
from facetalk_hf.scripts import run_script


def main() -> None:
    """Align, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=Path, required=True, help="list of recordings with phones and texts")
    parser.add_argument("--ear", default="openai/whisper-base", help="folder or Hub id of a Whisper")
    arguments = parser.parse_args()
    limits, errors, left, other = AlignmentLimits(ear=arguments.ear), [], 0, 0
    table = json.loads(arguments.phones.read_text())
    for name, told in table.items():
        place = arguments.phones.parent / told["file"]
        found = align_utterance(Utterance(name, told["speaker"], place, told["text"]), limits)
        if not found.kept:
            print(f"left out: {name}: {found.reason}")
            left += 1
            continue
        known = [(start + end) / 2 for phone, start, end in told["phones"] if phone.lower() in STOPS]
        made = [(segment.start + segment.end) / 2 for segment in found.phones if segment.phone in STOPS]
        if len(known) == len(made):
            errors += (1e3 * (np.array(made) - known)).tolist()
        else:
            other += 1
    distance = np.abs(errors)
    print(f"{len(table)} recordings, {left} left out, {other} read with other lip sounds")
    print(f"middles of {len(errors)} m, b, p: {np.median(distance):.0f} ms apart in the median, ", end="")
    print(f"{np.percentile(distance, 90):.0f} ms at the 90th percentile")


if __name__ == "__main__":
    run_script(main)
