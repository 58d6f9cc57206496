# SPDX-License-Identifier: MIT
"""Folders of recordings with transcripts: all layouts are found, and aligned recordings become rows and a list."""

import json

import numpy as np
import pytest
import soundfile

from facetalk_hf.data.building import building, write_rows
from facetalk_hf.data.corpus import read
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.recordings import by_telephone, in_noise, read_recordings
from facetalk_hf.importers.aligned_speech import Aligned, aligned_rows, alignment_report, phones_list, report_lines
from facetalk_hf.importers.speech_folders import Utterance, find_speech
from facetalk_hf.phones.segments import Segment


def sound(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(16000 * seconds)) / 20), 16000)
    return path


def test_all_layouts_are_found(tmp_path):
    sound(tmp_path / "libri" / "19-198-0000.flac")
    (tmp_path / "libri" / "19-198.trans.txt").write_text("19-198-0000 HELLO THERE\n")
    sound(tmp_path / "lj" / "wavs" / "LJ1.wav")
    (tmp_path / "lj" / "metadata.csv").write_text("LJ1|In 1900.|In nineteen hundred.\n")
    sound(tmp_path / "anna" / "one.wav")
    (tmp_path / "anna" / "one.txt").write_text("one\n")
    sound(tmp_path / "anna" / "untold.wav")
    sound(tmp_path / "json" / "x.wav")
    (tmp_path / "json" / "transcripts.json").write_text(json.dumps({"x": {"file": "x.wav", "text": "ex"}}))
    found = {item.name: (item.speaker, item.text) for item in find_speech(tmp_path)}
    assert found == {
        "19-198-0000": ("19", "HELLO THERE"), "LJ1": ("lj", "In nineteen hundred."), "anna_one": ("anna", "one"),
        "x": ("json", "ex"),
    }  # fmt: skip
    assert {item.speaker for item in find_speech(tmp_path, "me")} == {"me"}


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FaceTalkError, match="no folder"):
        find_speech(tmp_path / "nowhere")
    with pytest.raises(FaceTalkError, match="no recordings"):
        find_speech(tmp_path)
    (tmp_path / "a.trans.txt").write_text("a-1 HELLO\n")
    with pytest.raises(FaceTalkError, match="line 1: no sound"):
        find_speech(tmp_path)


@pytest.fixture
def aligned(tmp_path):
    phones = [Segment("pau", 0, 0.3), Segment("m", 0.3, 0.4), Segment("aa", 0.4, 0.8), Segment("pau", 0.8, 1)]
    first = Utterance("one", "anna", sound(tmp_path / "one.wav"), "ma")
    second = Utterance("two", "anna", sound(tmp_path / "two.wav"), "pa")
    return [Aligned(first, 1.0, 0.95, phones, "", []), Aligned(second, 1.0, 0.4, [], "too odd", [("pa", 0, 1, 0.1)])]


def test_rows_have_phones_motion_and_confidence(tmp_path, aligned):
    with building(tmp_path / "corpus") as work:
        assert write_rows(aligned_rows(aligned, {"anna": "train"}, licence="CC0"), work) == 1
    (row,) = read(tmp_path / "corpus")
    assert (row["id"], row["sequence"], row["speaker"], row["licence"]) == ("anna-000-000", "one", "anna", "CC0")
    assert row["confidence"] == pytest.approx(0.95)
    assert [p["phone"] for p in row["phones"]] == [
        "pau",
        "m",
        "aa",
        "pau",
    ]
    assert row["closure"].argmax() in range(7, 10) and len(row["weights"]) == 24


def test_the_report_says_why(aligned):
    report = alignment_report(aligned)
    assert (report["recordings"], report["kept"], report["speakers"]) == (2, 1, 1)
    assert report["left_out"]["two"]["reason"] == "too odd"
    assert any("two" in line and "too odd" in line and "pa" in line for line in report_lines(report))


def test_the_list_is_read_by_the_scorer(tmp_path, aligned):
    path = tmp_path / "phones.json"
    path.write_text(json.dumps(phones_list(aligned, path)))
    (recording,) = read_recordings(path)
    assert recording.speaker == "anna" and len(recording.samples()) == 16000 and recording.phones[1].phone == "m"
    (tmp_path / "one.wav").unlink()
    with pytest.raises(FaceTalkError, match="one"):
        read_recordings(path)


def test_a_telephone_line_keeps_its_band_and_delays_nothing():
    times = np.arange(16000) / 16000
    for hertz, kept in ((100, False), (1000, True), (5000, False)):
        tone = np.sin(2 * np.pi * hertz * times).astype(np.float32)
        heard = by_telephone(tone)
        assert len(heard) == len(tone) and (np.corrcoef(heard, tone)[0, 1] > 0.99) == kept
        assert (heard[2000:-2000].std() > 0.5 * tone.std()) == kept
    noise = in_noise(np.sin(times * 5000), 10) - np.sin(times * 5000)
    assert noise.std() == pytest.approx(np.sqrt(0.5) * 10**-0.5, rel=0.05)
