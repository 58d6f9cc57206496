# SPDX-License-Identifier: MIT
"""Fixed frames and channels: exact, smooth around, and one line for what contradicts itself."""

import json

import numpy as np
import pytest
import torch
from components import CODE_DIM, RATE, codes, make_head, make_named_head, make_pipeline, seed, speech_like
from named_pipeline import named, weights  # noqa: F401

from facetalk_hf import FaceTalkError, Keyframes, read_keyframes
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.motion.channels import Channels


@pytest.mark.parametrize("options", [
    {}, {"guidance_scale": 1.0, "num_inference_steps": 1}, {"intensity": 0.5, "upper_face_intensity": 1.5},
    {"intensity": 0.0}, {"smoothing": 0.1}, {"blink_rate": 60, "silence_gate": True},
])  # fmt: skip
def test_fixed_frames_and_channels_are_exact(named, options):
    pose = torch.randn(2, CODE_DIM, generator=seed(5))
    curve = np.full(24, np.nan)
    curve[3:8] = np.linspace(0, 1, 5)
    keyframes = Keyframes().fix_frames([0, 15], pose)
    keyframes.fix_channels([20, 21], {"jawOpen": [0.25, 0.5], "browInnerUp": 0.3})
    keyframes.fix_channels(None, {"eyeBlinkLeft": curve})
    result = codes(named, keyframes=keyframes, **options)[0]
    assert torch.equal(result[[0, 15]], pose)
    channel = weights(named, result)
    np.testing.assert_allclose(channel[[20, 21], INDEX["jawOpen"]], [0.25, 0.5], atol=1e-5)
    for side in "LR":
        np.testing.assert_allclose(channel[[20, 21], INDEX[f"browInnerUp_{side}"]], 0.3, atol=1e-5)
    np.testing.assert_allclose(channel[3:8, INDEX["eyeBlink_L"]], curve[3:8], atol=1e-5)
    if not options:
        free = codes(named)[0]
        assert (result[10] - free[10]).abs().max() < 3 and not torch.equal(result[12], free[12])


def test_what_is_fixed_reaches_the_denoiser_and_other_clips_stay_as_they_are(named):
    """The rest is generated to go with the fixed part, not only bent at the end; and in a batch nothing leaks."""
    clips = [speech_like(1.0), speech_like(0.6, seed=1)]
    plain = codes(named, clips, generator=[seed(1), seed(2)], num_inference_steps=5)
    keyframes = Keyframes().fix_channels(None, {"jawOpen": 3.0})
    fixed = codes(named, clips, generator=[seed(1), seed(2)], num_inference_steps=5, keyframes=[None, keyframes])
    assert torch.equal(plain[0], fixed[0])
    other = [name != "jawOpen" for name in EXPRESSIONS]
    assert np.abs(weights(named, plain[1]) - weights(named, fixed[1]))[:, other].max() > 1e-3
    both = codes(named, clips[1], num_samples=2, keyframes=keyframes)
    assert all(np.allclose(weights(named, item)[:, INDEX["jawOpen"]], 3, atol=1e-4) for item in both)


def test_motion_leads_smoothly_into_a_keyframe():
    still = torch.zeros(60, CODE_DIM)
    constraint = Keyframes().fix_frames([30, 33], torch.ones(2, CODE_DIM)).resolve(None, 60, CODE_DIM, reach=6)
    led = constraint(still)[:, 0].numpy()
    assert led[30] == led[33] == 1 and not led[:25].any() and not led[39:].any()
    # A step over 6 frames by a curve whose steepest slope is 1.875 / 6, and no jump of the slope either.
    assert np.abs(np.diff(led[:31])).max() < 0.32 and np.abs(np.diff(led[:31], 2)).max() < 0.16
    assert np.abs(np.diff(led[33:], 2)).max() < 0.16
    only = constraint(still, lead=False)[:, 0]
    assert only[[30, 33]].tolist() == [1, 1] and only.sum() == 2


