# SPDX-License-Identifier: MIT
"""Sampling in few steps: the LoRA that training/distill_denoiser.py wrote, fused into a copy of the denoiser."""

import copy
import os
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import DPMSolverMultistepScheduler

from ..models.denoiser import FaceTalkDenoiser
from ..models.lora import fuse_lora, load_lora
from ..motion.controls import MotionControls
from .denoising import SamplingScheduler


if TYPE_CHECKING:
    from .facetalk import FaceTalkPipeline


STEPS = 4
"""Denoising steps, where the LoRA does not say for how many it was trained."""


def few_step_denoiser(
    denoiser: FaceTalkDenoiser, folder: str | os.PathLike, origin: FaceTalkDenoiser | None = None
) -> tuple[FaceTalkDenoiser, dict[str, Any]]:
    """Copy a denoiser with the LoRA of a folder fused into it.

    Args:
        denoiser ([`FaceTalkDenoiser`]): may hold a style. folder (`str` or `os.PathLike`): of the LoRA.
        origin ([`FaceTalkDenoiser`], *optional*): the denoiser before it got a style, which the LoRA was made for.

    Returns:
        the copy, and the arguments of [`FaceTalkPipeline`] for it: its number of steps; guidance, emotion scale and
        the mouth's temperature are part of its weights, so all are 1.

    Raises:
        FaceTalkError: there is no LoRA in the folder, or it was made for other weights.
    """
    # For type checkers diffusers' ModelMixin is a placeholder.
    lora, about = load_lora(folder, cast(torch.nn.Module, origin or denoiser))
    denoiser = copy.deepcopy(denoiser)
    fuse_lora(cast(torch.nn.Module, denoiser), lora)
    steps = about.get("num_inference_steps", STEPS)
    return denoiser, {
        "num_inference_steps": steps, "guidance_scale": 1.0, "mouth_temperature": 1.0, "is_distilled": True,
    }  # fmt: skip


def prefers_few_steps(pipe: "FaceTalkPipeline", controls: MotionControls) -> bool:
    """Tell whether live motion is to take the model's few-step weights: nothing is asked for that they lack.

    They hold steps, guidance, emotion scale and the mouth's temperature; docs/sampling.md has what they are worth.
    """
    asked = (controls.num_inference_steps, controls.guidance_scale, controls.mouth_temperature, controls.emotion_scale)
    return pipe.has_few_steps and all(value is None for value in asked)


def few_step_scheduler(scheduler: SamplingScheduler) -> DPMSolverMultistepScheduler:
    """Make the first-order solver of a scheduler's noise schedule: a step depends on nothing but x_t and x_0."""
    return DPMSolverMultistepScheduler.from_config(
        scheduler.config, solver_order=1, timestep_spacing="trailing", prediction_type="sample"
    )
