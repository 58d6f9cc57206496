# SPDX-License-Identifier: MIT
"""Reading audio: formats, rates, channels, depths, and every input that must be refused."""

import io
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.audio.io import load_audio, num_frames, read_audio
from facetalk_hf.errors import FaceTalkError


RATE = 16000


def tone(rate: int = RATE, seconds: float = 0.5, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def write_compressed(path: Path, codec: str, rate: int, channels: int, with_video: bool = False) -> None:
    samples = np.tile(tone(rate, 1.0), (channels, 1))
    with av.open(str(path), "w") as container:
        if with_video:
            video = container.add_stream("mpeg4", rate=24)
            video.width = video.height = 32
        stream = container.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        for index in range(24 if with_video else 0):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * index, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if with_video:
            container.mux(video.encode(None))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = min(len(a), len(b))
    return float(np.corrcoef(a[:size], b[:size])[0, 1])


@pytest.mark.parametrize("subtype, error", [
    ("PCM_U8", 8e-3), ("PCM_16", 4e-5), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("FLOAT", 0), ("DOUBLE", 0),
    ("ULAW", 2e-2),
])  # fmt: skip
def test_wav_depths(tmp_path, subtype, error):
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    samples = load_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32 and samples.shape == (RATE // 2,)
    assert np.abs(samples - tone()).max() <= error


@pytest.mark.parametrize("name, subtype", [
    ("a.flac", "PCM_24"), ("a.ogg", "VORBIS"), ("a.mp3", None), ("a.aiff", None),
])  # fmt: skip
def test_other_formats_of_libsndfile(tmp_path, name, subtype):
    soundfile.write(tmp_path / name, tone(seconds=1), RATE, subtype=subtype)
    assert abs(len(load_audio(tmp_path / name)) - RATE) < 0.1 * RATE
    assert correlation(load_audio(tmp_path / name)[: RATE // 2], tone(seconds=1)) > 0.98


@pytest.mark.parametrize("name, codec, channels, video", [
    ("a.m4a", "aac", 1, False), ("a.mp4", "aac", 2, True), ("a.mka", "libopus", 2, False),
])  # fmt: skip
def test_ffmpeg_formats_and_videos(tmp_path, name, codec, channels, video):
    rate = 48000 if codec == "libopus" else 44100
    write_compressed(tmp_path / name, codec, rate, channels, with_video=video)
    samples, native = read_audio(tmp_path / name)
    assert native == rate and abs(len(samples) - rate) < 0.05 * rate
    assert correlation(load_audio(tmp_path / name), tone(seconds=1)) > 0.99  # in phase: encoder delay is taken off


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_keeps_a_tone_where_it_was(rate):
    samples = load_audio(tone(rate, 0.5), sampling_rate=rate)
    assert len(samples) == RATE // 2
    middle = slice(400, -400)  # the filter has nothing to lean on at the edges
    assert np.abs(samples - tone())[middle].max() < 2e-3


class Decoder:
    """What `datasets` gives in place of a dict, as torchcodec has it."""

    def __init__(self, data, sample_rate):
        self.data, self.sample_rate = data, sample_rate

    def get_all_samples(self):
        return self


def test_audio_of_datasets(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(), RATE)
    content = (tmp_path / "a.flac").read_bytes()
    two = np.stack([tone(), 0 * tone()])
    for source in (
        {"array": tone(), "sampling_rate": RATE, "path": "a.wav"}, Decoder(torch.from_numpy(tone())[None], RATE),
        {"array": 2 * two, "sampling_rate": RATE}, {"bytes": content, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.flac")},
    ):  # fmt: skip
        samples, rate = read_audio(source)
        assert rate == RATE and samples.dtype == np.float32
        np.testing.assert_allclose(samples, tone(), atol=1e-4)
    for source, message in (({"array": None}, "needs array"), ({"array": tone(), "sampling_rate": 8000}, "8000 Hz")):
        with pytest.raises(FaceTalkError, match=message):
            read_audio(source, RATE)
    integers = (np.stack([tone(), tone()]) * 2**15).astype(np.int16)
    np.testing.assert_allclose(read_audio(integers, RATE)[0], tone(), atol=1e-4)


def test_resampling_removes_what_would_alias():
    assert np.abs(load_audio(tone(48000, 0.5, frequency=12000), sampling_rate=48000)[400:-400]).max() < 5e-3


def test_channels_are_averaged(tmp_path):
    left, right = tone(), np.zeros_like(tone())
    soundfile.write(tmp_path / "a.wav", np.stack([left, right, right, left], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), left / 2, atol=1e-7)


def test_content_is_read_like_a_file(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(), RATE)
    write_compressed(tmp_path / "a.m4a", "aac", 44100, 1)
    for name in ("a.flac", "a.m4a"):
        expected, content = load_audio(tmp_path / name), (tmp_path / name).read_bytes()
        np.testing.assert_array_equal(load_audio(str(tmp_path / name)), expected)
        np.testing.assert_array_equal(load_audio(content), expected)
        np.testing.assert_array_equal(load_audio(io.BytesIO(content)), expected)


@pytest.mark.parametrize("convert", [
    lambda x: (x * 2**15).astype(np.int16), lambda x: (x * 2**31).astype(np.int32), np.float64, np.float32,
    lambda x: (x * 128 + 128).astype(np.uint8), torch.tensor, lambda x: torch.tensor(x).half(),
    lambda x: torch.tensor(x, dtype=torch.bfloat16), lambda x: torch.tensor(x, requires_grad=True),
])  # fmt: skip
def test_arrays(convert):
    samples = load_audio(convert(tone()), sampling_rate=RATE)
    assert samples.dtype == np.float32 and np.abs(samples - tone()).max() < 1e-2


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    def make(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.array([0.0, np.nan, 0.0]), RATE, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.array([0.0, np.inf, 0.0]), RATE, subtype="FLOAT")
    with av.open(str(folder / "silent.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=24)
        video.width = video.height = 32
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    return {
        "missing": (folder / "nothing.wav", "no such file"),
        "folder": (folder, "folder"),
        "empty": (make("empty.wav", b""), "empty"),
        "text": (make("text.wav", b"not a sound\n" * 50), "not readable audio|no audio"),
        "header only": (make("cut.wav", b"RIFF\x00\x00\x00\x00WAVE"), "not readable audio|no samples"),
        "raw": (make("noise.raw", bytes(range(256)) * 8), "not readable audio|no audio"),
        "no audio track": (folder / "silent.mp4", "no audio"),
        "no samples": (folder / "none.wav", "no samples"),
        "nan": (folder / "nan.wav", "NaN"),
        "inf": (folder / "inf.wav", "infinite"),
    }


def test_bad_files_are_refused_in_one_line(tmp_path):
    for kind, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(FaceTalkError, match=message) as error:
            load_audio(path)
        assert "\n" not in str(error.value) and path.name in str(error.value), kind


@pytest.mark.parametrize("suffix", ["flac", "m4a"])  # by libsndfile, and by FFmpeg
def test_a_file_that_is_too_long_is_refused_and_not_decoded_to_its_end(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    if suffix == "flac":
        soundfile.write(path, tone(seconds=1.0), RATE)
    else:
        write_compressed(path, "aac", RATE, 1)
    assert len(load_audio(path, longest=1.1)) == len(load_audio(path))
    for source in (path, path.read_bytes()):
        with pytest.raises(FaceTalkError, match="longer than 0.5 s"):
            load_audio(source, longest=0.5)


@pytest.mark.parametrize("samples, rate, message", [
    (np.zeros(10), None, "sampling_rate"), (np.zeros(10), 0, "sampling_rate"), (np.zeros(10), -16000, "sampling_rate"),
    (np.zeros(10), 0.5, "sampling_rate"), (np.zeros(0), RATE, "no samples"), (np.full(9, np.nan), RATE, "NaN"),
    (np.full(9, -np.inf), RATE, "infinite"), (np.zeros((2, 2, 10)), RATE, "shape"), (0.5, RATE, "shape"),
    (np.array(["a"]), RATE, "numbers"), (None, RATE, "numbers"), (np.zeros(9, complex), RATE, "numbers"),
])  # fmt: skip
def test_bad_arrays_are_refused(samples, rate, message):
    with pytest.raises(FaceTalkError, match=message):
        load_audio(samples, sampling_rate=rate)


@settings(deadline=None, max_examples=200)
@given(samples=st.integers(0, 10**8), rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]), fps=st.integers(1, 60))
def test_num_frames(samples, rate, fps):
    assert num_frames(samples, rate, fps) == max(1, math.ceil(Fraction(samples * fps, rate)))


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001])
def test_frame_rates_that_are_no_whole_numbers(fps):
    for seconds in range(1001, 20 * 1001, 1001):  # a whole number of frames, but not to a computer
        assert num_frames(seconds * RATE, RATE, fps) == round(seconds * fps)


def test_no_library_talks_about_what_is_no_sound(tmp_path, capfd):
    (tmp_path / "a.flac").write_bytes(b"\x7fELF" + bytes(99))  # libsndfile would look for mp3 in it
    with pytest.raises(FaceTalkError):
        load_audio(tmp_path / "a.flac")
    assert capfd.readouterr() == ("", "")
