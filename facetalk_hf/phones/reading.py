# SPDX-License-Identifier: MIT
"""Rows of phones as other programs give them -> segments: which alphabet, which order, gaps and overlaps."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from ..errors import FaceTalkError
from .alphabets import ALPHABETS, SILENCE, normalise
from .segments import Segment


Alphabet = Literal["arpabet", "ipa", "common"]
Row = tuple[str, float, float]
"""Name, start and end in seconds."""

OVERLAP = 0.005
"""Seconds by which phones may overlap, or a gap may be left out: what rounding does."""
LONGEST = 20.0
"""Seconds that a phone, other than a pause, may last before the unit of the times is doubted."""
REDUCED = 0.055
"""Seconds up to which an AH without a mark of stress is taken for a schwa. On words of people reading aloud with one
reading of their stress, four schwas of five are no longer, and three stressed AH of four are."""

_ARPABET = {name.upper() for name in ALPHABETS["english"]}
_NOISES = {
    "sil", "sp", "spn", "nsn", "silence", "pause", "pau", "brth", "ssil", "noise", "breath", "br", "h#", "epi",
    "<eps>", "<p:>", "<sil>", "<unk>", "<s>", "</s>", "[sil]", "(...)", "...", "#", "##", "_", "-", "",
}  # fmt: skip
_IPA_LETTERS = set("abcdefghijklmnopqrstuvwxyzæçðøħŋœɐɑɒɓɔɕɖɗɘəɚɛɜɝɟɠɡɢɣɤɥɦɨɪɫɬɭɯɰɱɲɳɴɵɶɸɹɻɽɾʀʁʂʃʈʉʊʋʌʍʎʏʐʑʒʔʕʙʝβθχᵻ")


def _is_pause(name: str) -> bool:
    return name.lower().strip("+*") in _NOISES or name.lower() in _NOISES


def detect_alphabet(names: Iterable[str]) -> Alphabet:
    """Tell by the names of phones how they are written.

    Args:
        names: "AH0" and "SIL" are "arpabet"; "ax" and "uy" "common", as in [`~facetalk_hf.phones.alphabets`], which is
            also taken where names fit ARPAbet in lower case; "ə" and "aɪ" "ipa".

    Raises:
        FaceTalkError: names that belong to none, the first of which is told.
    """
    # espeak-ng tells in brackets where it changes the language.
    spoken = sorted({name for name in names if not _is_pause(name) and not name.startswith("(")})
    if all(name in ALPHABETS["common"] for name in spoken):
        return "common"
    if all(name.upper().rstrip("012") in _ARPABET for name in spoken):
        return "arpabet"
    letters = {name: set(unicodedata.normalize("NFD", name)) for name in spoken}  # "ä" is "a" with a mark
    if strange := [name for name in spoken if not _IPA_LETTERS & letters[name] or name.isascii() and len(name) > 3]:
        raise FaceTalkError(
            f"{strange[0]!r} is no phone of ARPAbet, of IPA or of the names of facetalk_hf; write them so"
        )
    return "ipa"


def _names(name: str, seconds: float, alphabet: Alphabet) -> list[str]:
    if _is_pause(name):
        return [SILENCE]
    return [from_arpabet(name, seconds)] if alphabet == "arpabet" else normalise(name, alphabet)


def from_arpabet(name: str, seconds: float) -> str:
    """Convert a name of ARPAbet ("AH0", "er1", "SIL") to the common alphabet.

    Args:
        name (`str`): with or without stress.
        seconds (`float`): how long it lasts: an "AH" without stress is "ax" up to `REDUCED`, else "ah".

    Raises:
        KeyError: there is no such phone.
    """
    if _is_pause(name):
        return SILENCE
    plain = name.upper().rstrip("012")
    if plain == "AH" and (name.endswith("0") or name[-1] not in "12" and seconds <= REDUCED):
        return "ax"
    return normalise(plain, "english")[0]


def to_segments(rows: Sequence[Row], alphabet: Alphabet | None = None, place: str = "phones") -> list[Segment]:
    """Make segments of timed phones: names of the common alphabet, in order, without gaps, from 0 s on.

    What no phone covers becomes "pau". Phones that overlap by up to 5 ms are cut, those of no length are left out.

    Args:
        rows: (phone, start, end), seconds.
        alphabet (`str`, *optional*): "arpabet", "ipa" or "common"; by default that of the names.
        place (`str`): where they are from, for messages.

    Raises:
        FaceTalkError: no phones, an unknown name, times that cannot be.
    """
    if not rows:
        raise FaceTalkError(f"{place}: there are no phones in it")
    if alphabet is not None and alphabet not in get_args(Alphabet):
        raise FaceTalkError(f"{place}: the alphabet must be arpabet, ipa or common, not {alphabet!r}")
    for name, start, end in rows:
        if not (math.isfinite(start) and math.isfinite(end)) or start < -OVERLAP or end < start:
            raise FaceTalkError(f"{place}: phone {name!r} cannot last from {start:g} to {end:g} s")
        if end - start > LONGEST and not _is_pause(name):
            raise FaceTalkError(f"{place}: phone {name!r} lasts {end - start:g} s; times must be in seconds")
    try:
        alphabet = alphabet or detect_alphabet(name for name, _, _ in rows)
    except FaceTalkError as error:
        raise FaceTalkError(f"{place}: {error}") from error
    result: list[Segment] = []
    before: Row = ("", 0.0, 0.0)
    for name, start, end in sorted(rows, key=lambda row: (row[1], row[2])):
        at = result[-1].end if result else 0.0
        if start < at - OVERLAP:
            if start < 0:
                raise FaceTalkError(f"{place}: phone {name!r} starts before 0 s")
            raise FaceTalkError(
                f"{place}: phones overlap: {before[0]!r} lasts to {before[2]:g} s, but {name!r} starts at {start:g} s"
            )
        if start <= at + OVERLAP:
            start = at
        if end <= start:
            continue
        if start > at:
            result.append(Segment(SILENCE, at, start))
        try:
            names = _names(name, end - start, alphabet)
        except KeyError:
            raise FaceTalkError(f"{place}: {name!r} is no phone of the alphabet {alphabet}") from None
        if not names:  # a mark that is no sound
            names = [result[-1].phone if result else SILENCE]
        step = (end - start) / len(names)
        result += [Segment(item, start + i * step, start + (i + 1) * step) for i, item in enumerate(names)]
        before = (name, start, end)
    if not result:
        raise FaceTalkError(f"{place}: no phone in it has any length")
    return join_pauses(result)


def join_pauses(segments: Sequence[Segment]) -> list[Segment]:
    """Make one pause of pauses that follow each other."""
    result: list[Segment] = []
    for segment in segments:
        if result and segment.phone == result[-1].phone == SILENCE:
            result[-1] = Segment(SILENCE, result[-1].start, segment.end)
        else:
            result.append(segment)
    return result
