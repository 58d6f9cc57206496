# SPDX-License-Identifier: MIT
"""Few steps: the low-rank file, the teacher's paths, the pipeline that uses both, and the script that makes them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from components import RATE, ClipStatistics, codes, make_denoiser, make_named_head, make_pipeline, seed, speech_like
from scripts import load_script

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.cli.main import main
from facetalk_hf.data.segments import EncodedClips, SegmentDataset
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.distillation import FewStepObjective, join, step_weights, teacher_paths
from facetalk_hf.learning.loop import Accelerator
from facetalk_hf.learning.objective import sampling_scheduler
from facetalk_hf.models.lora import WEIGHTS, fuse_lora, fused_parameters, init_lora, load_lora, save_lora
from facetalk_hf.pipeline.few_steps import few_step_scheduler


def random_change(model: torch.nn.Module, scale: float = 0.05) -> dict[str, torch.Tensor]:
    change = init_lora(model, rank=4, skip=("null_audio",))
    return {name: scale * torch.randn_like(value) for name, value in change.items()}


def make_clips(frames: int = 60, count: int = 4) -> EncodedClips:
    generator = torch.Generator().manual_seed(0)
    lengths = [frames] * (count - 1) + [frames // 4]
    items = [(torch.randn(n, 64, generator=generator), torch.randn(n, 24, generator=generator)) for n in lengths]
    return EncodedClips.collect((codes.numpy(), audio.numpy()) for codes, audio in items)


def make_paths(denoiser, segments: int = 6, substeps: int = 4, **options):
    data = SegmentDataset(make_clips(), 24, num_samples=segments, null_probability=0.0, **options)
    parts = teacher_paths(denoiser, sampling_scheduler(), data, 4, substeps, 1.25, batch_size=3)
    return join(list(parts)), data


# The file


def test_a_new_change_is_none():
    model = make_denoiser()
    sums = fused_parameters(model, init_lora(model, rank=4, skip=("null_audio",)))
    parameters = dict(model.named_parameters())
    assert set(sums) == set(parameters) - {"null_audio"}
    assert all(torch.equal(sums[name], parameters[name]) for name in sums)


def test_a_file_merges_to_what_was_trained(tmp_path):
    model = make_denoiser()
    change = random_change(model)
    size = save_lora(tmp_path / "few", model, change, num_inference_steps=4)
    assert size == sum(path.stat().st_size for path in (tmp_path / "few").iterdir())
    wanted = fused_parameters(model, {name: value.half().float() for name, value in change.items()})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded, config = load_lora(tmp_path / "few", model)
    assert config == {"num_inference_steps": 4}
    fuse_lora(model, loaded)
    for name, value in model.state_dict().items():
        assert torch.equal(value, wanted.get(name, before[name])), name
        assert name in wanted or name in ("null_audio", "code_mean", "code_std")
        assert torch.equal(value, before[name]) == (name not in wanted)


def test_a_change_is_small():
    model = make_denoiser(hidden_size=64)
    change = init_lora(model, rank=4)
    assert sum(value.numel() for value in change.values()) < 0.45 * sum(value.numel() for value in model.parameters())


def test_other_weights_are_refused(tmp_path):
    model = make_denoiser()
    save_lora(tmp_path / "few", model, random_change(model))
    other = make_denoiser()
    with torch.no_grad():
        other.sample_in.weight.add_(0.1)
    with pytest.raises(FaceTalkError, match="made for other weights"):
        load_lora(tmp_path / "few", other)
    for dtype in (torch.float16, torch.bfloat16):
        load_lora(tmp_path / "few", make_denoiser().to(dtype))
    change = random_change(make_denoiser(num_layers=5))
    with pytest.raises(FaceTalkError, match="belongs to another network"):
        fuse_lora(model, change)


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    model = make_denoiser()
    save_lora(tmp_path, model, random_change(model))
    if content is None:
        (tmp_path / WEIGHTS).unlink()
    else:
        (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(FaceTalkError, match="has no low_rank" if content is None else "is damaged"):
        load_lora(tmp_path, model)


# Paths of the teacher


def test_step_weights_are_those_of_the_solver():
    few = few_step_scheduler(sampling_scheduler())
    weights = step_weights(few, 4)
    x, clean = torch.randn(1, 5, 3), torch.randn(4, 1, 5, 3)
    few.set_timesteps(4)
    mine = x
    for (a, b), t, x_0 in zip(weights, few.timesteps, clean, strict=True):
        x, mine = few.step(x_0, t, x, return_dict=False)[0], a * x_0 + b * mine
    torch.testing.assert_close(mine, x)
    torch.testing.assert_close(mine, clean[-1])


@pytest.mark.parametrize("intensity_range", [None, (0.7, 1.3)])
def test_targets_lead_along_the_path_of_the_pipeline(intensity_range):
    """A student that predicts the targets gives the teacher's sample; the path is the one that the pipeline takes."""
    pipe = make_pipeline(denoiser=make_denoiser(intensity_range=intensity_range))
    paths, data = make_paths(pipe.denoiser, augmentation=intensity_range or (1.0, 1.0))
    few = few_step_scheduler(sampling_scheduler())
    examples = FewStepObjective(paths, step_weights(few, 4), data.clips.audio)
    few.set_timesteps(4)
    rows = [1]
    if intensity_range:
        assert (paths.intensity[::3] == 1).all() and len(set(paths.intensity)) > 2
    x = torch.from_numpy(paths.points[rows, 0]).float()
    for step, t in enumerate(few.timesteps):
        inputs, target = examples.batch(np.array(rows), np.array([step]))
        assert inputs["timestep"].item() == t
        x = few.step(target, t, x[:, : target.shape[1]], return_dict=False)[0]
    length = paths.length[1]
    pipe.scheduler.set_timesteps(16)
    latents = torch.from_numpy(paths.points[1, 0, :length]).float()[None]
    features = torch.from_numpy(data.clips.audio[paths.start[1] :][:length]).float()[None]
    for t in pipe.scheduler.timesteps:
        told = {"intensity": float(paths.intensity[1])} if intensity_range else {}
        audio, null = (pipe.denoiser(latents, t, item, **told).sample for item in (features, None))
        latents = pipe.scheduler.step(null + 1.25 * (audio - null), t, latents, return_dict=False)[0]
    torch.testing.assert_close(x, latents, atol=0.02, rtol=0.02)


