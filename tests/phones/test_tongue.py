# SPDX-License-Identifier: MIT
"""The tongue's weights from phones: where the tip is up, out, or the back is up, and what a mouth allows."""

import numpy as np
import pytest

from facetalk_hf.blendshapes import EXPRESSIONS, INDEX, TONGUE
from facetalk_hf.phones.segments import Segment
from facetalk_hf.phones.tongue import heard_tongue, tongue_weights, within_mouth
from facetalk_hf.phones.visemes import PHONES


OUT, UP, DOWN, BACK, WIDE = range(len(TONGUE))


def said(*phones: str, seconds: float = 0.125) -> np.ndarray:
    segments = [Segment(phone, index * seconds, (index + 1) * seconds) for index, phone in enumerate(phones)]
    return tongue_weights(segments, round(24 * seconds * len(phones)), 24)


@pytest.mark.parametrize(
    ("phone", "shape", "least"),
    [("l", UP, 0.7), ("t", UP, 0.6), ("d", UP, 0.6), ("n", UP, 0.6), ("th", OUT, 0.35), ("k", BACK, 0.7),
     ("g", BACK, 0.7), ("s", WIDE, 0.3)],
)  # fmt: skip
def test_a_phone_between_vowels_moves_its_part_of_the_tongue(phone, shape, least):
    weights = said("pau", "aa", phone, "aa", "pau")
    assert weights.shape == (15, len(TONGUE)) and weights.min() >= 0 and weights.max() <= 1
    assert weights[6:9, shape].max() > least > weights[[0, 14], shape].max() + 0.2


def test_a_phone_that_leaves_the_tongue_free_takes_on_its_neighbours():
    assert said("n", "m", "n")[4, UP] > 0.6  # the tip stays up
    assert said("k", "p", "k")[4, BACK] > 0.6
    assert said("pau", "pau").max() == 0 and len(tongue_weights([], 3)) == 3


def test_heard_phones_move_it_and_a_stream_hears_what_a_clip_does():
    spoken = ["pau"] * 4 + ["aa"] * 6 + ["l"] * 6 + ["th"] * 6
    logits = np.full((len(spoken), len(PHONES)), -4.0)
    logits[np.arange(len(spoken)), [PHONES.index(phone) for phone in spoken]] = 4
    whole = heard_tongue(logits)
    assert whole[0].max() < 0.2 and whole[7, UP] > 0.75 and whole[10, OUT] > 0.35
    parts, before = [], None
    for start in range(0, len(spoken), 2):
        parts.append(heard_tongue(logits[start : start + 2], before))
        before = parts[-1][-1]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_it_comes_out_between_parted_teeth_and_lips_alone():
    tongue, mouth = np.zeros((4, len(TONGUE))), np.zeros((4, len(EXPRESSIONS)))
    tongue[:, OUT], mouth[:, INDEX["jawOpen"]] = 0.5, [0, 0.12, 0.3, 0.3]
    mouth[3, INDEX["mouthClose"]] = 0.28
    out = within_mouth(tongue, mouth)[:, OUT]
    assert out[0] == out[3] == 0 and 0 < out[1] < 0.2 and out[2] == 0.5
