# SPDX-License-Identifier: MIT
"""Lips that the audio encoder hears to close are closed in the motion, of whole clips and of streams."""

import numpy as np
import pytest
import torch
from components import (
    RATE,
    ClipStatistics,
    codes,
    make_denoiser,
    make_encoder,
    make_head,
    make_named_head,
    make_pipeline,
    seed,
    speech_like,
)

from facetalk_hf import LogMelFeatureExtractor
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.evaluation.metrics import lip_aperture
from facetalk_hf.motion.steering import MouthSteering, MouthTarget, heard_target
from facetalk_hf.phones.visemes import PHONES


def hearing_pipeline(threshold, head=None):
    """A pipeline whose encoder hears closures in about every second frame."""
    encoder = make_encoder(closure_threshold=threshold)
    with torch.no_grad():
        encoder.motion_head.weight[-1].mul_(20)
        encoder.motion_head.bias[INDEX["jawOpen"]] = 0.4
    components = {"audio_encoder": encoder, "feature_extractor": LogMelFeatureExtractor()}
    head = make_named_head() if head is None else head
    return make_pipeline(head=head, denoiser=make_denoiser(attention_mode="causal"), **components)


def weights_of(pipe, expressions):
    return pipe.decoder.weights(expressions)


def closures(pipe, clip):
    """Probability of a closure in each frame."""
    motion = pipe.audio_encoder.predict_motion(pipe.encode_audio(clip, RATE))
    return motion.closure_logits[0].sigmoid().detach().numpy()


def test_heard_closures_are_closed_and_nothing_else_changes():
    clip, pipe = speech_like(2.0), hearing_pipeline(0.5)
    # A bias at the median of the logits: half of the frames are heard to close.
    logits = pipe.audio_encoder.predict_motion(pipe.encode_audio(clip, RATE)).closure_logits
    with torch.no_grad():
        pipe.audio_encoder.motion_head.bias[-1] -= logits.median()
    shut = closures(pipe, clip) > 0.5
    assert 20 < shut.sum() < 28
    weights = weights_of(pipe, codes(pipe, clip, mouth_temperature=1.0)[0])
    aperture = lip_aperture(weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]])
    np.testing.assert_allclose(aperture[shut], 0, atol=5e-3)
    pipe.audio_encoder.config.closure_threshold = None
    without = weights_of(pipe, codes(pipe, clip, mouth_temperature=1.0)[0])
    closing = [INDEX["jawOpen"], INDEX["mouthClose"]]
    assert np.abs(without - weights)[shut][:, closing].max() > 0.05
    # Frames that are open and far from any closure stay as they were sampled, but for what attention carries on.
    apart = closures(pipe, clip) < 0.2
    assert np.abs(without - weights)[apart].mean() < 0.5 * np.abs(without - weights)[shut].mean()


def test_a_stream_hears_what_the_clip_does():
    clip, pipe = speech_like(2.0), hearing_pipeline(0.6)
    expected = codes(pipe, clip)[0]
    stream = pipe.open_stream(RATE, num_inference_steps=3, generator=seed())
    stream.features.statistics = ClipStatistics(pipe.feature_extractor, clip)
    parts = [stream.push(part) for part in np.array_split(clip, 7)] + [stream.finish()]
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=1e-5)


def test_lips_rest_where_nobody_is_heard_to_speak_unless_a_mood_is_told():
    clip = speech_like(2.0)
    encoder = make_encoder(closure_threshold=1.0, num_phones=len(PHONES), look_ahead_frames=2)
    with torch.no_grad():
        encoder.motion_head.bias[INDEX["jawOpen"]] = 0.4
        pause = encoder.phone_head.bias.view(2, -1)[:, PHONES.index("pau")]
        pause += 10
    denoiser = make_denoiser(attention_mode="causal", condition_names=list(CONDITIONS))
    components = {"audio_encoder": encoder, "feature_extractor": LogMelFeatureExtractor()}
    pipe = make_pipeline(head=make_named_head(), denoiser=denoiser, **components)

    def apertures(**options):
        weights = weights_of(pipe, codes(pipe, clip, mouth_temperature=1.0, **options)[0])
        return lip_aperture(weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]])

    assert apertures().max() < 5e-3 < 0.1 < apertures(emotion={"happy": 0.5}).max()
    with torch.no_grad():
        pause -= 20
    assert apertures().max() > 0.1


@torch.no_grad()
def test_lips_do_not_rest_in_the_hold_of_a_stop():
    encoder = make_encoder(closure_threshold=0.5, num_phones=len(PHONES))
    encoder.phone_head.weight.zero_()
    encoder.phone_head.weight.view(2, len(PHONES), -1)[:, PHONES.index("pau"), 0] = 20
    features = torch.zeros(30, encoder.config.hidden_size)
    features[:, 0] = -1
    for paused in (slice(0, 2), slice(6, 8), slice(12, 19)):
        features[paused, 0] = 1
    assert heard_target(encoder, features).rest.nonzero()[0].tolist() == [0, 1, 6, 7, *range(12, 19)]
    assert heard_target(encoder, features, least_pause=4).rest.nonzero()[0].tolist() == [0, 1, *range(12, 19)]


@torch.no_grad()
def test_lips_at_rest_are_not_parted_by_rounding():
    pipe = hearing_pipeline(0.5)
    none = np.zeros(2, np.float32)
    target = MouthTarget(np.zeros((2, len(INDEX)), np.float32), none, none, np.array([0, 1], np.float32))
    steering = MouthSteering([target], 2, pipe.denoiser, pipe.head, 1.0)
    shown = torch.zeros(1, 2, len(INDEX))
    for name in ("jawOpen", "mouthFunnel", "mouthPucker"):
        shown[..., INDEX[name]] = 0.4
    codes = pipe.denoiser.normalize(pipe.head.expression_from_weights(shown))
    made = pipe.denoiser.denormalize(steering(codes)[..., : pipe.denoiser.config.code_dim])
    found = pipe.head.weights_from_expression(made)[0]
    for name, value in (("jawOpen", 0), ("mouthFunnel", 0), ("mouthPucker", 0.4)):
        np.testing.assert_allclose(found[:, INDEX[name]], [0.4, value], atol=1e-4)


@pytest.mark.parametrize("head", ["unnamed", None])
def test_a_head_without_names_is_left_alone(head):
    pipe = hearing_pipeline(0.5, make_head() if head else None)
    if head:
        assert pipe.heard_lips(pipe.encode_audio(speech_like(1.0), RATE), [24]) == [None]
        assert pipe.open_stream(RATE).steering is None
    else:
        assert pipe.heard_lips(pipe.encode_audio(speech_like(1.0), RATE), [24])[0].contact.shape == (24,)
