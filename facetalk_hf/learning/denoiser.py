# SPDX-License-Identifier: MIT
"""Training of the denoiser: its options, its network, data and loss, and what is looked at on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..arrays import read_npy, to_float32
from ..conditions import CONDITIONS
from ..data import corpus
from ..data.feature_cache import OnlineAudio, encode_corpus, read_speech
from ..data.segments import EncodedClips, SegmentDataset, take_batch
from ..errors import FaceTalkError
from ..models.denoiser import FaceTalkDenoiser
from ..pipeline.facetalk import FaceTalkPipeline
from ..scripts import REQUIRED, option
from .loop import Trainer, TrainingOptions
from .objective import NUM_TIMESTEPS, DiffusionObjective, RegressionObjective, sampling_scheduler


VALIDATION_SEGMENTS = 256
VIDEO_SECONDS = 4


@dataclass(kw_only=True)
class DenoiserOptions(TrainingOptions):
    """Options of training/train_denoiser.py; docs/options.py makes the table in docs/training.md from them."""

    corpus: str = option(REQUIRED, "folder of Parquet shards with audio and expression codes (build_corpus.py)")
    audio_encoder: str | None = option(
        None,
        "folder or Hub id of the frozen encoder and its feature extractor, or facetalk-tiny; needed without --init",
    )
    feature_extractor: str | None = option(None, "folder or Hub id of the feature extractor, where it lies elsewhere")
    online_audio: bool = option(False, "encode a batch's clips at every step instead of all clips once")
    cache_dir: Path | None = option(
        None, "keep the encoded corpus in this folder, for this and later runs; by default in memory"
    )
    audio_augmentation: float | None = option(
        None,
        "share of the training clips that are heard with noise, rooms, telephones before they are encoded; "
        "half of all clips then with one of the shorter look-aheads of an encoder that has a choice",
    )
    num_workers: int = option(0, "processes that cut segments; 0 to do it in the training process")

    init: str | None = option(
        None, "start from the denoiser of this model (folder, Hub id or facetalk-tiny) and keep its audio encoder"
    )
    lora_rank: int = option(
        0, "with --init: train a LoRA of this rank, a style, instead of all weights; OUTPUT_DIR/style is its folder"
    )
    preset: Literal["paper", "tiny"] = option("paper", "size of the network")
    model_config: dict = option({}, "JSON: changes to the preset")
    gradient_checkpointing: bool = option(False, "recompute the blocks, to save memory")
    mixed_precision: Literal["no", "fp16", "bf16"] | None = option(None, "by default as in `accelerate launch`")
    cpu: bool = option(False, "don't use an accelerator that is there")

    segment_frames: int = option(48, "length of a training segment; 48 = 2 s")
    batch_size: int = option(32, "segments in a batch, of one process")
    gradient_accumulation_steps: int = option(1, "batches an update")
    max_train_steps: int = option(100_000, "updates")
    learning_rate: float = option(1e-4, "of Adam, at its highest")
    lr_scheduler: str = option("constant", "constant, constant_with_warmup, cosine, ... (diffusers' names)")
    lr_warmup_steps: int = option(0, "updates until the learning rate is reached")
    adam_beta2: float = option(0.999, "of Adam")
    weight_decay: float = option(0.0, "of AdamW; 0 makes it the paper's Adam")

    null_probability: float = option(0.25, "share of segments whose audio is the null audio")
    augmentation: tuple[float, float] = option((1.0, 1.0), "codes * r, r ~ U(A, B)", metavar=("A", "B"))
    intensity_dropout: float = option(
        0.1, "share of segments whose r the network isn't told; 1 for a network without that input"
    )
    condition_dropout: float = option(
        0.15, "share of segments whose emotion and style the network isn't told; 1 for a network without that input"
    )
    pose_weight: float = option(0.2, "weight of the errors of the head's pose; 0 for a network that makes no poses")
    objective: Literal["diffusion", "regression"] = option(
        "diffusion",
        "regression: x_0 from zeros at the last timestep, to compare with (no noise, one step at sampling)",
    )
    velocity_weight: float = option(0.0, "weight of the velocity loss")
    loss_matrix: Path | None = option(None, ".npy with a matrix (D, K): errors of codes @ matrix count as well")
    loss_matrix_weight: float = option(1.0, "weight of the errors in the space of --loss-matrix")
    snr_gamma: float | None = option(None, "min-SNR weights: each timestep's loss times min(SNR, this); by default 1")

    validation_video: int = option(
        0,
        "updates from one video of a held-out clip, drawn by the whole pipeline, to the next: "
        "OUTPUT_DIR/validation/step-*.mp4; 0 for none",
    )
    head: str | None = option(None, "folder or Hub id of the head, for --validation-video and --push-to-hub")
    push_to_hub: bool = option(False, "publish the result as a model at the end, with --head if given")
    hub_model_id: str | None = option(None, "repository for --push-to-hub, USER/NAME")

    def __post_init__(self) -> None:
        if self.audio_encoder is None and self.init is None:
            raise FaceTalkError("--audio-encoder is needed, or --init with a model that has one")
        if self.lora_rank and (self.init is None or self.push_to_hub or self.online_audio):
            raise FaceTalkError("--lora-rank needs --init, and goes without --push-to-hub and --online-audio")
        if self.lora_rank < 0:
            raise FaceTalkError(f"--lora-rank must be 0 or more, not {self.lora_rank}")
        if self.validation_video and self.head is None:
            raise FaceTalkError("--validation-video needs --head")
        if self.audio_augmentation is not None and self.online_audio:
            raise FaceTalkError("--audio-augmentation and --online-audio exclude each other")
        if self.push_to_hub and self.hub_model_id is None:
            raise FaceTalkError("--push-to-hub needs --hub-model-id")


def read_split(
    options: DenoiserOptions, split: str, encoder: PreTrainedModel, extractor: SequenceFeatureExtractor
) -> tuple[EncodedClips, OnlineAudio | None]:
    """Read a split of the corpus, with its audio features, or with what encodes them at every step."""
    if options.online_audio:
        return read_speech(options.corpus, split, encoder, extractor)
    augmentation = options.audio_augmentation if split == "train" else None
    return encode_corpus(options.corpus, split, encoder, extractor, options.cache_dir, augmentation), None


def make_denoiser(options: DenoiserOptions, clips: EncodedClips, audio_dim: int) -> FaceTalkDenoiser:
    """Make an untrained denoiser for these clips, which give it the statistics of their codes."""
    preset = FaceTalkDenoiser.tiny_config if options.preset == "tiny" else FaceTalkDenoiser.paper_config
    dims: dict[str, Any] = {"code_dim": clips.codes.shape[1], "audio_dim": audio_dim, "max_timesteps": NUM_TIMESTEPS}
    if options.intensity_dropout < 1 and options.augmentation[0] < options.augmentation[1]:
        dims["intensity_range"] = options.augmentation
    if clips.conditions is not None and options.condition_dropout < 1:
        dims["condition_names"] = list(CONDITIONS)
    if clips.poses is not None and options.pose_weight:
        dims["pose_dim"] = clips.poses.shape[1]
    denoiser = FaceTalkDenoiser(**preset(**dims) | options.model_config).train()
    mean, std = clips.statistics()
    denoiser.code_mean.copy_(mean)
    denoiser.code_std.copy_(std)
    if denoiser.config.pose_dim:
        mean, std = clips.pose_statistics()
        denoiser.pose_mean.copy_(mean)
        denoiser.pose_std.copy_(std)
    if options.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    return denoiser


def read_matrix(path: Path, code_dim: int) -> torch.Tensor:
    """Read the matrix (D, K) of `--loss-matrix`; FaceTalkError where it is none of these codes."""
    try:
        matrix = to_float32(read_npy(path))
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"--loss-matrix {path} cannot be read: {error}") from error
    if matrix.ndim != 2 or len(matrix) != code_dim or not np.isfinite(matrix).all():
        raise FaceTalkError(f"--loss-matrix {path} is {matrix.shape}: it must be ({code_dim}, K), of finite numbers")
    return torch.from_numpy(matrix)


def make_objective(
    options: DenoiserOptions, denoiser: FaceTalkDenoiser, device: torch.device
) -> DiffusionObjective | RegressionObjective:
    """Make the loss that the options ask for."""
    matrix = read_matrix(options.loss_matrix, denoiser.config["code_dim"]) if options.loss_matrix else None
    weights = (options.velocity_weight, matrix, options.loss_matrix_weight, options.snr_gamma)
    objective = RegressionObjective if options.objective == "regression" else DiffusionObjective
    return objective(denoiser, *weights, device=device, pose_weight=options.pose_weight)


def make_loader(options: DenoiserOptions, clips: EncodedClips, trainer: Trainer) -> DataLoader:
    """Make the batches of the updates that are still to be done."""
    dataset = SegmentDataset(
        clips,
        options.segment_frames,
        num_samples=len(trainer.steps) * trainer.samples_per_update,
        offset=trainer.first_step * trainer.samples_per_update,
        seed=options.seed,
        num_timesteps=NUM_TIMESTEPS,
        null_probability=options.null_probability,
        augmentation=options.augmentation,
        intensity_dropout=options.intensity_dropout,
        condition_dropout=options.condition_dropout,
    )
    return DataLoader(dataset, options.batch_size, num_workers=options.num_workers, collate_fn=take_batch)


def make_optimizer(
    options: DenoiserOptions, module: torch.nn.Module
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Make AdamW and the schedule of its learning rate."""
    betas = (0.9, options.adam_beta2)
    optimizer = torch.optim.AdamW(
        module.parameters(), options.learning_rate, betas=betas, weight_decay=options.weight_decay, fused=True
    )
    return optimizer, get_scheduler(
        options.lr_scheduler,
        optimizer,
        num_warmup_steps=options.lr_warmup_steps,
        num_training_steps=options.max_train_steps,
    )


