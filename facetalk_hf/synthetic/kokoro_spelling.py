# SPDX-License-Identifier: MIT
"""Text -> the symbols that Kokoro-82M reads: IPA by libespeak-ng; Japanese and Chinese by misaki (optional).

Which symbols the model learnt for which sounds is a fact of its training texts, which misaki (Apache-2.0) spelt; the
tables state it, no code of misaki's is used.
"""

import ctypes
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from ..errors import FaceTalkError


# Symbol -> number of the model's input (config.json of Kokoro-82M); gaps are numbers without a symbol.
_NUMBERED = (
    (1, ';:,.!?'), (9, '—…"()“” \u0303ʣʥʦʨᵝ\uab67AI'), (31, "O"), (33, "Q"), (35, "ST"), (39, "W"), (41, "Yᵊabcdef"),
    (50, "hijklmnopqrstuvwxyzɑɐɒæ"), (75, "βɔɕç"), (80, "ɖðʤə"), (85, "ɚɛɜ"), (90, "ɟ"), (92, "ɡ"), (99, "ɥ"),
    (101, "ɨɪʝ"), (110, "ɯɰŋɳɲɴø"), (118, "ɸθœ"), (123, "ɹ"), (125, "ɾɻ"), (128, "ʁɽʂʃʈʧ"), (135, "ʊʋ"), (138, "ʌɣɤ"),
    (142, "χʎ"), (147, "ʒʔ"), (156, "ˈˌː"), (162, "ʰ"), (164, "ʲ"), (169, "↓"), (171, "→↗↘"), (177, "ᵻ"),
)  # fmt: skip
SYMBOLS = {symbol: first + index for first, symbols in _NUMBERED for index, symbol in enumerate(symbols)}
"""Symbol -> number in the model's input."""

# espeak-ng's phones (joined by "^" within one) -> Kokoro's symbols, longest first; English has more of its own.
_COMMON = {
    "a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "ɔ^ɪ": "Y", "d^z": "ʣ", "d^ʒ": "ʤ", "t^s": "ʦ",
    "t^ʃ": "ʧ", "s^s": "S", "g": "ɡ",
}  # fmt: skip
_ENGLISH = {
    "ə^l": "ᵊl", "ɚɹ": "əɹ", "n\u0329": "ᵊn", "l\u0329": "ᵊl", "m\u0329": "ᵊm", "ɚ": "əɹ", "r": "ɹ", "x": "k",
    "ç": "k", "ɐ": "ə", "ɬ": "l", "ɾ": "T", "ʔ": "t", "e^ə": "ɛː", "i^ə": "ɪə",
}  # fmt: skip
_AMERICAN = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ː": ""}
_ESPEAK_NAMES = {"en-gb": "en"}


class EspeakSpelling:
    """Spelling in IPA by libespeak-ng, punctuation kept.

    The library has one state a process: do not use it beside `speech_engines.Espeak`.

    Args:
        library (`str`): libespeak-ng.
        data (`str`, *optional*): folder of its data, where it is not the system's.

    Raises:
        FaceTalkError: the library or its data are missing.
    """

    def __init__(self, library: str = "libespeak-ng.so.1", data: str | None = None) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            where = "install libespeak-ng1 (Debian) or espeakng-loader (PyPI), which says its paths"
            raise FaceTalkError(f"{library} is missing: {where}") from error
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        if self._library.espeak_Initialize(2, 0, data.encode() if data else None, 0) < 0:
            raise FaceTalkError(f"espeak-ng finds no data in {data or 'its own folder'}")

    def __call__(self, text: str, language: str) -> str:
        """Spell text in IPA in which "^" joins the letters of one phone."""
        if self._library.espeak_SetVoiceByName(_ESPEAK_NAMES.get(language, language).encode()) != 0:
            raise FaceTalkError(f"espeak-ng knows no language {language!r}")
        pieces = re.split(r"(\s*[;:,.!?—…\"()“”]+\s*)", text.replace("।", "."))
        return "".join(piece if index % 2 else self._clause(piece) for index, piece in enumerate(pieces)).strip()

    def _clause(self, text: str) -> str:
        buffer = ctypes.create_string_buffer(text.encode("utf-8"))
        rest, result = ctypes.c_void_p(ctypes.addressof(buffer)), []
        while rest.value:
            spelt = self._library.espeak_TextToPhonemes(ctypes.byref(rest), 1, 0x82 | ord("^") << 8)
            result.append((spelt or b"").decode("utf-8"))
        return re.sub(r"\([a-z-]+\)|[-_.]", "", " ".join(result).replace("r.", "ɽ")).strip()