def test_steps_that_miss_the_grid_are_refused():
    scheduler = sampling_scheduler().from_config(sampling_scheduler().config, timestep_spacing="leading")
    data = SegmentDataset(make_clips(), 24, num_samples=1, null_probability=0.0)
    with pytest.raises(FaceTalkError, match="does not pass"):
        next(teacher_paths(make_denoiser(), scheduler, data, 4, 4, 1.25))


# The pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A saved pipeline with a change of its denoiser."""
    folder = tmp_path_factory.mktemp("models") / "model"
    pipe = make_pipeline()
    pipe.save_pretrained(folder)
    torch.manual_seed(1)
    save_lora(folder / "few_steps", pipe.denoiser, random_change(pipe.denoiser), num_inference_steps=4)
    return folder


def test_pipeline_of_few_steps(folder):
    pipe = FaceTalkPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    before, options = codes(pipe)[0], {"output_type": "expression", "generator": seed(), "sampling_rate": RATE}
    few = pipe.few_steps()
    assert few.audio_encoder is pipe.audio_encoder
    calls = []
    few.denoiser.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[0]))
    result = few(speech_like(1.0), **options).expressions[0]
    assert calls == [1, 1, 1, 1]  # no second half for guidance
    assert torch.equal(codes(pipe)[0], before)  # the original is what it was

    change, _ = load_lora(folder / "few_steps", pipe.denoiser)
    fuse_lora(pipe.denoiser, change)
    pipe.scheduler = few_step_scheduler(pipe.scheduler)
    by_hand = {"num_inference_steps": 4, "guidance_scale": 1.0, "mouth_temperature": 1.0}
    assert torch.equal(codes(pipe, **by_hand)[0], result)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"guidance_scale": 2.0}, "hold the guidance"), ({"mouth_temperature": 0.5}, "hold the mo")],
)
def test_what_is_part_of_the_weights_cannot_be_asked_for(folder, options, message):
    with pytest.raises(FaceTalkError, match=message):
        codes(FaceTalkPipeline.from_pretrained(folder).few_steps(), **options)


def test_a_model_without_few_steps_says_so(pipe, tmp_path):
    with pytest.raises(FaceTalkError, match="not loaded from a model folder"):
        pipe.few_steps()
    pipe.save_pretrained(tmp_path)
    with pytest.raises(FaceTalkError, match="no weights for few steps"):
        FaceTalkPipeline.from_pretrained(tmp_path).few_steps()


