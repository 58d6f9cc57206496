# SPDX-License-Identifier: MIT
"""Alignment of the shipped clip, whose voice is flite's slt; reading of words that no dictionary has."""

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from facetalk_hf.audio.io import load_audio
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.paths import LIBRARY
from facetalk_hf.phones import pronunciation
from facetalk_hf.phones.alignment import RATE, align
from facetalk_hf.phones.pronunciation import nearest_english, read_word, split_words
from facetalk_hf.phones.visemes import PHONES


TEXT = "Mama, would you move the blue balloon? Bob, please bring me a bowl of soup."
aligner = pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="needs pocketsphinx: extra align"
)
espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")


@pytest.fixture(scope="module")
def clip():
    return load_audio(LIBRARY / "assets" / "demo.wav", RATE)


@aligner
def test_phones_cover_the_clip_and_stops_are_quiet(clip):
    found = align(clip, RATE, TEXT)
    assert found.phones[0].start == 0 and found.phones[-1].end == pytest.approx(len(clip) / RATE)
    assert all(a.end == b.start for a, b in zip(found.phones[:-1], found.phones[1:], strict=True))
    assert [word.word for word in found.words] == [w.strip(",.?").lower() for w in TEXT.split()]
    assert [s.phone for s in found.phones if s.phone != "pau"][:3] == ["m", "aa", "m"]
    assert found.confidence > 0.85
    # Open vowels are louder than pauses and the closures of p and b, or the times are wrong.
    level = {"open": [], "shut": []}
    for phone, start, end in found.phones:
        kind = "open" if phone in ("aa", "iy", "uw", "ow") else "shut" if phone in ("pau", "b", "p") else None
        if kind:
            level[kind].append(np.sqrt(np.mean(clip[int(start * RATE) : int(end * RATE)] ** 2)))
    assert np.median(level["open"]) > 4 * np.median(level["shut"])


@aligner
def test_a_text_that_is_not_spoken_is_told_by_the_confidence(clip):
    right = align(clip, RATE, TEXT)
    wrong = align(clip, RATE, TEXT.replace("move the blue balloon", "catch seven thick sticks"))
    missing = align(clip, RATE, TEXT.split("?")[0])
    assert wrong.confidence < 0.8 * right.confidence and missing.confidence < 0.8 * right.confidence
    words = {word.word: word.confidence for word in wrong.words}
    assert min(words["seven"], words["sticks"]) < 0.5 < words["soup"]


@aligner
def test_rate_and_loudness_change_little(clip):
    from scipy.signal import resample_poly

    first = align(clip, RATE, TEXT).phones
    second = align(0.01 * resample_poly(clip, 441, 160), 44100, TEXT).phones
    assert [s.phone for s in first if s.phone != "pau"] == [s.phone for s in second if s.phone != "pau"]
    starts = {i: s.start for i, s in enumerate(x for x in first if x.phone != "pau")}
    moved = [abs(starts[i] - s.start) for i, s in enumerate(x for x in second if x.phone != "pau")]
    assert np.median(moved) <= 0.02


@aligner
@espeak
def test_words_that_the_dictionary_lacks_keep_their_own_phones(clip):
    odd = TEXT.replace("balloon", "belluhn").replace("Bob", "Bobb")
    found = align(clip, RATE, odd)
    assert [word.word for word in found.words][6:8] == ["belluhn", "bobb"] and found.confidence > 0.8
    foreign = align(clip, RATE, "Mama, wud ju muf di blü balun", language="de")
    assert "uy" in [segment.phone for segment in foreign.phones]


@aligner
@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(10), np.full(RATE, np.nan), np.zeros((2, RATE))])
def test_sound_that_cannot_be_aligned(sound):
    with pytest.raises(FaceTalkError):
        align(sound, RATE, "hello")


@aligner
def test_a_text_without_words(clip):
    with pytest.raises(FaceTalkError, match="no word"):
        align(clip, RATE, "... - !")


def test_the_missing_package_is_named(clip, monkeypatch):
    from facetalk_hf.phones import alignment

    alignment._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(FaceTalkError, match=r"facetalk-hf\[align\]"):
        align(clip, RATE, "hello")
    alignment._decoder.cache_clear()


def test_words_of_a_text():
    text = "“Well-known” 1,000 l’homme — don't: A/B… $5, e.g. Mr. Hale's; 16th & -3"
    assert split_words(text) == [
        "well", "known", "1,000", "l'homme", "don't", "a", "b", "$5", "e.g", "mr", "hale's", "16th", "&", "3",
    ]  # fmt: skip


@espeak
def test_figures_and_other_languages_are_read():
    assert read_word("1,000") and len(read_word("16th")) > 6
    assert "uy" in read_word("über", "de")
    assert all(phone in PHONES or phone in {"ey", "ay", "oy", "aw", "ow"} for phone in read_word("straßenbahn", "de"))
    with pytest.raises(FaceTalkError, match="xx-none"):
        read_word("word", "xx-none")


def test_a_missing_espeak_is_named(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    with pytest.raises(FaceTalkError, match="espeak-ng"):
        pronunciation.read_word("unheardof")


def test_every_phone_has_a_nearest_english_one():
    english = set(
        "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
    )
    assert {nearest_english(phone) for phone in [*PHONES, "ey", "ay", "oy", "aw", "ow"] if phone != "pau"} <= english
