# SPDX-License-Identifier: MIT
"""`facetalk corpus`, `train` and `assemble`: what they refuse, in one line. docs/your-data.md is run as a whole."""

import json

import numpy as np
import pytest
from command import facetalk, write_wav  # noqa: F401
from components import make_denoiser, make_encoder, make_head, make_scheduler, speech_like

from facetalk_hf import LogMelFeatureExtractor
from facetalk_hf.data import corpus


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, error = result
    last = error.splitlines()[-1]  # progress bars before it
    assert code == 2 and "Traceback" not in error and all(word in last for word in words), error


def test_codes_at_any_rate_become_a_corpus_at_that_of_the_model(facetalk, tmp_path):
    folder = tmp_path / "codes"
    folder.mkdir()
    for index, (name, fps) in enumerate((("anna_one", 30), ("bob_one", 50), ("cy_one", 24))):
        values = np.arange(2 * fps)[:, None] / fps * np.ones(3)  # grows by 1 a second
        write_wav(folder / f"{name}.wav", speech_like(2.0, seed=index))
        np.savez(folder / f"{name}.npz", expression=values.astype(np.float32), fps=float(fps))
    code, out, _ = facetalk("corpus", "--input", folder, "--output-dir", tmp_path / "corpus", "--test-speakers", "cy")
    assert code == 0 and "3 sequences of 3 speakers" in out
    rows = list(corpus.read(tmp_path / "corpus", ("train", "validation", "test")))
    assert {row["fps"] for row in rows} == {24.0} and {len(row["expression"]) for row in rows} == {48}
    for row in rows:
        np.testing.assert_allclose(row["expression"][:46, 0], np.arange(46) / 24, atol=1e-4)
    np.savez(folder / "anna_two.npz", expression=np.zeros((48, 3)))
    refused(facetalk("corpus", "--input", folder, "--output-dir", tmp_path / "b"), "anna_two", "no sound")
    write_wav(folder / "anna_two.wav", speech_like(2.0))
    refused(facetalk("corpus", "--input", folder, "--output-dir", tmp_path / "b"), "anna_two", "--fps")
    assert not (tmp_path / "b").exists()
    slow = ("--model-fps", 12, "--fps", 24, "--kind", "codes")
    assert facetalk("corpus", "--input", folder, "--output-dir", tmp_path / "slow", *slow)[0] == 0
    refused(
        facetalk("train", "--corpus", tmp_path / "slow", "--audio-encoder", "facetalk-tiny", "--output-dir",
                 tmp_path / "trained", "--cpu"),
        "12 frames a second", "works at 24", "--model-fps 24",
    )  # fmt: skip


@pytest.mark.parametrize("words, message", [
    (("corpus", "--output-dir", "b"), "--input is needed"), (("corpus", "--input", "a"), "--output-dir is needed"),
    (("corpus", "--input", "nowhere", "--output-dir", "b"), "no folder nowhere"),
    (("corpus", "--input", "nowhere", "--output-dir", "b", "--fsp", "3"), "unrecognized arguments"),
    (("train", "--corpus", "nowhere", "--audio-encoder", "facetalk-tiny"), "--output-dir is needed"),
    (("train", "--corpus", "nowhere", "--audio-encoder", "nowhere", "--output-dir", "b", "--cpu"), "no audio encoder"),
    (("train", "--corpus", "nowhere", "--audio-encoder", "facetalk-tiny", "--output-dir", "b", "--cpu"), "no corpus"),
    (("assemble", "--denoiser", "nowhere", "--output-dir", "b"), "no denoiser/"),
])  # fmt: skip
def test_mistakes_are_one_line(facetalk, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refused(facetalk(*words), message)


def test_parts_are_assembled_with_a_head_or_without(facetalk, tmp_path):
    trained, encoder = tmp_path / "trained", tmp_path / "encoder"
    make_denoiser().save_pretrained(trained / "denoiser")
    make_scheduler().save_pretrained(trained / "scheduler")
    make_encoder().save_pretrained(encoder / "audio_encoder")
    LogMelFeatureExtractor().save_pretrained(encoder / "feature_extractor")
    parts = ("assemble", "--denoiser", trained, "--output-dir", tmp_path / "model")
    refused(facetalk(*parts), "--audio-encoder")
    (trained / "parts.json").write_text(json.dumps({"audio_encoder": str(encoder), "fps": 24.0}))
    code, out, _ = facetalk(*parts)
    assert code == 0 and "codes only" in out and (tmp_path / "model" / "pipeline.py").is_file()
    make_head().save_pretrained(tmp_path / "head")
    code, out, _ = facetalk(*parts, "--head", tmp_path / "head")
    assert code == 0 and "a head" in out and (tmp_path / "model" / "head").is_dir()
    make_head(expression_dim=7).save_pretrained(tmp_path / "other")
    refused(facetalk(*parts, "--head", tmp_path / "other"), "codes of 64 numbers")
    refused(facetalk(*parts, "--audio-encoder", "facetalk-tiny"), "features")
