# SPDX-License-Identifier: MIT
"""Scores on recordings whose phones are known: lists, corpora, the rules' own mouth, and what a spoilt one loses."""

import json

import numpy as np
import pytest
import soundfile
from components import make_named_head

from facetalk_hf.data import corpus
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.recordings import (
    RecordingScorer,
    by_telephone,
    in_noise,
    read_recordings,
    recordings_table,
    rules_codes,
)


PHONES = [("pau", 0, 0.5), ("m", 0.5, 0.62), ("aa", 0.62, 0.9), ("n", 0.9, 1.0), ("uw", 1.0, 1.25), ("b", 1.25, 1.37),
          ("iy", 1.37, 1.6), ("f", 1.6, 1.72), ("ae", 1.72, 2.0), ("pau", 2.0, 2.5)]  # fmt: skip
SOUND = (0.1 * np.random.default_rng(0).standard_normal(40000)).astype(np.float32)


@pytest.fixture
def listed(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", SOUND, 16000)
    fields = {"phones": PHONES, "speaker": "anna", "language": "en"}
    content = {"a": {"file": "a.wav", **fields}, "b": {"file": "b.wav", **fields, "language": "de"}}
    (tmp_path / "list.json").write_text(json.dumps(content))
    return tmp_path / "list.json"


def test_a_mouth_that_knows_the_phones_and_one_that_does_not(listed):
    head, recordings = make_named_head(), read_recordings(listed)
    scorer = RecordingScorer(head, recordings)
    codes = rules_codes(recordings, head, 24.0)
    result = scorer(codes)
    assert result.scores.stops == 4 and set(result.speakers) == {"anna"} and set(result.languages) == {"de", "en"}
    assert result.agreement == pytest.approx(1, abs=1e-5)
    # A code of zeros is a mouth that is always shut: no stop is missed, no opening told from a narrow phone.
    shut = scorer([np.zeros_like(item) for item in codes], result)
    assert shut.scores.recall == 1 and shut.scores.open_auc == pytest.approx(0.5) and not shut.to_clean == 1
    assert result.scores.open_auc > 0.9
    text = recordings_table({"rules": result, "shut": shut})
    assert "F1 by language: de" in text and "lowest F1 of 1 speakers: anna" in text


def test_each_recording_is_predicted_as_it_would_be_alone(listed):
    scorer = RecordingScorer(make_named_head(), read_recordings(listed))
    told = []

    def predict(clips, seeds, phones):
        told.append((len(clips), seeds, len(phones[0])))
        return [np.full((60, 64), clip.std(), np.float32) for clip in clips]

    found = scorer.predict(predict, lambda samples: 2 * samples, seed=3, batch=1, with_phones=True)
    assert told == [(1, [3], len(PHONES))] * 2
    assert found[0][0, 0] == pytest.approx(2 * SOUND.std(), rel=1e-3)


def test_a_corpus_is_a_list_of_recordings(tmp_path):
    row = {"id": "x-000-0", "audio": corpus.encode_audio(SOUND, 16000), "sampling_rate": 16000, "fps": 24.0,
           "weights": np.zeros((60, 53), np.float32), "closure": np.zeros(60, np.float32), "speaker": "x",
           "language": "it", "engine": "none", "text": "", "licence": "MIT", "split": "test",
           "phones": [{"phone": p, "start": s, "end": e} for p, s, e in PHONES]}  # fmt: skip
    corpus.write_shard([row, row | {"id": "x-000-1", "phones": []}], tmp_path / "c" / "x-000.parquet")
    (found,) = read_recordings(tmp_path / "c")
    assert (found.language, found.speaker, len(found.phones)) == ("it", "x", len(PHONES))
    np.testing.assert_allclose(found.samples(), SOUND, atol=1e-4)
    corpus.write_shard([row | {"split": "train"}], tmp_path / "d" / "x-000.parquet")
    with pytest.raises(FaceTalkError, match="no rows with phones"):
        read_recordings(tmp_path / "d")


def test_what_is_done_to_the_sound():
    time = np.arange(16000) / 16000
    low, middle = np.sin(2 * np.pi * 60 * time), np.sin(2 * np.pi * 1000 * time)
    inside = slice(2000, 14000)
    assert by_telephone(low)[inside].std() < 0.01
    assert by_telephone(middle)[inside].std() == pytest.approx(middle.std(), rel=0.02)
    noise = in_noise(middle, 10) - middle
    assert 20 * np.log10(middle.std() / noise.std()) == pytest.approx(10, abs=0.3)
