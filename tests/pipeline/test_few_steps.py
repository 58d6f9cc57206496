# SPDX-License-Identifier: MIT
"""A pipeline for few steps is an ordinary one: called, streamed, saved, loaded and published as any other."""

import json
from pathlib import Path

import pytest
import torch
from components import RATE, codes, make_denoiser, make_named_head, make_pipeline, seed, speech_like
from diffusers import DiffusionPipeline

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.hub.publishing import write_model
from facetalk_hf.models.lora import init_lora, save_lora


ROOT = Path(__file__).parents[2]
KEYS = {"num_inference_steps", "guidance_scale", "mouth_temperature", "is_distilled"}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> FaceTalkPipeline:
    """A live pipeline with a LoRA for 5 steps."""
    folder = tmp_path_factory.mktemp("lora")
    pipe = make_pipeline(head=make_named_head(), denoiser=make_denoiser(attention_mode="causal"))
    torch.manual_seed(1)
    lora = {name: 0.1 * torch.randn_like(value) for name, value in init_lora(pipe.denoiser, rank=4).items()}
    save_lora(folder, pipe.denoiser, lora, num_inference_steps=5)
    return pipe.few_steps(folder)


def sample(pipe: FaceTalkPipeline) -> torch.Tensor:
    output = pipe(speech_like(1.0), sampling_rate=RATE, generator=seed(), output_type="expression")
    return output.expressions[0]


def live(pipe: FaceTalkPipeline) -> torch.Tensor:
    pieces = pipe.stream([speech_like(1.0)], RATE, generator=seed(), output_type="expression")
    return torch.cat([piece.expressions for piece in pieces])


@pytest.mark.parametrize("load", [
    lambda folder: FaceTalkPipeline.from_pretrained(folder),
    lambda folder: DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=str(ROOT / "pipelines"), trust_remote_code=True
    ),
], ids=["plain", "custom_pipeline"])  # fmt: skip
def test_saved_and_loaded_it_gives_the_same_bits(few, tmp_path, load):
    few.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "FaceTalkPipeline" and type(few) is FaceTalkPipeline
    assert {key: index[key] for key in KEYS} == {
        "num_inference_steps": 5, "guidance_scale": 1.0, "mouth_temperature": 1.0, "is_distilled": True,
    }  # fmt: skip
    loaded = load(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(sample(loaded), sample(few)) and torch.equal(live(loaded), live(few))
    sizes = []
    loaded.denoiser.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    sample(loaded)
    assert sizes == [1] * 5  # its own number of steps, without a second half for guidance
    for wrong in ({"guidance_scale": 2.0}, {"mouth_temperature": 0.4}):
        with pytest.raises(FaceTalkError, match="few-step weights hold"):
            codes(loaded, **wrong)
        with pytest.raises(FaceTalkError, match="few-step weights hold"):
            loaded.open_stream(RATE, **wrong)
    with pytest.raises(FaceTalkError, match="few-step weights already"):
        loaded.few_steps()


def test_published_it_is_the_same_model(few, tmp_path):
    files = write_model(few, tmp_path / "quick", "someone/quick")
    assert "pipeline.py" in files and "denoiser/diffusion_pytorch_model.fp16.safetensors" in files
    loaded = FaceTalkPipeline.from_pretrained(tmp_path / "quick")
    assert loaded.config["is_distilled"] and torch.equal(sample(loaded), sample(few))


def test_an_index_without_the_defaults_means_what_it_meant(tmp_path):
    pipe = make_pipeline(head=make_named_head())
    pipe.save_pretrained(tmp_path)
    path = tmp_path / "model_index.json"
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in KEYS}
    path.write_text(json.dumps(old))
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    expected = codes(pipe, num_inference_steps=30, guidance_scale=1.25, mouth_temperature=0.4)[0]
    assert torch.equal(sample(loaded), expected)


def test_a_model_may_have_defaults_of_its_own(tmp_path):
    defaults = {"num_inference_steps": 2, "guidance_scale": 2.0, "mouth_temperature": 0.7}
    pipe = make_pipeline(head=make_named_head())
    FaceTalkPipeline(**pipe.components, **defaults).save_pretrained(tmp_path)
    loaded = FaceTalkPipeline.from_pretrained(tmp_path)
    assert torch.equal(sample(loaded), codes(pipe, **defaults)[0])
    assert torch.equal(codes(loaded, num_inference_steps=3, guidance_scale=1.0)[0],
                       codes(pipe, guidance_scale=1.0, mouth_temperature=0.7)[0])  # fmt: skip