def test_a_stream_is_guided_and_cooled_once(tmp_path):
    pipe = make_pipeline(head=make_named_head(), denoiser=make_denoiser(attention_mode="causal"))
    save_lora(tmp_path / "few", pipe.denoiser, random_change(pipe.denoiser), num_inference_steps=4)
    few, clip = pipe.few_steps(tmp_path / "few"), speech_like(1.5)
    stream = few.open_stream(RATE, generator=seed())
    stream.features.statistics = ClipStatistics(few.feature_extractor, clip)
    result = torch.cat((stream.push(clip), stream.finish()))
    torch.testing.assert_close(result, codes(few, clip, num_inference_steps=4)[0], atol=1e-5, rtol=1e-5)
    for wrong in ({"guidance_scale": 2.0}, {"mouth_temperature": 0.4}):
        with pytest.raises(FaceTalkError, match="few-step weights hold"):
            few.stream([clip], RATE, output_type="expression", **wrong)


@pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)
def test_fast_on_the_command_line(tmp_path, capsys):
    model = shutil.copytree(facetalk_hf.TINY, tmp_path / "model", ignore=shutil.ignore_patterns("few_steps"))
    soundfile.write(tmp_path / "a.wav", speech_like(0.5), RATE)
    line = ["generate", str(tmp_path / "a.wav"), "--model", str(model), "--format", "npz", "--output-dir"]

    def run(name: str, *more: str) -> tuple[int, np.ndarray | None]:
        with pytest.raises(SystemExit) as end:
            main([*line, str(tmp_path / name), *more])
        path = tmp_path / name / "a.npz"
        return end.value.code, np.load(path)["expression"] if path.exists() else None

    code, nothing = run("none", "--fast")
    assert code == 2 and nothing is None and "no weights for few steps" in capsys.readouterr().err

    pipe = FaceTalkPipeline.from_pretrained(model)
    save_lora(model / "few_steps", pipe.denoiser, random_change(pipe.denoiser, 0.2), num_inference_steps=4)
    code, fast = run("fast", "--fast")
    few = FaceTalkPipeline.from_pretrained(model).few_steps()
    wanted = few(speech_like(0.5), sampling_rate=RATE, generator=seed(), output_type="expression").expressions[0]
    assert code == 0
    np.testing.assert_allclose(fast, wanted, atol=2e-3)  # the file has 16 bits a sample


# The script


@pytest.fixture(scope="module")
def script():
    return load_script("training/distill_denoiser.py")


def test_distillation_shortens_the_way_to_the_teachers_samples(script, tmp_path, monkeypatch, capsys):
    """In 4 steps the student comes closer to the teacher's samples of 16 steps, on noise that it has not seen."""
    pipe = make_pipeline()
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(script, "encode_corpus", lambda *_: make_clips())
    options = {"model": tmp_path / "model", "corpus": "none", "output_dir": tmp_path / "model" / "few_steps"}
    options |= {"segments": 40, "segment_frames": 24, "substeps": 4, "batch_size": 8, "max_train_steps": 150}
    options |= {"mouth_temperature": 1, "rank": 6, "learning_rate": 1e-2, "warmup_steps": 10}
    script.main([part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))])
    lines = [line for line in capsys.readouterr().out.splitlines() if "validation" in line]
    first, last = (sum(map(float, lines[i].rpartition("validation ")[2].split())) for i in (0, -1))
    assert last < 0.7 * first

    pipe = FaceTalkPipeline.from_pretrained(tmp_path / "model")
    pipe.set_progress_bar_config(disable=True)
    exact = codes(pipe, num_inference_steps=16, guidance_scale=1.25)[0]
    plain = codes(pipe, num_inference_steps=4, guidance_scale=1.25)[0]
    few = codes(pipe.few_steps(), num_inference_steps=4, guidance_scale=1.0)[0]
    assert (few - exact).square().mean() < 0.7 * (plain - exact).square().mean()


def test_distillation_can_be_taken_up_again(script, tmp_path, monkeypatch):
    pipe = make_pipeline()
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(script, "encode_corpus", lambda *_: make_clips())

    def run(name: str, *more: str) -> dict[str, torch.Tensor]:
        options = {"model": tmp_path / "model", "corpus": "none", "output-dir": tmp_path / name, "segments": 12}
        options |= {"segment-frames": 24, "substeps": 2, "batch-size": 4, "max-train-steps": 7, "rank": 4}
        options |= {"checkpointing-steps": 2, "validation-steps": 3, "mouth-temperature": 1}
        script.main([*(part for name, value in options.items() for part in (f"--{name}", str(value))), *more])
        assert {path.name for path in (tmp_path / name).iterdir()} == {WEIGHTS, "config.json"}
        return load_lora(tmp_path / name, pipe.denoiser)[0]

    def interrupt(self, loss, backward=Accelerator.backward, calls=[]):  # noqa: B006  it counts
        calls.append(loss)
        if len(calls) == 6:
            raise KeyboardInterrupt
        backward(self, loss)

    whole = run("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Accelerator, "backward", interrupt)
        run("broken")
    again = run("broken", "--resume")
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
