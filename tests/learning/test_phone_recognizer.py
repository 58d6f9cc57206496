# SPDX-License-Identifier: MIT
"""A large ear learns to hear two phones, tells them with their times, and the mouth closes where it heard m."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from command import assert_one_line, facetalk, needs_model, write_wav  # noqa: F401
from components import RATE, make_named_head, make_pipeline, make_whisper
from safetensors.torch import load_file
from scripts import load_script
from speech_rows import make_row

from facetalk_hf import FaceTalkError, LargeEar
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus
from facetalk_hf.importers import aligned_speech
from facetalk_hf.importers.speech_folders import Utterance
from facetalk_hf.learning.mouth_regression import phones_at
from facetalk_hf.models.phone_recognizer import PhoneRecognizer
from facetalk_hf.phones.segments import Segment
from facetalk_hf.phones.visemes import PHONES


def sing(segments: list[Segment], seed: int = 0) -> np.ndarray:
    """A low hum for m, a bright tone for aa, a hiss for silence."""
    rng = np.random.default_rng(seed)
    count = round(segments[-1].end * RATE)
    time = np.arange(count) / RATE
    samples = 0.003 * rng.standard_normal(count)
    for phone, start, end in segments:
        part = slice(round(start * RATE), round(end * RATE))
        pitch = {"m": 200.0, "aa": 1500.0}.get(phone)
        samples[part] += 0.2 * np.sin(2 * np.pi * pitch * time[part]) if pitch else 0
    return samples.astype(np.float32)


def song(seed: int, parts: int = 7) -> list[Segment]:
    rng, at, result = np.random.default_rng(seed), 0.0, []
    for index in range(parts):
        length = float(rng.uniform(0.12, 0.25))
        result.append(Segment(("pau", "m", "aa")[(index + seed) % 3], at, at + length))
        at += length
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders: of the encoder with its recogniser, and of the run."""
    folder = tmp_path_factory.mktemp("ear")
    encoder, extractor = make_whisper(max_source_positions=150)
    encoder.save_pretrained(folder / "whisper")
    extractor.save_pretrained(folder / "whisper")
    rows = []
    for index in range(8):
        segments = song(index)
        phones = [{"phone": name, "start": start, "end": end} for name, start, end in segments]
        audio = corpus.encode_audio(sing(segments, index), RATE)
        rows.append(make_row(index) | {"audio": audio, "phones": phones, "speaker": f"singer{index % 4}"})
    (folder / "corpus").mkdir()
    corpus.write_shard(rows, folder / "corpus" / "train-0.parquet")
    options = ["--corpus", folder / "corpus", "--encoder", folder / "whisper", "--cache-dir", folder / "cache"]
    options += ["--encoder-name", folder / "whisper", "--leave-out", "singer3", "--variants", 1, "--hidden-size", 24]
    options += ["--batch-size", 8, "--crop", 40, "--max-train-steps", 240, "--learning-rate", 0.03]
    options += ["--ema-decay", 0.9, "--mixed-precision", "no", "--checkpointing-steps", 80, "--validation-steps", 80]
    script = load_script("training/train_phone_recognizer.py")
    script.main([str(word) for word in [*options, "--output-dir", folder / "run"]])
    shutil.copytree(folder / "run" / "phone_recognizer", folder / "whisper" / "phone_recognizer")
    return folder, script, options


def test_a_voice_that_was_left_out_is_heard_with_its_times(trained):
    ear = LargeEar.from_pretrained(trained[0] / "whisper")
    wanted = song(11)
    found = ear(sing(wanted, 11), RATE)
    assert [item.phone for item in found] == [item.phone for item in wanted]
    assert max(abs(made.start - told.start) for made, told in zip(found, wanted, strict=True)) < 0.045
    assert found[-1].end == pytest.approx(wanted[-1].end, abs=1e-4)


