# SPDX-License-Identifier: MIT
"""Log-mel features, the small encoder, and wav2vec2-family encoders at the frame rate."""

import time

import numpy as np
import pytest
import torch
from components import RATE, make_encoder, make_wav2vec2, speech_like
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from facetalk_hf.audio.encoding import encode_speech, look_ahead_frames, resample_to_frames
from facetalk_hf.audio.log_mel import LogMelFeatureExtractor, mel_filterbank
from facetalk_hf.audio_features import LogMelEncoder
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.models.live_encoder import LiveEncoder


extract = LogMelFeatureExtractor()


def features_of(waveform) -> torch.Tensor:
    return extract(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"][0]


# The feature extractor


@pytest.mark.parametrize("samples, frames", [(1, 1), (400, 1), (667, 2), (RATE, 24), (RATE + 1, 25), (40_000, 60)])
def test_one_frame_has_four_columns(samples, frames):
    batch = extract(np.ones(samples, np.float32), return_tensors="pt")
    assert batch["input_features"].shape == (1, 4 * frames, 41)
    assert batch["attention_mask"].tolist() == [[True] * frames]


def test_columns_keep_time_in_a_long_clip():
    # A click at the centre of column k shows in column k, also where 1 / 96 s is no whole number of samples.
    for column in (3, 1001, 5758):
        waveform = np.zeros(60 * RATE, np.float32)
        waveform[round((column + 0.5) * RATE / 96)] = 1
        assert int(extract.log_mel(waveform)[:, -1].argmax()) == column


def test_level_is_the_mean_square():
    level = extract.log_mel(0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE))[10:-10, -1]
    np.testing.assert_allclose(level, np.log(0.125), atol=0.02)


def test_a_tone_lies_in_its_mel_bin():
    edges = 700 * (10 ** (np.linspace(*2595 * np.log10(1 + np.array([60, 7600]) / 700), 42) / 2595) - 1)
    for wanted in (5, 20, 38):
        tone = np.sin(2 * np.pi * edges[wanted + 1] * np.arange(RATE) / RATE)
        assert int(extract.log_mel(tone)[48, :-1].argmax()) == wanted


@pytest.mark.parametrize("warp", [0.8, 1.0, 1.25])
def test_warped_filters_stay_in_the_spectrum(warp):
    bank = mel_filterbank(40, 512, RATE, 60.0, 7600.0, warp)
    assert bank.shape == (257, 40) and (bank.max(0).values > 0).all()
    assert (bank.argmax(0).diff() >= 0).all()


def test_warp_undoes_a_shorter_vocal_tract():
    harmonics = [np.sin(2 * np.pi * f * np.arange(RATE) / RATE) for f in (700, 1200, 2500)]
    shifted = [np.sin(2 * np.pi * 1.2 * f * np.arange(RATE) / RATE) for f in (700, 1200, 2500)]
    original = extract.log_mel(sum(harmonics))[48, :-1]
    plain, warped = extract.log_mel(sum(shifted))[48, :-1], extract.log_mel(sum(shifted), warp=1.2)[48, :-1]
    assert (warped - original).abs().mean() < 0.3 * (plain - original).abs().mean()


def test_loudness_and_channel_do_not_matter():
    speech = speech_like(3)
    assert (features_of(speech) - features_of(0.1 * speech)).abs().max() < 0.03
    speech = speech_like(3, noise=0)  # noise in the pauses would change which columns count as active
    colored = np.convolve(speech, [1.0, -0.6], mode="same").astype(np.float32)
    raw = (extract.log_mel(speech) - extract.log_mel(colored))[:, :-1].abs().mean()
    assert (features_of(speech) - features_of(colored))[:, :-1].abs().mean() < 0.2 * raw


def test_speech_has_unit_scale_and_steady_noise_is_flat():
    speech, noise = features_of(speech_like(3)), features_of(0.1 * np.random.default_rng(0).standard_normal(3 * RATE))
    active = speech[:, -1] > 1 - 30 / 20
    assert 0.8 < speech[active, :-1].std() < 1.2
    assert noise[:, :-1].std() < 0.6


