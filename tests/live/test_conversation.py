# SPDX-License-Identifier: MIT
"""A conversation: sound and lips together, stopping at once, life between turns, phones that are known."""

import itertools

import numpy as np
import pytest
import torch
from components import (
    RATE,
    make_denoiser,
    make_encoder,
    make_head,
    make_named_head,
    make_pipeline,
    seed,
    speech_like,
)

from facetalk_hf import LogMelFeatureExtractor, MotionControls
from facetalk_hf.animation.arkit import ARKIT
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.live.conversation import MOUTH, Conversation
from facetalk_hf.live.idle import LIDS, LOOKS, IdleLife


JAW = ARKIT.index("jawOpen")
QUICK = MotionControls(num_inference_steps=1)


def pipeline(choices=(1, 2, 4), head=None):
    encoder = make_encoder(look_ahead_frames=max(choices), look_ahead_choices=list(choices))
    parts = {"audio_encoder": encoder, "feature_extractor": LogMelFeatureExtractor()}
    return make_pipeline(denoiser=make_denoiser(attention_mode="causal"), head=head or make_named_head(), **parts)


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def take(conversation, count):
    return list(itertools.islice(conversation, count))


def sound_of(frames):
    return np.concatenate([frame.sound for frame in frames])


def test_the_delay_is_kept_where_the_ear_can(pipe):
    assert Conversation(pipe, RATE, controls=QUICK).delay + 1 / 24 <= 0.2
    assert Conversation(pipe, RATE, delay=0.26, controls=QUICK).delay > Conversation(pipe, RATE, controls=QUICK).delay
    assert Conversation(pipe, RATE, delay=0.01, controls=QUICK).delay < 0.2  # the shortest that there is
    long = Conversation(pipeline([10]), RATE, controls=QUICK)
    assert long.delay == pytest.approx(11 / 24)
    told = MotionControls(num_inference_steps=1, look_ahead=0.17)
    assert Conversation(pipe, RATE, controls=told).delay > 0.2


