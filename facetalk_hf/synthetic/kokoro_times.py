# SPDX-License-Identifier: MIT
"""Frames that Kokoro-82M gives to each symbol of its input -> phones with times; docs/corpus.md says how exact."""

from typing import NamedTuple

import numpy as np

from ..phones.alphabets import SILENCE, normalise
from .speech import Phones


RATE = 24000
"""Hz of Kokoro's sound."""
FRAME = 600
"""Samples to a frame of the predicted durations."""
LEAD, LEAD_OF_SPEED = 0.030, 0.027
"""Seconds, and seconds divided by the speed, by which the sound comes before the frames of its symbol (measured)."""
FADE, ONSET = -42, -35
"""dB below the loud parts at which a pause begins and ends."""

_HOP, _HOPS = 120, 200  # samples of a step of the level, steps a second
_FRICATIVES = set("szʃʒʂɕfθxçhɸSʣʦ")
_STOPS = set("pbtdkɡʧʤʨʥʈɖT")
_VOWELS = set("AIOQWYᵊaeiouyɑɐɒæɔəɛɜɨɪɯøœʊʌɤᵻ")
_MARKS, _STRESS, _AFTER = ';:,.!?—…"()“”', "ˈˌ", "ːʰʲᵝ\u0303↓→↗↘"
_PHONES = {
    "A": "ey", "I": "ay", "O": "ow", "Q": "ow", "W": "aw", "Y": "oy", "S": "s", "T": "d", "ʣ": "z", "ʥ": "jh",
    "ʦ": "s", "ʨ": "ch", "ʤ": "jh", "ʧ": "ch", "\uab67": "ch", "ᵊ": "ax",
}  # fmt: skip


class _Unit(NamedTuple):
    """Letters of one sound, "" for a pause, with its start and end in seconds."""

    letters: str
    start: float
    end: float


def _join(spelt: str, edges: np.ndarray) -> list[_Unit]:
    """Join symbols to sounds and pauses.

    Marks and what follows them are pauses. Stress belongs to the letter after it, length, tone and nasality to the one
    before. A space is 1 to 3 frames although nothing pauses: its neighbours share it, and a vowel gives three quarters
    of it to a consonant (of 0, 1/4, 1/2, 3/4 and 1 the least error, measured).
    """
    units = [_Unit("", edges[0], edges[1])]
    begin = space = None
    for symbol, start, end in zip(spelt, edges[1:], edges[2:], strict=False):
        last = units[-1]
        if symbol in _MARKS or (symbol == " " and not last.letters):
            if space is not None:
                units[-1], space = last._replace(end=start), None
            if units[-1].letters:
                units.append(_Unit("", start, end))
            units[-1], begin = units[-1]._replace(end=end), None
        elif symbol == " ":
            space = start
        elif symbol in _STRESS:
            begin = start if begin is None else begin
        elif symbol in _AFTER:
            if begin is None:
                units[-1] = last._replace(letters=last.letters + symbol, end=end)
        else:
            start = start if begin is None else begin
            if space is not None:
                share = 0.25 if last.letters[:1] in _VOWELS and symbol not in _VOWELS else 0.5
                start = space + share * (start - space)
                units[-1] = last._replace(end=start)
            units.append(_Unit(symbol, start, end))
            begin = space = None
    return [*units, _Unit("", units[-1].end, edges[-1])]


def _level(samples: np.ndarray) -> np.ndarray:
    """Measure loudness every 5 ms in dB below the loud parts, smoothed over 15 ms."""
    power = (samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP).astype(np.float64) ** 2).mean(1)
    power = np.convolve(power, np.ones(3) / 3, "same")
    return 10 * np.log10(power / max(np.percentile(power, 95), 1e-12) + 1e-9)


def _fit_pauses(units: list[_Unit], level: np.ndarray) -> list[_Unit]:
    """Let pauses begin and end where the sound does.

    Kokoro gives up to 0.3 s of silence to the last phone before a pause, and up to 0.15 s of a fricative after one to
    the pause.
    """
    units = list(units)
    for index in range(len(units) - 1):
        unit, after = units[index : index + 2]
        edge = None
        if unit.letters and not after.letters:
            heard = np.flatnonzero(level[int(unit.start * _HOPS) : int(after.end * _HOPS)] > FADE)
            edge = unit.start + (heard[-1] + 1) / _HOPS if len(heard) else unit.start
            edge = float(np.clip(edge, min(unit.start + 0.04, after.end), after.end))
        elif after.letters and not unit.letters:
            begin = first = int(after.start * _HOPS)
            while begin > max(unit.start, after.start - 0.2) * _HOPS and level[begin - 1] > ONSET:
                begin -= 1
            edge = max(unit.start, begin / _HOPS) if begin < first else None
        if edge is not None:
            units[index], units[index + 1] = unit._replace(end=edge), after._replace(start=edge)
    return units


def _name(units: list[_Unit], alphabet: str) -> Phones:
    """Name units in the common alphabet: r-coloured schwa is one phone, a Japanese geminate closes as what follows."""
    result: Phones = []
    for index, (letters, start, end) in enumerate(units):
        following = units[index + 1].letters[:1] if index + 1 < len(units) else ""
        if letters == "":
            names = [SILENCE]
        elif letters == "ʔ" and following and following in _STOPS | _FRICATIVES:
            names = [_PHONES.get(following) or normalise(following, alphabet)[0]]
        else:
            names = [_PHONES[letters[0]]] if letters[0] in _PHONES else normalise(letters, alphabet)
        for part, name in enumerate(names):
            step = (end - start) / len(names)
            row = (name, float(start + part * step), float(start + (part + 1) * step))
            coloured = letters == "ɹ" and units[index - 1].letters in ("ə", "ɜ") and following not in _VOWELS
            if result and (name == SILENCE == result[-1][0] or coloured):
                row = ("er" if name == "r" else name, result.pop()[1], row[2])
            if row[2] - row[1] > 1e-6:
                result.append(row)
    return result


def _alphabet(language: str | None) -> str:
    return "ipa-english" if language and language.startswith("en") else "ipa"


def name_phones(spelt: str, language: str | None = None) -> list[str]:
    """Name the phones of symbols, in the common alphabet, without their times; pauses are `SILENCE`."""
    return [name for name, _, _ in _name(_join(spelt, np.arange(len(spelt) + 3.0)), _alphabet(language))]


def time_phones(
    spelt: str, frames: np.ndarray, samples: np.ndarray, speed: float = 1.0, language: str | None = None
) -> Phones:
    """Turn symbols and their frames into phones with times.

    Args:
        spelt (`str`): N symbols.
        frames (`np.ndarray`): (N + 2,) frames of `FRAME` samples that they last, with a pad at either end.
        samples (`np.ndarray`): (S,) the sound, at `RATE`.
        speed (`float`): as it was spoken.
        language (`str`, *optional*): that was spoken; British "a" is another sound than that of other languages.

    Returns:
        (name, start, end) in seconds from 0 to the end of the sound without gaps, named as in `phones.alphabets`.
    """
    edges = np.concatenate([[0], np.cumsum(frames)]) * (FRAME / RATE)
    edges = np.clip(edges - LEAD - LEAD_OF_SPEED / speed, 0, None)
    edges[-1] = len(samples) / RATE
    return _name(_fit_pauses(_join(spelt, edges), _level(samples)), _alphabet(language))
