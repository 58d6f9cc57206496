# SPDX-License-Identifier: MIT
"""Recordings of people with transcripts -> phones by forced alignment -> rows of a corpus, moved by the rules."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import load_audio
from ..errors import FaceTalkError
from ..files import atomic_path
from ..phones.alignment import RATE, Alignment, Word, align, check_tools
from ..phones.alphabets import SILENCE
from ..phones.pronunciation import read_word, split_words
from ..phones.segments import Segment
from ..phones.visemes import STOPS, split_diphthongs
from ..pipeline.large_ear import LargeEar
from ..synthetic.spoken_clips import make_row
from .speech_folders import Utterance


PART = 8
"""Recordings that are aligned before a file is written: what an interruption may cost each process."""
RATES = (4.0, 25.0)
"""Phones a second in speech, pauses left out, between which people speak."""
LEAST, LEAST_BY_EAR = 0.85, 0.6
"""Least confidence by default: of pocketsphinx; of a large ear, whose confidence is a mean probability of phones."""
LEAST_STOP = 0.1
"""Least probability of each lip sound that a large ear is told: others were swallowed, or said otherwise."""


@dataclass(frozen=True)
class AlignmentLimits:
    """What a recording must keep to, or it is left out.

    Args:
        language (`str`): of the texts, a voice of espeak-ng.
        confidence (`float`, *optional*): least confidence, see [`~facetalk_hf.phones.alignment.Alignment`]; by default
            `LEAST` or `LEAST_BY_EAR`.
        shortest, longest (`float`): seconds of a recording.
        pause (`float`): longest pause between words, seconds: what is said there is not in the text.
        ear (`str`, *optional*): folder or Hub id of a Whisper, whose phones align instead of pocketsphinx.
    """

    language: str = "en"
    confidence: float | None = None
    shortest: float = 0.5
    longest: float = 60.0
    pause: float = 4.0
    ear: str | None = None


@dataclass(frozen=True)
class Aligned:
    """An utterance and its phones, or why it has none.

    Args:
        utterance ([`Utterance`]): what was aligned.
        seconds (`float`): how long it lasts. confidence (`float`): 0 where it could not be aligned.
        phones (list of [`Segment`]): common alphabet. reason (`str`): why it is left out; empty where it is kept.
        doubtful (list): words whose sound does not fit: (word, start, end, confidence).
    """

    utterance: Utterance
    seconds: float
    confidence: float
    phones: list[Segment]
    reason: str
    doubtful: list[tuple[str, float, float, float]]

    @property
    def kept(self) -> bool:
        """Whether it can be used."""
        return not self.reason


def align_utterance(utterance: Utterance, limits: AlignmentLimits = AlignmentLimits()) -> Aligned:  # noqa: B008
    """Align one recording; whatever is wrong with it becomes the reason for leaving it out."""
    seconds, confidence, phones, doubtful = 0.0, 0.0, list[Segment](), list[tuple[str, float, float, float]]()
    try:
        samples = load_audio(utterance.path, RATE)
        seconds = len(samples) / RATE
        if not limits.shortest <= seconds <= limits.longest:
            raise FaceTalkError(f"it lasts {seconds:.1f} s, not {limits.shortest:g} to {limits.longest:g}")
        if limits.ear is None:
            found, least = align(samples, RATE, utterance.text, limits.language), LEAST
        else:
            found, least = align_by_ear(samples, utterance.text, limits.language, _ear(limits.ear)), LEAST_BY_EAR
        least = least if limits.confidence is None else limits.confidence
        confidence, phones = found.confidence, found.phones
        doubtful = [(w.word, round(w.start, 2), round(w.end, 2), round(w.confidence, 3)) for w in found.words]
        doubtful = [row for row in doubtful if row[3] < 0.5]
        if confidence < least:
            what = _fault(found.match, found.loud, found.moved)
            raise FaceTalkError(f"the confidence {confidence:.3f} is below {least:g}: {what}")
        inner = [s.end - s.start for s in phones[1:-1] if s.phone == SILENCE]
        if max(inner, default=0) > limits.pause:
            raise FaceTalkError(f"a pause of {max(inner):.1f} s is longer than {limits.pause:g} s")
        spoken = [s.end - s.start for s in phones if s.phone != SILENCE]
        if not RATES[0] <= len(spoken) / sum(spoken) <= RATES[1]:
            raise FaceTalkError(f"nobody speaks {len(spoken) / sum(spoken):.0f} phones a second")
        reason = ""
    except FaceTalkError as error:
        reason = str(error)
    return Aligned(utterance, seconds, confidence, phones, reason, doubtful)


def align_by_ear(samples: np.ndarray, text: str, language: str, ear: LargeEar) -> Alignment:
    """Find the phones of a text in samples (S,) at `RATE` by what a large ear hears; espeak-ng reads the words.

    The confidence is the mean probability of the phones, pauses among them.

    Raises:
        FaceTalkError: no words, or a lip sound of the text that is not heard.
    """
    words = [(word, read_word(word, language)) for word in split_words(text)]
    words = [(word, phones) for word, phones in words if phones]
    if not words:
        raise FaceTalkError("there is no word in the text to align")
    phones, likely = ear.align(samples, [phones for _, phones in words], RATE)
    faint = [s for s, sure in zip(phones, likely, strict=True) if s.phone in STOPS and sure < LEAST_STOP]
    if faint:
        raise FaceTalkError(f"{faint[0].phone} is not heard at {faint[0].start:.2f} s, where the text has it")
    found, at = [], 0
    inner = [(segment, sure) for segment, sure in zip(phones, likely, strict=True) if segment.phone != SILENCE]
    for word, said in words:
        halves = inner[at : (at := at + len(split_diphthongs([Segment(phone, 0, 1) for phone in said])))]
        found.append(Word(word, halves[0][0].start, halves[-1][0].end, float(np.mean([sure for _, sure in halves]))))
    match = float(np.average(likely, weights=[segment.end - segment.start for segment in phones]))
    return Alignment(phones, found, match, match, 0.0, 0.0)


@cache
def _ear(name: str) -> LargeEar:
    """Load a large ear, once a process."""
    return LargeEar.from_pretrained(name)


def _fault(match: float, loud: float, moved: float) -> str:
    """Name what lowers a confidence most."""
    faults = {
        1 - match: "words do not fit the sound",
        min(loud / 2, 1): "there is speech that the text lacks",
        moved / 2: "phones move when noise is added",
    }
    return faults[max(faults)]


def align_utterances(
    utterances: Sequence[Utterance],
    work: str | Path,
    limits: AlignmentLimits = AlignmentLimits(),  # noqa: B008
    processes: int = 1,
    progress: Callable[[int], object] | None = None,
) -> list[Aligned]:
    """Align recordings in several processes; what was aligned before an interruption is not aligned again.

    Args:
        utterances (list of [`Utterance`]): see `find_speech`.
        work (`str` or `Path`): a folder for results, eight recordings a file; the caller's to remove.
        limits ([`AlignmentLimits`]): what recordings must keep to.
        processes (`int`): how many work at once.
        progress: is told how many more recordings are done.

    Returns:
        list of [`Aligned`], in the order of the utterances, those left out among them.

    Raises:
        FaceTalkError: pocketsphinx or espeak-ng is missing; or the folder is that of other recordings or limits.
    """
    # Once, rather than as the fault of every recording.
    if limits.ear is None:
        check_tools(limits.language)
    else:
        read_word("a", limits.language)
        _ear(limits.ear)
    work = Path(work)
    work.mkdir(parents=True, exist_ok=True)
    told = hashlib.sha256(repr([limits, *((u.name, u.text) for u in utterances)]).encode()).hexdigest()
    mark = work / "settings.txt"
    if mark.is_file() and mark.read_text() != told:
        raise FaceTalkError(f"{work} was begun with other recordings or options; remove it, or give those again")
    with atomic_path(mark) as temporary:
        temporary.write_text(told)
    parts = [list(utterances[start : start + PART]) for start in range(0, len(utterances), PART)]
    tasks = [(part, work / f"{index:06d}.json") for index, part in enumerate(parts)]
    step = partial(_align_part, limits=limits)
    result: list[Aligned] = []
    if processes <= 1:
        for items in map(step, tasks):
            result += items
            if progress is not None:
                progress(len(items))
        return result
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for items in pool.imap(step, tasks):
            result += items
            if progress is not None:
                progress(len(items))
    return result


def _align_part(task: tuple[list[Utterance], Path], limits: AlignmentLimits) -> list[Aligned]:
    utterances, path = task
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [
            Aligned(u, **row | {"phones": [Segment(*phone) for phone in row["phones"]]})
            for u, row in zip(utterances, rows, strict=True)
        ]
    result = [align_utterance(utterance, limits) for utterance in utterances]
    rows = [{key: value for key, value in asdict(item).items() if key != "utterance"} for item in result]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(rows), encoding="utf-8")
    return result


def aligned_rows(
    aligned: Sequence[Aligned], splits: Mapping[str, str], language: str = "en", seed: int = 0,
    source: str | None = None, licence: str | None = None,
) -> Iterator[tuple[dict[str, Any], Path]]:  # fmt: skip
    """Make rows of a corpus from those that are kept: pairs of a row and its place, for `building.write_rows`.

    The mouth is that of the rules for the phones, the rest of the face is made as for synthetic speech. Rows are
    called SPEAKER-000-000 and so on, their recordings' names are in "sequence".

    Args:
        aligned (list of [`Aligned`]): see `align_utterances`.
        splits: speaker -> split, see [`~facetalk_hf.data.building.name_splits`].
        language, source, licence (`str`): columns of the same names. seed (`int`): of the upper face.
    """
    counts: Counter[str] = Counter()
    for item in aligned:
        if not item.kept:
            continue
        utterance = item.utterance
        number, counts[utterance.speaker] = counts[utterance.speaker], counts[utterance.speaker] + 1
        digest = hashlib.sha256(f"{seed} {utterance.name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        row = make_row(
            load_audio(utterance.path, RATE), item.phones, rng, speaker=utterance.speaker,
            id=f"{utterance.speaker}-{number // 1000:03d}-{number % 1000:03d}", sequence=utterance.name,
            split=splits[utterance.speaker], text=utterance.text, language=language.split("-")[0],
            source=source, licence=licence, confidence=item.confidence,
        )  # fmt: skip
        yield row, utterance.path


def phones_list(aligned: Sequence[Aligned], path: str | Path, source: str | None = None) -> dict[str, Any]:
    """Make the list of recordings and phones that `training/evaluate.py --recordings` reads, to be saved at `path`."""
    folder = Path(path).resolve().parent
    result = {}
    for item in aligned:
        if item.kept:
            place = item.utterance.path.resolve()
            inside = place.is_relative_to(folder)
            result[item.utterance.name] = {
                "file": place.relative_to(folder).as_posix() if inside else os.fspath(place),
                "speaker": item.utterance.speaker, "source": source, "text": item.utterance.text,
                "seconds": round(item.seconds, 3), "confidence": round(item.confidence, 3),
                "phones": [[phone, round(start, 3), round(end, 3)] for phone, start, end in item.phones],
            }  # fmt: skip
    return result


def alignment_report(aligned: Sequence[Aligned]) -> dict[str, Any]:
    """Summarise what was aligned: counts, quantiles of the confidence, and why each of the others was left out."""
    kept = [item for item in aligned if item.kept]
    confidence = [item.confidence for item in kept]
    return {
        "recordings": len(aligned), "kept": len(kept), "speakers": len({item.utterance.speaker for item in kept}),
        "seconds": round(sum(item.seconds for item in aligned), 1),
        "kept_seconds": round(sum(item.seconds for item in kept), 1),
        "confidence": {f"p{q}": round(float(np.percentile(confidence, q)), 3) for q in (5, 25, 50, 75, 95)}
        if confidence
        else {},
        "left_out": {
            item.utterance.name: {
                "reason": item.reason, "seconds": round(item.seconds, 2), "confidence": round(item.confidence, 3),
                "words": [row[0] for row in item.doubtful], "file": os.fspath(item.utterance.path),
            }
            for item in aligned
            if not item.kept
        },
    }  # fmt: skip


def report_lines(report: Mapping[str, Any], most: int = 20) -> list[str]:
    """Write a report for people: a line for all, one for each of the first `most` that are left out."""
    lines = [
        f"{report['kept']} of {report['recordings']} recordings kept: {report['kept_seconds'] / 60:.1f} of "
        f"{report['seconds'] / 60:.1f} min, {report['speakers']} speakers"
    ]
    if report["confidence"]:
        lines.append("confidence: " + ", ".join(f"{name} {value}" for name, value in report["confidence"].items()))
    for name, item in list(report["left_out"].items())[:most]:
        words = f" ({', '.join(item['words'][:5])})" if item["words"] else ""
        lines.append(f"left out: {name}: {item['reason']}{words}")
    if len(report["left_out"]) > most:
        lines.append(f"and {len(report['left_out']) - most} more, see the report")
    return lines
