# SPDX-License-Identifier: MIT
"""The command line: what it writes, and the one line that it says about bad input."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import RATE, assert_one_line, facetalk, model, needs_model, write_wav  # noqa: F401

import facetalk_hf
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import MOUTH
from facetalk_hf.cli.common import Format
from facetalk_hf.cli.inputs import plan_outputs, read_spoken, read_texts
from facetalk_hf.cli.main import main
from facetalk_hf.errors import FaceTalkError


def write_nan_wav(path: Path) -> Path:
    """Write a float WAV of NaN, the kind of file that a broken exporter leaves."""
    data = np.full(RATE // 2, np.nan, "<f4").tobytes()
    fmt = b"fmt " + np.array([16], "<u4").tobytes() + np.array([3, 1], "<u2").tobytes()
    fmt += np.array([RATE, RATE * 4], "<u4").tobytes() + np.array([4, 32], "<u2").tobytes()
    body = b"WAVE" + fmt + b"data" + np.array([len(data)], "<u4").tobytes() + data
    path.write_bytes(b"RIFF" + np.array([len(body)], "<u4").tobytes() + body)
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    seconds = np.arange(RATE // 2) / RATE
    return write_wav(
        tmp_path / "clip.wav", 0.3 * np.sin(2 * np.pi * 150 * seconds) * np.sin(2 * np.pi * 2 * seconds) ** 2
    )


def test_help_and_version(facetalk):
    assert facetalk()[0] == 0
    for arguments in ([], ["--help"], ["-h"]):
        code, out, _ = facetalk(*arguments)
        assert code == 0 and "generate" in out and "info" in out
    code, out, _ = facetalk("generate", "--help")
    assert code == 0
    for option in ("output-dir", "model", "identity", "seed", "steps", "guidance-scale", "intensity", "num-samples"):
        assert f"--{option}" in out
    for option in ("upper-face-intensity", "blink-rate", "gaze", "head-motion", "keyframes"):
        assert f"--{option}" in out
    for option in ("format", "device", "dtype", "size", "silence-gate", "smoothing", "fps", "geometry"):
        assert f"--{option}" in out
    assert facetalk("--version") == (0, f"facetalk_hf {facetalk_hf.__version__}\n", "")


BAD_AUDIO = {
    "missing": lambda folder: folder / "missing.wav",
    "empty": lambda folder: (folder / "empty.wav", (folder / "empty.wav").touch())[0],
    "text": lambda folder: (folder / "text.wav", (folder / "text.wav").write_text("no sound in here\n" * 99))[0],
    "samples": lambda folder: write_wav(folder / "none.wav", np.zeros(0)),
    "NaN": lambda folder: write_nan_wav(folder / "nan.wav"),
    "folder": lambda folder: (folder / "folder.wav", (folder / "folder.wav").mkdir())[0],
}


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio(facetalk, tmp_path, model, clip, kind):
    bad = BAD_AUDIO[kind](tmp_path)
    result = facetalk("generate", clip, bad, "--output-dir", tmp_path / "out", "--model", model)
    assert_one_line(result, bad.name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "-1"], ["--steps", "at least 1", "-1"]),
        (["--steps", "0"], ["--steps"]),
        (["--steps", "many"], ["--steps"]),
        (["--num-samples", "0"], ["--num-samples"]),
        (["--intensity", "nan"], ["--intensity"]),
        (["--intensity", "-0.5"], ["--intensity"]),
        (["--guidance-scale", "inf"], ["--guidance-scale"]),
        (["--seed", "-1"], ["--seed"]),
        (["--fps", "0"], ["--fps", "between 1 and 1000"]),
        (["--smoothing", "-1"], ["--smoothing"]),
        (["--upper-face-intensity", "nan"], ["--upper-face-intensity"]),
        (["--blink-rate", "-3"], ["--blink-rate", "between 0 and 60"]),
        (["--head-motion", "inf"], ["--head-motion"]),
        (["--gaze", "5", "99"], ["--gaze", "99"]),
        (["--keyframes", "missing.csv"], ["missing.csv", "no such file"]),
        (["--phones", "missing.csv"], ["missing.csv", "no such file"]),
        (["--text", "missing.txt"], ["missing.txt", "no such file"]),
        (["--text", " "], ["--text", "empty"]),
        (["--phones", "missing.csv", "--text", "hello"], ["--phones", "--text", "one of them"]),
        (["--phone-strength", "2"], ["--phone-strength", "between 0 and 1"]),
        (["--size", "321"], ["--size", "even"]),
        (["--size", "9999"], ["--size", "3840"]),
        (["--size", "640x"], ["--size", "WIDTHxHEIGHT"]),
        (["--size", "64x65"], ["--size", "even"]),
        (["--zoom", "0.2"], ["--zoom", "between 1 and 4"]),
        (["--yaw", "400"], ["--yaw", "180"]),
        (["--background", "#12"], ["#12", "#rrggbb"]),
        (["--background", "missing.png"], ["missing.png", "transparent"]),
        (["--background", "transparent"], ["mp4", "webm"]),
        (["--format", "avi"], ["avi", "mp4"]),
        (["--dtype", "int8"], ["int8", "float32"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--identity", "nobody"], ["nobody", "zero"]),
        (["--identity", "random:x"], ["random:x", "random:SEED"]),
        (["--identity", "missing.npy"], ["missing.npy"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") and len(value) < 3 else "",
)
def test_bad_options(facetalk, tmp_path, model, clip, arguments, words):
    result = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--model", model, *arguments)
    assert_one_line(result, *words)
    assert not (tmp_path / "out").exists()


def test_bad_keyframes(facetalk, tmp_path, model, clip):
    path = tmp_path / "keys.csv"
    out = ["--output-dir", tmp_path / "out", "--model", model, "--keyframes", path]
    for text, word in (("frame,jawOpn\n1,1\n", "jawOpn"), ("frame,jawOpen\n1,1\n1,0\n", "fixed twice")):
        path.write_text(text)
        assert_one_line(facetalk("generate", clip, *out), "keys.csv", word)
    path.write_text("frame,jawOpen\n1,1\n")
    assert_one_line(facetalk("generate", clip, clip.with_name("other.wav"), *out), "one recording")
    assert not (tmp_path / "out").exists()


def test_phones_and_texts_belong_to_recordings(tmp_path):
    audio = [tmp_path / "a.wav", tmp_path / "b.wav"]
    assert read_spoken(None, audio) == read_texts(None, audio) == [None, None]
    folder = tmp_path / "said"
    folder.mkdir()
    for name, phone in (("a", "m"), ("b", "aa")):
        (folder / f"{name}.csv").write_text(f"phone,start,end\n{phone},0,0.3\n")
        (folder / f"{name}.txt").write_text(f"{phone}\n")
    assert read_texts(str(folder), audio) == ["m\n", "aa\n"]
    assert read_texts("two words", audio[:1]) == ["two words"] and read_texts("word " * 999, audio[:1])
    assert [[segment.phone for segment in item] for item in read_spoken(folder, audio)] == [["m"], ["aa"]]
    assert read_spoken(folder / "a.csv", audio[:1]) == read_spoken(folder, audio[:1])
    for wrong in (lambda: read_spoken(folder / "a.csv", audio), lambda: read_texts("two words", audio)):
        with pytest.raises(FaceTalkError, match="one recording, but 2"):
            wrong()
    (folder / "a.json").write_text("[]")
    with pytest.raises(FaceTalkError, match="both a.csv and a.json"):
        read_spoken(folder, audio)
    with pytest.raises(FaceTalkError, match="no c.txt"):
        read_texts(str(folder), [tmp_path / "c.wav"])


@needs_model
def test_keyframes_beyond_the_clip(facetalk, tmp_path, clip):
    path = tmp_path / "keys.csv"
    path.write_text("frame,jawOpen\n12,1\n")
    result = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--keyframes", path)
    assert_one_line(result, "keyframe 12", "0 to 11")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["no model folder"]),
        ("deep/er/missing", ["no model folder"]),
        ("empty", ["model_index.json"]),
        ("file", ["is a file"]),
        ("json", ["JSON"]),
        ("other", ["names no pipeline"]),
        ("parts", ["cannot load"]),
    ],
)
def test_bad_models(facetalk, tmp_path, clip, name, words):
    for folder in ("empty", "json", "other", "parts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("weights")
    (tmp_path / "json" / "model_index.json").write_text("{")
    (tmp_path / "other" / "model_index.json").write_text('{"architectures": []}')
    (tmp_path / "parts" / "model_index.json").write_text(
        '{"_class_name": "FaceTalkPipeline", "_diffusers_version": "0.42.1", '
        '"denoiser": ["facetalk_hf.models.denoiser", "FaceTalkDenoiser"]}'
    )
    result = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--model", tmp_path / name)
    assert_one_line(result, *words)
    assert not (tmp_path / "out").exists()
    if name != "parts":
        assert_one_line(facetalk("info", tmp_path / name), *words)


def test_unknown_hub_id(facetalk, tmp_path, clip):
    # The suite runs with HF_HUB_OFFLINE=1: what is not in the cache cannot be had.
    result = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--model", "nobody/nothing")
    assert_one_line(result, "nobody/nothing")
    assert not (tmp_path / "out").exists()


def test_model_without_head(facetalk, tmp_path, model, clip):
    assert_one_line(facetalk("generate", clip, "--output-dir", tmp_path / "out", "--model", model), "no head")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file/out", "file"])
def test_output_folder_that_cannot_be_written(facetalk, tmp_path, model, clip, name):
    (tmp_path / "file").write_text("in the way")
    result = facetalk("generate", clip, "--output-dir", tmp_path / name, "--model", model)
    assert_one_line(result, "cannot write to")
    assert (tmp_path / "file").read_text() == "in the way"


def test_bad_identity_files(facetalk, tmp_path, model, clip):
    np.save(tmp_path / "table.npy", np.zeros((2, 3)))
    np.save(tmp_path / "nan.npy", np.full(8, np.nan))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    for name in ("table", "nan", "words", "text", "empty"):
        path = tmp_path / f"{name}.npy"
        result = facetalk("generate", clip, "--output-dir", tmp_path / "o", "--model", model, "--identity", path)
        assert_one_line(result, path.name)


def test_names_that_would_meet(facetalk, tmp_path, model, clip):
    (tmp_path / "other").mkdir()
    twin = write_wav(tmp_path / "other" / "clip.wav", np.zeros(99))
    upper = write_wav(tmp_path / "other" / "CLIP.wav", np.zeros(99))
    out = ["--output-dir", tmp_path / "out", "--model", model]
    for other in (twin, upper):
        assert_one_line(facetalk("generate", clip, other, *out), str(clip), str(other))
    assert_one_line(facetalk("generate", clip, clip, *out), "twice")
    with pytest.raises(FaceTalkError, match="replaced"):
        plan_outputs([clip], clip.parent, [Format.wav], 1)
    numbered = write_wav(tmp_path / "clip-2.wav", np.zeros(99))
    assert plan_outputs([clip, numbered], tmp_path, [Format.glb], 1)
    with pytest.raises(FaceTalkError, match="clip-2-2|clip-2"):
        plan_outputs([clip, tmp_path / "clip-2", numbered], tmp_path, [Format.glb], 2)
    # A result never replaces its own source.
    video = tmp_path / "talk.mp4"
    video.write_bytes(b"x")
    assert_one_line(facetalk("generate", video, "--output-dir", tmp_path, "--model", model), "talk.mp4")
    assert video.read_bytes() == b"x"


def test_missing_arguments(facetalk, clip):
    assert_one_line(facetalk("generate"), "AUDIO")
    assert_one_line(facetalk("generate", clip), "--output-dir")
    assert_one_line(facetalk("animate", clip), "animate")


def test_info_of_a_model(facetalk, model):
    code, out, _ = facetalk("info", model)
    assert code == 0
    for word in ("FaceTalkPipeline", "denoiser", "FaceTalkDenoiser", "fps", "none", "total"):
        assert word in out


def test_info_of_a_result(facetalk, tmp_path):
    np.savez(tmp_path / "x.npz", expression=np.zeros((5, 64), np.float32), fps=24.0)
    code, out, _ = facetalk("info", tmp_path / "x.npz")
    assert code == 0 and "(5, 64)" in out and "24.0" in out
    (tmp_path / "y.npz").write_text("no archive")
    assert_one_line(facetalk("info", tmp_path / "y.npz"), "y.npz")
    assert_one_line(facetalk("info", tmp_path / "z.npz"), "no such file")


def test_process_says_one_line_and_no_traceback(tmp_path):
    """The real process, once: exit code, stdout and stderr as a shell sees them."""
    command = [sys.executable, "-m", "facetalk_hf.cli", "generate", "missing.wav", "--output-dir", "out"]
    environment = os.environ | {"PYTHONPATH": str(Path(facetalk_hf.__file__).parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert_one_line((done.returncode, done.stdout, done.stderr))
    assert not list(tmp_path.iterdir())


@needs_model
def test_generate_writes_what_was_asked_for(facetalk, tmp_path, clip):
    out = tmp_path / "new" / "out"
    arguments = ["generate", clip, "--output-dir", out, "--steps", "2", "--size", "64"]
    code, text, _ = facetalk(*arguments)
    assert code == 0 and "12 frame" in text
    assert sorted(path.name for path in out.iterdir()) == ["clip.glb", "clip.mp4", "clip.npz"]
    with np.load(out / "clip.npz") as arrays:
        assert len(arrays["expression"]) == 12 and arrays["fps"] == 24 and arrays["seed"] == 0
        assert arrays["landmarks"].shape == (12, 68, 3) and arrays["lip_aperture"].shape == (12,)
        motion = arrays["expression"]

    before = (out / "clip.npz").read_bytes()
    assert facetalk(*arguments, "--format", "npz")[0] == 0
    assert (out / "clip.npz").read_bytes() == before
    assert facetalk(*arguments, "--format", "npz", "--seed", "1")[0] == 0
    with np.load(out / "clip.npz") as arrays:
        assert arrays["seed"] == 1 and not np.allclose(arrays["expression"], motion)


@needs_model
def test_rest_in_silence_another_rate_and_the_head_in_the_file(facetalk, tmp_path):
    hum = 0.3 * np.sin(2 * np.pi * 150 * np.arange(RATE) / RATE)
    clip = write_wav(tmp_path / "clip.wav", np.concatenate([hum, np.zeros(RATE)]))
    arguments = ["generate", clip, "--output-dir", tmp_path, "--steps", "2", "--format", "npz"]
    assert facetalk(*arguments, "--intensity", "2", "--geometry")[0] == 0
    before = HeadAnimation.load(tmp_path / "clip.npz")
    assert len(before.base) > 1000 and len(before.audio) == 2 * RATE
    assert facetalk(*arguments, "--intensity", "2", "--silence-gate", "--fps", "60")[0] == 0
    after = HeadAnimation.load(tmp_path / "clip.npz")
    assert (after.fps, after.num_frames, len(after.base)) == (60, 120, 0)
    mouth = np.isin(after.target_names, MOUTH)
    spoken = slice(0, 20)  # frames of 24 a second
    # Cheeks and nose are left alone, and move the lips by some tenths of a millimetre.
    assert np.abs(after.weights[-40:][:, mouth]).max() < 1e-3 and np.abs(after.lip_aperture[-40:]).max() < 0.5
    same = np.interp(np.arange(20) / 24, np.arange(120) / 60, after.lip_aperture)
    np.testing.assert_allclose(same, before.lip_aperture[spoken], atol=0.3)
    np.testing.assert_allclose(after.weights[::5][:48, ~mouth], before.weights[::2][:24, ~mouth], atol=1e-3)


@needs_model
def test_generate_several(facetalk, tmp_path, clip):
    second = write_wav(tmp_path / "silence.wav", np.zeros(RATE // 4))
    arguments = ["--output-dir", tmp_path / "out", "--steps", "2", "--format", "npz", "--identity", "1"]
    code, _, _ = facetalk("generate", clip, second, *arguments, "--num-samples", "2", "--format", "csv")
    assert code == 0
    stems = ("clip-1", "clip-2", "silence-1", "silence-2")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{s}.{k}" for s in stems for k in ("csv", "npz")}
    first, other = (np.load(tmp_path / "out" / f"clip-{k}.npz")["expression"] for k in (1, 2))
    assert not np.allclose(first, other)
    # A file's result does not depend on the other files of the command.
    assert facetalk("generate", second, *arguments, "--num-samples", "2")[0] == 0
    both, alone = (np.load(tmp_path / "out" / "silence-1.npz")["expression"] for _ in range(2))
    np.testing.assert_array_equal(both, alone)


@needs_model
def test_identity_that_does_not_fit(facetalk, tmp_path, clip):
    np.save(tmp_path / "short.npy", np.zeros(7))
    for identity in (tmp_path / "short.npy", "100000", "-1"):
        result = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--identity", identity)
        assert_one_line(result, "identity")
        assert not (tmp_path / "out").exists()


@needs_model
def test_less_than_a_frame(facetalk, tmp_path):
    clip = write_wav(tmp_path / "blip.wav", np.full(10, 0.1))
    code, text, _ = facetalk("generate", clip, "--output-dir", tmp_path / "out", "--steps", "2", "--size", "64")
    assert code == 0 and "1 frame" in text
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".glb", ".mp4", ".npz"]


@needs_model
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_terminated_run_leaves_nothing_half_written(tmp_path, clip):
    long = write_wav(tmp_path / "long.wav", np.zeros(RATE * 20))
    out = tmp_path / "out"
    words = ["generate", str(clip), str(long), "--output-dir", str(out), "--steps", "1", "--format", "mp4"]
    process = multiprocessing.get_context("fork").Process(target=main, args=([*words, "--size", "64"],))
    process.start()
    end = time.monotonic() + 120
    while not list(out.glob(".long*")) and process.is_alive() and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    # The file that was done stays, the one that was being written goes.
    assert [path.name for path in out.iterdir()] == ["clip.mp4"]
