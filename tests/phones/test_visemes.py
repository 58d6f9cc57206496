# SPDX-License-Identifier: MIT
"""The rules of the teacher: closures close, vowels open, silence rests. No speech engine is needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.audio.analysis import loudness, pitch
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.evaluation.metrics import lip_aperture
from facetalk_hf.motion.blinks import blinks
from facetalk_hf.phones.alphabets import ALPHABETS, SILENCE, normalise, normalise_all
from facetalk_hf.phones.segments import Segment
from facetalk_hf.phones.visemes import _DIPHTHONGS, PHONES, mouth_weights
from facetalk_hf.synthetic.prosody import prosody
from facetalk_hf.synthetic.upper_face import accompany


def word(*phones: str, length: float = 0.1, pause: float = 0.5) -> tuple[list[Segment], int]:
    """Phones of equal length between two pauses, and the number of frames."""
    segments = [Segment(SILENCE, 0, pause)]
    for phone in phones:
        segments.append(Segment(phone, segments[-1].end, segments[-1].end + length))
    segments.append(Segment(SILENCE, segments[-1].end, segments[-1].end + pause))
    return segments, int(np.ceil(segments[-1].end * 24))


def frames_of(segment: Segment) -> slice:
    return slice(int(segment.start * 24) + 1, max(int(segment.end * 24), int(segment.start * 24) + 2))


def aperture(weights: np.ndarray) -> np.ndarray:
    return lip_aperture(weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]])


@pytest.mark.parametrize("stop", ["m", "b", "p"])
@pytest.mark.parametrize("vowel", ["aa", "iy", "uw", "ae"])
def test_lips_close_fully_between_any_vowels(stop, vowel):
    segments, frames = word(vowel, stop, vowel, length=0.09)
    weights, closure = mouth_weights(segments, frames)
    assert closure.max() == 1
    assert aperture(weights)[frames_of(segments[2])].min() < 1e-3
    assert 2 <= (closure > 0.5).sum() <= 5
    # Never more than what makes the lips meet: beyond it they would pass through each other.
    assert (weights[:, INDEX["mouthClose"]] <= 0.93 * weights[:, INDEX["jawOpen"]] + 1e-6).all()
    assert not weights[closure == 1][:, INDEX["mouthFunnel"]].any()


@pytest.mark.parametrize("bite", ["f", "v"])
def test_lip_bite(bite):
    weights, closure = mouth_weights(*word("aa", bite, "aa"))
    assert weights[:, INDEX["mouthRollLower"]].max() > 0.4
    assert not closure.any()


@pytest.mark.parametrize("vowel", ["aa", "iy", "uw", "ae"])
def test_lips_come_near_each_other_and_neither_meet_nor_are_bitten(vowel):
    """Spanish b between vowels: nearer than in the vowel and in "v", not shut as in "b"."""
    segments, frames = word(vowel, "bh", vowel, length=0.09)
    weights, closure = mouth_weights(segments, frames)
    inside = frames_of(segments[2])
    gap, open_gap = aperture(weights), aperture(weights)[frames_of(segments[1])].max()
    assert 0.05 * open_gap < gap[inside].min() < 0.6 * open_gap
    assert not closure.any() and weights[:, INDEX["mouthRollLower"]].max() < 0.1
    bitten = mouth_weights(word(vowel, "v", vowel, length=0.09)[0], frames)[0]
    assert gap[inside].min() < aperture(bitten)[inside].min() and bitten[:, INDEX["mouthRollLower"]].max() > 0.3


def test_sounds_of_two_lips_do_not_bite():
    assert normalise("β", "ipa") == normalise("ɸ", "ipa") == normalise("B", "catalan") == ["bh"]
    assert normalise("v", "ipa") == ["v"] and normalise("f", "ipa") == ["f"]


def test_british_bat_is_not_bart():
    assert normalise("a", "ipa-english") == normalise("ˈa", "ipa-english") == ["ae"]
    assert normalise("ɑː", "ipa-english") == normalise("a", "ipa") == ["aa"]
    assert normalise("aɪ", "ipa-english") == ["ay"] and normalise("ˈaʊ", "ipa-english") == ["aw"]


def test_vowels_differ_as_they_do_in_speech():
    shape = {}
    for vowel in ("aa", "iy", "uw", "ao"):
        segments, frames = word("hh", vowel, length=0.2)
        weights, _ = mouth_weights(segments, frames)
        shape[vowel] = dict(zip(EXPRESSIONS, weights[frames_of(segments[2])].mean(0), strict=True))
    assert shape["aa"]["jawOpen"] > shape["ao"]["jawOpen"] > shape["iy"]["jawOpen"]
    assert shape["uw"]["mouthPucker"] > 0.5 > shape["ao"]["mouthPucker"] > shape["iy"]["mouthPucker"]
    assert shape["iy"]["mouthSmile_L"] > 0.15 > shape["uw"]["mouthSmile_L"]


def test_rounding_spreads_ahead_through_consonants():
    segments, frames = word("s", "t", "uw")
    rounded = mouth_weights(segments, frames)[0][frames_of(segments[2]), INDEX["mouthPucker"]].mean()
    segments, frames = word("s", "t", "iy")
    spread = mouth_weights(segments, frames)[0][frames_of(segments[2]), INDEX["mouthPucker"]].mean()
    assert rounded > spread + 0.15


def test_the_jaw_follows_loudness():
    segments, frames = word("aa", "d", "aa")
    loud = mouth_weights(segments, frames, loudness=np.ones(frames))[0][:, INDEX["jawOpen"]]
    soft = mouth_weights(segments, frames, loudness=np.zeros(frames))[0][:, INDEX["jawOpen"]]
    np.testing.assert_allclose(soft * 1.1 / 0.6, loud, atol=1e-6)


def test_silence_is_exactly_rest():
    weights, closure = mouth_weights([Segment(SILENCE, 0, 4)], 96)
    assert not weights.any() and not closure.any()
    segments, frames = word("m", "aa", "p", pause=1.0)
    weights, _ = mouth_weights(segments, frames)
    assert weights.any()
    assert not weights[: int(0.8 * 24)].any()
    assert not weights[int((segments[-1].start + 0.25) * 24) :].any()


@given(
    st.lists(st.tuples(st.sampled_from([*PHONES, *_DIPHTHONGS]), st.floats(0.01, 0.4)), min_size=1, max_size=20),
    st.sampled_from([12.0, 24.0, 25.0, 60.0]),
)
@settings(max_examples=50, deadline=None)
def test_any_phones_give_weights_in_range(phones, fps):
    segments, at = [], 0.0
    for phone, length in phones:
        segments.append(Segment(phone, at, at + length))
        at += length
    frames = int(np.ceil(at * fps))
    weights, closure = mouth_weights(segments, frames, fps)
    assert weights.shape == (frames, 53) and closure.shape == (frames,)
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1
    assert closure.min() >= 0 and closure.max() <= 1


def test_every_phone_of_every_alphabet_is_known():
    known = {*PHONES, *_DIPHTHONGS}
    for table in ALPHABETS.values():
        assert set(table.values()) <= known
    for name in "aɪ eɪ tʃ dʒ ɔː ˈiː ɜː ə ŋ ʁ y ø œ̃ ɲ t͡ʃ pʰ nʲ ɑ̃ ɾ β θ".split():
        found = normalise(name, "ipa")
        assert found and set(found) <= known, name


def test_normalisation():
    assert normalise("#", "czech") == [SILENCE] and normalise("", "ipa") == [SILENCE]
    assert normalise("ch", "czech") == ["hh"] and normalise("ch", "english") == ["ch"]
    assert normalise("t:", "finnish") == ["t"] and normalise("O1", "italian") == ["ao"]
    assert normalise("ˈeɪ", "ipa") == ["ey"] and normalise("(en)", "ipa") == []
    with pytest.raises(KeyError, match="english"):
        normalise("xyz", "english")
    rows = normalise_all([("t", 0, 0.1), ("(en)", 0.1, 0.2), ("ai", 0.2, 0.4)], "ipa")
    assert rows == [("t", 0, 0.2), ("aa", 0.2, pytest.approx(0.3)), ("iy", pytest.approx(0.3), 0.4)]


def test_blinks_come_every_few_seconds_and_are_seeded():
    lids = blinks(24 * 120, 24, np.random.default_rng(1))
    shut = lids[:, 0] > 0.8
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) / 24
    assert 20 <= len(starts) <= 60
    assert np.diff(starts).min() > 1.9 and np.diff(starts).max() < 6.2
    np.testing.assert_array_equal(lids, blinks(24 * 120, 24, np.random.default_rng(1)))
    assert (lids != blinks(24 * 120, 24, np.random.default_rng(2))).any()


def test_pitch_and_loudness_of_a_tone():
    times = np.arange(32000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 150 * times) * (times < 1)
    found = pitch(tone, 16000, 48)
    np.testing.assert_allclose(found[2:22], 150, rtol=0.04)
    assert not found[26:].any()
    level = loudness(tone, 16000, 48)
    assert level[5:20].min() > 0.9 and level[30:].max() < 0.05
    assert not loudness(np.zeros(16000), 16000, 24).any()


def test_the_rest_of_the_face_lives_and_leaves_the_mouth_alone():
    segments, frames = word("m", "aa", "n", "iy", pause=1.5)
    weights, _ = mouth_weights(segments, frames)
    audio = np.random.default_rng(0).normal(0, 0.05, frames * 16000 // 24)
    sounds, told = prosody(audio, 16000, segments, frames, 24), np.zeros((frames, len(CONDITIONS)))
    gaze = (np.zeros((frames, 2)), [])
    face = accompany(weights, sounds, gaze, 24, np.random.default_rng(3), told)
    mouth = [index for name, index in INDEX.items() if name.startswith(("mouth", "jaw"))]
    assert not face[:30][:, mouth].any()
    assert face.min() >= 0 and face.max() <= 1 and face.dtype == np.float32
    np.testing.assert_array_equal(face[:, INDEX["jawOpen"]], weights[:, INDEX["jawOpen"]])
    assert (accompany(weights, sounds, gaze, 24, np.random.default_rng(4), told) != face).any()
