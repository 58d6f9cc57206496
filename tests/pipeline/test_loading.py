# SPDX-License-Identifier: MIT
"""Saving and loading: folders, variants, dtypes, the Hub, custom pipeline files, and how a model folder looks."""

import json
from pathlib import Path

import pytest
import torch
from components import CODE_DIM, codes, make_head, make_pipeline, make_wav2vec2, make_whisper
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file
from transformers import Wav2Vec2FeatureExtractor

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.audio.whisper import whisper_encoder
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.models.lora import save_lora


ROOT = Path(__file__).parents[2]


def test_save_and_load(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(codes(loaded)[0], codes(pipe)[0])


def test_model_index_is_a_contract(tmp_path):
    make_pipeline(head=make_head(), fps=24.0).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {name: value for name, value in index.items() if not name.startswith("_diffusers")} == {
        "_class_name": "FaceTalkPipeline",
        "audio_encoder": ["facetalk_hf.models.audio_encoder", "LogMelEncoder"],
        "denoiser": ["facetalk_hf.models.denoiser", "FaceTalkDenoiser"],
        "emotion_scale": 1.0,
        "feature_extractor": ["facetalk_hf.audio_features", "LogMelFeatureExtractor"],
        "fps": 24.0,
        "guidance_scale": 1.25,
        "head": ["facetalk_hf.models.nphm", "NPHMModel"],
        "is_distilled": False,
        "mouth_temperature": None,
        "num_inference_steps": 30,
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    }


def test_head_is_optional(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["head"] == [None, None]
    assert FaceTalkPipeline.from_pretrained(tmp_path).head is None
    head = make_head()
    assert FaceTalkPipeline.from_pretrained(tmp_path, head=head).head is head


def test_configuration_travels(tmp_path):
    make_pipeline(
        fps=30.0, audio_encoder=make_wav2vec2(), feature_extractor=Wav2Vec2FeatureExtractor()
    ).save_pretrained(tmp_path)
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    assert loaded.config.fps == 30.0
    assert codes(loaded)[0].shape == (30, CODE_DIM)


def test_wav2vec2_inside(tmp_path):
    pipe = make_pipeline(audio_encoder=make_wav2vec2(), feature_extractor=Wav2Vec2FeatureExtractor())
    pipe.save_pretrained(tmp_path)
    assert torch.equal(codes(FaceTalkPipeline.from_pretrained(tmp_path))[0], codes(pipe)[0])


def test_whisper_inside(tmp_path):
    whole, extractor = make_whisper()
    pipe = make_pipeline(audio_encoder=whisper_encoder(whole), feature_extractor=extractor)
    pipe.save_pretrained(tmp_path)
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    assert torch.equal(codes(loaded)[0], codes(pipe)[0])
    with_decoder = make_pipeline(audio_encoder=whole, feature_extractor=extractor)
    assert torch.equal(codes(with_decoder)[0], codes(pipe)[0])


def test_components_make_the_same_pipeline(pipe):
    assert set(pipe.components) == {"denoiser", "scheduler", "audio_encoder", "feature_extractor", "head"}
    again = FaceTalkPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(codes(again)[0], codes(pipe)[0])


def test_variants(pipe, tmp_path):
    pipe.to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "denoiser" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert (tmp_path / "audio_encoder" / "model.fp16.safetensors").is_file()
    FaceTalkPipeline.from_pretrained(tmp_path, variant="fp16")
    for variant, words in (("bf16", "no weights of variant='bf16'"), (None, "no weights without a variant")):
        with pytest.raises(FaceTalkError, match=f"{words}: it has variant='fp16'$"):
            FaceTalkPipeline.from_pretrained(tmp_path, variant=variant)


def test_half_precision_files_load_as_float32(pipe, tmp_path):
    pipe.to(dtype=torch.float16).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "denoiser" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    assert loaded.denoiser.dtype == loaded.audio_encoder.dtype == torch.float32
    loaded = FaceTalkPipeline.from_pretrained(tmp_path, dtype=torch.float16)
    assert loaded.denoiser.dtype == loaded.audio_encoder.dtype == torch.float16
    loaded = FaceTalkPipeline.from_pretrained(tmp_path, dtype={"denoiser": torch.float16, "default": torch.float32})
    assert (loaded.denoiser.dtype, loaded.audio_encoder.dtype) == (torch.float16, torch.float32)
    assert codes(loaded)[0].isfinite().all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 0.05), (torch.bfloat16, 0.4)])
