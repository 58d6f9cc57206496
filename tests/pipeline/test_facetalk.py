# SPDX-License-Identifier: MIT
"""The pipeline: the contracts of a diffusers pipeline, and what is FaceTalk's own."""

import inspect

import diffusers
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
    make_wav2vec2,
    seed,
    speech_like,
)
from transformers import Wav2Vec2FeatureExtractor

from facetalk_hf import FaceTalkPipeline, FaceTalkPipelineOutput, LogMelFeatureExtractor, MotionControls
from facetalk_hf.animation.arkit import weights_to_arkit
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.motion.blinks import blinks
from facetalk_hf.motion.head_motion import head_motion
from facetalk_hf.motion.processing import seeded_rng


# Calling


def test_call_signature():
    parameters = inspect.signature(FaceTalkPipeline.__call__).parameters
    assert {name: value.default for name, value in parameters.items() if name not in ("self", "audio")} == {
        "sampling_rate": None,
        "identity": None,
        "num_inference_steps": None,
        "guidance_scale": None,
        "num_samples": 1,
        "mouth_temperature": None,
        "intensity": 1.0,
        "upper_face_intensity": None,
        "silence_gate": False,
        "smoothing": 0.0,
        "blink_contrast": None,
        "blink_rate": None,
        "gaze": None,
        "head_motion": 0.0,
        "fps": None,
        "phone_strength": 1.0,
        "look_ahead": None,
        "emotion": None,
        "emotion_scale": None,
        "energy": 0.0,
        "articulation": 0.0,
        "asymmetry": 0.0,
        "keyframes": None,
        "phones": None,
        "text": None,
        "language": "en",
        "generator": None,
        "latents": None,
        "output_type": "animation",
        "return_dict": True,
        "callback_on_step_end": None,
        "callback_on_step_end_tensor_inputs": ["latents"],
        "controls": None,
    }
    first = ["self", "audio", "sampling_rate", "identity", "num_inference_steps", "guidance_scale", "num_samples"]
    assert list(parameters)[:8] == [*first, "mouth_temperature"]


def test_dict_and_tuple(pipe):
    options = {"sampling_rate": RATE, "num_inference_steps": 2, "output_type": "expression"}
    output = pipe(speech_like(1.0), generator=seed(), **options)
    expressions, animations = pipe(speech_like(1.0), generator=seed(), return_dict=False, **options)
    assert isinstance(output, FaceTalkPipelineOutput) and output.animations is None and animations is None
    assert torch.equal(output.expressions[0], expressions[0])


@pytest.mark.parametrize("samples, frames", [(1, 1), (600, 1), (RATE, 24), (RATE + 1, 25)])
def test_a_result_has_the_length_of_its_audio(pipe, samples, frames):
    result = codes(pipe, np.full(samples, 0.1, np.float32))[0]
    assert result.shape == (frames, CODE_DIM) and result.dtype == torch.float32 and result.isfinite().all()


def test_paths_and_arrays_give_the_same(pipe, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", speech_like(1.0), RATE, subtype="FLOAT")
    assert torch.equal(codes(pipe, tmp_path / "a.wav", sampling_rate=None)[0], codes(pipe)[0])
    assert torch.equal(codes(pipe, torch.tensor(speech_like(1.0)))[0], codes(pipe)[0])


def test_seeds(pipe):
    assert torch.equal(codes(pipe)[0], codes(pipe)[0])
    assert not torch.equal(codes(pipe, generator=seed(1))[0], codes(pipe)[0])
    first, second = codes(pipe, num_samples=2)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, codes(pipe)[0], atol=1e-5, rtol=1e-4)


def test_given_latents_take_the_place_of_noise(pipe):
    noise = torch.randn(24, CODE_DIM, generator=seed())
    for latents in (noise[None], [noise]):
        assert torch.equal(codes(pipe, latents=latents, generator=None)[0], codes(pipe)[0])