def test_one_channel_moves_no_other():
    channels = Channels(make_named_head(), "")
    start = torch.randn(7, CODE_DIM, dtype=torch.double)
    moved = channels.change(start, torch.ones(7, 1, dtype=torch.double), torch.tensor([4]))
    difference = channels.weights(moved) - channels.weights(start)
    expected = torch.zeros(7, 53, dtype=torch.double)
    expected[:, 4] = 1
    torch.testing.assert_close(difference, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make, message", [
    (lambda k: k.fix_frames([24], np.zeros((1, CODE_DIM))), "outside the clip"),
    (lambda k: k.fix_channels([99], {"jawOpen": 1}), "outside the clip, whose frames are 0 to 23"),
    (lambda k: k.fix_frames([-1], np.zeros((1, CODE_DIM))), "whole numbers from 0"),
    (lambda k: k.fix_frames([0.5], np.zeros((1, CODE_DIM))), "whole numbers from 0"),
    (lambda k: k.fix_frames([0, 1], np.zeros((1, CODE_DIM))), "1 keyframes need 1 frame numbers"),
    (lambda k: k.fix_frames([0], np.zeros((1, 7))), "has 7 numbers, this model's 64"),
    (lambda k: k.fix_frames([0], np.zeros(CODE_DIM)), "shape"),
    (lambda k: k.fix_frames([0], np.full((1, CODE_DIM), np.nan)), "not finite"),
    (lambda k: k.fix_frames([3, 3], np.eye(2, CODE_DIM)), "frame 3 is fixed twice"),
    (lambda k: k.fix_channels([3], {"jawOpn": 1}), "no channel is called 'jawOpn'"),
    (lambda k: k.fix_channels([3], {"tongueOut": 1}), "no channel tongueOut"),
    (lambda k: k.fix_channels([3], {"jawOpen": np.inf}), "not finite"),
    (lambda k: k.fix_channels([3, 4], {"jawOpen": [1, 2, 3]}), "2 numbers"),
    (lambda k: k.fix_channels([3, 3], {"jawOpen": [0.1, 0.2]}), "fixed twice at frame 3, to 0.1 and 0.2"),
    (lambda k: k.fix_channels([3], {"jawOpen": 0.1}).fix_channels(None, {"JawOpen": np.ones(24)}), "fixed twice"),
    (lambda k: k.fix_channels([3], {"browInnerUp": 0.1, "browInnerUp_L": 0.2}), "fixed twice"),
    (lambda k: k.fix_channels(None, {"jawOpen": 0.1}).fix_channels(None, {"JawOpen": 0.2}), "fixed twice"),
    (lambda k: k.fix_channels(None, {"jawOpen": np.ones(23)}), "has 23 numbers, the clip has 24 frames"),
    (lambda k: k.fix_channels(None, {"jawOpen": np.ones((2, 24))}), "one row"),
    (lambda k: k.fix_frames([3], np.zeros((1, CODE_DIM))).fix_channels([3], {"jawOpen": 1}), "frame 3 is fixed twice"),
])  # fmt: skip
def test_bad_keyframes_are_refused_before_the_work(named, make, message):
    encoded = []
    handle = named.audio_encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    with pytest.raises(FaceTalkError, match=message) as error:
        codes(named, keyframes=make(Keyframes()))
    handle.remove()
    assert "\n" not in str(error.value) and not encoded


def test_keyframes_need_one_clip_each_and_names_for_channels(named):
    with pytest.raises(FaceTalkError, match="list of 1"):
        codes(named, keyframes=[Keyframes(), Keyframes()])
    nameless = make_pipeline(head=make_head())
    with pytest.raises(FaceTalkError, match="shapes have names"):
        codes(nameless, keyframes=Keyframes().fix_channels([0], {"jawOpen": 1}))
    pose = torch.ones(1, CODE_DIM)
    assert torch.equal(codes(nameless, keyframes=Keyframes().fix_frames([4], pose))[0][4], pose[0])
    # The same thing twice is no contradiction, and nothing fixed is nothing.
    Keyframes().fix_frames([4, 4], torch.ones(2, CODE_DIM)).resolve(None, 5, CODE_DIM)
    assert torch.equal(codes(nameless, keyframes=Keyframes())[0], codes(nameless)[0])


# Files


