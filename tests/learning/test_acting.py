# SPDX-License-Identifier: MIT
"""A denoiser learns to follow what it is told, and a head's pose; corpora without them still train."""

import numpy as np
import pytest
import torch

from facetalk_hf import FaceTalkDenoiser
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.data.segments import Clip, EncodedClips, SegmentDataset
from facetalk_hf.learning.denoiser import DenoiserOptions, make_denoiser
from facetalk_hf.learning.distillation import FewStepObjective, join, step_weights, teacher_paths
from facetalk_hf.learning.objective import DiffusionObjective, sampling_scheduler
from facetalk_hf.models.guidance import guided_copies
from facetalk_hf.pipeline.denoising import denoise
from facetalk_hf.pipeline.few_steps import few_step_scheduler


HAPPY = CONDITIONS.index("happy")
SIZE = {"hidden_size": 32, "num_layers": 3, "num_heads": 2, "ff_mult": 2, "window": 4, "film_rank": 8}


def make_clips(known: bool = True, folder=None) -> EncodedClips:
    """Codes of 4 numbers: the first follows the happiness that is told, as the head's pitch does; the second sound."""
    rng, clips = np.random.default_rng(0), []
    for index in range(24):
        audio = rng.standard_normal((20, 3))
        told = np.zeros((20, len(CONDITIONS)))
        told[:, HAPPY] = rng.uniform(0, 1) if index % 2 else 0.0
        codes = 0.1 * rng.standard_normal((20, 4))
        codes[:, 0] += 2 * told[:, HAPPY] - 0.5
        codes[:, 1] += audio[:, 0]
        poses = np.zeros((20, 6)) + rng.normal(0, 0.1, (20, 6))
        poses[:, 1] += 5 * told[:, HAPPY]
        clips.append(Clip(codes, audio, poses, told) if known else Clip(codes, audio))
    return EncodedClips.collect(clips, folder)


def options(**more) -> DenoiserOptions:
    return DenoiserOptions(corpus="", audio_encoder="", output_dir="", preset="tiny", model_config=SIZE, **more)


@pytest.fixture(scope="module")
def trained() -> FaceTalkDenoiser:
    torch.manual_seed(0)
    clips = make_clips()
    denoiser = make_denoiser(options(), clips, 3)
    objective = DiffusionObjective(denoiser, velocity_weight=0.1)
    data = SegmentDataset(clips, 12, 24 * 180, condition_dropout=0.15, null_probability=0.1)
    optimizer = torch.optim.Adam(denoiser.parameters(), 6e-3)
    for step in range(180):
        batch = data.__getitems__(list(range(24 * step, 24 * step + 24)))
        optimizer.zero_grad()
        objective(denoiser, batch).mean().backward()
        optimizer.step()
    return denoiser.eval()


