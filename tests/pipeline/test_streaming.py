# SPDX-License-Identifier: MIT
"""Live use: exact whatever the chunks, equal to the whole clip, at a fixed delay, in constant memory."""

import itertools
import json
import pickle

import diffusers
import numpy as np
import pytest
import torch
from ball_head import head  # noqa: F401
from components import (
    CODE_DIM,
    RATE,
    ClipStatistics,
    codes,
    make_denoiser,
    make_encoder,
    make_named_head,
    make_pipeline,
    make_scheduler,
    make_wav2vec2,
    make_whisper,
    seed,
    speech_like,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import load_script
from transformers import Wav2Vec2FeatureExtractor

from facetalk_hf import LogMelFeatureExtractor
from facetalk_hf.audio.io import resample
from facetalk_hf.audio.streaming import FeatureStream, RunningStatistics, StreamingResampler
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.metrics import correlation
from facetalk_hf.models.live_encoder import LiveEncoder
from facetalk_hf.pipeline.streaming import sampling_table


STEPS = 3


def causal_pipeline(**components):
    return make_pipeline(**({"denoiser": make_denoiser(attention_mode="causal")} | components))


@pytest.fixture(scope="module")
def live():
    return causal_pipeline()


def stream_codes(pipe, clip, sizes=(1600,), rate=RATE, statistics=None, **options):
    stream = pipe.open_stream(rate, **({"num_inference_steps": STEPS, "generator": seed()} | options))
    if statistics is not None:
        stream.features.statistics = statistics
    result, start = [], 0
    for size in itertools.cycle(sizes):
        result.append(stream.push(clip[start : start + size]))
        start += size
        if start >= len(clip):
            break
    return torch.cat((*result, stream.finish()))


# The same, whatever the chunks


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 20000), min_size=1, max_size=5), st.sampled_from((1, 2)))
def test_chunks_make_no_difference(live, sizes, hop):
    clip = speech_like(1.3)
    expected = stream_codes(live, clip, (len(clip),), hop=hop)
    assert expected.shape == (32, CODE_DIM)
    assert torch.equal(stream_codes(live, clip, (max(sizes[0], 50), *sizes[1:]), hop=hop), expected)


def test_single_samples_make_no_difference(live):
    clip = speech_like(0.3)
    assert torch.equal(stream_codes(live, clip, (1,)), stream_codes(live, clip, (len(clip),)))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 47999])
def test_other_rates(live, rate):
    clip = resample(speech_like(1.0), RATE, rate)
    pieces = stream_codes(live, clip, (997, 1, 12000), rate)
    assert torch.equal(pieces, stream_codes(live, clip, (len(clip),), rate))
    sound = StreamingResampler(rate, RATE)
    parts = [sound.push(part) for part in np.array_split(clip, 13)] + [sound.finish()]
    np.testing.assert_allclose(np.concatenate(parts), resample(clip, rate, RATE), atol=1e-6)


# The same as the whole clip at once


@pytest.mark.parametrize("hop", [1, 2, 3])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_equals_the_whole_clip(live, hop, guidance_scale):
    clip = speech_like(2.0)  # 48 frames, several times the denoiser's window of 6
    options = {"guidance_scale": guidance_scale, "num_inference_steps": 5}
    expected = codes(live, clip, **options)[0]
    statistics = ClipStatistics(live.feature_extractor, clip)
    result = stream_codes(live, clip, (777,), statistics=statistics, hop=hop, **options)
    assert expected.std() > 0.1
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("look_ahead, delay", [(0.04, 0.10), (0.1, 0.14), (None, 0.26)])
def test_look_ahead_is_chosen(look_ahead, delay):
    encoder = make_encoder(look_ahead_frames=5, look_ahead_choices=[1, 2, 5], num_stem_layers=2)
    pipe = causal_pipeline(audio_encoder=encoder, feature_extractor=LogMelFeatureExtractor())
    clip = speech_like(1.0)
    options = {"look_ahead": look_ahead, "num_inference_steps": 2}
    statistics = ClipStatistics(pipe.feature_extractor, clip)
    result = stream_codes(pipe, clip, (777,), statistics=statistics, hop=1, **options)
    torch.testing.assert_close(result, codes(pipe, clip, **options)[0], atol=1e-5, rtol=1e-5)
    assert pipe.open_stream(RATE, hop=1, look_ahead=look_ahead).delay == pytest.approx(delay, abs=0.03)


