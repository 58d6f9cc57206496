# SPDX-License-Identifier: MIT
"""The tongue's weights beside the codes of calls and streams: heard, known, or none."""

import numpy as np
import torch
from components import (
    RATE,
    ClipStatistics,
    make_denoiser,
    make_encoder,
    make_head,
    make_named_head,
    make_pipeline,
    seed,
    speech_like,
)

from facetalk_hf import LogMelFeatureExtractor
from facetalk_hf.animation.arkit import ARKIT
from facetalk_hf.blendshapes import TONGUE
from facetalk_hf.phones.visemes import PHONES


def pipeline(head=None, hears=True):
    encoder = make_encoder(num_phones=len(PHONES) if hears else 0)
    if hears:
        with torch.no_grad():
            encoder.phone_head.weight.mul_(20)
    return make_pipeline(
        head=head or make_named_head(), denoiser=make_denoiser(attention_mode="causal"), audio_encoder=encoder,
        feature_extractor=LogMelFeatureExtractor(),
    )  # fmt: skip


def run(pipe, clip, **options):
    options = {"num_inference_steps": 3, "generator": seed(), "output_type": "expression"} | options
    return pipe(clip, RATE, **options)


def test_heard_phones_move_the_tongue_in_calls_as_in_streams_and_no_code():
    clip, pipe = speech_like(2.0), pipeline()
    output = run(pipe, clip)
    assert output.tongue[0].shape == (48, len(TONGUE)) and output.tongue[0].std(0).max() > 0.02
    stream = pipe.open_stream(RATE, num_inference_steps=3, generator=seed())
    stream.features.statistics = ClipStatistics(pipe.feature_extractor, clip)
    tongues = []
    for part in np.array_split(clip, 7):
        stream.push(part)
        tongues.append(stream.tongue)
    stream.finish()
    np.testing.assert_allclose(np.concatenate([*tongues, stream.tongue]), output.tongue[0], atol=1e-4)
    pipe.audio_encoder.config.num_phones = 0
    silent = run(pipe, clip)
    assert silent.tongue is None and torch.equal(silent.expressions[0], output.expressions[0])


def test_known_phones_have_the_last_word_and_arkit_has_what_comes_out():
    clip, pipe = speech_like(1.0), pipeline()
    phones = [("aa", 0.0, 0.4), ("l", 0.4, 0.6), ("aa", 0.6, 1.0)]
    output = run(pipe, clip, phones=phones, output_type="arkit")
    tongue = output.tongue[0]
    assert tongue[:, TONGUE.index("tongueTipUp")].argmax() in range(10, 15)
    np.testing.assert_allclose(output.arkit[0][:, ARKIT.index("tongueOut")], tongue[:, 0])


def test_without_a_phone_head_or_names_nothing_is_said_of_a_tongue():
    assert run(pipeline(hears=False), speech_like(0.5)).tongue is None
    assert run(pipeline(make_head()), speech_like(0.5)).tongue is None
    assert pipeline(make_head()).open_stream(RATE).tongue is None