def _replace(text: str, table: Mapping[str, str]) -> str:
    """Replace all keys of a table at once, longest first."""
    pattern = "|".join(re.escape(key) for key in sorted(table, key=len, reverse=True))
    return re.sub(pattern, lambda match: table[match[0]], text)


def _japanese(spelt: str) -> str:
    """Turn misaki's spelling into the one that Kokoro learnt: palatals, close u, assimilated n."""
    pairs = dict(zip("ᶀᶁᶃᶄᶆᶈᶉƫ", ("bʲ", "dʲ", "ɡʲ", "kʲ", "mʲ", "pʲ", "ɾʲ", "tʲ"), strict=True))
    spelt = _replace(spelt, pairs | {"u": "ɯ", "r": "ɾ", "f": "ɸ", "g": "ɡ", "ni": "ɲi", "hi": "çi"})
    spelt = re.sub(r"([kɡbpmɾ])(?=i)", r"\1ʲ", spelt)
    spelt = re.sub(r"ɴ(?= ?[pbm])", "m", spelt)
    spelt = re.sub(r"ɴ(?= ?[kɡ])", "ŋ", spelt)
    return re.sub(r"ɴ(?= ?[tdnɾʦʨʣʥz])", "n", spelt)


def _english(spelt: str, language: str) -> str:
    """Turn espeak-ng's English, after the tables, into Kokoro's: no length in American, single letters for e and o."""
    spelt = spelt.replace("e", "A").replace("o", "ɔ")
    return _replace(spelt, _AMERICAN) if language == "en-us" else spelt


class Speller:
    """Text of any of Kokoro's languages -> its symbols. Programs are loaded when a language first needs them.

    Args:
        espeak_library, espeak_data: as for [`EspeakSpelling`].
    """

    def __init__(self, espeak_library: str = "libespeak-ng.so.1", espeak_data: str | None = None) -> None:
        self._place = espeak_library, espeak_data

    @cached_property
    def _espeak(self) -> Callable[[str, str], str]:
        return EspeakSpelling(*self._place)

    @cached_property
    def _misaki_japanese(self) -> Callable[[str], tuple[str, Any]]:
        try:
            from misaki.ja import JAG2P
        except ImportError as error:
            raise FaceTalkError("Japanese needs misaki: pip install misaki pyopenjtalk-plus") from error
        return JAG2P(version="pyopenjtalk")

    @cached_property
    def _misaki_chinese(self) -> Callable[[str], tuple[str, Any]]:
        try:
            from misaki.zh import ZHG2P
        except ImportError as error:
            wanted = "pip install misaki jieba pypinyin cn2an ordered-set"
            raise FaceTalkError(f"Chinese needs misaki: {wanted}") from error
        return ZHG2P()

    def __call__(self, text: str, language: str) -> str:
        """Spell text in Kokoro's symbols; symbols that it does not know are left out.

        Raises:
            FaceTalkError: the program that spells this language is missing, or espeak-ng does not know the language.
        """
        if language == "ja":
            spelt = self._misaki_japanese(text)[0]
            spelt = _japanese(spelt[: len(spelt) // 2])  # the second half is the pitch, a character for each
        elif language == "zh":
            spelt = self._misaki_chinese(text)[0]
        else:
            english = language.startswith("en")
            spelt = _replace(self._espeak(text, language), _COMMON | (_ENGLISH if english else {}))
            spelt = _english(spelt, language) if english else spelt
        return re.sub(r"\s+", " ", "".join(symbol for symbol in spelt if symbol in SYMBOLS)).strip()
