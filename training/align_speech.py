# SPDX-License-Identifier: MIT
"""Make a corpus of recordings of people with transcripts: phones by forced alignment, motion by the rules.

    python training/align_speech.py --input LibriSpeech/dev-clean --output-dir corpus/people [--processes 2]
    python training/align_speech.py --input my_voice --phones phones.json   # for evaluate.py --recordings

The folder holds name.wav with name.txt, LibriSpeech's *.trans.txt, LJ Speech's metadata.csv, or transcripts.json:
docs/corpus.md. It needs pocketsphinx (pip install 'facetalk-hf[align]'), and espeak-ng for words that its dictionary
lacks; or, for every language alike, espeak-ng and --ear. Interrupt it when you like: the same command goes on.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from facetalk_hf import FaceTalkError
from facetalk_hf.data.building import building, complete, name_splits, write_rows
from facetalk_hf.files import atomic_path
from facetalk_hf.importers.aligned_speech import (
    AlignmentLimits,
    align_utterances,
    aligned_rows,
    alignment_report,
    phones_list,
    report_lines,
)
from facetalk_hf.importers.speech_folders import find_speech
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script


ABOUT = "Recordings of people: phones by forced alignment, and the motion that facetalk_hf.phones.visemes gives them."


@dataclass(kw_only=True)
class Options:
    """Options of training/align_speech.py."""

    input: Path = option(REQUIRED, "folder of recordings with transcripts, or a JSON file of these")
    output_dir: Path | None = option(None, "corpus to be made")
    phones: Path | None = option(None, "file for the phones of all recordings, JSON")
    report: Path | None = option(None, "file for the report; OUTPUT_DIR/report.json, or beside the phones")
    language: str = option("en", "of the texts: a voice of espeak-ng, such as de or pt-br")
    speaker: str | None = option(None, "speaker of all recordings; else as the folder has it")
    ear: str | None = option(None, "a Whisper that aligns instead of pocketsphinx, such as openai/whisper-base")
    min_confidence: float | None = option(None, "recordings below it are left out; 0.85, with --ear 0.6")
    longest: float = option(60.0, "seconds of a recording")
    validation_speakers: float = option(0.1, "share of the speakers in the split validation")
    test_speakers: float = option(0.1, "share of the speakers in the split test")
    source: str | None = option(None, "where the recordings are from, and whom to credit")
    licence: str | None = option(None, "their terms")
    processes: int = option(1, "that align at once")
    seed: int = option(0, "of splits and upper faces")

    def __post_init__(self) -> None:
        if self.output_dir is None and self.phones is None:
            raise FaceTalkError("give --output-dir, --phones, or both")


def main() -> None:
    options = parse_config(Options, __doc__)
    if options.output_dir is not None and complete(options.output_dir):
        raise FaceTalkError(f"{options.output_dir} is complete; remove it to make it again")
    utterances = find_speech(options.input, options.speaker)
    limits = AlignmentLimits(options.language, options.min_confidence, longest=options.longest, ear=options.ear)
    target = options.output_dir or options.phones
    work = target.with_name(f".{target.name}.alignments")
    with tqdm(total=len(utterances), desc="align", unit="clip", disable=None) as bar:
        aligned = align_utterances(utterances, work, limits, options.processes, bar.update)
    report = alignment_report(aligned)
    print("\n".join(report_lines(report)))
    if options.phones is not None:
        write_json(options.phones, phones_list(aligned, options.phones, options.source))
    if options.output_dir is None:
        write_json(options.report or options.phones.with_name(f"{options.phones.stem}_report.json"), report)
    else:
        kept = {item.utterance.speaker for item in aligned if item.kept}
        splits = name_splits(kept, options.validation_speakers, options.test_speakers, options.seed)
        rows = aligned_rows(aligned, splits, options.language, options.seed, options.source, options.licence)
        with building(options.output_dir, about=ABOUT) as folder:
            write_rows(rows, folder)
            write_json(options.report or folder / "report.json", report)
    shutil.rmtree(work)


def write_json(path: Path, content: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
