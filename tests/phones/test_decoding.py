# SPDX-License-Identifier: MIT
"""Guesses of phones become segments: what is likely lasts, a flicker does not, times are those of the guesses."""

import numpy as np
import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.phones.decoding import align_phones, decode_phones


NAMES = ("pau", "m", "aa")


def guesses(*phones: int, sure: float = 0.9) -> np.ndarray:
    likely = np.full((len(phones), len(NAMES)), (1 - sure) / (len(NAMES) - 1))
    likely[np.arange(len(phones)), phones] = sure
    return np.log(likely)


def test_borders_lie_between_guesses_and_no_time_is_left_out():
    found = decode_phones(guesses(0, 0, 1, 1, 1, 2, 2, 0), NAMES, 0.02, 0.17, penalty=1.0)
    assert [item.phone for item in found] == ["pau", "m", "aa", "pau"]
    np.testing.assert_allclose([item.start for item in found], [0, 0.03, 0.09, 0.13])
    np.testing.assert_allclose([item.end for item in found], [0.03, 0.09, 0.13, 0.17])


def test_a_flicker_is_outweighed_and_a_lasting_change_is_not():
    flicker = guesses(2, 2, 2, 1, 2, 2, 2, 1, 1, 1, 1)
    assert [item.phone for item in decode_phones(flicker, NAMES, 0.02, 0.22, penalty=3.0)] == ["aa", "m"]
    assert [item.phone for item in decode_phones(flicker, NAMES, 0.02, 0.22, penalty=0.0)] == ["aa", "m"] * 2


def test_it_is_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 3))
    paths = np.array(np.meshgrid(*[range(3)] * 6)).reshape(6, -1)
    scores = values[np.arange(6)[:, None], paths].sum(0) - 0.8 * (np.diff(paths, axis=0) != 0).sum(0)
    best = paths[:, scores.argmax()]
    found = decode_phones(values, NAMES, 1.0, 6.0, penalty=0.8)
    told = [next(item.phone for item in found if item.start <= time < item.end) for time in range(6)]
    assert told == [NAMES[phone] for phone in best]


def test_a_sound_shorter_than_its_guesses_ends_where_it_ends():
    found = decode_phones(guesses(1, 1, 2), NAMES, 0.02, 0.025, penalty=0.5)
    assert [(item.phone, item.start, item.end) for item in found] == [("m", 0.0, 0.025)]


def test_known_words_are_found_with_the_pause_between_them_that_is_there():
    words = [["m", "aa"], ["m"], ["aa"]]
    # Nothing before the first word, a pause after it, none before the last: and one guess that is misheard.
    found, likely = align_phones(guesses(1, 1, 2, 2, 0, 0, 1, 2, 1, 2, 2), NAMES, words, 0.02, 0.22)
    assert [item.phone for item in found] == ["m", "aa", "pau", "m", "aa"]
    np.testing.assert_allclose([item.start for item in found], [0, 0.03, 0.07, 0.11, 0.17])
    assert found[-1].end == 0.22
    np.testing.assert_allclose(likely, [0.9, 0.9, 0.9, (0.9 * 0.05 * 0.9) ** (1 / 3), 0.9], rtol=1e-6)


def test_more_phones_than_guesses_are_refused():
    with pytest.raises(FaceTalkError, match="3 phones cannot be found"):
        align_phones(guesses(1, 2), NAMES, [["m", "aa", "m"]], 0.02, 0.04)
