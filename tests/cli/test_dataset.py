# SPDX-License-Identifier: MIT
"""`facetalk dataset`: folders and datasets in, motion out; broken off, in one process and in two."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from command import facetalk, write_wav  # noqa: F401
from components import make_named_head, make_pipeline, speech_like

from facetalk_hf.cli.main import main
from facetalk_hf.data import corpus
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.importers import animating


datasets = pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
SHORT = ("--steps", 2, "--shard-rows", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "talker"
    make_pipeline(head=make_named_head()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Five recordings of different lengths, one of them no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "bob").mkdir()
    for index, name in enumerate(("anna", "bob/one", "bob/two", "cy", "dora")):
        write_wav(folder / f"{name}.wav", speech_like(0.4 + 0.1 * index, seed=index))
    (folder / "bob" / "bad.wav").write_text("no sound")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(talker, sounds, tmp_path_factory):
    """What one process makes of the folder."""
    folder = tmp_path_factory.mktemp("whole") / "moving"
    assert run_as(0, 1, sounds, folder, talker) == 0
    return folder


def run_as(rank: int, count: int, source: Path, folder: Path, model: Path) -> int:
    """The command in this process, as one of several that `accelerate launch` starts; its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leave:
        patch.setenv("RANK", str(rank))
        patch.setenv("WORLD_SIZE", str(count))
        main([str(word) for word in ("dataset", source, "--output-dir", folder, "--model", model, *SHORT)])
    return leave.value.code


def run_together(count: int, source: Path, folder: Path, model: Path) -> None:
    """As many processes, forked, so that torch is imported once."""
    others = []
    for rank in range(1, count):
        others.append(os.fork())
        if not others[-1]:
            os._exit(run_as(rank, count, source, folder, model))
    assert run_as(0, count, source, folder, model) == 0
    assert [os.waitpid(child, 0)[1] for child in others] == [0] * len(others)


def test_a_folder_becomes_a_corpus_and_says_what_it_left_out(whole, talker, sounds):
    rows = {row["id"]: row for row in corpus.read(whole)}
    assert list(rows) == ["anna.wav", "bob/one.wav", "bob/two.wav", "cy.wav", "dora.wav"]
    assert list(json.loads((whole / "skipped.json").read_text())) == ["bob/bad.wav"]
    row = rows["dora.wav"]
    assert row["expression"].shape == (20, 64) and row["weights"].shape == (20, 53) and row["fps"] == 24
    np.testing.assert_allclose(corpus.decode_audio(row), speech_like(0.8, seed=4), atol=1e-4)
    data = corpus.load(whole, "train")
    assert np.shape(data[0]["arkit"]) == (10, 52) and not list(whole.rglob(".*"))
    again = make_pipeline(head=make_named_head())
    animator = animating.RowAnimator(pipe=again, controls=animating.MotionControls(num_inference_steps=2))
    (alone,) = animator([{"id": "dora.wav", "audio": {"path": str(sounds / "dora.wav")}}], "train", print)
    np.testing.assert_array_equal(alone["expression"], row["expression"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_processes_make_the_same_bytes(whole, talker, sounds, tmp_path):
    run_together(2, sounds, tmp_path / "moving", talker)
    assert tree(tmp_path / "moving") == tree(whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_processes_share_a_file_where_there_are_more_of_them(whole, talker, tmp_path):
    for count in (1, 3):
        run_together(count, whole, tmp_path / str(count) / "moving", talker)
    assert tree(tmp_path / "1") == tree(tmp_path / "3")


def test_a_run_that_broke_off_goes_on(whole, talker, sounds, tmp_path, facetalk, monkeypatch):  # noqa: F811
    call = animating.RowAnimator.__call__
    done = []

    def breaking(self, rows, split, skip):
        if len(done) == 1:
            raise FaceTalkError("the power is gone")
        done.append(rows)
        return call(self, rows, split, skip)

    command = ("dataset", sounds, "--output-dir", tmp_path / "moving", "--model", talker, *SHORT)
    monkeypatch.setattr(animating.RowAnimator, "__call__", breaking)
    assert facetalk(*command)[0] == 2 and not (tmp_path / "moving").exists()
    monkeypatch.setattr(animating.RowAnimator, "__call__", call)
    code, _, error = facetalk(*command, "--seed", 1)
    assert code == 2 and "another seed" in error
    code, out, _ = facetalk(*command)
    assert code == 0 and "00000-00000" not in out and "00001-00000" in out  # the first is not made again
    assert tree(tmp_path / "moving") == tree(whole)
    assert facetalk(*command)[0] == 0 and tree(tmp_path / "moving") == tree(whole)


def test_a_dataset_keeps_its_columns_and_splits(talker, tmp_path, facetalk):  # noqa: F811
    rows = [{"audio": corpus.encode_audio(speech_like(0.5, seed=n), 16000), "age": 30 + n} for n in range(3)]
    rows = [row | {"text": f"word {n}", "weights": "heavy", "id": n} for n, row in enumerate(rows)]
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    for split, part in (("train", table.select([0, 1])), ("dev", table.select([2]))):
        part.to_parquet(tmp_path / "given" / f"{split}-00000-of-00001.parquet")
    command = ("dataset", tmp_path / "given", "--model", talker, *SHORT)
    assert facetalk(*command, "--output-dir", tmp_path / "made")[0] == 0
    train, dev = (list(corpus.read(tmp_path / "made", (split,))) for split in ("train", "validation"))
    found = [(row["age"], row["text"], row["source_id"]) for row in train + dev]
    assert found == [(30, "word 0", 0), (31, "word 1", 1), (32, "word 2", 2)]
    assert train[0]["weights"].shape == (12, 53) and "source_weights" not in train[0]
    # The result is a corpus, and so a source itself.
    assert facetalk("dataset", tmp_path / "made", *command[2:], "--output-dir", tmp_path / "again")[0] == 0
    again = list(corpus.read(tmp_path / "again", ("train", "validation")))
    assert [row["id"] for row in again] == [row["id"] for row in train + dev]
    np.testing.assert_array_equal(again[0]["expression"], train[0]["expression"])
    for words, part in (
        (("--audio-column", "sound"), "no column sound"),
        (("--split", "test"), "no dataset in"),
        (("--fps", 30), "leave out"),
    ):
        code, _, error = facetalk(*command, "--output-dir", tmp_path / "no", *words)
        assert code == 2 and part in error.splitlines()[-1] and "Traceback" not in error, error
        assert not (tmp_path / "no").exists()
