# SPDX-License-Identifier: MIT
"""Phone names of flite, festival (English, Catalan, Italian, Finnish, Czech), espeak-ng (IPA) -> one small alphabet.

The common alphabet is ARPAbet in lower case, without stress, with six additions for sounds that English lacks:
"uy" (front rounded, close: French u), "oe" (front rounded, open: German ö), "oh" (pure o), "rr" (tapped or trilled r,
no rounding), "bh" (lips that come near each other and do not meet: Spanish b between vowels, Japanese f before u) and
"pau" (silence). No older name fits "bh": b shuts the lips, f and v bite the lower one, w rounds them.
"""

import unicodedata
from collections.abc import Iterable


SILENCE = "pau"

_SAME = "p b t d k g m n f v s z l w sh zh ch jh th dh hh ng"
_VOWELS = {"a": "aa", "e": "eh", "i": "iy", "o": "oh", "u": "uw"}

_ENGLISH = {name: name for name in _SAME.split()} | {
    "aa": "aa", "ae": "ae", "ah": "ah", "ao": "ao", "aw": "aw", "ax": "ax", "axr": "er", "ay": "ay", "eh": "eh",
    "er": "er", "ey": "ey", "ih": "ih", "ix": "ih", "iy": "iy", "ow": "ow", "oy": "oy", "uh": "uh", "uw": "uw",
    "y": "y", "r": "r", "el": "l", "em": "m", "en": "n", "dx": "d", "nx": "n", "hv": "hh", "h": "hh", "q": "hh",
    "ssil": SILENCE, "brth": SILENCE, "h#": SILENCE,
}  # fmt: skip

_ROMANCE = {name: name for name in "p b t d k g m n f v s z l w".split()} | _VOWELS | {
    "E": "eh", "O": "ao", "ax": "ax", "@": "ax", "j": "y", "J": "n", "L": "l", "N": "ng", "ng": "ng", "nf": "n",
    "r": "rr", "rr": "rr", "S": "sh", "Z": "zh", "ts": "s", "dz": "z", "tS": "ch", "dZ": "jh", "B": "bh", "D": "dh",
    "G": "g", "y": "y", "h": "hh",
}  # fmt: skip

_FINNISH = {name: name for name in "p b t d k g m n f v s z l w".split()} | _VOWELS | {
    "y": "uy", "@": "ae", "7": "oe", "&": "ax", "S": "sh", "Z": "zh", "T": "th", "D": "dh", "h": "hh", "N": "ng",
    "L": "l", "r": "rr", "j": "y",
}  # fmt: skip

_CZECH = {name: name for name in "p b t d k g m n f v s z l".split()} | _VOWELS | {
    "c": "s", "c~": "ch", "ch": "hh", "d~": "d", "dz": "z", "dz~": "jh", "h": "hh", "j": "y", "n*": "ng", "n~":
    "n", "r": "rr", "r~": "zh", "r~*": "sh", "s~": "sh", "t~": "t", "z~": "zh",
}  # fmt: skip

# IPA: letters first, then sequences that are one phone. What follows a letter (length, tone, ties) is dropped,
# but for the tilde of the nasal vowels in the table.
_IPA = {
    "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "ɡ": "g", "g": "g", "m": "m", "n": "n", "f": "f", "v": "v",
    "s": "s", "z": "z", "l": "l", "w": "w", "h": "hh", "j": "y", "ɾ": "rr", "r": "rr", "ɹ": "r", "ɻ": "r", "ʁ":
    "hh", "ʀ": "hh", "ʃ": "sh", "ʒ": "zh", "ʂ": "sh", "ʐ": "zh", "ɕ": "sh", "ʑ": "zh", "ç": "hh", "x": "hh", "χ":
    "hh", "ɣ": "hh", "ɦ": "hh", "ħ": "hh", "ʕ": "hh", "ʔ": "hh", "θ": "th", "ð": "dh", "ŋ": "ng", "ɲ": "n", "ɳ":
    "n", "ɱ": "n", "ʎ": "l", "ɫ": "l", "ɭ": "l", "ʝ": "y", "ɥ": "w", "β": "bh", "ʋ": "v", "ɸ": "bh", "ʈ": "t", "ɖ":
    "d", "c": "k", "ɟ": "g", "q": "k", "ɢ": "g", "ɴ": "ng", "ɽ": "rr", "ɬ": "l", "ʍ": "w", "ɰ": "hh", "ʙ": "b",
    "ɓ": "b", "ɗ": "d", "ɠ": "g", "a": "aa", "ɑ": "aa", "ɐ": "ah", "ʌ": "ah", "æ": "ae", "ɛ": "eh", "e": "eh", "ɜ":
    "er", "ɚ": "er", "ɝ": "er", "ə": "ax", "ɘ": "ax", "ɵ": "oe", "i": "iy", "ɪ": "ih", "ɨ": "ih", "ᵻ": "ih", "y":
    "uy", "ʏ": "uy", "ø": "oe", "œ": "oe", "o": "oh", "ɔ": "ao", "ɒ": "ao", "u": "uw", "ʊ": "uh", "ʉ": "uw", "ɯ":
    "ih", "ɤ": "ah", "ɶ": "oe",
}  # fmt: skip
_IPA_PAIRS = {
    "tʃ": "ch", "dʒ": "jh", "tɕ": "ch", "dʑ": "jh", "tʂ": "ch", "dʐ": "jh", "ts": "s", "dz": "z", "aɪ": "ay", "aʊ":
    "aw", "eɪ": "ey", "oʊ": "ow", "əʊ": "ow", "ɔɪ": "oy", "ɔø": "oy", "ɔʏ": "oy", "ɑʊ": "aw", "ʊə": "uh", "iə":
    "iy", "eə": "eh", "ɪə": "ih", "ɛɪ": "ey", "œʏ": "oe", "ɑ̃": "aa", "ɔ̃": "ao", "ɛ̃": "ae", "œ̃": "oe", "pf":
    "f",
}  # fmt: skip