def test_silence_noise_and_pauses_are_recognisable():
    speech = speech_like(3)
    speech[RATE : 2 * RATE] = 0
    pause = features_of(speech)[110:180]
    silence = features_of(np.zeros(RATE, np.float32))
    noise = features_of(3e-4 * np.random.default_rng(0).standard_normal(RATE))
    assert silence.isfinite().all() and (silence[:, :-1] == -extract.max_value).all()
    assert (pause[:, :-1].mean() < -2.5) and (pause[:, -1] < -1).all()
    assert (noise[:, -1] < 0.3).all() and noise[:, :-1].mean() < -1
    assert features_of(speech)[:, -1].max() > 0.9


def test_batch_is_the_clips_alone():
    clips = [speech_like(1.3), torch.tensor(speech_like(2.0, seed=1)), np.zeros(100, np.float32)]
    batch = extract(clips, sampling_rate=RATE, return_tensors="pt")
    assert batch["attention_mask"].sum(1).tolist() == [32, 48, 1]
    for clip, row, mask in zip(clips, batch["input_features"], batch["attention_mask"], strict=True):
        assert torch.equal(row[: 4 * int(mask.sum())], features_of(clip))
        assert (row[4 * int(mask.sum()) :] == 0).all()


def test_ten_seconds_take_under_50_ms():
    speech = torch.tensor(speech_like(10))
    extract(speech)
    times = []
    for _ in range(5):
        start = time.process_time()
        extract(speech)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_extractor_round_trip(tmp_path):
    LogMelFeatureExtractor(fps=30.0, min_scale=2.0).save_pretrained(tmp_path)
    loaded = LogMelFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.fps == 30.0 and loaded.min_scale == 2.0 and loaded.sampling_rate == RATE
    assert loaded(np.ones(RATE, np.float32), return_tensors="pt")["input_features"].shape[1] == 120


@pytest.mark.parametrize("clip, rate", [(np.zeros(0), RATE), (np.zeros(9), 8000), ([], RATE)])
def test_extractor_refuses(clip, rate):
    with pytest.raises(FaceTalkError):
        extract(clip, sampling_rate=rate)


# The small encoder


@torch.no_grad()
def test_encoder_shapes(log_mel_encoder):
    batch = extract(speech_like(2.0), return_tensors="pt")
    hidden_states = log_mel_encoder(**batch).last_hidden_state
    assert hidden_states.shape == (1, 48, 24)
    assert torch.equal(log_mel_encoder(**batch, return_dict=False)[0], hidden_states)
    motion = log_mel_encoder.predict_motion(hidden_states)
    assert motion.weights.shape == (1, 48, 53) and motion.closure_logits.shape == (1, 48)


@torch.no_grad()
@pytest.mark.parametrize("config", [
    {"look_ahead_frames": 1}, {"look_ahead_frames": 4}, {"num_hidden_layers": 6, "look_ahead_frames": 10},
])  # fmt: skip
def test_look_ahead_is_limited(config):
    encoder = make_encoder(**config)
    columns = torch.randn(1, 4 * 60, 41)
    before = encoder(columns).last_hidden_state
    columns[:, 4 * 40 :] += 1  # the future changes from frame 40 on
    changed = (encoder(columns).last_hidden_state - before).abs().amax((0, 2)).nonzero().flatten()
    assert int(changed[0]) == 40 - config["look_ahead_frames"]


CHOICES = {"num_stem_layers": 3, "look_ahead_frames": 8, "look_ahead_choices": [1, 2, 5, 8], "num_hidden_layers": 3}


@torch.no_grad()
@pytest.mark.parametrize("look_ahead", [None, 1, 2, 5, 8])
def test_look_ahead_can_be_chosen(look_ahead):
    encoder = make_encoder(**CHOICES)
    columns = torch.randn(1, 4 * 60, 41)
    before = encoder(columns, look_ahead=look_ahead).last_hidden_state
    columns[:, 4 * 40 :] += 1
    after = encoder(columns, look_ahead=look_ahead).last_hidden_state
    changed = (after - before).abs().amax((0, 2)).nonzero().flatten()
    assert int(changed[0]) == 40 - (look_ahead or 8)
    columns[:, : 4 * (39 - encoder.past_frames())] += 1  # nothing older than this has an influence on frame 39
    assert torch.equal(encoder(columns, look_ahead=look_ahead).last_hidden_state[:, 39:], after[:, 39:])
    with pytest.raises(FaceTalkError, match="1, 2, 5, 8 frames ahead, not 3"):
        encoder(columns, look_ahead=3)


