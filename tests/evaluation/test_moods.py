# SPDX-License-Identifier: MIT
"""Moods told apart, and nods at accents against chance."""

import numpy as np
import pytest

from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.evaluation.moods import MOODS, MoodClassifier, accent_ratio
from facetalk_hf.phones.segments import Segment
from facetalk_hf.synthetic.acting import perform


SENTENCE = [("pau", 0, 0.4), ("b", 0.4, 0.5), ("aa", 0.5, 0.8), ("m", 0.8, 0.9), ("iy", 0.9, 1.2), ("pau", 1.2, 1.6)]


def acted(mood: str, amount: float, seed: int) -> np.ndarray:
    told = np.zeros((38, len(CONDITIONS)), np.float32)
    if mood != "neutral":
        told[:, CONDITIONS.index(mood)] = amount
    rng = np.random.default_rng(seed)
    sound = 0.1 * rng.standard_normal(round(1.6 * 16000))
    return perform([Segment(*item) for item in SENTENCE], sound, 16000, 38, 24, told, rng).weights


def test_the_moods_of_the_rules_are_told_apart():
    taught = [(acted(mood, amount, seed), number) for number, mood in enumerate(MOODS)
              for amount in (0.5, 1.0) for seed in range(4)]  # fmt: skip
    classifier = MoodClassifier(*zip(*taught, strict=True))
    found = classifier([acted(mood, 0.8, seed) for mood in MOODS for seed in (10, 11)])
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == np.repeat(np.arange(len(MOODS)), 2)).mean() >= 0.9
    weak, strong = classifier([acted("happy", amount, 12) for amount in (0.1, 0.9)])[:, MOODS.index("happy")]
    assert weak < 0.5 < strong


def test_nods_at_accents_are_more_than_chance():
    pose, accents = np.zeros((240, 6)), [2.0, 5.0, 8.0]
    for time in accents:
        pose[:, 1] += 3 * np.exp(-(((np.arange(240) / 24 - time) / 0.1) ** 2))
    ratio, chance = accent_ratio(pose, accents, 24)
    assert ratio > 3 and chance < 0.05
    assert accent_ratio(pose, [0.8, 3.4, 6.5], 24)[0] < 0.3
    assert np.isnan(accent_ratio(np.zeros((240, 6)), accents, 24)).all()
    assert accent_ratio(pose, [], 24)[0] != pytest.approx(1)