@pytest.mark.parametrize("rate", [16000, 22050])
def test_sound_and_lips_are_those_of_the_stream(pipe, rate):
    """Whatever the chunks: the same sound `delay` later, and beside each frame's sound the frame of a stream."""
    clip = (0.9 * np.interp(np.arange(rate) / rate, np.arange(RATE) / RATE, speech_like(1.0)) * 32767).astype(np.int16)
    conversation = Conversation(pipe, rate, idle=0, controls=QUICK)
    for chunk in np.split(clip, [1, 700, 5000, 5001, 12000]):
        conversation.say(chunk)
    assert conversation.speaking and conversation.waiting == pytest.approx(1.0)
    frames = take(conversation, 30 + conversation.latency)
    assert not conversation.speaking
    first = round((conversation.latency - 1) * rate / 24)
    heard = sound_of(frames)[first:]
    np.testing.assert_array_equal(heard[: len(clip)], clip)
    assert not heard[len(clip) :].any()
    ahead = conversation.stream.features.ahead / 24
    stream = pipe.open_stream(rate, num_inference_steps=1, hop=1, look_ahead=ahead, generator=seed())
    weights = pipe.arkit(stream.push(sound_of(frames)))
    np.testing.assert_allclose([frame.weights for frame in frames[: len(weights)]], weights, atol=1e-5)
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_an_interruption_settles_at_once(pipe):
    conversation = Conversation(pipe, RATE, idle=0, controls=QUICK)
    conversation.say(speech_like(3.0))
    talking = take(conversation, 36)
    assert np.abs(sound_of(talking[12:])).max() > 1000
    assert np.mean([frame.weights[MOUTH].max() for frame in talking[12:]]) > 0.1
    conversation.interrupt()
    assert conversation.waiting == 0 and not conversation.speaking
    after = take(conversation, 8)
    assert not after[0].sound[RATE // 200 :].any() and not sound_of(after[1:]).any()
    assert after[2].weights[MOUTH].max() < 0.01  # the third frame is 0.125 s after
    mouths = [np.abs(frame.weights[MOUTH]).max() for frame in (talking[-1], *after[:3])]
    assert mouths == sorted(mouths, reverse=True)
    # And it speaks again at once, with nothing left of what it was to say.
    clip = (20000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
    conversation.say(clip)
    again = sound_of(take(conversation, 24))
    np.testing.assert_array_equal(again[np.flatnonzero(again)[0] :][:7999], clip[1:])


def test_chunks_that_come_late_are_spoken_when_they_come(pipe):
    conversation, heard = Conversation(pipe, RATE, controls=QUICK), []
    clip = (speech_like(1.0) * 32767).astype(np.int16)
    for chunk in np.array_split(clip, 7):
        conversation.say(chunk)
        heard += take(conversation, 6)  # 0.25 s for 0.14 s of sound
    sound = sound_of(heard)
    assert np.abs(sound.astype(int)).sum() == pytest.approx(np.abs(clip.astype(int)).sum())


def test_phones_move_the_mouth(pipe):
    def jaw(phones, parts=1):
        conversation = Conversation(pipe, RATE, idle=0, controls=QUICK)
        take(conversation, 7)
        conversation.say(np.zeros(5000, np.int16))
        conversation.say((3000 * np.sin(np.arange(16000) / 9)).astype(np.int16), phones)
        frames = take(conversation, 40)
        return np.array([frame.weights[JAW] for frame in frames[conversation.latency - 1 :]])

    told = jaw([("M", 0.0, 0.3), ("AA1", 0.3, 0.7), ("M", 0.7, 1.0)])
    start = round(5000 / RATE * 24)  # where the phones begin, frames after the first
    assert told[start + 11 : start + 15].min() > 0.3 > 0.15 > told[start + 2 : start + 6].max()
    assert told[start + 19 : start + 22].max() < 0.15
    assert np.abs(jaw(None) - told).max() > 0.1


def test_a_stream_is_told_phones_as_a_call_is(pipe):
    clip, phones = speech_like(1.0), [("AA1", 0.1, 0.4), ("M", 0.4, 0.6), ("UW1", 0.6, 0.9)]
    stream = pipe.open_stream(RATE, num_inference_steps=3, generator=seed())
    stream.tell(phones, clip)
    live = pipe.arkit(torch.cat((stream.push(clip), stream.finish())))
    call = pipe(clip, sampling_rate=RATE, phones=phones, num_inference_steps=3, generator=seed(), output_type="arkit")
    assert np.abs(live - call.arkit[0])[:, [JAW, ARKIT.index("mouthClose"), ARKIT.index("mouthFunnel")]].max() < 0.05


@pytest.mark.parametrize("samples, message", [
    (np.zeros((5, 2)), "one channel"), (np.array([np.nan]), "finite"), (np.array(["a"]), "numbers"),
])  # fmt: skip
def test_bad_speech_is_refused(pipe, samples, message):
    conversation = Conversation(pipe, RATE, controls=QUICK)
    with pytest.raises(FaceTalkError, match=message):
        conversation.say(samples)
    with pytest.raises(FaceTalkError, match="XQ"):
        conversation.say(np.zeros(RATE), [("XQ", 0, 1)])
    assert not conversation.speaking


def test_phones_need_a_head_with_names():
    plain = pipeline(head=make_head())
    with pytest.raises(FaceTalkError, match="names|shapes"):
        plain.open_stream(RATE, num_inference_steps=2).tell([("AA", 0, 1)], np.zeros(RATE))


def test_a_resting_face_lives():
    life, still = IdleLife(24, seed=1), np.zeros(52, np.float32)
    made = [life(still, 1.0) for _ in range(24 * 120)]
    weights, poses = (np.array(items) for items in zip(*made, strict=True))
    shut = weights[:, LIDS].min(1) > 0.8
    blinks = (np.diff(shut.astype(int)) == 1).sum() / 2
    assert 8 <= blinks <= 30 and weights.max() <= 1 and weights.min() >= 0
    assert weights[:, LOOKS].std(0).min() > 0.02 and weights[:, LOOKS].max() < 0.6
    assert not weights[:, MOUTH].any()
    spectrum = np.abs(np.fft.rfft(poses[:, 4]))
    assert spectrum[1:].argmax() + 1 == pytest.approx(120 / 3.9, abs=1)  # breath
    assert np.abs(np.diff(poses, axis=0)).max() < 0.3 and np.abs(poses[:, :3]).max() < 3
    # What moves by itself is left alone, and blinks no second time.
    busy = np.zeros(52, np.float32)
    busy[LIDS] = 1
    assert np.array_equal(IdleLife(24)(busy, 0.0)[0], busy)


def test_life_comes_and_goes_without_jumps(pipe):
    conversation = Conversation(pipe, RATE, controls=QUICK)
    take(conversation, 8)
    amounts = [conversation._resting]
    conversation.say(speech_like(0.3))
    for _ in range(36):
        conversation.step()
        amounts.append(conversation._resting)
    assert np.abs(np.diff(amounts)).max() < 0.15 and min(amounts) == 0 and amounts[-1] == 1
