# SPDX-License-Identifier: MIT
"""Another frame rate, smoothing: pure functions of a finished motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.motion.editing import rest_in_silence, retime, smooth, speech_gate


def moving(weights: np.ndarray, fps: float = 24.0, **fields) -> HeadAnimation:
    weights = np.asarray(weights, np.float32)
    names = [f"shape_{i}" for i in range(weights.shape[1])]
    return HeadAnimation(np.eye(3), np.zeros((len(names), 3, 3)), weights, names, [[0, 1, 2]], fps=fps, **fields)


def wave(frames: int, fps: float, hertz: float = 2.0) -> np.ndarray:
    """(frames, 2) in 0..1."""
    times = np.arange(frames) / fps
    return 0.5 + 0.5 * np.stack([np.sin(2 * np.pi * hertz * times), np.cos(2 * np.pi * hertz * times)], 1)


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 29.97])
def test_retimed_motion_is_the_same_function_of_time(fps):
    animation = moving(wave(72, 24), audio=np.zeros(48000))
    result = retime(animation, fps)
    assert result.fps == fps and result.num_frames == int(np.ceil(3 * fps))
    assert abs(result.duration - animation.duration) < 1 / fps
    expected = wave(result.num_frames, fps)
    inside = np.arange(result.num_frames) / fps <= 71 / 24
    # A straight line between frames would be 3 % off, a frame taken from next door 26 %.
    assert np.abs(result.weights - expected)[inside].max() < 0.015
    np.testing.assert_allclose(
        result.weights[~inside], np.tile(animation.weights[-1], ((~inside).sum(), 1)), atol=1e-6
    )
    assert len(result.audio) == 48000


def test_retiming_is_exact_at_the_old_frames_and_undone_by_itself():
    animation = moving(np.random.default_rng(0).random((50, 3)))
    double = retime(animation, 48)
    np.testing.assert_allclose(double.weights[::2], animation.weights, atol=1e-6)
    np.testing.assert_allclose(retime(double, 24).weights, animation.weights, atol=1e-6)
    np.testing.assert_allclose(retime(animation, 24).weights, animation.weights, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(0, 20), fps=st.floats(1, 240), seed=st.integers(0, 99))
def test_retiming_never_leaves_the_range_of_the_frames(frames, fps, seed):
    rng = np.random.default_rng(seed)
    fields = {"expressions": rng.random((frames, 4)), "landmarks": rng.random((frames, 68, 3))}
    animation = moving(
        rng.random((frames, 2)) * rng.integers(0, 2, (frames, 2)), lip_aperture=rng.random(frames), **fields
    )
    result = retime(animation, fps)
    assert len(result.expressions) == len(result.landmarks) == len(result.lip_aperture) == result.num_frames
    assert (result.num_frames > 0) == (frames > 0)
    if frames:
        assert result.weights.min() >= animation.weights.min() - 1e-6
        assert result.weights.max() <= animation.weights.max() + 1e-6
        assert result.lip_aperture.min() >= animation.lip_aperture.min() - 1e-6


@pytest.mark.parametrize("fps", [0, -24, float("nan"), float("inf"), 1e6])
def test_frame_rates_that_are_none(fps):
    with pytest.raises(FaceTalkError, match="fps must be above 0") as caught:
        retime(moving(wave(9, 24)), fps)
    assert "\n" not in str(caught.value)


def test_smoothing_calms_jitter_and_keeps_what_is_slow():
    slow = wave(200, 24, 0.5)
    jitter = 0.1 * (-1.0) ** np.arange(200)[:, None]
    animation = moving(slow + jitter, lip_aperture=5 + jitter[:, 0], fps=24.0)
    result = smooth(animation, 0.04)
    assert np.abs(result.weights - slow)[5:-5].max() < 0.02
    assert np.abs(result.lip_aperture - 5)[5:-5].max() < 0.02
    np.testing.assert_array_equal(smooth(animation, 0).weights, animation.weights)
    # Seconds, not frames: at twice the rate it takes twice the frames.
    step = np.repeat([[0.0], [1.0]], 50, axis=0)
    narrow, wide = (smooth(moving(step, fps), 0.1).weights for fps in (24, 48))
    np.testing.assert_allclose(
        np.abs(np.diff(narrow, axis=0)).max(), 2 * np.abs(np.diff(wide, axis=0)).max(), rtol=0.1
    )
    for seconds in (-0.1, float("nan")):
        with pytest.raises(FaceTalkError, match="smoothing"):
            smooth(animation, seconds)


def test_the_gate_is_open_around_speech_and_shut_in_silence():
    rate = 16000
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * rate)
    times = np.arange(4 * rate) / rate
    # One second of speech, a pause of 0.2 s, another half a second, silence with a little noise.
    loud = (times < 1) | ((times > 1.2) & (times < 1.7))
    gate = speech_gate(np.where(loud, noise, noise / 300), rate, 96, 24)
    assert gate.shape == (96,) and gate.dtype == np.float32
    assert (gate[: int(1.7 * 24)] == 1).all()
    assert (gate[int(2.3 * 24) :] == 0).all()
    assert (np.diff(gate) <= 0).all() and np.abs(np.diff(gate)).max() < 0.6
    assert not speech_gate(np.zeros(rate), rate, 24, 24).any()
    assert not speech_gate(np.zeros(0), rate, 24, 24).any()
    assert (speech_gate(noise[:rate], rate, 24, 24) == 1).all()


def test_resting_needs_sound_codes_and_names():
    from components import make_head

    with pytest.raises(FaceTalkError, match="named shapes") as caught:
        rest_in_silence(moving(wave(9, 24)), make_head(), None)
    assert "\n" not in str(caught.value)
