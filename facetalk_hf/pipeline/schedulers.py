# SPDX-License-Identifier: MIT
"""Whether a scheduler of diffusers can sample this denoiser, and one line that says why where it cannot."""

import copy
from typing import Any

import torch

from ..errors import FaceTalkError


HINT = 'use one with prediction_type="sample", such as DPMSolverMultistepScheduler'
CERTAIN, NEAR = 3.0, 0.25
"""A prediction beyond what schedulers clip to, and how far from it the end may be: good ones are within 0.07."""


def check_scheduler(scheduler: Any, num_inference_steps: int | None) -> None:
    """Refuse a scheduler that cannot do so many steps towards a predicted x_0; all are tried once, on a few numbers.

    Args:
        scheduler ([`~diffusers.SchedulerMixin`]): it stays as it is.
        num_inference_steps (`int`, *optional*): steps that it is to do.

    Raises:
        FaceTalkError: it works on another kind of noise, is not set up for x_0, clips it, ends elsewhere, or cannot do
            the steps.
    """
    name = type(scheduler).__name__
    limit = scheduler.config.get("num_train_timesteps")
    if not hasattr(scheduler, "init_noise_sigma") or not hasattr(scheduler, "scale_model_input") or limit is None:
        raise FaceTalkError(f"{name} moves along other noise than this denoiser was trained on: {HINT}")
    if num_inference_steps is None or num_inference_steps > limit:
        raise FaceTalkError(f"num_inference_steps must be at most {limit}, not {num_inference_steps}")
    if scheduler.config.get("prediction_type") != "sample":
        raise FaceTalkError(
            f"{name} is not set up for this denoiser, which predicts x_0: make it by "
            'from_config(pipe.scheduler.config, prediction_type="sample")'
        )
    key = (type(scheduler), repr(dict(scheduler.config)), num_inference_steps)
    if key not in _TRIED:
        _TRIED[key] = _end(copy.deepcopy(scheduler), num_inference_steps)
    reached = _TRIED[key]
    if isinstance(reached, str):
        raise FaceTalkError(f"{name} cannot sample this denoiser: {reached}; {HINT}")
    if not abs(reached - CERTAIN) < NEAR:
        if scheduler.config.get("clip_sample") or scheduler.config.get("thresholding"):
            raise FaceTalkError(
                f"{name} clips what is predicted, and codes go further: make it by "
                "from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)"
            )
        raise FaceTalkError(f"{name} does not end at what this denoiser predicts, which is x_0: {HINT}")


_TRIED: dict[tuple[type, str, int], float | str] = {}


def _end(solver: Any, steps: int) -> float | str:
    """Where all steps end of which each predicts the same: far from it, the prediction is taken for something else."""
    try:
        with torch.random.fork_rng(devices=[]):  # some draw noise, which must not be missing later
            solver.set_timesteps(steps)
            sample = torch.zeros(1, 4, 4) * solver.init_noise_sigma
            for timestep in solver.timesteps:
                solver.scale_model_input(sample, timestep)
                sample = solver.step(torch.full_like(sample, CERTAIN), timestep, sample, return_dict=False)[0]
    except Exception as error:  # whatever a scheduler raises for a setting that it has not
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return float(sample.mean())
