# SPDX-License-Identifier: MIT
"""Intensities, silence gate, smoothing, blinks, gaze and frame rate: what they change, what not, what is refused."""

import numpy as np
import pytest
import torch
from components import (
    CODE_DIM,
    RATE,
    codes,
    make_denoiser,
    make_head,
    make_named_head,
    make_pipeline,
    seed,
    speech_like,
)

from facetalk_hf import FaceTalkError
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX, MOUTH
from facetalk_hf.motion.blinks import LID_REST, LidMemory, blinks, replace_blinks, sharpen_blinks
from facetalk_hf.motion.channels import Channels
from facetalk_hf.motion.controls import MotionControls
from facetalk_hf.motion.processing import MotionProcessor, seeded_rng


BLINK = [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]
IS_MOUTH = np.isin(EXPRESSIONS, MOUTH)


@pytest.fixture(scope="module")
def named():
    return make_pipeline(head=make_named_head())


def weights(pipe, **options) -> np.ndarray:
    return Channels(pipe.head, "").weights(codes(pipe, **options)[0]).numpy()


def test_mouth_and_upper_face_have_their_own_intensity(named):
    plain = weights(named)
    result = weights(named, intensity=0.5, upper_face_intensity=2.0)
    np.testing.assert_allclose(result[:, IS_MOUTH], 0.5 * plain[:, IS_MOUTH], atol=1e-5)
    np.testing.assert_allclose(result[:, ~IS_MOUTH], 2.0 * plain[:, ~IS_MOUTH], atol=1e-5)
    assert torch.equal(codes(named, intensity=0.5, upper_face_intensity=0.5)[0], codes(named, intensity=0.5)[0])
    still = weights(named, upper_face_intensity=0.0)
    assert np.abs(still[:, ~IS_MOUTH]).max() < 1e-5 and np.abs(still[:, IS_MOUTH]).max() > 0.1


def test_scaling_can_be_undone():
    head, denoiser = make_named_head(), make_denoiser()
    for mouth, upper in ((0.5, None), (0.5, 2.0), (1.0, 0.25)):
        controls = MotionControls(intensity=mouth, upper_face_intensity=upper)
        processor, start = MotionProcessor(controls, denoiser, head), torch.randn(5, CODE_DIM)
        torch.testing.assert_close(processor.scale(processor.scale(start), inverse=True), start)
        torch.testing.assert_close(processor.to_codes(processor.from_codes(start)), start)


def test_silence_rests_the_mouth_only(named):
    clip = np.concatenate([speech_like(1.0), np.zeros(RATE, np.float32)])
    plain, gated = (weights(named, audio=clip, silence_gate=gate) for gate in (False, True))
    assert np.abs(gated[-10:][:, IS_MOUTH]).max() < 1e-5 < np.abs(plain[-10:][:, IS_MOUTH]).max()
    np.testing.assert_allclose(gated[:, ~IS_MOUTH], plain[:, ~IS_MOUTH], atol=1e-5)
    np.testing.assert_allclose(gated[:20], plain[:20], atol=1e-5)


def test_smoothing_calms(named):
    rough, calm = (np.abs(np.diff(weights(named, smoothing=s), axis=0)).mean() for s in (0.0, 0.05))
    assert calm < 0.7 * rough


def tracks(count: int = 24 * 600) -> np.ndarray:
    """Ten minutes with lids lowered slowly, a little tremor, and blinks every 4 s."""
    result = np.zeros((count, len(EXPRESSIONS)), np.float32)
    times = np.arange(count) / 24
    result[:, BLINK] = 0.1 + 0.1 * np.sin(0.3 * times)[:, None] + 0.02 * np.sin(40 * times)[:, None]
    result[:, BLINK] = np.maximum(result[:, BLINK], blinks(count, 24, np.random.default_rng(7)))
    result[:, INDEX["eyeSquint_L"]] = 0.15 * result[:, INDEX["eyeBlink_L"]]
    return result


def count_blinks(track: np.ndarray) -> int:
    return int(((track[1:] > 0.6) & (track[:-1] <= 0.6)).sum())