STOCHASTIC = {"algorithm_type": "sde-dpmsolver++"}


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("scheduler, config", [
    ("DPMSolverMultistepScheduler", {}), ("DPMSolverMultistepScheduler", STOCHASTIC),
    ("DDPMScheduler", {"clip_sample": False}), ("EulerDiscreteScheduler", {}),
])  # fmt: skip
def test_an_element_does_not_depend_on_its_batch(pipe, scheduler, config, guidance_scale):
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **config)
    clips = [speech_like(0.6), speech_like(1.7, seed=1), np.full(99, 0.1, np.float32)]
    options = {"guidance_scale": guidance_scale}
    together = codes(pipe, clips, generator=[seed(i) for i in range(3)], **options)
    assert [len(item) for item in together] == [15, 41, 1]
    for index, clip in enumerate(clips):
        alone = codes(pipe, clip, generator=seed(index), **options)[0]
        # Euler starts from noise of standard deviation 2e4, so it loses digits; another noise would differ by 1.
        torch.testing.assert_close(together[index], alone, atol=3e-3, rtol=1e-3)
    samples = codes(pipe, clips[0], num_samples=2, generator=[seed(5), seed(0)], **options)
    torch.testing.assert_close(samples[1], together[0], atol=3e-3, rtol=1e-3)


def test_samples_of_a_clip_stand_side_by_side(pipe):
    clips = [speech_like(1.0), speech_like(1.0, seed=1)]
    together = codes(pipe, clips, num_samples=2, generator=[seed(i) for i in range(4)])
    for index in range(4):
        alone = codes(pipe, clips[index // 2], generator=seed(index))[0]
        torch.testing.assert_close(together[index], alone, atol=1e-4, rtol=1e-4)


def test_the_denoiser_gets_what_the_scheduler_scales(pipe):
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    spread = []
    pipe.denoiser.register_forward_pre_hook(lambda _, inputs: spread.append(float(inputs[0].std())))
    codes(pipe, guidance_scale=1.0)
    assert pipe.scheduler.init_noise_sigma > 10 and 0.9 < spread[0] < 1.1


def test_one_generator_serves_elements_in_order(pipe):
    clips = [speech_like(0.6), speech_like(1.7, seed=1)]
    source = seed()
    latents = [torch.randn(count, CODE_DIM, generator=source) for count in (15, 41)]
    for given, expected in zip(codes(pipe, clips), codes(pipe, clips, latents=latents), strict=True):
        assert torch.equal(given, expected)


@pytest.mark.parametrize("name", [
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "TCDScheduler",
])  # fmt: skip
def test_schedulers_of_diffusers(pipe, name):
    options = {"clip_sample": False} if name.startswith(("DD", "TCD")) else {}
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    pipe.denoiser.requires_grad_(False)
    for parameter in (pipe.denoiser.sample_out.weight, pipe.denoiser.sample_out.bias):
        parameter.zero_()
    pipe.denoiser.sample_out.bias[0] = 2.0  # a denoiser that is sure of the answer
    result = codes(pipe, guidance_scale=1.0, num_inference_steps=20)[0]
    assert (result[:, 0] - 2).abs().max() < 0.2 and result[:, 1:].abs().max() < 0.2


@pytest.mark.parametrize("scheduler", [
    diffusers.DDIMScheduler(), diffusers.DDIMScheduler(prediction_type="v_prediction"),
    diffusers.FlowMatchEulerDiscreteScheduler(), diffusers.PNDMScheduler(),
    diffusers.FlowMatchEulerDiscreteScheduler.from_config({"prediction_type": "sample"}),
])  # fmt: skip
def test_schedulers_for_other_predictions_are_refused(pipe, scheduler):
    pipe.scheduler = scheduler
    with pytest.raises(FaceTalkError, match="prediction_type"):
        codes(pipe)


def test_a_scheduler_that_cannot_predict_samples_says_so_in_one_line(pipe):
    encoded = count_calls(pipe.audio_encoder)
    pipe.scheduler = diffusers.PNDMScheduler.from_config(pipe.scheduler.config)
    state = torch.get_rng_state()
    with pytest.raises(FaceTalkError, match="PNDMScheduler cannot sample this denoiser") as error:
        codes(pipe)
    assert "\n" not in str(error.value) and encoded == [] and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name, message", [
    ("IPNDMScheduler", "does not end at"), ("CMStochasticIterativeScheduler", "does not end at"),
    ("DDIMInverseScheduler", "does not end at"), ("DPMSolverMultistepInverseScheduler", "does not end at"),
    ("DDIMScheduler", "clip_sample=False"), ("DDPMScheduler", "clip_sample=False"),
])  # fmt: skip
def test_schedulers_that_would_end_somewhere_else_are_refused(pipe, name, message):
    """They run through, and give noise, infinities or codes cut off at +-1."""
    options = {"clip_sample": False} if "Inverse" in name else {}
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    with pytest.raises(FaceTalkError, match=message):
        codes(pipe)