@torch.no_grad()
@pytest.mark.parametrize("config, look_ahead", [({}, None), (CHOICES, 8), (CHOICES, 2), (CHOICES, 1)])
@pytest.mark.parametrize("first, last", [(0, 60), (30, 60), (0, 40), (28, 38)])
def test_live_encoder_hears_what_the_whole_clip_tells(config, look_ahead, first, last):
    """Of columns around a few frames, at the start and at the end of a clip too, nothing differs but rounding."""
    encoder, columns, mask = make_encoder(**config), torch.randn(60, 4, 41), torch.arange(60)
    mask = (mask >= first) & (mask < last)
    live = LiveEncoder(encoder, look_ahead)
    whole = encoder(columns[first:last].flatten(0, 1)[None], look_ahead=look_ahead).last_hidden_state[0]
    for start, hop in ((32, 1), (33, 4)):
        part = slice(start - live.past_frames(), start + hop + live.ahead)
        assert part.start >= 0 and part.stop <= 60
        heard = columns[part].flatten(0, 1).numpy(), mask[part].numpy(), live.ahead
        expected = torch.zeros(60, 24)
        expected[first:last] = whole
        np.testing.assert_allclose(live.encode_columns(*heard), expected[start : start + hop], atol=1e-5)
        np.testing.assert_allclose(encoder.encode_columns(*heard), live.encode_columns(*heard), atol=1e-5)


def test_seconds_of_look_ahead():
    encoder = make_encoder(**CHOICES)
    frames = [look_ahead_frames(encoder, seconds, 24) for seconds in (None, 0.04, 0.1, 0.2, 0.42, 9)]
    assert frames == [None, 1, 2, 5, 8, 8]
    with pytest.raises(FaceTalkError, match="at least 0.17 s ahead, not 0.1 s"):
        look_ahead_frames(make_encoder(), 0.1, 24)
    with pytest.raises(FaceTalkError, match="whole clip"):
        look_ahead_frames(make_wav2vec2(), 0.1, 24)


@torch.no_grad()
def test_padding_has_no_influence(log_mel_encoder):
    columns = torch.randn(2, 4 * 40, 41)
    mask = torch.arange(40)[None] < torch.tensor([[25], [40]])
    alone = log_mel_encoder(columns[:1, : 4 * 25]).last_hidden_state
    columns[0, 4 * 25 :] = 1e3  # rubbish in the padding
    together = log_mel_encoder(columns, mask).last_hidden_state
    torch.testing.assert_close(together[:1, :25], alone, atol=1e-5, rtol=0)
    assert (together[0, 25:] == 0).all()


def test_dropout_rests_in_eval(log_mel_encoder):
    columns = torch.randn(1, 40, 41)
    assert torch.equal(log_mel_encoder(columns)[0], log_mel_encoder(columns)[0])
    log_mel_encoder.train()
    assert not torch.equal(log_mel_encoder(columns)[0], log_mel_encoder(columns)[0])


def test_encoder_learns(log_mel_encoder):
    columns, target = torch.randn(4, 40, 41), torch.rand(4, 10, 53)
    optimizer = torch.optim.Adam(log_mel_encoder.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        motion = log_mel_encoder.predict_motion(log_mel_encoder(columns).last_hidden_state)
        loss = (motion.weights - target).square().mean() + motion.closure_logits.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.grad is not None for parameter in log_mel_encoder.parameters())


def test_encoder_round_trip(tmp_path, log_mel_encoder):
    log_mel_encoder.save_pretrained(tmp_path)
    loaded = LogMelEncoder.from_pretrained(tmp_path)
    assert loaded.config.look_ahead_frames == 4 and not loaded.training
    columns = torch.randn(1, 40, 41)
    assert torch.equal(loaded(columns)[0], log_mel_encoder(columns)[0])