def test_known_words_are_aligned_by_it_and_words_that_nobody_said_are_left_out(trained, tmp_path, monkeypatch):
    wanted = [Segment("pau", 0, 0.2), Segment("m", 0.2, 0.4), Segment("aa", 0.4, 0.64), Segment("pau", 0.64, 0.84),
              Segment("aa", 0.84, 1.1), Segment("m", 1.1, 1.3)]  # fmt: skip
    soundfile.write(tmp_path / "song.wav", sing(wanted, 3), RATE)
    monkeypatch.setattr(aligned_speech, "read_word", lambda word, language: tuple(word.split("-")))
    monkeypatch.setattr(aligned_speech, "split_words", str.split)
    limits = aligned_speech.AlignmentLimits(ear=str(trained[0] / "whisper"))
    soundfile.write(tmp_path / "tone.wav", sing([Segment("pau", 0, 0.2), Segment("aa", 0.2, 0.8)], 4), RATE)
    texts = [("song", "m-aa aa-m"), ("tone", "aa-m-aa"), ("song", "m")]
    told = [Utterance(f"{name} {text}", "anna", tmp_path / f"{name}.wav", text) for name, text in texts]
    right, *others = aligned_speech.align_utterances(told, tmp_path / "work", limits)
    assert right.kept, right.reason
    assert [item.phone for item in right.phones] == [item.phone for item in wanted]
    assert max(abs(made.start - true.start) for made, true in zip(right.phones, wanted, strict=True)) < 0.07
    assert [item.reason[:14] for item in others] == ["m is not heard", "the confidence"]


def test_the_lips_close_where_it_hears_m(trained):
    ear, pipe = LargeEar.from_pretrained(trained[0] / "whisper"), make_pipeline(head=make_named_head())
    wanted = [Segment("aa", 0, 0.4), Segment("m", 0.4, 0.6), Segment("aa", 0.6, 1.0)]
    sound = sing(wanted)
    codes = pipe(sound, RATE, phones=ear(sound, RATE), generator=torch.Generator().manual_seed(0),
                 num_inference_steps=2, output_type="expression").expressions  # fmt: skip
    weights = codes[0] @ pipe.head.expression_basis
    gap = weights[:, INDEX["jawOpen"]] - weights[:, INDEX["mouthClose"]]
    assert gap[12] < 0.05 < 0.15 < min(gap[6], gap[18])


def test_a_run_that_was_killed_ends_with_the_same_weights(trained, monkeypatch):
    folder, script, options = trained
    short = [*map(str, options), "--max-train-steps", "20", "--checkpointing-steps", "8", "--output-dir"]
    clips = sorted((path, path.stat().st_mtime_ns) for path in (folder / "cache").rglob("*.npy"))
    script.main([*short, str(folder / "whole")])
    count, backward = [], Accelerator.backward

    def interrupt(self, loss):
        count.append(loss)
        if len(count) == 13:
            raise KeyboardInterrupt
        backward(self, loss)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Accelerator, "backward", interrupt)
        script.main([*short, str(folder / "killed")])
    script.main([*short, str(folder / "killed"), "--resume"])
    made, wanted = (
        load_file(folder / name / "phone_recognizer" / "diffusion_pytorch_model.safetensors")
        for name in ("killed", "whole")
    )
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)
    heard = sorted((path, path.stat().st_mtime_ns) for path in (folder / "cache").rglob("*.npy"))
    assert heard == clips and len(clips) == 8  # no clip was encoded a second time


def test_phones_are_numbered_at_the_times_of_features():
    numbers = phones_at([Segment("m", 0, 0.05), Segment("aa", 0.05, 0.2)], 0.02 * np.arange(6))
    assert [PHONES[number] for number in numbers] == ["m"] * 3 + ["aa"] * 3


def test_an_encoder_of_another_size_is_one_line(trained, tmp_path):
    encoder, extractor = make_whisper(d_model=32)
    recognizer = PhoneRecognizer.from_pretrained(trained[0] / "whisper" / "phone_recognizer")
    with pytest.raises(FaceTalkError, match="32 features.*24"):
        LargeEar(encoder, extractor, recognizer)


@needs_model
def test_the_command_hears_with_it(trained, tmp_path, facetalk):  # noqa: F811
    wanted = [Segment("aa", 0, 0.4), Segment("m", 0.4, 0.6), Segment("aa", 0.6, 1.0)]
    sound = write_wav(tmp_path / "sung.wav", sing(wanted))
    command = ["generate", sound, "--output-dir", tmp_path / "out", "--format", "csv", "--fast"]
    assert_one_line(facetalk(*command, "--ear", tmp_path / "nowhere"), "no folder", "nowhere")
    assert_one_line(facetalk(*command, "--ear", tmp_path), "audio encoder")
    assert_one_line(facetalk(*command, "--ear", tmp_path, "--text", "mama"), "--ear")
    code, _, error = facetalk(*command, "--ear", trained[0] / "run")
    assert code == 0 and "Loading" not in error, error
    table = np.genfromtxt(tmp_path / "out" / "sung.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    gap = table["JawOpen"] - table["MouthClose"]
    assert gap[12:14].min() < 0.02 < 0.1 < min(gap[5:8].max(), gap[18:21].max())
