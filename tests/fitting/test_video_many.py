# SPDX-License-Identifier: MIT
"""training/fit_expressions.py --videos: terms, clips, a corpus; landmarks are there already: no tracker is needed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from filmed_head import FRAMES, filmed  # noqa: F401
from scripts import load_script

from facetalk_hf import FaceTalkError
from facetalk_hf.data import corpus
from facetalk_hf.fitting.video.many import find_videos
from facetalk_hf.importers.building import CorpusOptions, build_corpus
from facetalk_hf.rendering.video import write_mp4


pytest.importorskip("accelerate", reason='needs accelerate: pip install "facetalk_hf[train]"')
PEOPLE = "person,licence,consent\nanna,CC BY 4.0,written\n"


@pytest.fixture(scope="module")
def script():
    return load_script("training/fit_expressions.py")


def write_video(path: Path, number: int, sound: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((48, 64, 3), number, np.uint8)
    samples = 0.1 * np.sin(np.arange(16000 * FRAMES // 25) / 9) if sound else None
    return write_mp4(path, [image] * FRAMES, 25, samples, 16000)


@pytest.fixture(scope="module")
def fits(script, filmed, tmp_path_factory):  # noqa: F811
    """Two videos of two people and one without sound, fitted; what is printed is checked by the first test."""
    folder = tmp_path_factory.mktemp("many")
    videos = [folder / "videos" / name for name in ("anna/one.mp4", "bert_two.mp4")]
    for number, path in enumerate(videos):
        write_video(path, 60 * number)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        target = folder / "fits" / ("anna/one" if number == 0 else "bert/bert_two")
        target.mkdir(parents=True)
        filmed[0].save(target / f"landmarks-{digest}.npz")
    write_video(folder / "videos" / "carl_silent.mp4", 90, sound=False)
    (folder / "videos" / "people.csv").write_text(PEOPLE)
    (folder / "coarse.yaml").write_text("iterations: 2\nframes: 3\naxes: 4\n")
    script.main(words(folder))
    return folder


def words(folder: Path, *more: str) -> list[str]:
    known = ["--licence", "my own", "--consent", "spoken, on the tape"]
    known += ["--config", str(folder / "coarse.yaml")]
    return ["--videos", str(folder / "videos"), "--output-dir", str(folder / "fits"), *known, *more]


def test_videos_become_a_corpus_with_terms(fits, tmp_path):
    summary = json.loads((fits / "fits" / "report.json").read_text())
    assert set(summary["fitted"]) == {"anna/one", "bert/bert_two"}
    assert "no sound" in summary["failed"]["carl/carl_silent"]
    people = {"validation_speakers": ["bert"], "test_speakers": []}
    build_corpus(CorpusOptions(input=[fits / "fits"], output_dir=tmp_path / "corpus", **people), lambda line: None)
    rows = {row["speaker"]: row for row in corpus.read(tmp_path / "corpus", ("train", "validation"))}
    assert {name: row["split"] for name, row in rows.items()} == {"anna": "train", "bert": "validation"}
    assert (rows["anna"]["licence"], rows["anna"]["consent"]) == ("CC BY 4.0", "written")
    assert (rows["bert"]["licence"], rows["bert"]["consent"]) == ("my own", "spoken, on the tape")
    for row in rows.values():
        assert row["fps"] == 24 and len(row["expression"]) in range(27, 31)
        assert np.ptp(row["head_pose"][:, 0]) > 10 and abs(np.median(row["head_pose"][:, 0])) < 1
        assert np.abs(corpus.decode_audio(row)).max() > 0.05


def test_started_again_it_does_nothing_and_other_terms_are_written(script, fits, capsys):
    place = fits / "fits" / "anna" / "one"
    before = (place / "01" / "fit.npz").stat().st_mtime_ns
    script.main(words(fits))
    assert (place / "01" / "fit.npz").stat().st_mtime_ns == before
    assert "2 of 3 sequences fitted" in capsys.readouterr().out
    (fits / "videos" / "people.csv").write_text(PEOPLE.replace("written", "taken back"))
    script.main(words(fits))
    assert json.loads((place / "01" / "about.json").read_text())["consent"] == "taken back"
    assert (place / "01" / "fit.npz").stat().st_mtime_ns == before


def test_terms_are_asked_for(tmp_path):
    write_video(tmp_path / "anna_one.mp4", 0)
    with pytest.raises(FaceTalkError, match="licence of anna is not known"):
        find_videos(tmp_path)
    with pytest.raises(FaceTalkError, match="consent of anna is not known"):
        find_videos(tmp_path, licence="MIT")
    assert [video.name for video in find_videos(tmp_path, "MIT", "written")] == ["anna/anna_one"]
    (tmp_path / "people.csv").write_text("name;terms\nanna;MIT\n")
    with pytest.raises(FaceTalkError, match="columns person, licence, consent"):
        find_videos(tmp_path)


def test_names_that_clash_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(FaceTalkError, match="no videos"):
        find_videos(tmp_path)
    for suffix in ("mp4", "mov"):
        write_video(tmp_path / "anna" / "one.mp4", 0).rename(tmp_path / "anna" / f"one-.{suffix}")
    with pytest.raises(FaceTalkError, match="same name"):
        find_videos(tmp_path, "MIT", "written")
