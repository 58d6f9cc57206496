# SPDX-License-Identifier: MIT
"""The denoising loop with and without something fixed. (What it computes unfixed is tested with the pipeline.)"""

import diffusers
import pytest
import torch
from components import CODE_DIM, make_denoiser, make_scheduler

from facetalk_hf.pipeline.denoising import denoise, valid_frames


def test_padding_is_marked_where_there_is_any():
    assert valid_frames([5, 5]) is None
    assert valid_frames([2, 3]).tolist() == [[True, True, False], [True] * 3]


@torch.no_grad()
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DDIMScheduler"])
def test_a_fixed_part_is_noised_as_the_training_did_it(name):
    """Frames whose x_0 is fixed go along x_t = alpha_t x_0 + sigma_t eps with the noise they started from."""
    options = {"clip_sample": False} if name.startswith("DD") else {}
    scheduler = getattr(diffusers, name).from_config(make_scheduler().config, **options)
    scheduler.set_timesteps(10)
    denoiser = make_denoiser()
    torch.manual_seed(0)
    start, given = torch.randn(2, 12, CODE_DIM), torch.randn(CODE_DIM)
    seen = []

    def constrain(clean):
        clean = clean.clone()
        clean[:, 5] = given
        return clean

    def on_step(i, t, latents):
        seen.append(latents.clone())
        return latents

    conditions = {"projected_audio": denoiser.project_audio(torch.randn(2, 12, 24))}
    final, first = denoise(denoiser, scheduler, start, [12, 12], conditions, 1.0, constrain=constrain, on_step=on_step)
    alphas = scheduler.alphas_cumprod[scheduler.timesteps]
    noise = (start[:, 5] - alphas[0].sqrt() * given) / (1 - alphas[0]).sqrt()
    for alpha, latents in zip(alphas[1:], seen[:-1], strict=True):
        expected = alpha.sqrt() * given + (1 - alpha).sqrt() * noise
        torch.testing.assert_close(latents[:, 5], expected, atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(final[:, 5], given.expand(2, -1), atol=1e-4, rtol=1e-4)
    assert torch.equal(final, seen[-1]) and len(seen) == 10


@torch.no_grad()
@pytest.mark.parametrize("strength, guidance, calls", [(1, 1.0, 4), (0.5, 1.0, 5), (1, 1.5, 5)])
def test_the_first_prediction_is_steered_once_where_that_is_enough(strength, guidance, calls):
    scheduler, denoiser = make_scheduler(), make_denoiser()
    scheduler.set_timesteps(4)
    torch.manual_seed(0)
    features, start, seen = torch.randn(1, 12, 24), torch.randn(1, 12, CODE_DIM), []

    class Steer:
        def __init__(self):
            self.strength = strength

        def __call__(self, clean, noise):
            seen.append(noise)
            return clean + self.strength

    keep = torch.tensor([True, False])[: 1 + (guidance != 1)]
    conditions = {"projected_audio": denoiser.project_audio(features.repeat(len(keep), 1, 1), keep)}
    _, expected = denoise(denoiser, scheduler, start, [12], conditions, guidance, steer=Steer())
    scheduler.set_timesteps(4)
    _, free = denoise(denoiser, scheduler, start, [12], conditions, guidance)
    torch.testing.assert_close(expected, free + strength)
    assert len(seen) == calls
