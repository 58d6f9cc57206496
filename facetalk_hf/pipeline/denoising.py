# SPDX-License-Identifier: MIT
"""The denoising loop: from noise to normalised expression codes, free or constrained to keyframes."""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from ..models.denoiser import FaceTalkDenoiser
from ..models.guidance import guided
from ..models.hooks import placement


Generators = torch.Generator | list[torch.Generator] | None


class SamplingScheduler(Protocol):
    """Part of diffusers' schedulers that sampling uses; `SchedulerMixin` declares none of it."""

    config: Any
    timesteps: torch.Tensor
    init_noise_sigma: float

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Choose the timesteps."""

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """Scale a noisy sample for the denoiser."""

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **options: Any) -> Any:
        """Take one step from a noisy sample, by the prediction there."""


def valid_frames(frames: Sequence[int]) -> torch.Tensor | None:
    """Mark the frames of a batch: (B, max N) bool, False for padding; `None` where all are of one length N."""
    if min(frames) == max(frames):
        return None
    return torch.arange(max(frames)) < torch.tensor(frames)[:, None]


def noise_to_signal(scheduler: SamplingScheduler, timestep: Any) -> float:
    """Compute the variance of the noise in x_t over that of the signal; infinite if the scheduler does not say."""
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None:
        return math.inf
    signal = float(kept[int(timestep)])
    return (1 - signal) / signal if signal > 0 else math.inf


def denoise(
    denoiser: FaceTalkDenoiser,
    scheduler: SamplingScheduler,
    latents: torch.Tensor,
    frames: Sequence[int],
    conditions: dict[str, Any],
    guidance_scale: float,
    generator: Generators = None,
    constrain: Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_step: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    steer: Callable[[torch.Tensor, float], torch.Tensor] | None = None,
    emotion_scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Denoise latents through all timesteps that the scheduler is set to.

    Args:
        denoiser ([`FaceTalkDenoiser`]): predicts x_0.
        scheduler ([`~diffusers.SchedulerMixin`]): with its timesteps set.
        latents ((B, N, D) float): noise, scaled for the scheduler.
        frames (B `int`): number of frames of each element; the rest of N is padding.
        conditions (`dict`): arguments of the denoiser beside sample and timestep; for guidance, of the batch's copies
            as `facetalk_hf.models.guidance.guided_copies` lays them out.
        guidance_scale (`float`): w of `x_0 = G(null) + w * (G(audio) - G(null))`; 1 needs no copy without audio.
        generator: one for all elements, or one for each, for schedulers that draw noise.
        constrain (`Callable`, *optional*): replaces what is known of every predicted x_0, (B, N, D) -> (B, N, D).
            All schedulers here mix x_t from x_0 and noise, so where x_0 is always the same, x_t is that x_0 with the
            noise of step t, and the denoiser sees the known part as it would in its own samples.
        on_step (`Callable`, *optional*): called after each step as `on_step(i, timestep, latents)`, gives latents.
        steer (`Callable`, *optional*): moves every predicted x_0 towards what else is known of it, as `steer(x_0, r)`,
            r the variance of the noise in x_t over that of its signal; before `constrain`.
        emotion_scale (`float`, *optional*, defaults to 1): adds `(s - 1) * (G(told) - G(untold))` to x_0; 1 needs no
            copy without conditions.

    Returns:
        two `torch.Tensor` (B, N, D) float32: the sample, and the x_0 of the first step, steered but without guidance.
        From noise alone the denoiser can only tell what is to be expected of the audio, the mean over all samples.
    """
    frame_mask = valid_frames(frames)
    # Each element of a ragged batch is stepped on its own, at its own length: what a stochastic scheduler draws for it
    # must not depend on the padding.
    if frame_mask is None:
        parts = [(slice(None), max(frames), scheduler, generator)]
    else:
        sources = generator if isinstance(generator, list) else [generator] * len(frames)
        parts = [
            (slice(index, index + 1), count, copy.deepcopy(scheduler), source)
            for index, (count, source) in enumerate(zip(frames, sources, strict=True))
        ]
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    copies, (place, dtype) = 1 + (guidance_scale != 1) + (emotion_scale != 1), placement(denoiser)
    if frame_mask is not None:
        frame_mask = frame_mask.repeat(copies, 1).to(latents.device)

    # Under offloading the denoiser still lies on the CPU here.
    films = denoiser.film_tables(scheduler.timesteps, conditions.get("intensity"), latents.to(place, dtype))
    films = [film.to(latents.device) for film in films]
    for i, t in enumerate(scheduler.timesteps):
        noisy = torch.cat([part[2].scale_model_input(latents[part[0]], t) for part in parts])
        noisy = noisy.repeat(copies, 1, 1).to(dtype)
        clean = denoiser(noisy, t, frame_mask=frame_mask, film=films[i], **conditions).sample.float()
        if i == 0:
            expected = clean[: len(latents)]
        if copies > 1:
            clean = guided(clean.unflatten(0, (copies, -1)), guidance_scale, emotion_scale)
        if steer is not None:
            clean = steer(clean, noise_to_signal(scheduler, t))
            if i == 0:  # at full strength the noise does not matter
                same = copies == 1 and getattr(steer, "strength", None) == 1
                expected = clean if same else steer(expected, math.inf)
        if constrain is not None:
            clean = constrain(clean)

        previous = torch.zeros_like(latents)
        for part, count, solver, source in parts:
            extra = {"generator": source} if takes_generator else {}
            step = solver.step(clean[part, :count], t, latents[part, :count], return_dict=False, **extra)
            previous[part, :count] = step[0]
        latents = previous if on_step is None else on_step(i, t, previous)
    return latents, expected