def count_calls(module: torch.nn.Module) -> list[int]:
    """Batch sizes of the calls that a module gets from now on."""
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_audio_is_encoded_once_and_guidance_is_one_batch_of_two(pipe):
    encoded, denoised = count_calls(pipe.audio_encoder), count_calls(pipe.denoiser)
    projected = [count_calls(block.audio.to_out) for block in pipe.denoiser.blocks]
    codes(pipe, guidance_scale=3.0, num_samples=2, num_inference_steps=5)
    assert encoded == [1] and denoised == [4] * 5 and projected == [[4]] * 3
    denoised.clear()
    codes(pipe, guidance_scale=1.0, num_inference_steps=5)
    assert denoised == [1] * 5


@torch.no_grad()
def test_loop_is_guided_diffusion(pipe):
    clip, scale = speech_like(1.0), 2.5
    pipe.denoiser.code_mean.normal_()
    pipe.denoiser.code_std.uniform_(0.5, 2)
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.scheduler = scheduler
    result = codes(pipe, clip, guidance_scale=scale, num_inference_steps=4)[0]

    features = pipe.encode_audio(clip, sampling_rate=RATE)
    x = torch.randn(24, CODE_DIM, generator=seed())[None]
    alphas = torch.cat([scheduler.alphas_cumprod, torch.ones(1)])  # beyond the last step: no noise
    steps = [999, 749, 499, 249, -1]
    for now, after in zip(steps[:-1], steps[1:], strict=True):
        heard, null = pipe.denoiser(x, now, features).sample, pipe.denoiser(x, now).sample
        clean = null + scale * (heard - null)
        noise = (x - alphas[now].sqrt() * clean) / (1 - alphas[now]).sqrt()
        x = alphas[after].sqrt() * clean + (1 - alphas[after]).sqrt() * noise
    torch.testing.assert_close(result, pipe.denoiser.denormalize(x)[0], atol=1e-3, rtol=1e-3)


def test_guidance_of_zero_ignores_the_audio(pipe):
    other = speech_like(1.0, seed=3)
    torch.testing.assert_close(codes(pipe, other, guidance_scale=0.0)[0], codes(pipe, guidance_scale=0.0)[0])
    assert (codes(pipe, other)[0] - codes(pipe)[0]).abs().max() > 1e-2


def test_intensity_scales_the_codes(pipe):
    plain = codes(pipe)[0]
    torch.testing.assert_close(codes(pipe, intensity=0.5)[0], 0.5 * plain)
    assert (codes(pipe, intensity=0.0)[0] == 0).all()


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_intensity_is_told_to_a_denoiser_that_knows_it(guidance_scale):
    pipe = make_pipeline(denoiser=make_denoiser(intensity_range=(0.5, 1.5)))
    most = codes(pipe, intensity=1.5, guidance_scale=guidance_scale)[0]
    forward, told = pipe.denoiser.forward, []
    pipe.denoiser.forward = lambda *args, **kwargs: (told.append(kwargs["intensity"]), forward(*args, **kwargs))[1]
    torch.testing.assert_close(codes(pipe, intensity=3.0, guidance_scale=guidance_scale)[0], 2 * most)
    assert told == [1.5] * 3  # one number for both halves of the guidance batch
    less = codes(pipe, intensity=1.0, guidance_scale=guidance_scale)[0]
    assert (1.5 * less - most).abs().max() > 1e-2  # a condition, not a factor
    assert (codes(pipe, intensity=0.0)[0] == 0).all()


