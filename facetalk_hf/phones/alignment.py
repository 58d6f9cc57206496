# SPDX-License-Identifier: MIT
"""Forced alignment: when each phone of a known text is spoken in a recording, and how sure that is.

By pocketsphinx, whose package holds CMU's English acoustic model and dictionary. Words that the dictionary lacks, and
all words of other languages, are read by espeak-ng and aligned by the nearest English sounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import scipy.signal

from ..errors import FaceTalkError
from .alphabets import SILENCE
from .pronunciation import nearest_english, read_word, split_words
from .reading import from_arpabet, to_segments
from .segments import Segment


RATE = 16000
"""Hz of the acoustic model."""
STEP = 0.01
"""Seconds of its frames: boundaries are multiples of it."""
SHORTEST = 0.1
"""Seconds that a recording must last."""
_PAUSES = ("SIL", "+SPN+", "+NSN+", "+BREATH+", "<sil>")
# Log score of a frame, in pocketsphinx' units, at which the mean over 0.3 s is an even chance to be another word, and
# the width of the transition. Found on 35 recordings of people whose text was true, or had a word in twelve replaced.
_EVEN, _WIDTH, _WINDOW = -40.0, 4.0, 30
_NOISE = 20.0  # dB between speech and the noise that is added to see whether phones stay where they are
_MOVED = 4  # frames by which they may move
_LOUD = 15.0  # dB below speech, above which a pause counts as loud
_WIDE = {"beam": 1e-120, "pbeam": 1e-120, "wbeam": 1e-100}


class Word(NamedTuple):
    """One word: as it is spelt, the seconds it lasts from and to, and how well its sound fits, 0 to 1."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Alignment:
    """The phones of a recording.

    Args:
        phones (list of [`Segment`]): common alphabet, seconds, without gaps from 0 s to the end of the recording.
        words (list of [`Word`]): without the pauses.
        confidence (`float`): match x (1 - loud / 2) x (1 - moved / 2), 0 to 1; below 0.85 look at the text again.
        match (`float`): mean over speech of a sigmoid of the acoustic score, averaged over 0.3 s.
        loud (`float`): what is as loud as speech in pauses, in proportion to speech: words that the text lacks.
        moved (`float`): share of speech in which no phone is the same within 40 ms once noise is added, 20 dB below.
    """

    phones: list[Segment]
    words: list[Word]
    confidence: float
    match: float
    loud: float
    moved: float


class _Entry(NamedTuple):
    """A phone as the decoder gives it: name, frames from and to, score, number of its word (-1: a pause)."""

    name: str
    start: int
    end: int
    score: float
    word: int


def align(samples: np.ndarray, sampling_rate: int, text: str, language: str = "en") -> Alignment:
    """Find the phones of a text in the recording that speaks it.

    It takes about 0.1 s of one core for each second. Recordings of up to some minutes do; longer ones had better be
    cut at pauses. The text must be what is said, word for word: `confidence` tells where it is not.

    Args:
        samples (`(S,)` array): one channel, float in -1..1.
        sampling_rate (`int`): Hz, any.
        text (`str`): what is said. Figures and signs are read by espeak-ng.
        language (`str`, *optional*, defaults to `"en"`): a voice of espeak-ng, such as "de" or "pt-br". Words must be
            separated by blanks for pauses to be found between them.

    Returns:
        [`Alignment`]

    Raises:
        FaceTalkError: pocketsphinx or espeak-ng is missing; no words; or the text cannot be found in the sound.
    """
    pcm = _pcm(np.asarray(samples), sampling_rate)
    if len(pcm) < SHORTEST * RATE:
        raise FaceTalkError(f"a recording of {len(pcm) / RATE:.2f} s is too short to be aligned")
    words = split_words(text)
    if not words:
        raise FaceTalkError("there is no word in the text to align")
    decoder, wide = _decoder(False), False
    spoken = _Words(words, language)
    entries = spoken.find(decoder, pcm)
    if entries is None:  # the search lost it: a wider one is slow, and seldom needed
        decoder, wide = _decoder(True), True
        entries = spoken.find(decoder, pcm)
    if entries is None:
        raise FaceTalkError("the text cannot be found in the recording; is it what is said?")
    noise = np.random.default_rng(0).standard_normal(len(pcm)) * pcm.std() * 10 ** (-_NOISE / 20)
    again = spoken.find(_decoder(wide), np.clip(pcm + noise, -32768, 32767).astype(np.int16))
    fit, speech = _fit(entries)
    match, loud, moved = float(fit[speech].mean()), _loud(pcm, speech), _moved(entries, again, speech)
    confidence = match * (1 - min(loud / 2, 1)) * (1 - moved / 2)
    return Alignment(
        spoken.segments(entries, len(pcm) / RATE), spoken.timed(entries, fit), confidence, match, loud, moved
    )


