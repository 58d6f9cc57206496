# SPDX-License-Identifier: MIT
"""Whisper's encoder at the frame rate: its own features, times, long clips without a seam."""

import numpy as np
import pytest
import torch
from components import RATE, make_whisper, speech_like
from transformers import WhisperForConditionalGeneration

from facetalk_hf.audio.encoding import encode_speech
from facetalk_hf.audio.whisper import encode_whisper, whisper_encoder
from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.errors import FaceTalkError


FPS = 50.0 / 3


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def encode(parts, waveform, fps=24.0):
    return encode_speech(*parts, [waveform], fps, RATE)[0][0]


def test_a_window_is_what_transformers_gives():
    model, extractor = make_whisper()
    waveform = speech_like(0.5)  # with the margin of silence a window of 1 s
    values = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"]
    expected = model.encoder(values).last_hidden_state[0].numpy()
    times = (np.arange(12) + 0.5) / 24
    wanted = np.stack([np.interp(times, np.arange(50) / 50, channel) for channel in expected.T], axis=1)
    made = encode((model, extractor), waveform)
    assert made.shape == (12, 24)
    np.testing.assert_allclose(made, wanted, atol=1e-4)


def test_features_stand_at_their_times():
    """Without attention a click changes the features around it, and those alone."""
    model, extractor = make_whisper(encoder_layers=0)
    noise = 1e-3 * speech_like(0.5, seed=1) + 0.01 * np.random.default_rng(0).standard_normal(RATE // 2)
    for frame in (3, 6):  # frames of 16.7 a second stand at 1.5, 4.5, ... fiftieths: between two features
        clicked = noise.copy()
        middle = round((frame + 0.5) / FPS * RATE)
        clicked[middle - 20 : middle + 20] += 0.03
        change = encode((model, extractor), clicked, FPS) - encode((model, extractor), noise, FPS)
        change = change[:-1].square().sum(1)  # the last one stands in the silence behind the clip, which is scaled
        assert change.argmax() == frame and change[frame] > 4 * change[[frame - 1, frame + 1]].max()


def test_clips_in_a_batch_are_each_alone():
    parts = make_whisper()
    clips = [speech_like(0.3), speech_like(2.7, seed=1), np.ones(50, np.float32)]
    together, mask = encode_speech(*parts, clips, 24.0, RATE)
    assert mask.sum(1).tolist() == [8, 65, 1]
    for clip, row, valid in zip(clips, together, mask, strict=True):
        torch.testing.assert_close(row[valid], encode(parts, clip), atol=1e-5, rtol=0)
        assert (row[~valid] == 0).all()


@pytest.mark.parametrize("seconds", [0.55, 1.4, 3.1])
def test_long_clips_have_no_seam(seconds):
    """The random model gives each place in the window other features, so windows disagree by design."""
    parts = make_whisper()
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
    made = encode_whisper(*parts, tone, 50.0, RATE)
    steps = made.diff(dim=0).norm(dim=1)
    inside = encode_whisper(*parts, tone[: round(0.48 * RATE)], 50.0, RATE)[2:].diff(dim=0).norm(dim=1).max()
    jump = (encode_whisper(*parts, tone, 50.0, RATE)[0] - inside).norm()
    assert len(made) == round(seconds * 50)
    assert steps[2:-2].max() < 2 * inside < 0.5 * jump


def test_loudness_is_that_of_the_whole_clip():
    """A quiet second is heard beside the loud one, not blown up to full scale by a window of its own."""
    parts = make_whisper(encoder_layers=0)
    quiet, loud = 1e-3 * speech_like(2.0), speech_like(2.0, seed=1)
    first = encode(parts, np.concatenate([quiet, loud]))[:24]
    assert (first - encode(parts, quiet)[:24]).norm() > 0.3 * first.diff(dim=0).norm()


def test_half_precision_and_autocast(tmp_path):
    model, extractor = make_whisper()
    waveform = speech_like(1.3)
    expected = encode((model, extractor), waveform)
    with torch.autocast("cpu", torch.bfloat16):
        made = encode((model, extractor), waveform)
    assert (made.float() - expected).norm() < 0.03 * expected.norm()
    made = encode((model.to(torch.bfloat16), extractor), waveform)
    assert made.dtype == torch.bfloat16 and (made.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("model_class", [None, WhisperForConditionalGeneration])
def test_the_decoder_is_left_behind(model_class, tmp_path):
    whole, extractor = make_whisper(**({"model_class": model_class} if model_class else {}))
    whole.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    model, loaded = load_audio_encoder(tmp_path)
    assert sum(value.numel() for value in model.decoder.parameters()) < 200
    assert not any(value.requires_grad for value in model.parameters())
    encoder = getattr(whole, "model", whole)
    waveform = speech_like(0.8)
    assert torch.equal(encode((model, loaded), waveform), encode((encoder, extractor), waveform))
    again, other = (whisper_encoder(encoder).state_dict() for _ in range(2))
    assert all(torch.equal(again[name], other[name]) for name in other)


def test_other_whispers_are_refused():
    model, extractor = make_whisper(WhisperForConditionalGeneration)
    with pytest.raises(FaceTalkError, match="no WhisperModel"):
        encode((model, extractor), speech_like(0.5))
    with pytest.raises(FaceTalkError, match="no samples"):
        encode((model, extractor), np.zeros(0, np.float32))
