# SPDX-License-Identifier: MIT
"""Recordings in other layouts become rows: tracked ones, results of `facetalk fit`, our synthetic corpus."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from components import make_named_head, speech_like

from facetalk_hf import FaceTalkError
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.data import corpus
from facetalk_hf.importers.recordings import ImportOptions, find_fits, find_tracked, import_rows, speaker_of


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
SCRIPT = Path(__file__).parents[2] / "training" / "build_corpus.py"
RNG = np.random.default_rng(0)


def build(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["build_corpus.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def write_wav(path: Path, frames: float, fps: float = 24, rate: int = 44100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(frames * rate / fps)) / 20), rate)


def tracked(folder: Path, name: str, frames: int = 20, first: int = 0, step: int = 1, size: int = 200) -> Path:
    place = folder / name / "nphm_tracking" / "nphm_expressions"
    place.mkdir(parents=True)
    for i in range(frames):
        np.savez(place / f"frame_{first + i * step:05d}.npz", z=np.full((1, size), i, np.float32))
    write_wav(folder / name / "audio" / "cleaned_audio.wav", frames)
    return folder / name


def rows_of(found) -> list[dict]:
    splits = dict.fromkeys((item.speaker for item in found), "train")
    return [row for row, _ in import_rows(found, splits, ImportOptions())]


def test_the_authors_layout(tmp_path, monkeypatch):
    """With and without the other folders; the numbers of frames start anywhere and go up by one step."""
    place = tracked(tmp_path / "in", "017_SEN-01-cramp_small")
    (place / "nphm_tracking" / "nphm_meshes").mkdir()
    (place / "flame_2023_tracking").mkdir()
    (place / "audio" / "wave2vec_audio_feats.pkl").write_bytes(b"not read")
    (place / "audio" / "cleaned_audio.txt").write_text("Small cramp.\n")
    tracked(tmp_path / "in", "018_SEN-02", 12, first=30, step=3)
    tracked(tmp_path / "in", "019_SEN-02", 12)
    (tmp_path / "in" / "notes").mkdir()
    build(
        monkeypatch,
        "--from",
        "tracked",
        "--input",
        tmp_path / "in",
        "--output-dir",
        tmp_path / "out",
        "--licence",
        "mine",
    )
    rows = {row["id"]: row for row in corpus.read(tmp_path / "out", ("train", "validation", "test"))}
    row = rows["017_SEN-01-cramp_small"]
    assert (row["speaker"], row["sequence"], row["text"]) == ("017", "SEN-01-cramp_small", "Small cramp.")
    assert (row["source"], row["licence"], row["sampling_rate"], row["fps"]) == ("in", "mine", 16000, 24)
    assert row["expression"].shape == (20, 200) and (row["expression"][:, 0] == np.arange(20)).all()
    assert abs(len(corpus.decode_audio(row)) - 20 * 16000 / 24) <= 1
    assert rows["018_SEN-02"]["expression"].shape == (12, 200) and rows["018_SEN-02"]["poses"] is None
    assert sorted(row["split"] for row in rows.values()) == ["test", "train", "validation"]


def test_every_second_frame(tmp_path, monkeypatch):
    place = tracked(tmp_path / "in", "a_one", 21)
    write_wav(place / "audio" / "cleaned_audio.wav", 21, fps=60)
    options = ("--from", "tracked", "--input", tmp_path / "in", "--output-dir", tmp_path / "out")
    build(monkeypatch, *options, "--fps", 60, "--every", 2)
    (row,) = corpus.read(tmp_path / "out")
    assert row["fps"] == 30 and row["expression"][:, 0].tolist() == list(range(0, 21, 2))
    assert abs(len(corpus.decode_audio(row)) - 16000 * 21 / 60) < 2


def test_which_array_is_the_code(tmp_path):
    place = tracked(tmp_path, "a_one", 3) / "nphm_tracking" / "nphm_expressions"
    code = RNG.random(200).astype(np.float32)
    for number, arrays in enumerate(
        ({"z_exp": code, "other": np.ones(200)}, {"x": code, "loss": np.ones(9)}, {"y": code})
    ):
        np.savez(place / f"frame_{number:05d}.npz", frame=number, **arrays)
    np.testing.assert_array_equal(rows_of(find_tracked(tmp_path))[0]["expression"], np.tile(code, (3, 1)))
    np.savez(place / "frame_00001.npz", u=np.ones(64), v=np.ones(32))
    with pytest.raises(FaceTalkError, match=r"frame_00001.npz: which array .* u \(64,\), v \(32,\)"):
        rows_of(find_tracked(tmp_path))


def test_tracked_sequences_that_cannot_be_used(tmp_path):
    def sequence(name: str, spoil) -> str:
        folder = tmp_path / name
        spoil(tracked(folder, "a_one"))
        with pytest.raises(FaceTalkError) as caught:
            rows_of(find_tracked(folder))
        return str(caught.value)

    frames = Path("nphm_tracking/nphm_expressions")
    message = sequence("gap", lambda place: (place / frames / "frame_00007.npz").unlink())
    assert "frame 7 is missing between frame_00006.npz and frame_00008.npz" in message
    message = sequence("nan", lambda p: np.savez(p / frames / "frame_00005.npz", z=np.full(200, np.nan)))
    assert "frame_00005.npz: the code of frame 5 is NaN" in message
    message = sequence("size", lambda p: np.savez(p / frames / "frame_00005.npz", z=np.ones(64)))
    assert "frame_00005.npz: frame 5 has a code of 64 numbers, those before have 200" in message
    message = sequence("broken", lambda p: (p / frames / "frame_00005.npz").write_bytes(b"PK"))
    assert "cannot read" in message and "frame_00005.npz" in message
    message = sequence("long", lambda p: write_wav(p / "audio" / "cleaned_audio.wav", 23))
    assert "cleaned_audio.wav" in message and "longer by more than 2 frames" in message
    message = sequence("short", lambda p: write_wav(p / "audio" / "cleaned_audio.wav", 17))
    assert "shorter by more than 2 frames" in message
    message = sequence("mute", lambda p: (p / "audio" / "cleaned_audio.wav").unlink())
    assert "a_one has no sound file" in message
    message = sequence("codeless", lambda p: shutil.rmtree(p / "nphm_tracking"))
    assert "no folder nphm_tracking/nphm_expressions" in message
    message = sequence("frameless", lambda p: [path.unlink() for path in (p / frames).iterdir()])
    assert "no frames in" in message
    message = sequence("twice", lambda p: np.savez(p / frames / "frame_5.npz", z=np.ones(200)))
    assert "are both frame 5" in message
    for name, text in (("empty", "is empty"), ("nowhere", "no folder")):
        if name == "empty":
            (tmp_path / name).mkdir()
        with pytest.raises(FaceTalkError, match=text):
            find_tracked(tmp_path / name)


def test_names():
    assert speaker_of("017_SEN_01") == ("017", "SEN_01") and speaker_of("a_b_c", "last") == ("a_b", "c")
    assert speaker_of("solo") == ("solo", "solo") and speaker_of("_x") == ("_x", "_x")


def fitted(place: Path, frames: int = 20, fps: float = 25.0) -> dict:
    """A folder as `facetalk fit` leaves it."""
    place.mkdir(parents=True)
    arrays = {"expressions": RNG.standard_normal((frames, 8)).astype(np.float32), "identity": RNG.random(5)}
    arrays |= {"weights": RNG.random((frames, 53)).astype(np.float32), "residual": RNG.random(frames), "fps": fps}
    np.savez(place / "fit.npz", names=np.array(EXPRESSIONS), **arrays)
    rotation = np.tile(np.diag([1.0, -1.0, -1.0]), (frames, 1, 1))
    np.savez(place / "poses.npz", s=np.full(frames, 0.004), R=rotation, t=RNG.random((frames, 3)))
    (place / "comparison.mp4").write_bytes(b"silent")
    return arrays


def test_results_of_a_fit(tmp_path, monkeypatch):
    fits = {name: fitted(tmp_path / "fits" / name) for name in ("anna/one", "anna/two", "bob_one", "cy_one")}
    for name in ("anna_one", "anna/two", "bob_one", "cy_one"):
        write_wav(tmp_path / "sounds" / f"{name}.wav", 21, 25)
    build(
        monkeypatch, "--from", "fits", "--input", tmp_path / "fits", "--audio", tmp_path / "sounds",
        "--output-dir", tmp_path / "out", "--test-speakers", "anna", "--validation-speakers",
    )  # fmt: skip
    assert {row["id"] for row in corpus.read(tmp_path / "out", ("test",))} == {"anna_one", "anna_two"}
    assert {row["id"] for row in corpus.read(tmp_path / "out")} == {"bob_one", "cy_one"}
    (row,) = (row for row in corpus.read(tmp_path / "out", ("test",)) if row["id"] == "anna_two")
    truth = fits["anna/two"]
    for name, key in (("expression", "expressions"), ("identity", "identity"), ("weights", "weights")):
        np.testing.assert_allclose(row[name], truth[key], rtol=1e-6)
    np.testing.assert_allclose(row["residual"], truth["residual"], rtol=1e-6)
    scale, rotation, _ = corpus.unpack_poses(row["poses"])
    assert np.allclose(scale, 0.004) and np.allclose(rotation, np.diag([1, -1, -1]))
    assert row["fps"] == 25 and (row["speaker"], row["sequence"]) == ("anna", "two")

    write_wav(tmp_path / "fits" / "bob_one" / "speech.wav", 20, 25)
    shutil.rmtree(tmp_path / "fits" / "anna")
    shutil.rmtree(tmp_path / "fits" / "cy_one")
    assert len(rows_of(find_fits(tmp_path / "fits"))) == 1
    with pytest.raises(FaceTalkError, match="it should be called bob_one.wav"):
        find_fits(tmp_path / "fits", tmp_path)
    np.savez(tmp_path / "fits" / "bob_one" / "fit.npz", nothing=1)
    with pytest.raises(FaceTalkError, match="fit.npz is no result of `facetalk fit`"):
        rows_of(find_fits(tmp_path / "fits"))
    with pytest.raises(FaceTalkError, match="no fitted sequences"):
        find_fits(tmp_path / "sounds")


def test_the_same_name_in_two_inputs(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        tracked(tmp_path / name, "x_one")
    with pytest.raises(SystemExit, match="2"):
        build(
            monkeypatch,
            "--from",
            "tracked",
            "--input",
            tmp_path / "a",
            tmp_path / "b",
            "--output-dir",
            tmp_path / "out",
        )
    assert re.search(r"x_one is there twice: .*a.x_one and .*b.x_one", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_synthetic_corpus(tmp_path, monkeypatch, capsys):
    """Shards with several splits, as older versions wrote them, become shards of one split; once more does nothing."""
    head = make_named_head()
    head.save_pretrained(tmp_path / "head")
    rows = []
    for index, split in enumerate(("validation", "train", "test")):
        weights = RNG.random((24, 53)).astype(np.float32)
        audio = corpus.encode_audio(speech_like(1.0, index), 16000)
        row = {"id": f"v-000-{index}", "audio": audio, "sampling_rate": 16000, "weights": weights, "split": split}
        row |= {"closure": np.zeros(24, np.float32), "speaker": f"v{index}", "phones": [], "text": "Bob."}
        rows.append(row | {"fps": 24.0, "language": "en", "engine": "none", "licence": "MIT"})
    corpus.write_shard(rows, tmp_path / "speech" / "v-000.parquet")
    options = ("--speech", tmp_path / "speech", "--head", tmp_path / "head", "--output-dir")
    build(monkeypatch, *options, tmp_path / "out")
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert files == sorted(
        [
            "README.md",
            "corpus.json",
            "lips.npy",
            "test/v-000.parquet",
            "train/v-000.parquet",
            "validation/v-000.parquet",
        ]
    )
    (row,) = corpus.read(tmp_path / "out")
    code = head.expression_from_weights(torch.from_numpy(rows[1]["weights"]))
    np.testing.assert_allclose(row["expression"], code, atol=1e-5)
    assert row["id"] == "v-000-1" and np.load(tmp_path / "out" / "lips.npy").shape == (64, 60)
    build(monkeypatch, *options, tmp_path / "out")
    assert "is complete" in capsys.readouterr().out
    build(monkeypatch, *options, tmp_path / "other", "--no-keep-splits", "--test-speakers", "v1", "--validation", "0")
    assert [row["id"] for row in corpus.read(tmp_path / "other", ("test",))] == ["v-000-1"]
    assert len(list(corpus.read(tmp_path / "other"))) == 2
    others = [row | {"id": f"{row['id']}-b"} for row in rows]
    corpus.write_shard(others, tmp_path / "people" / "v-000.parquet")
    build(monkeypatch, "--speech", tmp_path / "speech", tmp_path / "people", *options[2:], tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both" / "train").iterdir()) == [
        "people-v-000.parquet",
        "speech-v-000.parquet",
    ]