class DenoiserLoss:
    """The objective of a batch, with its audio encoded first where that is not done once and for all.

    Args:
        objective ([`DiffusionObjective`]): the loss. online ([`OnlineAudio`], *optional*): encodes batches.
    """

    def __init__(self, objective: DiffusionObjective, online: OnlineAudio | None = None) -> None:
        self.objective, self.online = objective, online

    def __call__(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss of each segment, (B,) float, as "loss"."""
        if self.online:
            batch["audio"] = self.online(batch)
        return {"loss": self.objective(model, batch)}

    @torch.no_grad()
    def validate(
        self, denoiser: torch.nn.Module, clips: EncodedClips, options: DenoiserOptions, device: torch.device
    ) -> dict[str, float]:
        """Mean loss on fixed segments of held-out clips, audio given, as "validation"."""
        segments = SegmentDataset(
            clips, options.segment_frames, VALIDATION_SEGMENTS, num_timesteps=NUM_TIMESTEPS, null_probability=0.0
        )
        losses = []
        for start in range(0, len(segments), options.batch_size):
            batch = segments.__getitems__(list(range(start, min(start + options.batch_size, len(segments)))))
            losses.append(self(denoiser, {key: value.to(device) for key, value in batch.items()})["loss"])
        return {"validation": torch.cat(losses).mean().item()}


def render_clip(
    denoiser: FaceTalkDenoiser, parts: dict[str, Any], corpus_folder: str, target: Path, seed: int = 0
) -> None:
    """Draw the first held-out clip, at most 4 s of it, as a video made by the whole pipeline.

    Args:
        denoiser ([`FaceTalkDenoiser`]): in training.
        parts (`dict`): the audio encoder, the feature extractor and the head of the [`FaceTalkPipeline`].
        corpus_folder (`str`): with a validation split.
        target (`Path`): the mp4.
        seed (`int`, *optional*, defaults to 0): of the noise.
    """
    row = next(corpus.read(corpus_folder, ("validation",), ("audio", "sampling_rate", "fps")))
    samples = corpus.decode_audio(row)[: VIDEO_SECONDS * row["sampling_rate"]]
    pipe = FaceTalkPipeline(denoiser=denoiser, **parts | {"scheduler": sampling_scheduler(), "fps": row["fps"]})
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    animation = pipe(samples, sampling_rate=row["sampling_rate"], generator=generator).animations[0]
    target.parent.mkdir(exist_ok=True, parents=True)
    animation.save(target, size=256)


def upload(folder: Path, parts: dict[str, Any], hub_model_id: str, **hub: Any) -> None:
    """Send a trained denoiser to the Hub as a whole model with its card, as whoever `hf auth login` or HF_TOKEN says.

    Args:
        folder (`Path`): of the result, with denoiser/.
        parts (`dict`): the other components of [`FaceTalkPipeline`] and its `fps`.
        hub_model_id (`str`): USER/NAME.
        hub: arguments of its `push_to_hub`.

    Raises:
        FaceTalkError: it could not be published; the result is in the folder all the same.
    """
    denoiser = FaceTalkDenoiser.from_pretrained(folder / "denoiser")
    pipe = FaceTalkPipeline(denoiser=denoiser, **parts | {"scheduler": sampling_scheduler()})
    try:
        pipe.push_to_hub(hub_model_id, **hub)
    except FaceTalkError as error:
        raise FaceTalkError(f"the result is in {folder}, but could not be published: {error}") from error
