# SPDX-License-Identifier: MIT
"""Text of the spoken corpus: every kind of sentence, and phones as frequent as in natural speech."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from facetalk_hf.synthetic.kokoro_spelling import Speller
from facetalk_hf.synthetic.texts import UNSPACED, Text, phone_shares


TEXTS = Path(__file__).parents[2] / "training" / "texts"
NATURAL = ("en", "es", "fr", "hi", "it", "ja", "pt", "zh")


def sentences(language: str, count: int = 400) -> list[str]:
    text, rng = Text(TEXTS, language), np.random.default_rng(3)
    return [text.sentence(rng) for _ in range(count)]


@pytest.mark.parametrize("language", NATURAL)
def test_most_sentences_are_natural(language):
    text, said = Text(TEXTS, language), sentences(language)
    assert len(text.clauses) > 45 and len(set(text.clauses)) == len(text.clauses)
    starts = tuple(clause[:1].upper() + clause[1:] for clause in text.clauses)
    natural = [sentence for sentence in said if sentence.startswith(starts)]
    assert 0.65 < len(natural) / len(said) < 0.95
    joined = [s for s in natural if sum(clause in s[1:] for clause in text.clauses)]
    assert 0.4 < len(joined) / len(natural) < 0.7
    assert (language in UNSPACED) == (" " not in "".join(natural))
    assert not any("  " in s or " ," in s or " ." in s or "{" in s for s in said)


@pytest.mark.parametrize("language", sorted(path.stem for path in TEXTS.glob("*.txt")))
def test_every_language_has_clauses_to_join(language):
    text = Text(TEXTS, language)
    assert len(text.clauses) >= 25 and len(set(text.clauses)) == len(text.clauses) and len(text.joins) >= 4
    assert not any(clause[-1] in ".,;。" or "{" in clause for clause in text.clauses)


@pytest.mark.parametrize("language", NATURAL)
def test_pairs_differ_and_stand_in_their_frames(language):
    text, said = Text(TEXTS, language), sentences(language)
    assert len(text.pairs) >= 15 and len(text.frames) >= 4
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in text.pairs)
    assert all("{a}" in frame and "{b}" in frame for frame in text.frames)
    swapped = {frame.format(a=b, b=a) for frame in text.frames for a, b in text.pairs}
    plain = {frame.format(a=a, b=b) for frame in text.frames for a, b in text.pairs}
    assert set(said) & swapped - plain and set(said) & plain - swapped
    assert 0.03 < sum(s in swapped | plain for s in said) / len(said) < 0.2


def test_shares_of_phones_are_counted():
    spelt = {"a": "mˈɑm.", "b": "nɑ, nɑ"}
    shares, total = phone_shares(spelt, "en-us", lambda text, language: spelt[text])
    assert total == 7 and shares == {"aa": pytest.approx(3 / 7), "m": pytest.approx(2 / 7), "n": pytest.approx(2 / 7)}


def test_english_phones_are_as_frequent_as_in_natural_text():
    """Natural English has m 3.1 %, n 7.3 %, ng 1.1 %, b 1.9 %, p 2.0 %."""
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        pytest.skip("needs libespeak-ng1")
    shares, total = phone_shares(sentences("en"), "en-us", Speller())
    assert total > 10000
    bounds = {"m": (2.7, 3.9), "n": (6.3, 8.0), "ng": (0.7, 1.6), "b": (1.5, 2.6), "p": (1.5, 2.6), "v": (1.2, 2.3)}
    found = {phone: 100 * shares[phone] for phone in bounds}
    assert all(low < found[phone] < high for phone, (low, high) in bounds.items()), found