def test_half_blinks_are_shut_or_left_out():
    """Blinks of all depths: afterwards the deep ones shut, the shallow ones do not show, and the lids' rest stays."""
    before, depth = tracks(), np.repeat(np.linspace(0.2, 1, 150), 96)
    before[:, BLINK] = np.where(
        before[:, BLINK] > 0.25, np.minimum(before[:, BLINK], depth[:, None]), before[:, BLINK]
    )
    before[:, INDEX["jawOpen"]] = 0.3
    after = sharpen_blinks(before, EXPRESSIONS)
    peaks = np.array([track[:, BLINK].max() for track in (before, after) for track in track.reshape(150, 96, -1)])
    assert (peaks[150:][peaks[:150] < 0.5] <= LID_REST + 1e-6).all() and (peaks[150:][peaks[:150] > 0.72] > 0.99).all()
    undecided = [((track[:, BLINK] > 0.3) & (track[:, BLINK] < 0.8)).sum() for track in (before, after)]
    assert undecided[1] < 0.5 * undecided[0]
    calm = (before[:, BLINK] < LID_REST).all(axis=1)
    np.testing.assert_array_equal(after[calm], before[calm])
    change = (after - before)[:, INDEX["eyeBlink_L"]]
    np.testing.assert_allclose((after - before)[:, INDEX["cheekSquint_L"]], 0.1 * change, atol=1e-6)
    moved = np.flatnonzero(np.abs(after - before).max(axis=0))
    assert {EXPRESSIONS[i].split("_")[0] for i in moved} == {"eyeBlink", "eyeSquint", "cheekSquint"}
    np.testing.assert_allclose(sharpen_blinks(before, EXPRESSIONS, 0.5), (before + after) / 2, atol=1e-6)
    # In pieces, as a stream has them, and for motions side by side.
    memory = LidMemory()
    pieces = [sharpen_blinks(piece, EXPRESSIONS, memory=memory) for piece in np.split(before, [1, 3, 100, 5000])]
    np.testing.assert_array_equal(np.concatenate(pieces), after)
    np.testing.assert_array_equal(sharpen_blinks(np.stack([before, 0 * before]), EXPRESSIONS)[0], after)


def test_a_lid_that_was_shut_goes_up_as_it_was_drawn():
    drawn = np.array([0, 0.5, 0.96, 0.97, 0.5, 0.3, 0.1, 0, 0.5, 0.3, 0, 0.95, 0.4, 0.45, 0.1], np.float32)
    weights = np.zeros((len(drawn), len(EXPRESSIONS)), np.float32)
    weights[:, BLINK] = drawn[:, None]
    lid = sharpen_blinks(weights, EXPRESSIONS)[:, BLINK[0]]
    expected = [0, 0.2, 1, 1, 0.5, 0.3, 0.1, 0, 0.2, 0.2, 0, 1, 0.4, 0.2, 0.1]
    np.testing.assert_allclose(lid, expected, atol=1e-6)


def test_blink_contrast_changes_nothing_but_the_lids(named):
    plain, decided = (weights(named, blink_contrast=c, upper_face_intensity=1) for c in (0.0, 1.0))
    np.testing.assert_allclose(decided, sharpen_blinks(plain, named.head.config.expression_names), atol=1e-5)
    assert np.abs(decided - plain).max() > 0.1
    np.testing.assert_array_equal(weights(named), decided)  # the default
    with pytest.raises(FaceTalkError, match="blink_contrast must be a number between 0 and 1"):
        weights(named, blink_contrast=1.5)
    with pytest.raises(FaceTalkError, match="blink_contrast needs a head whose shapes have names"):
        codes(make_pipeline(), blink_contrast=0.5)
    assert torch.equal(codes(make_pipeline())[0], codes(make_pipeline(), blink_contrast=0.0)[0])


@pytest.mark.parametrize("rate", [0, 5, 20, 60])
def test_blinks_come_at_the_rate_that_was_asked_for(rate):
    before = tracks()
    assert 120 < count_blinks(before[:, BLINK[0]]) < 180
    after = replace_blinks(before, EXPRESSIONS, 24, rate, np.random.default_rng(0))
    for column in BLINK:
        assert abs(count_blinks(after[:, column]) - 10 * rate) <= 0.05 * 10 * rate + 2
        if rate:
            starts = np.flatnonzero((after[1:, column] > 0.6) & (after[:-1, column] <= 0.6)) / 24
            assert np.diff(starts).min() > 0.45 * 60 / rate and np.diff(starts).std() > 0.1 * 60 / rate
    # Between the blinks the lids do what they did, and nothing else has changed.
    quiet = (before[:, BLINK] < 0.25).all(1) & (after[:, BLINK] < 0.25).all(1)
    assert quiet.mean() > 0.3 and np.quantile(np.abs(after - before)[quiet][:, BLINK], 0.95) < 0.03
    rest = np.delete(np.arange(len(EXPRESSIONS)), [*BLINK, INDEX["eyeSquint_L"], INDEX["eyeSquint_R"],
                                                   INDEX["cheekSquint_L"], INDEX["cheekSquint_R"]])  # fmt: skip
    np.testing.assert_array_equal(after[:, rest], before[:, rest])
    if rate == 0:
        assert after[:, BLINK].max() < 0.3 and after[:, INDEX["eyeSquint_L"]].max() < 0.06
    again = replace_blinks(before, EXPRESSIONS, 24, rate, np.random.default_rng(0))
    np.testing.assert_array_equal(after, again)


def test_a_blink_rate_of_the_pipeline(named):
    clip = speech_like(10.0)
    plain = weights(named, audio=clip)
    first, other = (weights(named, audio=clip, blink_rate=30, generator=seed(n)) for n in (0, 1))
    still = np.delete(np.arange(53), [INDEX[n] for n in EXPRESSIONS if n.startswith(("eyeBlink", "eyeSq", "cheekSq"))])
    np.testing.assert_allclose(first[:, still], plain[:, still], atol=1e-5)
    assert first[:, BLINK].max() > 0.9 and not np.allclose(first[:, BLINK], other[:, BLINK], atol=0.1)
    np.testing.assert_array_equal(first, weights(named, audio=clip, blink_rate=30))