_COMMON = {
    name: name
    for table in (_ENGLISH, _ROMANCE, _FINNISH, _CZECH, _IPA, _IPA_PAIRS)
    for name in table.values()
}  # fmt: skip
ALPHABETS = {
    "english": _ENGLISH, "catalan": _ROMANCE, "italian": _ROMANCE, "finnish": _FINNISH, "czech": _CZECH,
    "common": _COMMON,
}  # fmt: skip
_TILDE = "\u0303"
_PAUSES = {"", "#", "##", "_", "pau", "sil", "sp", "_:", "?"}


def _ipa(name: str, english: bool = False) -> list[str]:
    """Convert an espeak phone such as "ˈeɪ", "t͡ʃ" or "ɔː" to zero, one or more names of the common alphabet."""
    if english and name.strip("ˈˌ") == "a":  # espeak writes British bat with it, and father with ɑː
        return ["ae"]
    letters = ""
    for letter in unicodedata.normalize("NFC", name):
        if letter in _IPA:
            letters += letter
        elif letter == _TILDE and letters[-1:] + _TILDE in _IPA_PAIRS:  # a nasal vowel with an entry of its own
            letters += _TILDE
        elif unicodedata.normalize("NFD", letter)[0] in _IPA:
            letters += unicodedata.normalize("NFD", letter)[0]
    result: list[str] = []
    while letters:
        if letters[:2] in _IPA_PAIRS:
            result.append(_IPA_PAIRS[letters[:2]])
            letters = letters[2:]
        else:
            result.append(_IPA[letters[0]])
            letters = letters[1:]
    return result


def normalise(name: str, alphabet: str) -> list[str]:
    """One engine phone -> the phones of the common alphabet that it stands for (usually one).

    Args:
        name (`str`): as the engine prints it: "ah0", "i1", "t:", "s~", "ˈeɪ".
        alphabet (`str`): "english", "catalan", "italian", "finnish", "czech", "ipa" (espeak-ng), "ipa-english"
            (espeak-ng when it speaks English, whose short "a" is that of bat) or "common" (Kokoro, named already).

    Returns:
        list of names; empty for marks that are no sound, such as espeak's language switch "(en)".

    Raises:
        KeyError: the phone or the alphabet is unknown, so that no corpus is built with a silent gap.
    """
    if name in _PAUSES:
        return [SILENCE]
    if alphabet in ("ipa", "ipa-english"):
        return [] if name.startswith("(") else _ipa(name, alphabet == "ipa-english")
    table = ALPHABETS[alphabet]
    for candidate in (name, name.lower() if alphabet == "english" else name, name.rstrip(":"), name.rstrip("012")):
        if candidate in table:
            return [table[candidate]]
    raise KeyError(f"phone {name!r} is not in the {alphabet} alphabet")


def normalise_all(phones: Iterable[tuple[str, float, float]], alphabet: str) -> list[tuple[str, float, float]]:
    """(name, start, end) rows of an engine -> rows of the common alphabet; time is shared equally within a phone."""
    result: list[tuple[str, float, float]] = []
    for name, start, end in phones:
        names = normalise(name, alphabet)
        if not names and result:  # a mark without sound: its time goes to the phone before
            result[-1] = (result[-1][0], result[-1][1], end)
        for index, short in enumerate(names):
            step = (end - start) / len(names)
            result.append((short, start + index * step, start + (index + 1) * step))
    return result