def test_three_files_say_the_same(named, tmp_path):
    (tmp_path / "a.csv").write_text("frame, jawOpen, EyeBlinkLeft\n3, 0.5,\n\n7, , 1\n")
    document = {"frames": {"3": {"jaw_open": 0.5}}, "channels": {"eyeBlink_L": [None] * 7 + [1] + [None] * 16}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    table = np.array([[0.5, np.nan], [np.nan, 1.0]])
    np.savez(tmp_path / "a.npz", frames=[3, 7], weights=table, names=["jawOpen", "eyeBlinkLeft"])
    for suffix in ("csv", "json", "npz"):
        constraint = read_keyframes(tmp_path / f"a.{suffix}").resolve(named.head, 24, CODE_DIM)
        fixed = np.argwhere(~np.isnan(constraint.weights.numpy())).tolist()
        assert fixed == [[3, INDEX["jawOpen"]], [7, INDEX["eyeBlink_L"]]]
        assert constraint.weights[3, INDEX["jawOpen"]] == 0.5 and constraint.weights[7, INDEX["eyeBlink_L"]] == 1


def test_a_star_stands_for_the_channels_that_are_not_named(named, tmp_path):
    (tmp_path / "a.csv").write_text("frame,*,jawOpen\n3,0,0.5\n")
    row = read_keyframes(tmp_path / "a.csv").resolve(named.head, 24, CODE_DIM).weights[3]
    assert row[INDEX["jawOpen"]] == 0.5 and float(row.sum()) == 0.5
    (tmp_path / "b.json").write_text('{"channels": {"*": 0, "jawOpen": 0.5}}')
    table = read_keyframes(tmp_path / "b.json").resolve(named.head, 24, CODE_DIM).weights
    assert (table.sum(1) == 0.5).all()


def test_codes_in_an_npz(tmp_path):
    poses = np.random.default_rng(0).random((2, CODE_DIM), np.float32)
    np.savez(tmp_path / "a.npz", frames=[1, 9], expression=poses)
    constraint = read_keyframes(tmp_path / "a.npz").resolve(None, 24, CODE_DIM)
    np.testing.assert_array_equal(constraint.codes[[1, 9]], poses)
    np.savez(tmp_path / "b.npz", expression=poses)
    assert not read_keyframes(tmp_path / "b.npz").resolve(None, 2, CODE_DIM).codes.isnan().any()


@pytest.mark.parametrize("name, content, message", [
    ("a.csv", "jawOpen\n1\n", "frame"), ("a.csv", "frame,jawOpen\n3,wide\n", "line 2: jawOpen must be a number"),
    ("a.csv", "frame,jawOpen\n3,nan\n", "jawOpen"), ("a.csv", "frame,jawOpen\n3\n", "line 2"),
    ("a.csv", "frame,jawOpen\n,0.5\n", "no frame number"), ("a.csv", "frame,a,a\n3,1,2\n", "same name"),
    ("a.csv", "frame,jawOpen\n", "no keyframe"), ("a.csv", "frame,jaw\n1,1\n", "'jaw'"),
    ("a.csv", "frame,jawOpen\n3,0.1\n3,0.2\n", "fixed twice at frame 3"), ("a.csv", "", "frame"),
    ("a.json", "{", "cannot be read"), ("a.json", "[]", "object"), ("a.json", '{"frame": {}}', "object"),
    ("a.json", '{"frames": {"first": {}}}', "'first'"), ("a.json", '{"frames": {"1": 3}}', "cannot be read"),
    ("a.json", '{"channels": {"jawOpen": ["a"]}}', "cannot be read"), ("a.npz", "no archive", "cannot be read"),
    ("a.txt", "frame,jawOpen\n", "csv"), ("a.csv", "frame;jawOpen\n3;0,5\n", "not parted by commas"),
    ("a.csv", "f\0r\0a\0m\0e\0", "UTF-16"), ("a.csv", "frame,jawOpen\n3,1.5\n", "between 0 and 1"),
    ("a.json", '{"channels": {"jawOpen": [0, -0.5]}}', "between 0 and 1"),
])  # fmt: skip
def test_bad_files_give_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(FaceTalkError, match=message) as error:
        read_keyframes(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_bad_npz(tmp_path):
    for fields in (
        {"frames": [1]}, {"weights": np.zeros((1, 2)), "names": ["jawOpen"]}, {"weights": np.zeros((1, 1))},
        {"expression": np.zeros((1, 4)), "frames": [1, 2]}, {"expression": np.zeros((1, 4)), "frame": [1]},
    ):  # fmt: skip
        np.savez(tmp_path / "a.npz", **fields)
        with pytest.raises(FaceTalkError, match="a.npz"):
            read_keyframes(tmp_path / "a.npz")
    with pytest.raises(FaceTalkError, match="no such file"):
        read_keyframes(tmp_path / "b.npz")


# The editing pipeline of pipelines/


def test_the_editing_pipeline_fills_a_gap(named, tmp_path):
    from pathlib import Path

    from diffusers import DiffusionPipeline

    file = Path(__file__).parents[2] / "pipelines" / "expression_edit.py"
    named.save_pretrained(tmp_path)
    editor = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(file), trust_remote_code=True)
    editor.set_progress_bar_config(disable=True)
    assert type(editor).__name__ == "ExpressionEditPipeline"
    clip, options = speech_like(1.0), {"sampling_rate": RATE, "num_inference_steps": 3, "output_type": "expression"}
    motion = editor(clip, generator=seed(), **options).expressions[0]
    assert torch.equal(motion, codes(named)[0])
    edited = editor(clip, motion=motion, regenerate=[(8, 16)], generator=seed(1), **options).expressions[0]
    assert torch.equal(edited[:8], motion[:8]) and torch.equal(edited[16:], motion[16:])
    assert not torch.equal(edited[8:16], motion[8:16])
    longer = editor(clip, motion=motion[:9], generator=seed(1), **options).expressions[0]
    assert torch.equal(longer[:9], motion[:9]) and not torch.equal(longer[9:], motion[9:])
    pose = torch.ones(CODE_DIM)
    given = {"frames": {20: {"jawOpen": 0.7}}, "channels": {"cheekPuff": 0.1}}
    edited = editor(clip, generator=seed(), **given, **options).expressions[0]
    channel = weights(editor, edited)
    assert abs(channel[20, INDEX["jawOpen"]] - 0.7) < 1e-5
    np.testing.assert_allclose(channel[:, [INDEX["cheekPuff_L"], INDEX["cheekPuff_R"]]], 0.1, atol=1e-5)
    assert torch.equal(editor(clip, frames={2: pose}, generator=seed(), **options).expressions[0][2], pose)
    for bad in (
        {"regenerate": [(0, 3)]},
        {"motion": motion, "regenerate": [(20, 30)]},
        {"motion": motion.repeat(2, 1)},
    ):
        with pytest.raises(FaceTalkError):
            editor(clip, **bad, **options)
