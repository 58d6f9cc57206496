# SPDX-License-Identifier: MIT
"""Emotion, style and a learnt head in the pipeline, its streams and its few steps."""

import numpy as np
import pytest
import torch
from components import (
    RATE,
    ClipStatistics,
    codes,
    make_denoiser,
    make_head,
    make_named_head,
    make_pipeline,
    seed,
    speech_like,
)

from facetalk_hf import FaceTalkError, FaceTalkPipeline
from facetalk_hf.blendshapes import EXPRESSIONS, LOOK_DEGREES
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.models.denoiser import FaceTalkDenoiser
from facetalk_hf.motion.emotions import EmotionCurve


def acting(**components):
    denoiser = make_denoiser(attention_mode="causal", condition_names=list(CONDITIONS), pose_dim=6)
    denoiser.pose_std.fill_(2.0)
    return make_pipeline(**{"denoiser": denoiser} | components)


@pytest.fixture(scope="module")
def pipe():
    return acting()


def call(pipe, clip=None, **options):
    clip = speech_like(1.0) if clip is None else clip
    options = {"generator": seed(), "num_inference_steps": 3, "sampling_rate": RATE} | options
    return pipe(clip, output_type="expression", **options)


def test_emotion_and_style_reach_the_denoiser(pipe):
    plain = call(pipe).expressions[0]
    for options in ({"emotion": {"happy": 1.0}}, {"emotion": "sad=0.5"}, {"articulation": -1.0}, {"energy": 1.0}):
        assert not torch.allclose(call(pipe, **options).expressions[0], plain, atol=1e-3), options
    assert torch.equal(call(pipe, emotion="neutral").expressions[0], plain)
    # A neutral motion need not be pronounced: it is the same, at any scale, and costs no copy.
    assert torch.equal(call(pipe, emotion_scale=3.0).expressions[0], plain)
    once, twice = (call(pipe, emotion="happy", emotion_scale=scale).expressions[0] for scale in (1.0, 3.0))
    assert not torch.allclose(once, twice, atol=1e-3)


def test_an_emotion_over_time_changes_what_comes_after_it(pipe):
    plain = call(pipe).expressions[0]
    late = EmotionCurve({"happy": ([0.5, 0.51], [0.0, 1.0])})
    changed = call(pipe, emotion=late).expressions[0]
    torch.testing.assert_close(changed[:12], plain[:12], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(changed[13:], plain[13:], atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"emotion": "angry=0.8", "emotion_scale": 2.0}, {"guidance_scale": 1.0}])