def check_tools(language: str = "en") -> None:
    """Check that what alignment needs is installed.

    Raises:
        FaceTalkError: pocketsphinx or espeak-ng is missing, or espeak-ng does not know the language.
    """
    _decoder(False)
    read_word("a", language)


@cache
def _decoder(wide: bool) -> Any:
    """Make the decoder, once a process; the wide one looks at more hypotheses."""
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise FaceTalkError("alignment needs the package pocketsphinx: pip install 'facetalk-hf[align]'") from error
    return Decoder(lm=None, loglevel="FATAL", bestpath=False, **(_WIDE if wide else {}))


def _pcm(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Convert samples (S,) to 16 bits at 16 kHz; what is very quiet is made louder, or rounding would be its noise."""
    if samples.ndim != 1 or not len(samples):
        raise FaceTalkError(f"alignment takes one channel of samples, not an array of shape {samples.shape}")
    samples = samples.astype(np.float64)
    if not np.isfinite(samples).all():
        raise FaceTalkError("the recording is NaN or infinite somewhere")
    if sampling_rate != RATE:
        common = gcd(int(sampling_rate), RATE)
        samples = scipy.signal.resample_poly(samples, RATE // common, int(sampling_rate) // common)
    peak = float(np.abs(samples).max())
    if peak == 0:
        raise FaceTalkError("the recording is silent")
    if peak < 0.1:
        samples = samples * (0.5 / peak)
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)


class _Words:
    """The words of a text: what the decoder is told they sound like, and their phones once it has found them."""

    def __init__(self, words: Sequence[str], language: str) -> None:
        self.language = language
        self.words: list[str] = []
        self._tokens: list[str] = []  # names of the words in the decoder's dictionary
        self._read: list[tuple[str, ...] | None] = []  # phones by espeak-ng; None where the dictionary's count
        dictionary = _decoder(False)
        for word in words:
            plain = word.strip("'") if dictionary.lookup_word(word) is None else word
            known = language.split("-")[0] == "en" and dictionary.lookup_word(plain) is not None
            phones = None if known else read_word(word, language)
            if phones == ():
                continue  # a mark that is not spoken
            self.words.append(word)
            self._tokens.append(plain if known else f"{language}|{word}".replace("(", "").replace(")", ""))
            self._read.append(phones)
        if not self.words:
            raise FaceTalkError("there is no word in the text to align")

    def find(self, decoder: Any, pcm: np.ndarray) -> list[_Entry] | None:
        """Align the words with (S,) int16; None where the search loses them."""
        for token, phones in zip(self._tokens, self._read, strict=True):
            if phones is not None and decoder.lookup_word(token) is None:
                decoder.add_word(token, " ".join(nearest_english(phone) for phone in phones), True)
        data = pcm.tobytes()
        try:
            decoder.set_align_text(" ".join(self._tokens))
            _decode(decoder, data)
            if decoder.hyp() is None:  # not to be asked after the second pass: it crashes there
                return None
            decoder.set_alignment()  # states within the words that were found
            _decode(decoder, data)
            found = decoder.get_alignment()
        except RuntimeError:
            return None
        if found is None:
            return None
        entries, number = [], -1
        for word in found:
            pause = word.name in _PAUSES or word.name.startswith(("<", "+", "["))
            number += not pause
            for phone in word:
                index = -1 if pause or phone.name in _PAUSES else number
                entries.append(_Entry(phone.name, phone.start, phone.start + phone.duration, phone.score, index))
        return entries if number + 1 == len(self._tokens) and len({e.word for e in entries} - {-1}) else None

    def segments(self, entries: Sequence[_Entry], seconds: float) -> list[Segment]:
        """Make the segments of a recording; phones that espeak-ng has read keep the names it gave them."""
        rows: list[tuple[str, float, float]] = []
        place, before = 0, -1
        for entry in entries:
            start, end = entry.start * STEP, min(entry.end * STEP, seconds)
            if entry.word < 0:
                rows.append((SILENCE, start, end))
                continue
            place = place + 1 if entry.word == before else 0
            before, read = entry.word, self._read[entry.word]
            name = from_arpabet(entry.name, end - start) if read is None else read[place]
            rows.append((name, start, end))
        rows.append((SILENCE, min(entries[-1].end * STEP, seconds), seconds))
        return to_segments([row for row in rows if row[2] > row[1]], "common")

    def timed(self, entries: Sequence[_Entry], fit: np.ndarray) -> list[Word]:
        """List the words with their times and confidence; `fit` as of `_fit`."""
        result = []
        for number, word in enumerate(self.words):
            own = [entry for entry in entries if entry.word == number]
            start, end = own[0].start, own[-1].end
            result.append(Word(word, start * STEP, end * STEP, float(fit[start:end].mean())))
        return result


def _decode(decoder: Any, data: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(data, full_utt=True)
    decoder.end_utt()


def _fit(entries: Sequence[_Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Turn scores into how well each frame fits (T,), and which frames are speech (T,) bool."""
    count = entries[-1].end
    score, speech = np.zeros(count), np.zeros(count, bool)
    for entry in entries:
        score[entry.start : entry.end] = entry.score / max(entry.end - entry.start, 1)
        speech[entry.start : entry.end] = entry.word >= 0
    window = np.ones(_WINDOW) / _WINDOW
    padded = np.pad(score[speech], _WINDOW // 2, mode="edge")
    smooth = np.convolve(padded, window, "valid")[: speech.sum()]
    result = np.zeros(count)
    result[speech] = 1 / (1 + np.exp(-np.clip((smooth - _EVEN) / _WIDTH, -50, 50)))
    return result, speech


def _loud(pcm: np.ndarray, speech: np.ndarray) -> float:
    hop = int(RATE * STEP)
    frames = pcm[: len(pcm) // hop * hop].reshape(-1, hop).astype(float)[: len(speech)]
    level, speech = 10 * np.log10((frames**2).mean(1) + 1e-3), speech[: len(frames)]
    if not speech.any():
        return 0.0
    loud = ~speech & (level > np.percentile(level[speech], 60) - _LOUD)
    return float(loud.sum() / speech.sum())


def _moved(entries: Sequence[_Entry], again: Sequence[_Entry] | None, speech: np.ndarray) -> float:
    if again is None:
        return 1.0

    def names(found: Sequence[_Entry]) -> np.ndarray:
        result = np.full(len(speech) + 2 * _MOVED, "", dtype="U6")
        for entry in found:
            result[entry.start + _MOVED : entry.end + _MOVED] = "" if entry.word < 0 else entry.name
        return result

    first, second = names(entries)[_MOVED : _MOVED + len(speech)], names(again)
    same = np.any([first == second[shift : shift + len(speech)] for shift in range(2 * _MOVED + 1)], axis=0)
    return float(1 - same[speech].mean())