@pytest.mark.parametrize("name, config", [
    ("DDIMScheduler", {"clip_sample": False}), ("UniPCMultistepScheduler", {}), ("DEISMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"solver_order": 3}),
])  # fmt: skip
def test_schedulers(name, config):
    pipe = causal_pipeline()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **config)
    clip = speech_like(0.8)
    options = {"num_inference_steps": 6}
    expected = codes(pipe, clip, **options)[0]
    statistics = ClipStatistics(pipe.feature_extractor, clip)
    result = stream_codes(pipe, clip, statistics=statistics, **options)
    # DEIS loses digits by itself: its weights nearly cancel in the last steps.
    torch.testing.assert_close(result, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name, config", [
    ("DDPMScheduler", {"clip_sample": False}), ("DDIMScheduler", {"clip_sample": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverMultistepScheduler", {"thresholding": True}),
])  # fmt: skip
def test_schedulers_that_cannot_work_live(name, config):
    scheduler = getattr(diffusers, name).from_config(make_scheduler().config, **config)
    with pytest.raises(FaceTalkError, match="use DPMSolverMultistepScheduler"):
        sampling_table(scheduler, 5)


def test_an_hour_in_the_angles_are_as_exact(live):
    clip, results = speech_like(1.0), []
    for rounds in (10, 10_000):  # of the ring: the same slots, a minute and half an hour in
        stream = live.open_stream(RATE, num_inference_steps=STEPS, generator=seed())
        stream.denoiser.position = rounds * stream.denoiser.slots
        results.append(torch.cat((stream.push(clip), stream.finish())))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


# Delay, memory, seams


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("hop", [1, 2, 4])
def test_delay_is_what_it_says(live, hop, rate):
    stream = live.open_stream(rate, num_inference_steps=1, hop=hop)
    clip = resample(speech_like(1.5), RATE, rate)
    late = []
    for sample in range(0, len(clip), 32):
        before = stream.num_frames
        stream.push(clip[sample : sample + 32])
        late += [(sample + 32) / rate - frame / 24 for frame in range(before, stream.num_frames)]
    assert stream.delay - 1.5 / 24 / 4 < max(late) <= stream.delay + 32 / rate
    if hop > 1:
        assert min(late) < max(late) - (hop - 1.5) / 24


def test_delay_at_the_default_size():
    encoder = make_encoder(num_hidden_layers=6, look_ahead_frames=10)
    pipe = causal_pipeline(audio_encoder=encoder, feature_extractor=LogMelFeatureExtractor())
    assert 0.49 < pipe.open_stream(RATE).delay < 0.5 and pipe.open_stream(48000).delay < 0.5
    assert 0.45 < pipe.open_stream(RATE, hop=1).delay < 0.46


def state_size(stream):
    encoder, stream.features.encoder = stream.features.encoder, None
    denoiser, stream.denoiser.denoiser = stream.denoiser.denoiser, None
    size = len(pickle.dumps([vars(stream.features), vars(stream.resampler), stream.noise, stream.denoiser.ring]))
    stream.features.encoder, stream.denoiser.denoiser = encoder, denoiser
    return size


def test_memory_is_constant(live):
    stream = live.open_stream(44100, num_inference_steps=1, guidance_scale=1.0, hop=8)
    clip, sizes = resample(speech_like(10.0), RATE, 44100), []
    for _ in range(12):
        stream.push(clip)
        sizes.append(state_size(stream))
    assert max(sizes[1:]) - min(sizes[1:]) < 50_000  # up to a hop of samples is waiting
    assert stream.num_frames > 2800


def test_no_seams(live):
    clip = speech_like(8.0)
    motion = stream_codes(live, clip, (RATE // 3,)).numpy()
    stream = live.open_stream(RATE, num_inference_steps=STEPS, generator=seed())
    borders, total = [], 0
    for start in range(0, len(clip), RATE // 3):
        total += len(stream.push(clip[start : start + RATE // 3]))
        borders.append(total)
    speed = np.linalg.norm(np.diff(motion, axis=0), axis=1)
    at_border = np.zeros(len(speed), bool)
    at_border[[b - 1 for b in borders if 0 < b < len(motion)]] = True
    # Chance alone moves the mean of so few: compare with what as many random places give.
    rng = np.random.default_rng(0)
    chance = [speed[rng.choice(len(speed), at_border.sum(), replace=False)].mean() for _ in range(500)]
    assert np.quantile(chance, 0.005) < speed[at_border].mean() < np.quantile(chance, 0.995)


# Running statistics


def test_statistics_become_those_of_the_clip():
    extractor, encoder = make_pipeline().feature_extractor, make_encoder()
    clip = speech_like(12.0)
    log_mel = extractor.log_mel(clip)
    running = RunningStatistics(extractor)
    for start in range(0, len(log_mel), 8):
        running.update(log_mel[start : start + 8])
    np.testing.assert_allclose(running.normalize(log_mel), extractor.normalize(log_mel), atol=0.05, rtol=0.02)
    assert correlation(running.normalize(log_mel)[:, 20], extractor.normalize(log_mel)[:, 20].numpy()) > 0.999
    assert FeatureStream(encoder, extractor).statistics.columns.shape == running.columns.shape


def test_silence_is_encoded_once(live, monkeypatch):
    """Between turns nothing is to be heard for minutes: what was made of nothing serves again."""
    clip, calls = np.concatenate((speech_like(0.5), np.zeros(4 * RATE, np.float32), speech_like(0.5))), []
    encode, counts = LiveEncoder.encode_columns, []
    monkeypatch.setattr(LiveEncoder, "encode_columns", lambda *given: calls.append(1) or encode(*given))
    made = stream_codes(live, clip)
    counts.append(len(calls))
    monkeypatch.setattr(np, "array_equal", lambda *_: False)
    assert torch.equal(stream_codes(live, clip), made)
    counts.append(len(calls) - counts[0])
    assert counts[1] == len(made) / 2 and counts[0] < 0.6 * counts[1]


def test_a_long_pause_changes_nothing():
    extractor = make_pipeline().feature_extractor
    running = RunningStatistics(extractor)
    running.update(extractor.log_mel(speech_like(3.0, noise=0)))
    before = running.mean.copy(), running.scale, running.loudest
    running.update(extractor.log_mel(np.zeros(60 * RATE, np.float32)))
    for now, then in zip((running.mean, running.scale, running.loudest), before, strict=True):
        torch.testing.assert_close(now, then, atol=0.01, rtol=0)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-3])
def test_silence_at_the_start_is_silence(noise):
    extractor = make_pipeline().feature_extractor
    pause = (noise * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    log_mel = extractor.log_mel(pause)
    running = RunningStatistics(extractor)
    for start in range(0, len(log_mel), 8):
        running.update(log_mel[start : start + 8])
        values = running.normalize(log_mel[start : start + 8]).mean(0)
        assert values[:-1].mean() < -0.5 and values[-1] < -0.5


def test_warm_up_stands_in_for_the_past(live):
    clip = 0.2 * speech_like(4.0)
    options = {"num_inference_steps": STEPS}
    expected = codes(live, clip, **options)[0][:24]
    cold = (stream_codes(live, clip)[:24] - expected).abs().mean()
    warm = (stream_codes(live, clip, warm_up=clip)[:24] - expected).abs().mean()
    assert warm < 0.5 * cold


# What comes out


def test_outputs():
    pipe = causal_pipeline(head=make_named_head())
    clip = speech_like(1.0)
    chunks = [clip[:1000], (clip[1000:9000], RATE), torch.tensor(clip[9000:])]
    options = {"num_inference_steps": STEPS, "output_type": "arkit"}
    outputs = list(pipe.stream(chunks, RATE, generator=seed(), **options))
    assert [output.index for output in outputs] == list(itertools.accumulate([0, *map(len_of, outputs[:-1])]))
    assert all(output.arkit.shape == (len_of(output), 52) for output in outputs)
    assert outputs[-1].time == outputs[-1].index / 24
    assert torch.equal(torch.cat([output.expressions for output in outputs]), stream_codes(pipe, clip))
    # Integers are scaled, and the custom pipeline gives the same.
    module = load_script("pipelines/streaming.py")
    custom = module.FaceTalkStreamingPipeline(**pipe.components, fps=24.0)
    chunks = [(clip * 32768).astype(np.int16)]
    again = list(custom(chunks, RATE, generator=seed(), **options))
    np.testing.assert_allclose(
        np.concatenate([output.arkit for output in again]),
        np.concatenate([output.arkit for output in outputs]), atol=0.05,
    )  # fmt: skip


def len_of(output):
    return len(output.expressions)


def test_decoded_heads(head):  # noqa: F811
    size = head.config.expression_dim
    pipe = causal_pipeline(head=head, denoiser=make_denoiser(attention_mode="causal", code_dim=size))
    output = next(pipe.stream([speech_like(0.5)], RATE, identity=1, num_inference_steps=1))
    assert output.animation.num_frames == len_of(output) and output.animation.fps == 24
    expected = pipe.decode(output.expressions, 1)
    np.testing.assert_array_equal(output.animation.landmarks, expected.landmarks)


# Bad input


def test_a_stream_ends_anywhere(live):
    for samples, frames in [(0, 0), (1, 1), (700, 2), (RATE // 24, 1), (RATE + 7, 25)]:
        assert len(stream_codes(live, speech_like(2.0)[:samples])) == frames
    assert list(live.stream([], RATE, output_type="expression")) == []
    assert list(live.stream([np.zeros(0)], RATE, output_type="expression")) == []


@pytest.mark.parametrize("chunk, message", [
    (np.zeros((10, 2)), "one channel"), (np.array([0.0, np.nan]), "NaN"), (np.array(["a"]), "numbers"),
    (b"\0\0", "frombuffer"), ([0.0, 0.1], "NumPy array"), ((np.zeros(5), 8000), "8000 Hz in a stream at 16000"),
    (np.array([1j]), "numbers"), (np.float32(0.5), "one channel"),
])  # fmt: skip
def test_bad_chunks(live, chunk, message):
    clip = speech_like(1.0)
    stream = live.open_stream(RATE, num_inference_steps=STEPS, generator=seed())
    first = stream.push(clip[:9000])
    with pytest.raises(FaceTalkError, match=message):
        stream.push(*chunk) if isinstance(chunk, tuple) else stream.push(chunk)
    rest = torch.cat((first, stream.push(clip[9000:]), stream.finish()))
    assert torch.equal(rest, stream_codes(live, clip))  # it was left as it was
    with pytest.raises(FaceTalkError, match="ended"):
        stream.push(clip)


@pytest.mark.parametrize("options, message", [
    ({"sampling_rate": 0}, "sampling_rate"), ({"sampling_rate": 16000.5}, "sampling_rate"), ({"hop": 0}, "hop"),
    ({"guidance_scale": -1}, "guidance_scale"), ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"output_type": "mp4"}, "output_type"), ({"output_type": "animation"}, "no head"),
    ({"chunks": np.zeros(100)}, "call the pipeline itself"),
])  # fmt: skip
def test_bad_arguments_are_refused_at_once(live, options, message):
    with pytest.raises(FaceTalkError, match=message):
        live.stream(**({"chunks": [], "sampling_rate": RATE, "output_type": "expression"} | options))


def test_models_that_cannot_work_live():
    with pytest.raises(FaceTalkError, match='attention_mode="causal"'):
        causal_pipeline(denoiser=make_denoiser(attention_mode="local")).open_stream(RATE)
    with pytest.raises(FaceTalkError, match="window"):
        causal_pipeline(denoiser=make_denoiser(attention_mode="causal", window=None)).open_stream(RATE)
    wav2vec2 = {"audio_encoder": make_wav2vec2(), "feature_extractor": Wav2Vec2FeatureExtractor()}
    with pytest.raises(FaceTalkError, match="use a LogMelEncoder"):
        causal_pipeline(**wav2vec2).open_stream(RATE)
    whisper = dict(zip(("audio_encoder", "feature_extractor"), make_whisper(), strict=True))
    with pytest.raises(FaceTalkError, match="WhisperModel hears the whole clip"):
        causal_pipeline(**whisper).open_stream(RATE)


# The command


@pytest.mark.parametrize("format", ["csv", "json"])
def test_command(tmp_path, format):
    import subprocess
    import sys

    causal_pipeline(head=make_named_head()).save_pretrained(tmp_path / "model")
    sound = (speech_like(1.0) * 32768).astype("<i2").tobytes() + b"\1"  # breaks off within a sample
    command = [sys.executable, "-m", "facetalk_hf.cli", "stream", "-", "--model", str(tmp_path / "model")]
    done = subprocess.run([*command, "--format", format, "--steps", "2"], input=sound, capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    if format == "csv":
        assert len(lines) == 25 and lines[0].startswith("Timecode,BlendShapeCount,EyeBlinkLeft")
        assert {line.count(",") for line in lines} == {62} and lines[-1].startswith("00:00:00:23")
    else:
        rows = [json.loads(line) for line in lines]
        assert [row["frame"] for row in rows] == list(range(24)) and len(rows[0]["weights"]) == 52
