# SPDX-License-Identifier: MIT
"""Training data and targets for sampling in few steps: the paths that a denoiser's own samples take.

A deterministic solver turns each noise into one sample. Its path is computed once, in many steps; the points at the
timesteps of a short sampling are kept. The student learns, at each of them, the x_0 with which one first-order step
leads to the next point: progressive distillation (Salimans and Ho 2022) with the whole path at once. Guidance is part
of the path, so the student needs no second pass; the last target holds the mouth's temperature as well.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from ..data.segments import SegmentDataset
from ..errors import FaceTalkError
from ..models.denoiser import FaceTalkDenoiser
from ..models.guidance import guided_copies
from ..models.nphm import NPHMModel
from ..motion.processing import temper_mouth
from ..pipeline.denoising import SamplingScheduler, denoise
from ..pipeline.few_steps import few_step_scheduler


def step_weights(scheduler: SamplingScheduler, steps: int) -> torch.Tensor:
    """Read a, b of x_next = a x_0 + b x_t off a first-order scheduler, (steps, 2) float."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    clean, noisy = torch.eye(2, dtype=torch.float64)[..., None, None]
    rows = [solver.step(clean, t, noisy, return_dict=False)[0].flatten() for t in solver.timesteps]
    return torch.stack(rows).float()


@dataclass
class Paths:
    """Paths of a teacher's samples.

    Args:
        points ((P, steps + 1, N, C) float16): x at the timesteps of the student, first the noise, last the sample.
        start ((P,) int64), length ((P,) int64): the segment's first frame among those of all clips, and its frames.
        intensity ((P,) float32): factor that the teacher was told; NaN for none.
        timesteps ((steps,) int64): of the points but the last one.
        conditions ((P, N, K) float32, *optional*): what the teacher was told of every frame.
    """

    points: np.ndarray
    start: np.ndarray
    length: np.ndarray
    intensity: np.ndarray
    timesteps: torch.Tensor
    conditions: np.ndarray | None = None


@torch.no_grad()
def teacher_paths(
    denoiser: FaceTalkDenoiser,
    scheduler: SamplingScheduler,
    segments: SegmentDataset,
    steps: int,
    substeps: int,
    guidance_scale: float,
    mouth_temperature: float | None = None,
    head: NPHMModel | None = None,
    batch_size: int = 16,
    emotion_scale: float = 1.0,
) -> Iterator[Paths]:
    """Sample the segments' audio with `steps * substeps` steps, a batch at a time; see [`Paths`].

    Args:
        denoiser ([`FaceTalkDenoiser`]): the teacher.
        scheduler ([`SamplingScheduler`]): its own, one that draws no noise.
        segments ([`SegmentDataset`]): audio, noise and intensities.
        steps, substeps (`int`): of the student; of the teacher for one of the student's.
        guidance_scale (`float`): as in the pipeline.
        mouth_temperature (`float`, *optional*), head ([`NPHMModel`], *optional*): as in [`FaceTalkPipeline`].
        batch_size (`int`, *optional*, defaults to 16).
        emotion_scale (`float`, *optional*, defaults to 1): as in the pipeline.

    Raises:
        FaceTalkError: the scheduler's steps do not pass the student's.
    """
    scheduler, few = copy.deepcopy(scheduler), cast(SamplingScheduler, few_step_scheduler(scheduler))
    scheduler.set_timesteps(steps * substeps)
    few.set_timesteps(steps)
    if not torch.equal(scheduler.timesteps[::substeps], few.timesteps):
        raise FaceTalkError(f"a sampling of {steps * substeps} steps does not pass the timesteps of one of {steps}")
    tells = denoiser.config.intensity_range is not None
    for first in range(0, len(segments), batch_size):
        scheduler.set_timesteps(steps * substeps)  # anew, because it counts its steps
        batch = segments.__getitems__(list(range(first, min(first + batch_size, len(segments)))))
        lengths = batch["frame_mask"].sum(1)
        noise = torch.cat((batch["noise"], batch["pose_noise"]), -1) if denoiser.config.pose_dim else batch["noise"]
        noise, audio = noise[:, : lengths.max()], batch["audio"][:, : lengths.max()]
        noise = noise * batch["frame_mask"][:, : lengths.max(), None]
        told = batch.get("conditions") if denoiser.config.condition_names else None
        cut = None if told is None else told[:, : lengths.max()]
        keep, all_told = guided_copies(len(noise), guidance_scale, emotion_scale, cut)
        copies = len(keep) // len(noise)
        projected = denoiser.project_audio(audio.repeat(copies, 1, 1), keep, all_told)
        conditions: dict[str, object] = {"projected_audio": projected}
        if tells:
            low, high = denoiser.config.intensity_range
            batch["intensity"][::2] = min(max(1.0, low), high)  # what is mostly asked for
            conditions["intensity"] = batch["intensity"].repeat(copies)
        points = [noise]

        def keep_point(i: int, _: torch.Tensor, latents: torch.Tensor, points: list = points) -> torch.Tensor:
            if (i + 1) % substeps == 0:
                points.append(latents)
            return latents

        ends = denoise(
            denoiser, scheduler, noise, lengths.tolist(), conditions, guidance_scale,
            on_step=keep_point, emotion_scale=emotion_scale,
        )  # fmt: skip
        size = denoiser.config.code_dim
        sample, expected = (denoiser.denormalize(item[..., :size]) for item in ends)
        codes = denoiser.normalize(temper_mouth(sample, expected, head, mouth_temperature))
        points[-1] = torch.cat((codes, ends[0][..., size:]), dim=-1)
        stored = torch.stack(points, dim=1)
        stored = torch.nn.functional.pad(stored, (0, 0, 0, segments.num_frames - stored.shape[2]))
        tensors = (stored.half(), batch["start"], lengths, batch["intensity"])
        arrays = (item.numpy() for item in tensors)
        more = None if told is None else told.numpy()
        yield Paths(next(arrays), next(arrays), next(arrays), next(arrays), few.timesteps, more)


