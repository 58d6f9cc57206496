# SPDX-License-Identifier: MIT
"""Where a model computes, with and without hooks of other libraries."""

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from components import make_denoiser, make_pipeline
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from facetalk_hf.models.hooks import hooked, placement


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_placement_is_what_the_model_says(dtype):
    denoiser = make_denoiser().to(dtype)
    assert not hooked(denoiser) and placement(denoiser) == (denoiser.device, dtype)
    denoiser.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    assert hooked(denoiser) and placement(denoiser) == (denoiser.device, torch.float32)


def test_a_pipeline_asks_diffusers_where_there_are_hooks(monkeypatch):
    pipe, asked = make_pipeline(), []
    theirs = DiffusionPipeline._execution_device
    monkeypatch.setattr(
        DiffusionPipeline, "_execution_device", property(lambda it: asked.append(1) or theirs.fget(it))
    )
    assert pipe._execution_device == torch.device("cpu") and not asked
    add_hook_to_module(pipe.denoiser.blocks[0].ff_in, ModelHook())  # as group offloading does
    assert pipe._execution_device == torch.device("cpu") and asked
