# SPDX-License-Identifier: MIT
"""The way round: heads that speak are scanned, fitted, put into a corpus, and compared with what was scanned."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scanned_head import head, write_scans  # noqa: F401
from scripts import load_script as script
from speech_rows import make_row

from facetalk_hf import FaceTalkError
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus
from facetalk_hf.fitting.point_clouds import read_sequence
from facetalk_hf.fitting.poses import read_transforms
from facetalk_hf.synthetic.scans import ScanFaults, SpeakingHead
from facetalk_hf.synthetic.spoken_scans import choose_rows


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
FRAMES = 12


def spoken(index: int, speaker: str, split: str = "train") -> dict:
    row = make_row(index, 30, split)
    row["weights"] *= 0.1
    row["weights"][15:18, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = 0.9
    row["phones"] = [
        {"phone": "pau", "start": 0.0, "end": 0.25}, {"phone": "aa", "start": 0.25, "end": 1.25},
    ]  # fmt: skip
    return row | {"id": f"{speaker}-000-{index:03d}", "speaker": speaker, "engine": "flite"}


@pytest.fixture(scope="module")
def made(head, tmp_path_factory) -> Path:  # noqa: F811
    """heads/, corpus/, head/, scans/ and fits/: three sequences of two people and two voices, one of them held out."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("heads", "head"):
        (folder / name).mkdir()
    write_scans(head, folder / "heads")
    head.save_pretrained(folder / "head")
    rows = [spoken(0, "anna"), spoken(1, "anna"), spoken(2, "bert"), spoken(3, "bert"), spoken(4, "rms", "test")]
    corpus.write_shard(rows, folder / "corpus" / "a.parquet")
    script("training/scan_corpus.py").main(scanning(folder, folder / "scans"))
    script("training/fit_expressions.py").main(
        ["--scans", str(folder / "scans"), "--model", str(folder / "head"), "--output-dir", str(folder / "fits"),
         "--points", "150", "--device", "cpu"]
    )  # fmt: skip
    return folder


def scanning(folder: Path, output: Path, *more: str) -> list[str]:
    paths = {
        "--data": folder / "heads",
        "--corpus": folder / "corpus",
        "--model": folder / "head",
        "--output-dir": output,
    }
    sizes = ["--sequences", "3", "--frames", str(FRAMES), "--points", "200", "--identity-steps", "20"]
    return [*(str(word) for pair in paths.items() for word in pair), *sizes, *more]


def test_scans_are_what_was_said_where_the_transform_says(made):
    folders = sorted((made / "scans").iterdir())
    assert [path.name[:5] for path in folders] == ["0000-", "0001-", "0002-"]
    voices, pool = set(), dict(np.load(made / "heads" / "template.npz"))
    for path in folders:
        about = json.loads((path / "sequence.json").read_text())
        voices.add(about["speaker"])
        truth = np.load(path / "truth.npz")["weights"]
        row = next(row for row in corpus.read(made / "corpus") if row["id"] == about["id"])
        assert np.array_equal(truth, row["weights"][about["first"] :][:FRAMES])
        # Mostly speech, and times from the sequence's own start.
        assert sum(p["end"] - p["start"] for p in about["phones"] if p["phone"] == "aa") >= 0.65 * FRAMES / 24
        assert max(p["end"] for p in about["phones"]) <= FRAMES / 24 + 1e-6
        samples = corpus.decode_audio({"audio": {"bytes": (path / "audio.flac").read_bytes()}})
        assert len(samples) == pytest.approx(FRAMES / 24 * 16000, abs=2)
        # Clouds are in mm; taken back by the transform, every point lies on the person, but for the noise.
        scale, rotation, move = read_transforms(path / "transforms.npz", FRAMES)
        person = SpeakingHead(pool, dict(np.load(made / "heads" / f"{about['person']}.npz")))
        _, clouds = read_sequence(path)
        assert len(clouds) == FRAMES and len(np.unique(rotation.round(6), axis=0)) > 1
        for frame in (0, FRAMES - 1):
            back = scale[frame] * clouds[frame].points @ rotation[frame].T + move[frame]
            surface = np.concatenate([person.posed(truth[frame]), person.eyes])
            near = np.linalg.norm(back[:, None] - surface, axis=-1).min(1) * 250
            assert near.mean() < 6 and np.abs(back).max() < 2  # samples of the little pool are centimetres apart
    assert voices == {"anna", "bert"}