def join(parts: list[Paths]) -> Paths:
    """Join paths to one."""
    names = ("points", "start", "length", "intensity")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    told = [part.conditions for part in parts if part.conditions is not None]
    return Paths(**arrays, timesteps=parts[0].timesteps, conditions=np.concatenate(told) if told else None)


class FewStepObjective:
    """What the student is to predict at a point of a path, as a batch that a denoiser takes.

    Args:
        paths ([`Paths`]): of the teacher.
        weights ((steps, 2) float): of `step_weights`.
        audio ((frames, A) float): features of all frames of the segments' [`EncodedClips`], for the student.
    """

    def __init__(self, paths: Paths, weights: torch.Tensor, audio: np.ndarray) -> None:
        self.paths, self.weights, self.audio = paths, weights, audio

    def batch(self, rows: np.ndarray, step: np.ndarray) -> tuple[dict[str, Any], torch.Tensor]:
        """Make arguments of the denoiser, and targets (B, N, D), for these paths (B,) at these steps (B,)."""
        paths = self.paths
        size = int(paths.length[rows].max())
        now, following = (torch.from_numpy(paths.points[rows, i, :size]).float() for i in (step, step + 1))
        a, b = self.weights[torch.from_numpy(step)][..., None, None].unbind(1)
        audio = np.zeros((len(rows), size, self.audio.shape[1]), np.float32)
        for index, row in enumerate(rows):
            start, length = paths.start[row], paths.length[row]
            audio[index, :length] = self.audio[start : start + length]
        mask = torch.arange(size) < torch.from_numpy(paths.length[rows])[:, None]
        inputs = {
            "sample": now,
            "timestep": paths.timesteps[torch.from_numpy(step)],
            "audio_features": torch.from_numpy(audio),
            "frame_mask": None if mask.all() else mask,
            "intensity": torch.from_numpy(paths.intensity[rows]),
        }
        if paths.conditions is not None:
            inputs["conditions"] = torch.from_numpy(paths.conditions[rows, :size])
        return inputs, (following - b * now) / a
