# SPDX-License-Identifier: MIT
"""Training of the denoiser from options to a folder: what training/train_denoiser.py and `facetalk train` run."""

import copy
import json
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from ..data import corpus
from ..data.feature_cache import load_audio_encoder
from ..errors import FaceTalkError
from ..files import atomic_path
from ..models.lora import LoraAdapter, fuse_lora
from ..models.nphm import NPHMModel
from .checkpointing import save_whole
from .denoiser import (
    DenoiserLoss,
    DenoiserOptions,
    make_denoiser,
    make_loader,
    make_objective,
    make_optimizer,
    read_split,
    render_clip,
    upload,
)
from .loop import Event, Trainer
from .objective import sampling_scheduler
from .starting import load_start, trainable, with_start, write_style


PARTS = "parts.json"
"""File of a trained denoiser that says what belongs to it: audio encoder, head, corpus, frame rate."""


def train_denoiser(options: DenoiserOptions) -> None:
    """Train the denoiser; at the end OUTPUT_DIR/denoiser and OUTPUT_DIR/scheduler hold the parts of a pipeline.

    With `lora_rank` OUTPUT_DIR/style holds a style instead, see [`FaceTalkPipeline.with_style`].

    Raises:
        FaceTalkError: options, corpus or encoder that cannot be used, or a gradient that is not finite.
    """
    options = with_start(options)
    trainer = Trainer(
        options,
        "facetalk-denoiser",
        cpu=options.cpu,
        mixed_precision=options.mixed_precision,
        accumulation=options.gradient_accumulation_steps,
    )
    accelerator = trainer.accelerator
    assert options.audio_encoder is not None  # DenoiserOptions sees to it
    encoder, extractor = load_audio_encoder(options.audio_encoder, options.feature_extractor)
    encoder.to(accelerator.device)
    head = load_part(NPHMModel, options.head, "head") if options.head else None  # missing? say so at once
    with accelerator.main_process_first():  # the others read the cache, if there is one
        clips, online = read_split(options, "train", encoder, extractor)
        held_out = read_split(options, "validation", encoder, extractor) if options.validation_steps else None

    set_seed(options.seed)  # here, because encoding draws numbers, and reading the cache does not
    if options.init:
        denoiser: Any = load_start(options, clips).to(accelerator.device)
    else:
        denoiser = make_denoiser(options, clips, encoder.config.hidden_size if online else clips.audio.shape[1])
    module = trainable(options, denoiser)
    objective = make_objective(options, denoiser, accelerator.device)
    optimizer, schedule = make_optimizer(options, module)
    parts = {"audio_encoder": encoder, "feature_extractor": extractor, "head": head}

    def validate(_: int) -> dict[str, float]:
        assert held_out is not None
        return DenoiserLoss(objective, held_out[1]).validate(module, held_out[0], options, accelerator.device)

    def render(step: int) -> None:
        if accelerator.is_main_process and head is not None:
            target = options.output_dir / "validation" / f"step-{step:06d}.mp4"
            shown = denoiser
            if isinstance(module, LoraAdapter):
                shown = copy.deepcopy(denoiser)
                fuse_lora(shown, module.lora())
            render_clip(shown, parts | {"head": head.to(accelerator.device)}, options.corpus, target, options.seed)

    events = (Event(options.validation_steps, validate), Event(options.validation_video, render, at_end=False))
    batches = make_loader(options, clips, trainer)
    trainer.run(module, optimizer, schedule, batches, DenoiserLoss(objective, online), events)

    if accelerator.is_main_process and isinstance(module, LoraAdapter):
        write_style(options, module)
    elif accelerator.is_main_process:
        save_whole(denoiser.eval(), options.output_dir / "denoiser")
        save_whole(sampling_scheduler(), options.output_dir / "scheduler")
        fps = next(corpus.read(options.corpus, ("train",), ("fps",)))["fps"]
        write_parts(options, fps)
        if options.push_to_hub:
            assert options.hub_model_id is not None  # DenoiserOptions sees to it
            upload(options.output_dir, parts | {"fps": fps}, options.hub_model_id)
    trainer.close()


def write_parts(options: DenoiserOptions, fps: float) -> None:
    """Note beside a trained denoiser what it was trained with, for [`facetalk_hf.learning.assembling.assemble`]."""

    def place(name: str | None) -> str | None:
        return str(Path(name).resolve()) if name and Path(name).exists() else name

    facts = {
        "audio_encoder": place(options.audio_encoder), "feature_extractor": place(options.feature_extractor),
        "head": place(options.head), "corpus": place(options.corpus), "fps": round(float(fps), 4),
    }  # fmt: skip
    with atomic_path(options.output_dir / PARTS) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_part(kind: Any, place: str | Path, what: str) -> Any:
    """Load a component of a model, `what` in words, from a folder or the Hub.

    Raises:
        FaceTalkError: there is none, or it is damaged, in one line.
    """
    try:
        return kind.from_pretrained(place)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"no {what} can be loaded from {place}: {reason}") from error
