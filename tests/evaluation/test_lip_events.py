# SPDX-License-Identifier: MIT
"""Lip events on tracks whose scores were counted by hand."""

import numpy as np
import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.lip_events import LipEvents, area_under_curve


FPS = 25
# 0.4 s each: pause, aa, m, iy, n, b, aa, pause: 10 frames each.
NAMES = ["SIL", "AA1", "M", "IY1", "N", "B", "AA1", "SIL"]
PHONES = [(name, 0.4 * i, 0.4 * (i + 1)) for i, name in enumerate(NAMES)]


def track(**levels: float) -> np.ndarray:
    """An aperture that follows the phones: mm for each name, 5 for those that are not named."""
    return np.repeat([levels.get(name.strip("1"), 5.0) for name in NAMES], 10).astype(float)


PERFECT = {"SIL": 0.0, "M": 0.0, "B": 0.0, "AA": 12.0, "IY": 4.0}


def test_a_mouth_that_does_all_that_is_asked():
    scores = LipEvents().add(PHONES, track(**PERFECT), FPS).summary()
    assert (scores.stops, scores.runs, scores.recall, scores.precision, scores.f1) == (2, 2, 1, 1, 1)
    assert scores.open_auc == 1 and scores.open_mm == 12 and scores.narrow_mm == 4.5
    assert scores.silence_mm == 0 and scores.lag == 0
    assert scores.recall_of == {"m": 1, "b": 1} and scores.false_of == {}
    assert np.isnan(scores.round_auc) and scores.as_dict()["round_auc"] is None


def test_a_stop_that_stays_open_and_one_that_is_not_there():
    scores = LipEvents().add(PHONES, track(**PERFECT | {"B": 3.0}), FPS).summary()
    assert scores.recall == 0.5 and scores.recall_of == {"m": 1, "b": 0}
    assert scores.missed_mm == 3 and scores.precision == 1
    # A run over the whole of n would touch the b beside it and be right; one in its middle is false.
    middle = track(**PERFECT)
    middle[44:46] = 0
    scores = LipEvents().add(PHONES, middle, FPS).summary()
    assert scores.runs == 3 and scores.precision == pytest.approx(2 / 3) and scores.false_of == {"n": 1}


def test_the_edges_of_speech_are_free():
    early = track(**PERFECT)
    early[10:12] = 0  # the first 80 ms of speech
    assert LipEvents().add(PHONES, early, FPS).summary().runs == 2
    early[13:15] = 0
    scores = LipEvents().add(PHONES, early, FPS).summary()
    assert scores.runs == 3 and scores.false_of == {"aa": 1}


def test_a_pause_counts_without_its_ends():
    ajar = track(**PERFECT)
    ajar[:3], ajar[3:7], ajar[7:10] = 9, 2, 9  # 0.12 s are three frames
    scores = LipEvents().add(PHONES, ajar, FPS).summary()
    assert scores.silence_mm == pytest.approx(1.0)  # the other pause is shut


def test_a_late_mouth_has_its_lag():
    for shift in (-3, 2):
        assert LipEvents().add(PHONES, np.roll(track(**PERFECT), shift), FPS).summary().lag == shift


def test_rounding_and_bite():
    phones = [("uw", 0.0, 0.2), ("iy", 0.2, 0.4), ("v", 0.4, 0.6), ("ae", 0.6, 0.8)]
    rounding, bite = np.repeat([0.3, 0.1, 0.9, 0.2], 5), np.repeat([0.0, 0.2, 0.1, 0.0], 5)
    scores = LipEvents().add(phones, np.full(20, 5.0), FPS, rounding, bite).summary()
    assert scores.round_auc == 1 and scores.bite_auc == pytest.approx(2 / 3)


def test_merged_tallies_are_one():
    parts = [LipEvents().add(PHONES, track(**PERFECT | {"B": level}), FPS) for level in (0.0, 4.0)]
    whole = LipEvents()
    for level in (0.0, 4.0):
        whole.add(PHONES, track(**PERFECT | {"B": level}), FPS)
    assert LipEvents().merge(parts).summary().as_dict() == whole.summary().as_dict()
    assert whole.clips == 2 and whole.summary().recall == 0.75


def test_area_under_curve():
    assert area_under_curve([3, 4], [1, 2]) == 1 and area_under_curve([1, 2], [3, 4]) == 0
    assert area_under_curve([1, 1], [1]) == 0.5 and area_under_curve([1, 3], [2]) == 0.5
    assert np.isnan(area_under_curve([], [1]))


@pytest.mark.parametrize("tracks", [(np.zeros((4, 2)),), (np.array([1, np.nan]),), (np.zeros(0),)])
def test_tracks_that_cannot_be(tracks):
    with pytest.raises(FaceTalkError):
        LipEvents().add(PHONES, *tracks, FPS)
    with pytest.raises(FaceTalkError):
        LipEvents().add(PHONES, np.zeros(80), FPS, rounding=np.zeros(79))
