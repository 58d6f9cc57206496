# SPDX-License-Identifier: MIT
"""Shards are written, read and cut without an engine, without torchcodec and without a network."""

from pathlib import Path

import numpy as np
import pytest
from components import make_encoder
from speech_rows import RNG, make_row  # noqa: F401

from facetalk_hf import FaceTalkError, LogMelFeatureExtractor
from facetalk_hf.data import corpus
from facetalk_hf.data.feature_cache import encode_corpus, read_speech


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")


def test_round_trip(tmp_path):
    rows = [make_row(0, 30), make_row(1, 55, "validation"), make_row(2, 1)]
    corpus.write_shard(rows, tmp_path / "a.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    back = list(corpus.read(tmp_path, ("train", "validation")))
    for row, other in zip(rows, back, strict=True):
        np.testing.assert_array_equal(row["weights"], other["weights"])
        np.testing.assert_array_equal(row["closure"], other["closure"])
        assert other["weights"].dtype == np.float32
        assert row["phones"][0]["phone"] == other["phones"][0]["phone"]
        assert other["audio"]["bytes"] == row["audio"]["bytes"]
        assert len(corpus.decode_audio(other)) == len(row["weights"]) * 16000 // 24
    assert [row["id"] for row in corpus.read(tmp_path)] == ["voice-000-000", "voice-000-002"]
    assert set(next(corpus.read(tmp_path, columns=("id",)))) == {"id", "split"}


def test_codes_and_datasets_view(tmp_path):
    corpus.write_shard([make_row(0, code_dim=64), make_row(1, 20, "test", 64)], tmp_path / "a.parquet", code_dim=64)
    assert next(corpus.read(tmp_path))["expression"].shape == (30, 64)
    dataset = corpus.load(tmp_path, "test")
    assert len(dataset) == 1
    assert [row["split"] for row in corpus.load(tmp_path, "test", streaming=True)] == ["test"]
    assert {name: len(part) for name, part in corpus.load(tmp_path).items()} == {"test": 1, "train": 1}
    assert dataset.with_format("numpy")[0]["expression"].shape == (20, 64)
    assert dataset[0]["audio"]["bytes"][:4] == b"fLaC"


def test_audio_survives_as_sixteen_bit():
    samples = np.array([-1.5, -1, -0.25, 0, 0.25, 1, 1.5], np.float32)
    back = corpus.decode_audio({"audio": corpus.encode_audio(samples, 16000)})
    np.testing.assert_allclose(back, samples.clip(-1, 1), atol=1e-4)


def test_no_corpus(tmp_path):
    with pytest.raises(FaceTalkError, match="no corpus"):
        next(corpus.read(tmp_path))


def test_a_failed_write_leaves_nothing(tmp_path):
    row = make_row(0)
    row["weights"] = row["weights"][:, :50]
    with pytest.raises(Exception):  # noqa: B017 - whatever pyarrow says
        corpus.write_shard([row], tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_what_a_fit_knows_comes_back(tmp_path):
    row = make_row(0, 30, code_dim=8)
    rotation = np.broadcast_to(np.eye(3), (30, 3, 3)) * 0.5
    row["poses"] = corpus.pack_poses(0.25, rotation, np.arange(90).reshape(30, 3))
    residual = np.r_[np.nan, RNG.random(29)].astype(np.float32)
    row |= {"identity": RNG.random(12).astype(np.float32), "residual": residual, "sequence": "hello", "source": "me"}
    bare = {name: row[name] for name in corpus.REQUIRED} | {"id": "bare", "expression": row["expression"][:20]}
    corpus.write_shard([row, bare], tmp_path / "a.parquet")
    full, other = corpus.read(tmp_path)
    for name in ("poses", "identity", "residual", "expression"):
        np.testing.assert_array_equal(full[name], row[name])
    scale, turn, move = corpus.unpack_poses(full["poses"])
    assert (scale == 0.25).all() and np.array_equal(turn, rotation) and np.array_equal(move[1], [3, 4, 5])
    assert all(other[name] is None for name in ("poses", "identity", "residual", "weights", "phones", "text"))
    assert set(full) == set(corpus.SCHEMA) and corpus.load(tmp_path, "train")[1]["poses"] is None


def test_shards_of_an_older_version_can_be_read(tmp_path):
    """Written without the columns that came later, as facetalk-tiny's corpus was."""
    import datasets

    schema = corpus.features(8)
    row = make_row(0, code_dim=8)
    older = datasets.Features({name: schema[name] for name in row})
    plain = {key: getattr(value, "tolist", lambda value=value: value)() for key, value in row.items()}
    datasets.Dataset.from_list([plain], features=older).to_parquet(tmp_path / "a.parquet")
    (back,) = corpus.read(tmp_path, columns=("expression", "poses"))
    assert set(back) == {"expression", "split"}
    np.testing.assert_array_equal(back["expression"], row["expression"])
    assert len(corpus.load(tmp_path, "train")) == 1


def test_numbers_too_large_for_float32_become_infinite_without_a_word(tmp_path):
    row = {"id": "a", "split": "train", "expression": [[1e300, 1.0]]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    with np.errstate(over="raise"):
        (back,) = corpus.read(tmp_path)
    assert back["expression"].tolist() == [[np.inf, 1.0]]


def test_rows_that_do_not_fit_the_schema(tmp_path):
    rows = [make_row(0, code_dim=8), make_row(1, code_dim=9)]
    with pytest.raises(FaceTalkError, match="voice-000-001 has expression codes of 9 numbers.* have 8"):
        corpus.write_shard(rows, tmp_path / "a.parquet")
    with pytest.raises(FaceTalkError, match="no column colour"):
        corpus.write_shard([make_row(0) | {"colour": "red"}], tmp_path / "a.parquet")
    with pytest.raises(FaceTalkError, match="lacks fps"):
        corpus.write_shard([make_row(0) | {"fps": None}], tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_training_names_the_row_that_it_cannot_use(tmp_path):
    """Shards that were put together by hand."""
    encoder = (make_encoder(), LogMelFeatureExtractor())
    broken = make_row(1, code_dim=8)
    broken["expression"][11, 3] = np.nan
    for row, message in (
        (make_row(1, code_dim=9), "row voice-000-001 has codes of 9 numbers, those before it have 8"),
        (broken, "row voice-000-001: expression is NaN or infinite in frame 11"),
        (make_row(1), "has no expression codes"),
    ):
        corpus.write_shard([make_row(0, code_dim=8)], tmp_path / "a.parquet")
        corpus.write_shard([row], tmp_path / "b.parquet")
        for read in (encode_corpus, read_speech):
            with pytest.raises(FaceTalkError, match=message):
                read(tmp_path, "train", *encoder)


def test_the_documented_schema_is_the_schema():
    text = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text(encoding="utf-8")
    for name, (kind, meaning) in corpus.SCHEMA.items():
        assert f"| `{name}` | {kind} | {meaning} |\n" in text
