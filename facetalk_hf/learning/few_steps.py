# SPDX-License-Identifier: MIT
"""Training of the weights for few steps: their options, their loss, and what they are trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from ..data.segments import EncodedClips, SegmentDataset
from ..models.denoiser import FaceTalkDenoiser
from ..models.lora import LoraAdapter, fused_parameters
from ..models.nphm import NPHMModel
from ..motion.controls import MOUTH_TEMPERATURE
from ..scripts import REQUIRED, option
from .distillation import FewStepObjective
from .loop import TrainingOptions
from .objective import DiffusionObjective, normalized_matrix, sample_loss


@dataclass(kw_only=True)
class FewStepOptions(TrainingOptions):
    """Options of training/distill_denoiser.py."""

    model: str = option(REQUIRED, "folder of the pipeline whose denoiser is the teacher")
    corpus: str = option(REQUIRED, "folder of Parquet shards with audio (training/build_corpus.py)")
    cache_dir: Path | None = option(None, "as for train_denoiser.py, whose encoded corpus is used if it is there")
    audio_augmentation: float | None = option(None, "as train_denoiser.py had it; the cache is the same then")
    output_dir: Path = option(REQUIRED, "folder of the result")
    steps: int = option(4, "of the student")
    substeps: int = option(8, "of the teacher for one of the student's")
    guidance_scale: float = option(1.25, "of the teacher")
    emotion_scale: float = option(1.0, "of the teacher, for one that is told emotions")
    mouth_temperature: float = option(MOUTH_TEMPERATURE, "of the teacher; 1 for a head without names")
    segments: int = option(512, "samples of the teacher")
    segment_frames: int = option(144, "length of one; 144 = 6 s")
    rank: int = option(10, "of the LoRA of a weight matrix")
    batch_size: int = option(16, "points of paths in a batch")
    max_train_steps: int = option(700, "updates")
    learning_rate: float = option(3e-3, "of Adam, at its highest")
    warmup_steps: int = option(50, "updates until the learning rate is reached")
    velocity_weight: float = option(1.0, "as for train_denoiser.py")
    loss_matrix: Path | None = option(None, "as for train_denoiser.py")
    loss_matrix_weight: float = option(0.3, "as for train_denoiser.py")
    blink_weight: float = option(0.5, "of the errors of the lids, if the head names its shapes")
    ema_decay: float = option(0.995, "the result is a moving average of the LoRA; 0 for none")
    validation_share: float = option(0.06, "share of the samples that are kept out of the training")
    validation_steps: int = option(140, "updates from one validation to the next; 0 for none")
    checkpointing_steps: int = option(0, "updates from one checkpoint to the next; 0 for none")
    mixed_precision: Literal["no", "bf16"] = option("no", "precision of the networks")

    @property
    def held_out(self) -> int:
        """Number of samples that are kept out of the training."""
        return max(int(self.validation_share * self.segments), 1)


class FewStepLoss:
    """Error of a student at points of its teacher's paths.

    Args:
        teacher ([`FaceTalkDenoiser`]): frozen.
        head ([`NPHMModel`], *optional*): says which channels are the lids, if it names its shapes.
        examples ([`FewStepObjective`]): points and what is to be predicted there.
        options ([`FewStepOptions`]): weights of the terms.
    """

    def __init__(
        self, teacher: FaceTalkDenoiser, head: NPHMModel | None, examples: FewStepObjective, options: FewStepOptions
    ) -> None:
        self.teacher, self.examples, self.options = teacher, examples, options
        self.network = cast(torch.nn.Module, teacher)  # for type checkers diffusers' ModelMixin is a placeholder
        matrix = torch.from_numpy(np.load(options.loss_matrix)) if options.loss_matrix else None
        objective = DiffusionObjective(teacher, options.velocity_weight, matrix, options.loss_matrix_weight)
        self.compare = objective.compare
        self.lids: torch.Tensor | None = None
        names = head.config.expression_names if head is not None else None
        lids = [index for index, name in enumerate(names or ()) if name.startswith("eyeBlink")]
        if head is not None and lids:
            self.lids = normalized_matrix(head.expression_basis[:, lids].float(), teacher.code_std)

    def __call__(self, student: LoraAdapter, batch: tuple[np.ndarray, np.ndarray]) -> dict[str, torch.Tensor]:
        """Compute the loss of paths (B,) at steps (B,), (B,) float, as "loss"."""
        return {"loss": self.of_weights(fused_parameters(self.network, student.lora()), *batch)}

    def of_weights(self, weights: dict[str, torch.Tensor], rows: np.ndarray, step: np.ndarray) -> torch.Tensor:
        """Compute the loss of the teacher with some of its weights replaced, (B,) float."""
        inputs, target = self.examples.batch(rows, step)
        if self.teacher.config.intensity_range is None:
            inputs.pop("intensity")
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.mixed_precision == "bf16"):
            output = torch.func.functional_call(self.network, weights, (), inputs | {"return_dict": False})[0]
        mask = inputs["frame_mask"]
        losses = self.compare(output.float(), target, mask)
        if self.lids is not None:
            size = len(self.lids)
            codes = (output[..., :size].float(), target[..., :size])
            losses = losses + self.options.blink_weight * sample_loss(*codes, mask, self.lids)
        return losses

    @torch.no_grad()
    def validate(self, weights: dict[str, torch.Tensor]) -> list[float]:
        """Compute the mean loss of the held-out paths at each of the student's steps."""
        rows = np.arange(self.options.held_out)
        steps = range(self.options.steps)
        return [self.of_weights(weights, rows, np.full(len(rows), step)).mean().item() for step in steps]


def draw_points(options: FewStepOptions, steps: range) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw paths (B,) and steps (B,) for each of these updates, as many of each step; from the seed."""
    rng = np.random.default_rng(options.seed)
    points = np.arange(options.batch_size) % options.steps
    for number in range(steps.stop):
        rows = rng.integers(options.held_out, options.segments, options.batch_size)
        if number >= steps.start:
            yield rows, points


def teacher_segments(options: FewStepOptions, clips: EncodedClips, teacher: FaceTalkDenoiser) -> SegmentDataset:
    """Choose the audio and the noise of the teacher's samples; `teacher_paths` sets half of the intensities to 1."""
    told = teacher.config.intensity_range
    return SegmentDataset(
        clips,
        options.segment_frames,
        options.segments,
        seed=options.seed,
        null_probability=0.0,
        augmentation=tuple(told) if told else (1.0, 1.0),
    )