def test_encode_audio(pipe):
    features = pipe.encode_audio([speech_like(1.0), speech_like(0.5)], sampling_rate=RATE)
    assert features.shape == (2, 24, 24) and (features[1, 12:] == 0).all()
    torch.testing.assert_close(features[:1], pipe.encode_audio(speech_like(1.0), sampling_rate=RATE))


def test_callbacks(pipe):
    seen = []

    def look(pipeline, step, timestep, tensors):
        seen.append((step, int(timestep), tensors["latents"].shape, pipeline.num_timesteps, pipeline.guidance_scale))
        return {}

    plain = codes(pipe)[0]
    assert torch.equal(codes(pipe, callback_on_step_end=look)[0], plain)
    assert [item[0] for item in seen] == [0, 1, 2] and [item[1] for item in seen] == pipe.scheduler.timesteps.tolist()
    assert {item[2:] for item in seen} == {((1, 24, CODE_DIM), 3, 1.25)}

    def silence(pipeline, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    assert (codes(pipe, callback_on_step_end=silence)[0] == 0).all()
    with pytest.raises(FaceTalkError, match="callback"):
        codes(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=["nothing"])


def test_progress_bar(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    codes(pipe)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("options, message", [
    ({"num_inference_steps": 0}, "num_inference_steps"), ({"num_inference_steps": -3}, "num_inference_steps"),
    ({"num_inference_steps": 2.5}, "num_inference_steps"), ({"num_inference_steps": 1001}, "at most 1000"),
    ({"num_samples": 0}, "num_samples"), ({"guidance_scale": -1.0}, "guidance_scale"),
    ({"guidance_scale": float("nan")}, "guidance_scale"), ({"intensity": float("inf")}, "intensity"),
    ({"intensity": -1.0}, "intensity"), ({"output_type": "mesh"}, "output_type"),
    ({"generator": [seed(), seed()]}, "generator"), ({"latents": torch.zeros(1, 23, CODE_DIM)}, "latents"),
    ({"sampling_rate": None}, "sampling_rate"), ({"audio": np.full(RATE, np.nan)}, "NaN"),
    ({"audio": np.zeros(0)}, "no samples"), ({"audio": "nothing.wav"}, "no such file"), ({"audio": []}, "no audio"),
    ({"output_type": "animation"}, "no head"),
])  # fmt: skip
def test_bad_arguments_are_refused(pipe, options, message):
    options = {"audio": speech_like(1.0), "sampling_rate": RATE, "output_type": "expression"} | options
    with pytest.raises(FaceTalkError, match=message) as error:
        pipe(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("identity, message", [
    (2, "0 to 1"), (-1, "0 to 1"), (np.zeros(7), "18 numbers"), (torch.zeros(2, 18), "18 numbers"), ("me", "'me'"),
    (np.full(18, np.nan), "not finite"), (0.5, "identity"),
])  # fmt: skip
def test_bad_identities_are_refused_before_the_work(identity, message):
    pipe = make_pipeline(head=make_head())
    encoded = count_calls(pipe.audio_encoder)
    for call in (
        lambda: pipe(speech_like(1.0), sampling_rate=RATE, identity=identity),
        lambda: pipe.decode(torch.zeros(3, CODE_DIM), identity),
    ):
        with pytest.raises(FaceTalkError, match=message):
            call()
    assert encoded == []


# Decoding


@pytest.fixture(scope="module")
def animator() -> FaceTalkPipeline:
    pipe = make_pipeline(head=make_head(), fps=24.0)
    pipe.decoder.resolution = 16
    return pipe


def test_batches_give_what_streams_give():
    """Weights of ARKit without a surface, and codes by the name that programs of diffusers use."""
    pipe = make_pipeline(head=make_named_head())
    options = {"sampling_rate": RATE, "num_inference_steps": 2, "generator": seed()}
    expected = codes(pipe, [speech_like(0.5), speech_like(0.3)], num_inference_steps=2)
    output = pipe([speech_like(0.5), speech_like(0.3)], output_type="arkit", **options)
    assert [item.shape for item in output.arkit] == [(12, 52), (8, 52)] and output.animations is None
    for given, code in zip(output.arkit, expected, strict=True):
        np.testing.assert_array_equal(given, weights_to_arkit(pipe.decoder.weights(code), pipe.decoder.target_names))
    again = pipe(speech_like(0.5), output_type="arkit", return_dict=False, **options | {"generator": seed()})
    np.testing.assert_allclose(again[1][0], output.arkit[0], atol=1e-5)
    plain = pipe(speech_like(0.5), output_type="pt", **options | {"generator": seed()})
    torch.testing.assert_close(plain.expressions[0], again[0][0])
    assert plain.arkit is None
    with pytest.raises(FaceTalkError, match="no head"):
        make_pipeline()(speech_like(0.5), output_type="arkit", **options)


@pytest.mark.parametrize("clip", [
    {"array": speech_like(0.5), "sampling_rate": RATE},
    {"array": np.stack([speech_like(0.5)] * 2), "sampling_rate": RATE},
    np.stack([speech_like(0.5)] * 2, 1), torch.from_numpy(speech_like(0.5))[None],
], ids=["datasets", "stereo of datasets", "stereo", "torchaudio"])  # fmt: skip
def test_clips_as_other_libraries_hand_them_out(pipe, clip):
    rate = None if isinstance(clip, dict) else RATE
    given = codes(pipe, [clip], sampling_rate=rate)[0]
    torch.testing.assert_close(given, codes(pipe, speech_like(0.5))[0], atol=1e-4, rtol=1e-4)


def animate(pipe, audio, **options) -> FaceTalkPipelineOutput:
    return pipe(audio, generator=seed(3), num_inference_steps=2, **options)


def test_animations_belong_to_their_audio(animator):
    clips = [speech_like(0.5), speech_like(1.0, seed=1)]
    output = animate(animator, clips, sampling_rate=RATE, num_samples=2)
    assert [item.num_frames for item in output.animations] == [12, 12, 24, 24]
    for index, animation in enumerate(output.animations):
        np.testing.assert_array_equal(animation.audio, clips[index // 2])
        np.testing.assert_array_equal(animation.expressions, output.expressions[index])
        assert (animation.fps, animation.sampling_rate, animation.seed) == (24.0, RATE, 3)
        assert abs(animation.duration - len(animation.audio) / animation.sampling_rate) <= 1 / 24


@pytest.mark.parametrize("rate, kept", [(44100, 44100), (8000, RATE), (96000, RATE)])
def test_animations_keep_the_sound_of_the_recording(animator, rate, kept):
    clip = np.sin(np.arange(rate // 2) * 0.05).astype(np.float32)
    animation = animate(animator, clip, sampling_rate=rate).animations[0]
    assert animation.sampling_rate == kept and len(animation.audio) == kept // 2 and animation.num_frames == 12


def test_decoding_takes_tensors_arrays_and_lists(animator):
    expressions = torch.randn(5, CODE_DIM)
    animation = animator.decode(expressions)
    assert animation.num_frames == 5 and animation.audio is None
    single, pair = animator.decode(expressions.numpy(), "zero"), animator.decode([expressions, expressions[:2]])
    np.testing.assert_array_equal(single.vertices(3), animation.vertices(3))
    np.testing.assert_array_equal(pair[1].vertices(1), animation.vertices(1))


def test_identities(animator):
    with torch.no_grad():
        animator.head.identity_codes[1].normal_()
    code = animator.head.identity_codes[1].numpy().copy()
    expressions = torch.zeros(1, CODE_DIM)
    by_number, by_code = animator.decode(expressions, 1), animator.decode(expressions, code)
    np.testing.assert_array_equal(by_number.base, by_code.base)
    mean = animator.decode(expressions).base
    assert by_code.base.shape != mean.shape or np.abs(by_code.base - mean).max() > 0.1


def test_geometry_is_computed_once_an_identity(animator, monkeypatch):
    animator.decode(torch.zeros(1, CODE_DIM))
    monkeypatch.setattr(animator.head, "sdf", None)
    assert animator.decode(torch.zeros(2, CODE_DIM)).num_frames == 2


def test_frame_rate_of_the_pipeline_is_that_of_the_animation(animator):
    pipe = make_pipeline(**(animator.components | {"feature_extractor": LogMelFeatureExtractor(fps=30.0)}), fps=30.0)
    pipe.decoder.resolution = 16
    animation = animate(pipe, speech_like(1.0), sampling_rate=RATE).animations[0]
    assert animation.fps == 30.0 and animation.num_frames == 30


def test_a_new_head_gets_a_new_decoder(animator):
    pipe = FaceTalkPipeline(**animator.components)
    first = pipe.decoder
    assert pipe.decoder is first
    pipe.head = make_head()
    assert pipe.decoder is not first and pipe.decoder.head is pipe.head


@pytest.mark.skipif(not torch.cuda.is_available(), reason="offloading needs an accelerator")
@pytest.mark.parametrize("encoder", ["log_mel", "wav2vec2"])
def test_offloading_gives_the_same(encoder):
    parts = {"audio_encoder": make_wav2vec2(), "feature_extractor": Wav2Vec2FeatureExtractor()}
    pipe = make_pipeline(**(parts if encoder == "wav2vec2" else {}))
    expected = codes(pipe)[0]
    torch.testing.assert_close(codes(pipe.to("cuda"))[0], expected, atol=1e-2, rtol=1e-2)
    pipe.to("cpu").enable_model_cpu_offload()
    torch.testing.assert_close(codes(pipe)[0], expected, atol=1e-2, rtol=1e-2)
    assert pipe.denoiser.device.type == "cpu"


@pytest.mark.parametrize("rate", [44100, 8000])
def test_animate_is_the_last_step_of_a_call(rate):
    """Codes made first and animated later, blinks and head motion among the controls, give the call's animations."""
    pipe = make_pipeline(head=make_named_head())
    pipe.decoder = coarse = make_decoder(pipe.head, resolution=16, cache_size=1)
    controls = MotionControls(num_samples=2, blink_rate=20, gaze=(5, -3), head_motion=1.0, fps=30)
    clip = np.sin(np.arange(rate) * 0.05).astype(np.float32)
    expected = animate(pipe, clip, sampling_rate=rate, controls=controls).animations
    expressions = codes(pipe, clip, generator=seed(3), sampling_rate=rate, num_inference_steps=2,
                        controls=controls.for_codes())  # fmt: skip
    found = pipe.animate(expressions, [(clip, rate)], None, seed(3), controls)
    assert pipe.decoder is coarse and len(found) == 2
    for one, other in zip(found, expected, strict=True):
        for name in ("weights", "expressions", "poses", "audio", "base"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert (one.seed, one.fps, one.sampling_rate) == (3, 30, other.sampling_rate)
    with pytest.raises(FaceTalkError, match="do not belong to 3 recordings"):
        pipe.animate(expressions, [(clip, rate)] * 3)
    with pytest.raises(FaceTalkError, match="pitch of gaze"):
        pipe.animate(expressions, controls=MotionControls(gaze=(0, 90)))
    assert pipe.animate(expressions)[0].audio is None


def test_head_motion_is_drawn_after_the_blinks_of_a_result():
    """One seed serves both, so that neither changes when codes are animated later."""
    pipe = make_pipeline(head=make_named_head())
    pipe.decoder.resolution = 16
    clip = speech_like(1.0)
    for options in ({}, {"blink_rate": 20}):
        poses = animate(pipe, clip, sampling_rate=RATE, head_motion=1.0, **options).animations[0].poses
        rng = seeded_rng(seed(3), 0)
        if options:
            blinks(24, 24.0, rng, 20)
        np.testing.assert_array_equal(poses, head_motion(clip, RATE, 24, 24.0, rng))