@pytest.mark.parametrize("look_ahead", [0, -1, 18])
def test_impossible_look_ahead_is_refused(look_ahead):
    with pytest.raises(FaceTalkError, match="look-ahead"):
        make_encoder(look_ahead_frames=look_ahead)
    with pytest.raises(FaceTalkError, match="look-ahead"):
        make_encoder(look_ahead_frames=4, look_ahead_choices=[4, look_ahead])


# Encoding speech

FAMILY = [(Wav2Vec2Config, Wav2Vec2Model), (HubertConfig, HubertModel), (WavLMConfig, WavLMModel)]


def test_resample_to_frames_is_linear_in_time():
    times = 0.0125 + 0.02 * torch.arange(50, dtype=torch.float64)
    features = torch.stack([times, 3 - times], dim=1)
    frames = resample_to_frames(features, 0.0125, 0.02, 26, 24.0)
    expected = ((torch.arange(26, dtype=torch.float64) + 0.5) / 24).clamp(times[0], times[-1])
    torch.testing.assert_close(frames, torch.stack([expected, 3 - expected], dim=1))


@torch.no_grad()
def test_wav2vec2_is_resampled_inside_as_in_the_paper(wav2vec2):
    model, processor = wav2vec2
    waveform = speech_like(1.7)
    hidden_states, mask = encode_speech(model, processor, [waveform], fps=24, sampling_rate=RATE)

    values = torch.tensor((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7))
    features = model.feature_extractor(values[None])[0].numpy()  # (C, L): one in 320 samples, 400 wide
    feature_times = (200 + 320 * np.arange(features.shape[1])) / RATE
    frame_times = (np.arange(41) + 0.5) / 24
    resampled = np.stack([np.interp(frame_times, feature_times, channel) for channel in features], axis=1)
    projected, _ = model.feature_projection(torch.tensor(resampled[None], dtype=torch.float32))
    expected = model.encoder(projected).last_hidden_state
    assert hidden_states.shape == (1, 41, 24) and mask.all()
    torch.testing.assert_close(hidden_states, expected, atol=2e-5, rtol=0)
    # The order matters: resampling what the transformer made of 50 Hz features gives something else.
    assert (expected[0, 10] - model(values[None]).last_hidden_state[0, 21]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("config_class, model_class", FAMILY)
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_family_in_a_batch_is_each_alone(config_class, model_class, norm):
    model = make_wav2vec2(config_class, model_class, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    processor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    clips = [speech_like(0.7), speech_like(2.0, seed=1), np.ones(50, np.float32)]
    together, mask = encode_speech(model, processor, clips)
    assert mask.sum(1).tolist() == [17, 48, 1]
    for clip, row, valid in zip(clips, together, mask, strict=True):
        alone, _ = encode_speech(model, processor, [clip])
        torch.testing.assert_close(row[valid], alone[0], atol=1e-4, rtol=0)
        assert (row[~valid] == 0).all()


@torch.no_grad()
def test_log_mel_in_a_batch_is_each_alone(log_mel_encoder):
    clips = [speech_like(0.7), speech_like(2.0, seed=1), np.ones(50, np.float32)]
    together, mask = encode_speech(log_mel_encoder, extract, clips)
    assert mask.sum(1).tolist() == [17, 48, 1]
    for clip, row, valid in zip(clips, together, mask, strict=True):
        torch.testing.assert_close(
            row[valid], encode_speech(log_mel_encoder, extract, [clip])[0][0], atol=1e-5, rtol=0
        )


def test_other_frame_rates_with_wav2vec2(wav2vec2):
    hidden_states, _ = encode_speech(*wav2vec2, [speech_like(2.0)], fps=30)
    assert hidden_states.shape == (1, 60, 24)


def test_encode_speech_refuses(log_mel_encoder, wav2vec2):
    clip = speech_like(0.5)
    with pytest.raises(FaceTalkError, match="30"):
        encode_speech(log_mel_encoder, extract, [clip], fps=30)
    with pytest.raises(FaceTalkError, match="8000"):
        encode_speech(*wav2vec2, [clip], sampling_rate=8000)
    with pytest.raises(FaceTalkError, match="no samples"):
        encode_speech(*wav2vec2, [clip, np.zeros(0, np.float32)])
    with pytest.raises(FaceTalkError, match="adapter"):
        encode_speech(make_wav2vec2(add_adapter=True), wav2vec2[1], [clip])