def test_half_precision_is_near(pipe, dtype, tolerance):
    expected = codes(pipe)[0]
    result = codes(pipe.to(dtype=dtype))[0]
    assert result.dtype == torch.float32
    assert (result - expected).abs().max() < tolerance * expected.abs().max()


def test_what_is_saved_does_all_that_the_model_did(pipe, tmp_path):
    """Few-step weights, styles and the card go along; with other weights, to which they do not belong, they don't."""
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    pipe.save_pretrained(first)
    assert {path.name for path in first.iterdir() if path.is_file()} == {"model_index.json", "pipeline.py"}
    save_lora(first / "few_steps", pipe.denoiser, {}, num_inference_steps=3)
    (first / "styles" / "calm").mkdir(parents=True)
    (first / "styles" / "calm" / "config.json").write_text("{}")
    (first / "notes").mkdir()
    (first / "notes" / "private.txt").write_text("not part of a model")
    (first / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    loaded = FaceTalkPipeline.from_pretrained(first)
    loaded.save_pretrained(second)
    loaded.save_pretrained(first)  # in place
    left = {path.relative_to(first).as_posix() for path in first.rglob("*") if "notes" not in path.parts}
    assert {path.relative_to(second).as_posix() for path in second.rglob("*")} == left
    again = FaceTalkPipeline.from_pretrained(second).few_steps()
    assert again.config["num_inference_steps"] == 3
    with torch.no_grad():
        loaded.denoiser.sample_out.bias.add_(1)
    loaded.save_pretrained(third)
    assert not (third / "few_steps").exists() and not (third / "README.md").exists()


@pytest.mark.parametrize("saved", ["whole", "few steps"])
def test_diffusers_loads_every_folder_by_its_own_file(pipe, tmp_path, saved):
    if saved == "few steps":
        save_lora(tmp_path / "lora", pipe.denoiser, {})
        pipe = pipe.few_steps(tmp_path / "lora")
    pipe.save_pretrained(tmp_path / "model")
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path / "model", custom_pipeline="pipeline", trust_remote_code=True, dtype=torch.float32
    )
    assert isinstance(loaded, FaceTalkPipeline)
    options = {"guidance_scale": None, "num_inference_steps": 2}
    assert torch.equal(codes(loaded, **options)[0], codes(pipe, **options)[0])


def test_half_precision_on_the_cpu_warns_of_nothing(pipe, caplog, recwarn):
    diffusers_logging.enable_propagation()
    try:
        pipe.to(torch.float16).to("cpu")
    finally:
        diffusers_logging.disable_propagation()
    assert pipe.denoiser.dtype == torch.float16 and not caplog.records and not recwarn.list


def test_custom_pipeline_file(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path, custom_pipeline=str(ROOT / "pipelines"), trust_remote_code=True
    )
    assert isinstance(loaded, FaceTalkPipeline)
    assert torch.equal(codes(loaded)[0], codes(pipe)[0])


@pytest.mark.parametrize("make, message", [
    (lambda folder: folder / "nothing" / "here", "no such model folder"),
    (lambda folder: folder, "model_index.json"),
    (lambda folder: "nobody/nothing", "nobody/nothing"),  # the tests are offline
])  # fmt: skip
def test_unknown_models_are_refused(tmp_path, make, message):
    with pytest.raises(FaceTalkError, match=message) as error:
        FaceTalkPipeline.from_pretrained(make(tmp_path))
    assert "\n" not in str(error.value)