@torch.no_grad()
def sample(denoiser, amount: float, emotion_scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (8, 16, 4) and poses (8, 16, 6) of eight samples that are told so much happiness; NaN for untold."""
    torch.manual_seed(1)
    scheduler = sampling_scheduler()
    scheduler.set_timesteps(8)
    told = torch.zeros(8, 16, len(CONDITIONS))
    told[..., HAPPY] = amount
    if np.isnan(amount):
        told[:] = float("nan")
    keep, told = guided_copies(8, 1.0, emotion_scale, told)
    audio = torch.randn(8, 16, 3).repeat(len(keep) // 8, 1, 1)
    conditions = {"projected_audio": denoiser.project_audio(audio, keep, told)}
    noise = torch.randn(8, 16, denoiser.sample_dim)
    result, _ = denoise(denoiser, scheduler, noise, [16] * 8, conditions, 1.0, emotion_scale=emotion_scale)
    codes, poses = denoiser.split_sample(result)
    return denoiser.denormalize(codes), poses


def test_a_trained_denoiser_follows_what_it_is_told(trained):
    levels = [sample(trained, amount)[0][..., 0].mean().item() for amount in (0.0, 0.5, 1.0)]
    assert levels[0] < levels[1] - 0.4 and levels[1] < levels[2] - 0.4  # it grows with the amount
    assert levels == pytest.approx([-0.5, 0.5, 1.5], abs=0.4)
    nods = [sample(trained, amount)[1][..., 1].mean().item() for amount in (0.0, 1.0)]
    assert nods[1] > nods[0] + 2.5  # one diffusion makes both
    pronounced = sample(trained, 1.0, emotion_scale=2.0)[0][..., 0].mean().item()
    assert pronounced > levels[2] + 0.2
    untold = sample(trained, float("nan"))[0][..., 0].mean().item()
    assert levels[0] - 0.2 < untold < levels[2]


def test_a_pose_that_is_not_known_is_not_learnt_from():
    clips = make_clips()
    clips.poses[: len(clips.poses) // 2] = np.nan
    denoiser = make_denoiser(options(), clips, 3)
    assert denoiser.config.pose_dim == 6 and tuple(denoiser.config.condition_names) == CONDITIONS
    assert torch.isfinite(denoiser.pose_mean).all()
    objective = DiffusionObjective(denoiser, velocity_weight=0.5)
    prediction, target = torch.randn(2, 5, 10), torch.randn(2, 5, 10)
    target[0, 2:, 4:] = float("nan")
    changed = prediction.clone()
    changed[0, 2:, 4:] += 7
    torch.testing.assert_close(objective.compare(prediction, target), objective.compare(changed, target))
    changed[0, 1, 5] += 7
    assert objective.compare(changed, target)[0] > objective.compare(prediction, target)[0]
    batch = SegmentDataset(clips, 12, 8).__getitems__(list(range(8)))
    assert batch["poses"].isnan().any() and torch.isfinite(objective(denoiser, batch)).all()


def test_a_corpus_without_them_still_trains():
    clips = make_clips(known=False)
    denoiser = make_denoiser(options(), clips, 3)
    assert denoiser.config.pose_dim == 0 and denoiser.config.condition_names is None
    batch = SegmentDataset(clips, 12, 4, condition_dropout=0.5).__getitems__([0, 1, 2, 3])
    assert "poses" not in batch and "conditions" not in batch
    assert torch.isfinite(DiffusionObjective(denoiser)(denoiser, batch)).all()
    # And with them nothing that was drawn before is drawn differently.
    told = SegmentDataset(make_clips(), 12, 4).__getitems__([0, 1, 2, 3])
    for name in ("codes", "noise", "timestep", "audio_keep", "intensity"):
        torch.testing.assert_close(batch[name], told[name])
    denoiser = make_denoiser(options(pose_weight=0.0, condition_dropout=1.0), make_clips(), 3)
    assert denoiser.config.pose_dim == 0 and denoiser.config.condition_names is None
    assert torch.isfinite(DiffusionObjective(denoiser)(denoiser, told)).all()


def test_the_cache_keeps_what_it_knows(tmp_path):
    clips, again = make_clips(), make_clips(folder=tmp_path / "cache")
    np.testing.assert_array_equal(clips.poses, again.poses)
    np.testing.assert_array_equal(EncodedClips.load(tmp_path / "cache").conditions, clips.conditions)
    mixed = EncodedClips.collect([(np.zeros((4, 2)), np.zeros((4, 3))), Clip(*np.ones((2, 5, 2)), np.ones((5, 6)))])
    assert mixed.conditions is None and np.isnan(mixed.poses[:4]).all() and (mixed.poses[4:] == 1).all()


def test_dropout_tells_nothing():
    data = SegmentDataset(make_clips(), 12, 400, condition_dropout=0.25)
    untold = data.__getitems__(list(range(400)))["conditions"].isnan().flatten(1).all(dim=1)
    assert 0.17 < untold.float().mean() < 0.33


def test_few_steps_know_both(trained):
    data = SegmentDataset(make_clips(), 12, num_samples=6, null_probability=0.0)
    parts = teacher_paths(trained, sampling_scheduler(), data, 4, 2, 1.25, batch_size=3, emotion_scale=1.5)
    paths = join(list(parts))
    assert paths.points.shape == (6, 5, 12, 10) and paths.conditions.shape == (6, 12, len(CONDITIONS))
    weights = step_weights(few_step_scheduler(sampling_scheduler()), 4)
    inputs, target = FewStepObjective(paths, weights, data.clips.audio).batch(np.arange(4), np.array([0, 1, 2, 3]))
    inputs.pop("intensity")
    made = trained(**inputs).sample
    assert made.shape == target.shape and torch.isfinite(target).all()
    silent = trained(**inputs | {"conditions": None}).sample
    assert not torch.allclose(made, silent, atol=1e-2)
