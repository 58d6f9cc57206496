# SPDX-License-Identifier: MIT
"""What the voices of the spoken corpus say, and how often every phone comes in it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..phones.alphabets import SILENCE
from .kokoro_times import name_phones


UNSPACED = ("ja", "zh")
"""Languages that are written without spaces."""
# Kinds of sentences and their shares. Natural ones make the phones as frequent as they are in speech: in the grammar
# alone, whose words were chosen for their lips, m is twice as frequent as in natural text.
_WITH_CLAUSES = {"natural": 0.72, "pairs": 0.08, "template": 0.10, "words": 0.05, "pseudo": 0.05}
_WITHOUT = {"template": 0.55, "words": 0.20, "pseudo": 0.25}


class Text:
    """Sentences of one language: natural clauses, words that differ in one sound, templates, random and pseudo-words.

    Args:
        folder (`Path`): with LANGUAGE.txt (training/texts, whose en.txt says how such a file is written).
        language (`str`): such as "en".
    """

    def __init__(self, folder: Path, language: str) -> None:
        self.slots: dict[str, list[str]] = {}
        self.parts: dict[str, list[str]] = {}
        self.clauses: list[str] = []
        self.frames: list[str] = []
        self.templates: list[str] = []
        for line in (folder / f"{language}.txt").read_text(encoding="utf-8").splitlines():
            if line[:1] in "@%" and line:
                name, values = line[1:].split(":", 1)
                (self.slots if line[0] == "@" else self.parts)[name] = [value.strip() for value in values.split("|")]
            elif line[:2] in ("= ", "& "):
                (self.clauses if line[0] == "=" else self.frames).append(line[2:])
            elif line and line[0] != "#":
                self.templates.append(line)
        self.pairs = [tuple(pair.split()) for pair in self.slots.pop("pairs", [])]
        self.joins = self.slots.pop("join", [])
        self.words = sorted({word for values in self.slots.values() for value in values for word in value.split()})
        self._spaced = language not in UNSPACED
        there: dict[str, Sequence[object]] = {
            "natural": self.clauses, "pairs": self.pairs, "template": self.templates, "words": self.words,
            "pseudo": list(self.parts),
        }  # fmt: skip
        shares = _WITH_CLAUSES if self.clauses else _WITHOUT
        self._kinds = [kind for kind in shares if there[kind]]
        self._shares = np.array([shares[kind] for kind in self._kinds]) / sum(shares[kind] for kind in self._kinds)

    def sentence(self, rng: np.random.Generator) -> str:
        """Draw a sentence."""
        kind = str(rng.choice(self._kinds, p=self._shares))
        if kind == "natural":
            return self._natural(rng)
        if kind == "pairs":
            first, second = self.pairs[int(rng.integers(len(self.pairs)))]
            if rng.random() < 0.5:
                first, second = second, first
            return str(rng.choice(self.frames)).format(a=first, b=second)
        if kind == "template":
            text = re.sub(r"{(\w+)}", lambda m: str(rng.choice(self.slots[m[1]])), str(rng.choice(self.templates)))
            return text[:1].upper() + text[1:]
        count = int(rng.integers(3, 9))
        if kind == "words":
            words = [str(rng.choice(self.words)) for _ in range(count)]
        else:
            words = ["".join(self._syllable(rng) for _ in range(rng.integers(1, 4))) for _ in range(count)]
        if count > 5 and rng.random() < 0.5:
            words[count // 2] += ","
        return " ".join(words) + str(rng.choice([".", ".", "?"]))

    def _natural(self, rng: np.random.Generator) -> str:
        """Draw one clause, or two that a word or a mark joins."""
        text = str(rng.choice(self.clauses))
        if rng.random() < 0.55:
            join = str(rng.choice(self.joins))
            if self._spaced:
                join = f"{'' if join[0] in ',.;।' else ' '}{join} "
            text += join + str(rng.choice(self.clauses))
        end = "." if self._spaced else "。"
        return text[:1].upper() + text[1:] + end

    def _syllable(self, rng: np.random.Generator) -> str:
        return "".join(str(rng.choice(self.parts[part])) for part in ("onset", "vowel", "coda"))


def phone_shares(
    sentences: Iterable[str], language: str, spell: Callable[[str, str], str]
) -> tuple[dict[str, float], int]:
    """Count the phones of sentences, silence left out.

    Args:
        sentences: of one language.
        language (`str`): as `spell` names it, such as "en-us".
        spell: text and language -> symbols, a [`~facetalk_hf.synthetic.kokoro_spelling.Speller`].

    Returns:
        share of every phone of the common alphabet, 0..1, most frequent first, and how many phones there were.
    """
    counts = Counter(phone for text in sentences for phone in name_phones(spell(text, language), language))
    del counts[SILENCE]
    total = sum(counts.values())
    return {phone: count / total for phone, count in counts.most_common()}, total
