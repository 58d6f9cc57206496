# SPDX-License-Identifier: MIT
"""The pipeline for few steps: the same model with the change that training/distill_denoiser.py made."""

import copy
import os
from typing import Any

from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers import SchedulerMixin

from ..errors import FaceTalkError
from ..models.lora import load_change, merge
from .facetalk import FaceTalkPipeline
from .output import FaceTalkPipelineOutput
from .streaming import SpeechStream


FOLDER = "few_steps"
"""Where a model folder keeps its change."""


class FewStepsPipeline(FaceTalkPipeline):
    r"""
    [`FaceTalkPipeline`] with a denoiser that was taught to sample in few steps; `pipe.few_steps()` makes one.

    Guidance and the mouth's temperature are part of the weights, so there is one pass a step. Arguments are those of
    [`FaceTalkPipeline`].
    """

    @classmethod
    def of(cls, pipe: FaceTalkPipeline, folder: str | os.PathLike | None = None) -> "FewStepsPipeline":
        """See [`FaceTalkPipeline.few_steps`]."""
        if folder is None:
            if pipe.model_folder is None:
                raise FaceTalkError(
                    "this pipeline was not loaded from a model folder: name that of its few-step weights"
                )
            folder = pipe.model_folder / FOLDER
            if not folder.is_dir():
                name = pipe.config.get("_name_or_path")
                raise FaceTalkError(f"the model {name} has no weights for few steps: leave out few_steps() or --fast")
        denoiser = copy.deepcopy(pipe.denoiser)
        change, _ = load_change(folder, denoiser)
        merge(denoiser, change)
        parts = pipe.components | {"denoiser": denoiser, "scheduler": few_step_scheduler(pipe.scheduler)}
        few = cls(**parts, fps=pipe.config.fps)
        few._decoder, few._progress_bar_config = pipe._decoder, getattr(pipe, "_progress_bar_config", {})
        return few

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        identity: Any = None,
        num_inference_steps: int = 4,
        guidance_scale: float = 1.0,
        num_samples: int = 1,
        mouth_temperature: float | None = None,
        **options: Any,
    ) -> FaceTalkPipelineOutput | tuple:
        """Animate one clip or a batch; arguments and result as for [`FaceTalkPipeline`], but for two of them.

        Raises:
            FaceTalkError: another guidance scale or mouth temperature than that of the weights; also as there.
        """
        check_held(guidance_scale, mouth_temperature)
        steps = {"num_inference_steps": num_inference_steps, "guidance_scale": 1.0, "mouth_temperature": 1.0}
        return super().__call__(audio, sampling_rate, identity, num_samples=num_samples, **steps, **options)

    def open_stream(
        self,
        sampling_rate: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        mouth_temperature: float | None = None,
        *rest: Any,
        **options: Any,
    ) -> SpeechStream:
        """[`FaceTalkPipeline.open_stream`] with these weights; the errors are those of the call."""
        check_held(guidance_scale, mouth_temperature)
        return super().open_stream(sampling_rate, num_inference_steps, 1.0, 1.0, *rest, **options)


def check_held(guidance_scale: float | None, mouth_temperature: float | None) -> None:
    """Raise [`FaceTalkError`] for another guidance scale or mouth temperature than the weights hold already."""
    if guidance_scale not in (None, 1):
        raise FaceTalkError("few-step weights hold the guidance: leave guidance_scale out, or sample in many steps")
    if mouth_temperature not in (None, 1):
        raise FaceTalkError("few-step weights hold the mouth's temperature: leave it out, or sample in many steps")


def few_step_scheduler(scheduler: SchedulerMixin) -> DPMSolverMultistepScheduler:
    """The first-order solver of a scheduler's noise schedule: a step depends on nothing but x_t and x_0."""
    return DPMSolverMultistepScheduler.from_config(
        scheduler.config, solver_order=1, timestep_spacing="trailing", prediction_type="sample"
    )