def test_a_stream_equals_the_whole_clip(pipe, options):
    clip = speech_like(1.5)
    wanted = call(pipe, clip, head_motion=1.0, **options)
    stream = pipe.open_stream(RATE, num_inference_steps=3, generator=seed(), head_motion=1.0, **options)
    stream.features.statistics = ClipStatistics(pipe.feature_extractor, clip)
    found, poses = [], []
    for start in range(0, len(clip), 3000):
        found.append(stream.push(clip[start : start + 3000]))
        poses.append(stream.poses)
    found.append(stream.finish())
    poses.append(stream.poses)
    torch.testing.assert_close(torch.cat(found), wanted.expressions[0], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(np.concatenate(poses), wanted.poses[0], atol=1e-3)
    assert wanted.poses[0].shape == (36, 6) and wanted.poses[0].std() > 0.1


def test_a_stream_changes_its_mood(pipe):
    clip, results = speech_like(2.0), []
    for mood in ("neutral", "happy"):
        stream = pipe.open_stream(RATE, num_inference_steps=2, generator=seed())
        first = stream.push(clip[:RATE])
        stream.act(emotion=mood)
        results.append((first, torch.cat([stream.push(clip[RATE:]), stream.finish()])))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.allclose(results[0][1], results[1][1], atol=1e-3)
    with pytest.raises(FaceTalkError, match="cannot be changed"):
        stream.act(intensity=2.0)
    with pytest.raises(FaceTalkError, match="does not know its frames"):
        pipe.open_stream(RATE, emotion={"sad": [0, 1]})


def test_a_stream_hears_its_mood_in_any_chunks(pipe):
    clip, results = speech_like(3.0), []
    for mood, chunk in (("auto", 3000), ("auto", 777), ("neutral", 3000)):
        stream = pipe.open_stream(RATE, num_inference_steps=2, generator=seed(), emotion=mood, emotion_scale=1.0)
        parts = [stream.push(clip[start : start + chunk]) for start in range(0, len(clip), chunk)]
        results.append(torch.cat([*parts, stream.finish()]))
    torch.testing.assert_close(results[0], results[1])
    assert not torch.allclose(results[0], results[2], atol=1e-3)


def test_a_model_without_them_says_so():
    old = make_pipeline()
    plain = call(old)
    assert plain.poses is None
    assert torch.equal(call(old, emotion="neutral").expressions[0], plain.expressions[0])
    for options in ({"emotion": "happy"}, {"energy": 0.5}, {"emotion_scale": 2.0}):
        with pytest.raises(FaceTalkError, match="not trained with emotion") as told:
            call(old, **options)
        assert "\n" not in str(told.value)
    with pytest.raises(FaceTalkError, match="head_motion changes animations"):
        call(old, head_motion=1.0)
    causal = make_pipeline(denoiser=make_denoiser(attention_mode="causal"))
    with pytest.raises(FaceTalkError, match="head_motion is for whole clips"):
        causal.open_stream(RATE, head_motion=1.0)


def test_a_learnt_head_moves_as_much_as_is_asked_for_and_the_eyes_stay_on_their_target():
    pipe = acting(head=make_named_head())
    whole, half, still = (call(pipe, head_motion=scale) for scale in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half.poses[0], 0.5 * whole.poses[0], rtol=1e-5)
    assert not still.poses[0].any() and whole.poses[0].std() > 0.1
    names, basis = list(EXPRESSIONS), pipe.head.expression_basis.double()

    def yaw(output):
        weights = output.expressions[0].double() @ basis
        out, into = (weights[:, names.index(f"eyeLook{way}_L")] for way in ("Out", "In"))
        return LOOK_DEGREES["Out"] * (out - into) + torch.from_numpy(output.poses[0][:, 0])

    torch.testing.assert_close(yaw(still), yaw(half), atol=0.05, rtol=0.01)
    # The smaller the part that is shown, the more of the eyes' own turn is taken back; the face stays as it is.
    jaw = [(item.expressions[0].double() @ basis)[:, names.index("jawOpen")] for item in (whole, still)]
    torch.testing.assert_close(*jaw, atol=1e-4, rtol=1e-4)


def test_the_learnt_head_is_part_of_the_animation():
    class Recorded(FaceTalkPipeline):
        """Keeps what the last step of a call was given."""

        def animate(self, expressions, recordings=(), identity=None, generator=None, controls=None, poses=None, *more):
            self.given = poses
            return []

    plain = acting(head=make_head())
    pipe = Recorded(**plain.components, fps=24.0)
    pipe.set_progress_bar_config(disable=True)
    pipe(speech_like(1.0), RATE, generator=seed(), num_inference_steps=3, head_motion=1.5, mouth_temperature=1.0)
    np.testing.assert_allclose(
        pipe.given[0], call(plain, head_motion=1.5, mouth_temperature=1.0).poses[0], rtol=1e-4, atol=1e-4
    )


def test_checkpoints_keep_them_and_old_ones_load(tmp_path, pipe):
    pipe.denoiser.save_pretrained(tmp_path / "new")
    again = FaceTalkDenoiser.from_pretrained(tmp_path / "new")
    assert again.config.pose_dim == 6 and tuple(again.config.condition_names) == CONDITIONS
    torch.testing.assert_close(again.pose_std, pipe.denoiser.pose_std)
    old = make_denoiser()
    old.save_pretrained(tmp_path / "old")
    text = (tmp_path / "old" / "config.json").read_text()
    kept = [line for line in text.splitlines() if "condition_names" not in line and "pose_dim" not in line]
    (tmp_path / "old" / "config.json").write_text("\n".join(kept))
    loaded = FaceTalkDenoiser.from_pretrained(tmp_path / "old")
    assert loaded.config.pose_dim == 0 and not loaded.config.condition_names and loaded.sample_dim == 64
    audio = torch.randn(1, 5, 24)
    with pytest.raises(FaceTalkError, match="not trained with conditions"):
        loaded(torch.randn(1, 5, 64), 3, audio, conditions=torch.zeros(1, 11))


def test_results_do_not_depend_on_the_batch(pipe):
    clips = [speech_like(1.0), speech_like(0.5, seed=1)]
    options = {"emotion": "surprised=0.6", "emotion_scale": 2.0}
    together = call(pipe, clips, generator=[seed(0), seed(1)], **options)
    alone = call(pipe, clips[1], generator=[seed(1)], **options)
    torch.testing.assert_close(together.expressions[1], alone.expressions[0], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(together.poses[1], alone.poses[0], atol=1e-3)
    assert len(codes(pipe, clips[0])) == 1