def test_scans_are_seeded_and_not_made_twice(made, tmp_path):
    scan = script("training/scan_corpus.py")
    scan.main(scanning(made, tmp_path / "again"))
    for path in sorted((made / "scans").glob("*/*.npz")):
        with np.load(path) as one, np.load(tmp_path / "again" / path.relative_to(made / "scans")) as other:
            assert all(np.array_equal(one[name], other[name]) for name in one.files)
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "again").glob("*/*"))]
    scan.main(scanning(made, tmp_path / "again"))
    assert stamps == [path.stat().st_mtime_ns for path in sorted((tmp_path / "again").glob("*/*"))]


def test_a_share_has_blinks_and_test_voices_are_left_alone(made):
    rows = choose_rows(made / "corpus", 4, FRAMES, 1.0, 0)
    assert {row["speaker"] for row in rows} == {"anna", "bert"}
    assert all(row["weights"][:, INDEX["eyeBlink_L"]].max() > 0.5 for row in rows)
    with pytest.raises(FaceTalkError, match="only 4 clips"):
        choose_rows(made / "corpus", 5, FRAMES, 0.0, 0)


def test_both_corpora_hold_the_same_sequences(made, tmp_path, head):  # noqa: F811
    build = script("training/build_fitted_corpus.py")
    where = ["--scans", str(made / "scans"), "--fits", str(made / "fits"), "--model", str(made / "head")]
    build.main([*where, "--output-dir", str(tmp_path / "fitted")])
    build.main([*where, "--true", "--output-dir", str(tmp_path / "true")])
    fitted, true = (list(corpus.read(tmp_path / name)) for name in ("fitted", "true"))
    names = sorted(path.name for path in made.glob("scans/*"))
    assert [row["id"] for row in fitted] == [row["id"] for row in true] == names
    for a, b in zip(fitted, true, strict=True):
        assert a["audio"]["bytes"] == b["audio"]["bytes"] and a["phones"] == b["phones"]
        fit = np.load(made / "fits" / a["id"] / "fit.npz")
        assert np.array_equal(a["expression"], fit["expressions"]) and a["residual"].shape == (FRAMES,)
        assert np.array_equal(b["weights"], np.load(made / "scans" / b["id"] / "truth.npz")["weights"])
        basis = head.expression_basis.numpy()
        np.testing.assert_allclose(b["expression"], b["weights"] @ basis.T, atol=1e-5)
        assert np.array_equal(a["identity"], b["identity"]) and np.allclose(a["poses"], b["poses"], atol=1e-5)
        assert a["split"] == "train" and a["licence"] == "MIT" and a["source"].startswith("training/scan_corpus.py")


def test_the_comparison_knows_perfect_fits_and_none(made, tmp_path, monkeypatch, capsys):
    compare = script("benchmarks/fitted_codes.py")
    pairs = compare.read_pairs(made / "scans", made / "fits")
    perfect = compare.shape_scores([pair | {"fitted": pair["true"]} for pair in pairs])
    assert perfect["error"] == 0 and perfect["aperture"] == pytest.approx(1) and perfect["lips"]["correlation"] > 0.999
    nothing = compare.shape_scores([pair | {"fitted": np.zeros_like(pair["true"])} for pair in pairs])
    assert nothing["error"] == pytest.approx(nothing["error_rest"]) and nothing["lips"]["correlation"] == 0
    scores = [{"scores": {"rms": {"diffusion": {"aperture": value}}}} for value in (0.5, 0.7)]
    for index, content in enumerate(scores):
        (tmp_path / f"{index}.json").write_text(json.dumps(content))
    words = ["fitted_codes.py", "--scans", made / "scans", "--fits", made / "fits", "--data", made / "heads"]
    words += ["--model", made / "head", "--corpus", made / "corpus", "--output", tmp_path / "all.json"]
    words += ["--metrics", *(f"true={tmp_path / f'{index}.json'}" for index in (0, 1))]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    compare.main()
    assert "0.500 0.700" in capsys.readouterr().out
    result = json.loads((tmp_path / "all.json").read_text())
    assert result["cost"]["frames"] == 150 and result["cost"]["core_hours"] > 0
    for kinds in result["points"].values():
        assert kinds["true"]["face"] < kinds["rest"]["face"]  # the head knows the motion that was scanned


def test_noise_alone_moves_the_points(head, tmp_path):  # noqa: F811
    """The quick product of `scan` is what `posed` says."""
    write_scans(head, tmp_path)
    person = SpeakingHead(dict(np.load(tmp_path / "template.npz")), dict(np.load(tmp_path / "test_0000.npz")))
    weights = np.random.default_rng(0).random(53).astype(np.float32)
    points = person.scan(weights, 300, ScanFaults(noise=0.0), 0)
    surface = np.concatenate([person.posed(weights), person.eyes])
    assert np.linalg.norm(points[:, None] - surface, axis=-1).min(1).max() < 1e-5
