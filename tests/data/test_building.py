# SPDX-License-Identifier: MIT
"""Splits, checks, card, and a folder that is complete or not there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from rows import make_corpus, make_row  # noqa: F401

from facetalk_hf import FaceTalkError
from facetalk_hf.data import corpus
from facetalk_hf.data.building import building, complete, split_speakers, write_rows, write_splits
from facetalk_hf.data.checks import check_row, cut_to_length


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')


def test_speakers_are_given_whole_and_always_the_same():
    names = [f"voice{i}" for i in range(20)]
    splits = split_speakers(names * 3)
    assert splits == split_speakers(reversed(names)) != split_speakers(names, seed=1)
    counts = [list(splits.values()).count(split) for split in ("train", "validation", "test")]
    assert counts == [16, 2, 2]
    # One more speaker moves few of the others.
    more = split_speakers([*names, "voice20"])
    assert sum(more[name] != splits[name] for name in names) <= 2
    assert sorted(split_speakers("abc").values()) == ["test", "train", "validation"]
    assert sorted(split_speakers("ab").values()) == ["test", "train"]
    assert split_speakers(["one"]) == {"one": "train"} and not split_speakers([])
    assert set(split_speakers(names, test=0).values()) == {"train", "validation"}
    with pytest.raises(FaceTalkError, match="leave nothing"):
        split_speakers(names, 0.5, 0.5)


def test_a_corpus_can_be_loaded_by_datasets_alone(tmp_path):
    import datasets

    folder = make_corpus(tmp_path / "faces")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "corpus.json",
        "test",
        "train",
        "validation",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]
    assert len(list((folder / "train").iterdir())) == 2
    data = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: part["id"][:] for name, part in data.items()} == {
        "train": ["anna_one", "anna_two"], "validation": ["bob_one"], "test": ["cy_one"],
    }  # fmt: skip
    stream = datasets.load_dataset(str(folder), split="train", streaming=True)
    row = next(iter(stream.cast_column("audio", datasets.Audio(decode=False))))
    assert len(row["expression"]) == 24 and len(corpus.decode_audio(row)) == 16000
    assert len(list(corpus.load(folder, "train", streaming=True))) == 2
    assert set(corpus.load(folder)) == {"train", "validation", "test"}
    with pytest.raises(FaceTalkError, match="no split dev, only"):
        corpus.load(folder, "dev")


def test_the_documented_ways_of_reading(tmp_path, monkeypatch):
    make_corpus(tmp_path / "data" / "corpus")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text.split("## Reading")[1].split("## Publishing")[0], re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "corpus.md", "exec"), names)  # noqa: S102  our own page
    assert len(blocks) == 2
    assert len(names["samples"]) == 16000 and len(names["data"]) == len(list(names["stream"])) == 2


def test_card_says_what_is_there(tmp_path):
    folder = make_corpus(tmp_path / "faces", name="Faces that talk", about="Four sentences.")
    text = (folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "cc-by-4.0" and header["pretty_name"] == "Faces that talk"
    assert [part["split"] for part in header["configs"][0]["data_files"]] == ["train", "validation", "test"]
    assert "# Faces that talk\n\nFour sentences.\n" in text and "codes of 6 numbers" in text
    assert "| train | 2 | 1 | 48 | 0.0 |" in text and "No speaker is in two splits." in text
    assert "| expression | (T, 6) float32 |" in text and "| all rows |" in text
    assert re.search(r"\| poses \| \(T, 13\) float32 \| .* \| no row \|", text)
    assert "- Licence: CC-BY-4.0 (4 sequences)" in text
    summary = json.loads((folder / "corpus.json").read_text())
    assert summary["shards"]["train/00000.parquet"] == 1 and summary["code_dim"] == 6
    assert summary["splits"]["train"]["seconds"] == 2.0


def test_speakers_in_two_splits_are_told(tmp_path):
    with building(tmp_path / "faces") as work:
        write_splits([make_row("anna_one"), make_row("anna_two", "validation")], work, "a")
    assert "1 speaker(s) are in more than one split." in (tmp_path / "faces" / "README.md").read_text()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([make_row("a_one"), make_row("a_one")], "the name a_one is there twice: place 0 and place 1"),
        ([make_row("a_one"), make_row("b_one", code_dim=7)], "place 1: row b_one has codes of 7 .* codes of 6"),
        ([make_row("a_one"), make_row("b_one", "dev")], "place 1: the split must be one of"),
        ([], "there are no sequences"),
    ],
)
def test_rows_that_do_not_go_together_leave_no_corpus(tmp_path, rows, message):
    with pytest.raises(FaceTalkError, match=message):
        with building(tmp_path / "faces") as work:
            write_rows(((row, f"place {i}") for i, row in enumerate(rows)), work)
    assert not (tmp_path / "faces").exists()
    assert make_corpus(tmp_path / "faces").is_dir()  # and what was left does not disturb the next


def test_shards_that_do_not_go_together_leave_no_corpus(tmp_path):
    """Shards written one by one, as of a build in several processes, are compared at the end."""
    for other, message in ((make_row("a_one"), "twice"), (make_row("b_one", code_dim=7), "codes of 7")):
        with pytest.raises(FaceTalkError, match=message):
            with building(tmp_path / "faces") as work:
                write_splits([make_row("a_one")], work, "a")
                write_splits([other], work, "b")
        assert not (tmp_path / "faces").exists()


def nan_at(row: dict, name: str, frame: int) -> dict:
    row[name] = np.array(row[name])
    row[name][frame] = np.nan
    return row


def with_audio(row: dict, frames: float) -> dict:
    return row | {"audio": corpus.encode_audio(np.zeros(round(frames * 16000 / 24)), 16000)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (nan_at(make_row("a_one"), "expression", 7), "a.wav: expression is NaN or infinite in frame 7"),
        (make_row("a_one", poses=np.ones((23, 13))), "a.wav: 24 frames of expression, but 23 of poses"),
        (make_row("a_one", identity=np.array([1, np.nan])), "a.wav: the identity code is NaN"),
        (make_row("a_one", residual=np.full(24, np.inf)), "a.wav: residual is NaN or infinite in frame 0"),
        (make_row("a_one", fps=0.0), "a.wav: 0.0 frames a second"),
        (make_row("a_one") | {"expression": None}, "a.wav has no frames"),
        (with_audio(make_row("a_one"), 26.5), "audio lasts 1.10 s, 26.5 frames .* longer by more than 2 frames"),
        (with_audio(make_row("a_one"), 21.5), "shorter by more than 2 frames"),
    ],
)
def test_a_row_that_cannot_be_used(row, message):
    with pytest.raises(FaceTalkError, match=message):
        check_row(row, "a.wav")


def test_a_row_that_can_be_used():
    residual = np.full(24, np.nan)  # nothing was recorded in these frames
    for frames in (22, 24, 26):
        check_row(with_audio(make_row("a_one", residual=residual), frames), "a.wav")


@pytest.mark.parametrize(("seconds", "frames"), [(1.0, 24), (0.95, 23), (1.08, 24), (0.92, 22)])
def test_the_longer_is_cut(seconds, frames):
    row = make_row("a_one", residual=np.arange(24))
    cut, samples = cut_to_length(row, np.zeros(round(16000 * seconds)))
    assert len(cut["expression"]) == len(cut["residual"]) == frames
    assert abs(len(samples) * 24 / 16000 - frames) < 0.51 and len(row["expression"]) == 24


def test_a_corpus_that_has_lost_or_gained_a_shard(tmp_path):
    folder = make_corpus(tmp_path / "faces")
    (folder / "train" / "00001.parquet").rename(tmp_path / "elsewhere.parquet")
    for read in (lambda: list(corpus.read(folder)), lambda: corpus.load(folder)):
        with pytest.raises(FaceTalkError, match="not complete: train/00001.parquet is missing"):
            read()
    (tmp_path / "elsewhere.parquet").rename(folder / "train" / "00001.parquet")
    corpus.write_shard([make_row("late_one")], folder / "train" / "late.parquet")
    with pytest.raises(FaceTalkError, match="late.parquet is no part of the corpus"):
        list(corpus.read(folder))


def test_an_interrupted_build_leaves_no_corpus_and_can_go_on(tmp_path):
    """Nothing is tidied up on the way out, so what is there then is what a kill leaves."""
    with pytest.raises(KeyboardInterrupt), building(tmp_path / "faces", keep=True) as work:
        write_splits([make_row("a_one")], work, "a")
        raise KeyboardInterrupt
    assert not (tmp_path / "faces").exists() and not complete(tmp_path / "faces")
    with pytest.raises(FaceTalkError, match="no corpus"):
        list(corpus.read(tmp_path))
    with building(tmp_path / "faces", keep=True) as work:
        assert (work / "train" / "a.parquet").is_file()
        write_splits([make_row("b_one")], work, "b")
    assert complete(tmp_path / "faces") and len(list(corpus.read(tmp_path / "faces"))) == 2


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "empty").mkdir()
    folder = make_corpus(tmp_path / "empty")
    with pytest.raises(FaceTalkError, match="exists already"):
        make_corpus(folder)
    assert len(list(corpus.read(folder))) == 2
