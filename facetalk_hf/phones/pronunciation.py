# SPDX-License-Identifier: MIT
"""How words are read that the dictionary of the aligner lacks: espeak-ng's phones, and the nearest English ones."""

import re
import subprocess
from functools import cache

from ..errors import FaceTalkError
from .alphabets import SILENCE, normalise


# Of the common alphabet, those whose name in the English acoustic model is not their own in capitals. The model hears
# the nearest sound there is; the phone that is reported stays the one that was read.
_NEAREST = {"ax": "AH", "bh": "V", "oh": "OW", "rr": "D", "uy": "IY", "oe": "ER"}
_LANGUAGES = {"en": "en-us", "fr": "fr-fr", "zh": "cmn", "pt": "pt"}
"""Languages whose voice of espeak-ng has another name than the language."""


def split_words(text: str) -> list[str]:
    """Split a text into what is spoken as a word: lower case, without the marks around and between words.

    Figures stay as they are ("1,000" and "$5" too); espeak-ng reads them.
    """
    text = text.lower().replace("’", "'").replace("‘", "'")
    words = []
    for part in re.split(r"[\s/]+|(?<=[^\W\d_])[-‐–—]+(?=[^\W_])|[–—]+|\.{2,}|…", text):
        word = re.sub(r"^[^\w$€£&%+']+|[^\w%&+']+$", "", part.strip("_"))
        if re.search(r"\w|[&%+]", word):
            words.append(word)
    return words


@cache
def read_word(word: str, language: str = "en") -> tuple[str, ...]:
    """Read a word by espeak-ng: its phones in the common alphabet, none if it is not spoken.

    Args:
        word (`str`): one word, or a figure.
        language (`str`): "en", "de", "pt-br", ..: a voice of espeak-ng.

    Raises:
        FaceTalkError: espeak-ng is missing, or does not know the language.
    """
    voice = _LANGUAGES.get(language, language)
    command = ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", voice, "--", word]
    try:
        run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=20)
    except FileNotFoundError as error:
        raise FaceTalkError(f"reading {word!r} needs the program espeak-ng: apt-get install espeak-ng") from error
    except subprocess.TimeoutExpired as error:
        raise FaceTalkError(f"espeak-ng does not finish reading {word!r}") from error
    if run.returncode != 0 or "voice does not exist" in run.stderr:
        raise FaceTalkError(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices` lists them")
    marked = re.sub(r"\([\w-]+\)", "", run.stdout)  # a switch to another language
    names = [name for piece in re.split(r"[_\s]+", marked) for name in normalise(piece, "ipa") if piece]
    return tuple(name for name in names if name != SILENCE)


def nearest_english(phone: str) -> str:
    """Name of the phone of CMU's en-us acoustic model that is nearest to one of the common alphabet."""
    return _NEAREST.get(phone, phone.upper())