def test_seeds_of_results_differ_and_do_not_depend_on_the_batch():
    draw = lambda generator, index=0: seeded_rng(generator, index).random()  # noqa: E731
    assert draw(seed(3)) == draw(seed(3)) == draw([seed(1), seed(3)], 1)
    assert len({draw(seed(3)), draw(seed(4)), draw(seed(3), 1)}) == 3
    torch.manual_seed(5)
    assert draw(None) == draw(None)
    torch.randn(1)
    changed = draw(None)
    torch.manual_seed(5)
    assert draw(None) != changed


NAMELESS = [
    ({"upper_face_intensity": 0.5}, "shapes have names"), ({"blink_rate": 10}, "shapes have names"),
    ({"silence_gate": True}, "shapes have names"),
]  # fmt: skip
BAD = [
    ({"upper_face_intensity": -1.0}, "upper_face_intensity must be a number of at least 0"),
    ({"upper_face_intensity": float("nan")}, "upper_face_intensity"), ({"blink_rate": -1}, "blink_rate"),
    ({"blink_rate": 61}, "between 0 and 60"), ({"blink_rate": float("inf")}, "blink_rate"),
    ({"smoothing": -0.1}, "smoothing"), ({"smoothing": float("nan")}, "smoothing"), ({"fps": 0}, "fps"),
    ({"fps": -24}, "fps"), ({"fps": float("nan")}, "fps"), ({"head_motion": -1}, "head_motion"),
    ({"head_motion": 3}, "between 0 and 2"), ({"gaze": (1,)}, "yaw and pitch"), ({"gaze": (0, 90)}, "pitch of gaze"),
    ({"gaze": (float("nan"), 0)}, "yaw of gaze"), ({"gaze": (np.zeros((2, 2)), 0)}, "yaw and pitch"),
    ({"gaze": (5, 0)}, 'output_type="animation"'), ({"head_motion": 1}, 'output_type="animation"'),
    ({"fps": 60}, 'output_type="animation"'),
]  # fmt: skip


@pytest.mark.parametrize("options, message", BAD + NAMELESS)
def test_bad_controls_are_refused_before_the_work(named, options, message):
    pipe = make_pipeline(head=make_head()) if (options, message) in NAMELESS else named
    encoded = []
    handle = pipe.audio_encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    with pytest.raises(FaceTalkError, match=message) as error:
        codes(pipe, **options)
    with pytest.raises(FaceTalkError, match="gaze has 7 angles, the clip has 24 frames"):
        pipe(speech_like(1.0), sampling_rate=RATE, gaze=(np.zeros(7), 0.0))
    handle.remove()
    assert "\n" not in str(error.value) and not encoded


def test_gaze_head_motion_and_frame_rate_of_an_animation():
    head = make_named_head()
    pipe = make_pipeline(head=head)
    pipe.decoder.resolution = 16
    options = {"sampling_rate": RATE, "num_inference_steps": 2}
    plain = pipe(speech_like(1.0), generator=seed(), **options).animations[0]
    moved = pipe(speech_like(1.0), generator=seed(), head_motion=1.0, **options).animations[0]
    assert plain.poses is None and moved.poses.shape == (24, 6)
    np.testing.assert_array_equal(moved.weights, plain.weights)
    fast = pipe(speech_like(1.0), generator=seed(), head_motion=1.0, fps=60, **options)
    animation = fast.animations[0]
    assert animation.fps == 60 and animation.num_frames == 60 == len(animation.poses) == len(fast.expressions[0])
    np.testing.assert_allclose(animation.poses[::5][:10], moved.poses[::2][:10], atol=1e-5)
    two = pipe(speech_like(1.0), generator=seed(), head_motion=1.0, num_samples=2, **options).animations
    assert not np.allclose(two[0].poses, two[1].poses) and np.array_equal(two[0].poses, moved.poses)


def test_the_mouth_is_cooled_towards_what_the_audio_lets_expect_and_the_eyes_are_not(named):
    hot, warm, cold = (weights(named, mouth_temperature=t) for t in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(warm[:, IS_MOUTH], 0.5 * (hot + cold)[:, IS_MOUTH], atol=1e-5)
    np.testing.assert_allclose(warm[:, ~IS_MOUTH], hot[:, ~IS_MOUTH], atol=1e-5)
    assert np.abs(hot - cold)[:, IS_MOUTH].max() > 0.1
    expected = weights(named, mouth_temperature=1.0, num_inference_steps=1, guidance_scale=1.0)
    np.testing.assert_allclose(cold[:, IS_MOUTH], expected[:, IS_MOUTH], atol=1e-5)
    with pytest.raises(FaceTalkError, match="mouth_temperature must be a number between 0 and 1"):
        weights(named, mouth_temperature=1.5)
    with pytest.raises(FaceTalkError, match="shapes have names"):
        codes(make_pipeline(), mouth_temperature=0.5)
