# SPDX-License-Identifier: MIT
"""Shards are written, read and cut without an engine, without torchcodec and without a network."""

import numpy as np
import pytest
import torch

from facetalk_hf import FaceTalkError, corpus


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
RNG = np.random.default_rng(0)


def make_row(index: int, frames: int = 30, split: str = "train", code_dim: int | None = None) -> dict:
    samples = RNG.uniform(-0.5, 0.5, frames * 16000 // 24).astype(np.float32)
    row = {
        "id": f"voice-000-{index:03d}", "audio": corpus.encode_audio(samples, 16000), "sampling_rate": 16000,
        "weights": RNG.random((frames, 53)).astype(np.float32), "closure": RNG.random(frames).astype(np.float32),
        "fps": 24.0, "speaker": "voice", "language": "en", "engine": "none", "text": "Bob.", "split": split,
        "phones": [{"phone": "b", "start": 0.0, "end": 0.1}], "licence": "MIT",
    }  # fmt: skip
    if code_dim:
        row["expression"] = RNG.random((frames, code_dim)).astype(np.float32)
    return row


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


@pytest.mark.parametrize("frames", [1, 47, 48, 49, 96, 100, 143])
def test_segments_cover_every_frame(frames):
    starts = corpus.segment_starts(frames)
    covered = np.zeros(max(frames, 48), bool)
    for start in starts:
        assert start == 0 or start + 48 <= frames
        covered[start : start + 48] = True
    assert covered.all()
    assert len(starts) == max(1, -(-frames // 48))


def test_collate():
    rows = [{"expression": np.ones((3, 4), np.float32), "closure": np.ones(3, np.float32)},
            {"expression": torch.ones(5, 4), "closure": torch.ones(5)}]  # fmt: skip
    batch = corpus.collate(rows)
    assert batch["expression"].shape == (2, 5, 4) and batch["closure"].shape == (2, 5)
    assert batch["frame_mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert not batch["expression"][0, 3:].any()
