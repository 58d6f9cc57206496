# SPDX-License-Identifier: MIT
"""Training that starts from a trained denoiser: all its weights, or a LoRA of them, which is a style."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..data import corpus
from ..data.segments import EncodedClips
from ..errors import FaceTalkError
from ..models.denoiser import FaceTalkDenoiser
from ..models.lora import LoraAdapter, save_lora
from ..paths import TINY, TINY_NAME
from ..pipeline.facetalk import FaceTalkPipeline
from .checkpointing import begin, finish
from .denoiser import DenoiserOptions


STYLE = "style"
"""Folder of a training's result that is a style."""


def with_start(options: DenoiserOptions) -> DenoiserOptions:
    """Fill in what follows from `--init`: a folder in place of a name, its audio encoder, its expression augmentation.

    Raises:
        FaceTalkError: no such model.
    """
    if options.init is None:
        return options
    folder = Path(TINY if options.init == TINY_NAME and not Path(TINY_NAME).exists() else options.init)
    if not folder.exists():
        folder = Path(FaceTalkPipeline.download(options.init))
    changes: dict[str, Any] = {"init": str(folder), "audio_encoder": options.audio_encoder or str(folder)}
    told = FaceTalkDenoiser.load_config(str(folder / "denoiser")).get("intensity_range")
    if told is not None and options.augmentation == (1.0, 1.0):
        changes["augmentation"] = tuple(told)  # or the network would forget what it means to be told a factor
    return replace(options, **changes)


def load_start(options: DenoiserOptions, clips: EncodedClips) -> FaceTalkDenoiser:
    """Load the denoiser of `--init`, which keeps its statistics of codes.

    Clips that were told nothing count as neutral to a denoiser that is told emotions: neutral is what it will be
    told when nobody asks for any.

    Raises:
        FaceTalkError: its codes or audio features are not those of the corpus.
    """
    assert options.init is not None
    denoiser = FaceTalkDenoiser.from_pretrained(Path(options.init) / "denoiser").train()
    for what, own, given in (
        ("codes", denoiser.config.code_dim, clips.codes.shape[1]),
        ("audio features", denoiser.config.audio_dim, clips.audio.shape[1] or denoiser.config.audio_dim),
    ):
        if own != given:
            raise FaceTalkError(f"{options.corpus} has {what} of {given} numbers, those of {options.init} have {own}")
    names = denoiser.config.condition_names
    if names and clips.conditions is None:
        clips.conditions = np.zeros((len(clips.codes), len(names)), np.float32)
    if options.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    return denoiser


def trainable(options: DenoiserOptions, denoiser: FaceTalkDenoiser) -> torch.nn.Module:
    """Give what is trained: the denoiser, or a LoRA of it."""
    network = cast(torch.nn.Module, denoiser)
    return LoraAdapter(network.requires_grad_(False), options.lora_rank) if options.lora_rank else network


def write_style(options: DenoiserOptions, adapter: LoraAdapter) -> Path:
    """Write a trained style into OUTPUT_DIR/style, with the corpus' people, terms and consents; return the folder."""
    columns = ("speaker", "licence", "consent")
    rows = list(corpus.read(options.corpus, ("train",), columns))
    told = {name: sorted({row[name] for row in rows if row.get(name)}) for name in columns}
    target, size = options.output_dir / STYLE, {"rank": options.lora_rank, "steps": options.max_train_steps}
    save_lora(begin(target), adapter.network[0], adapter.lora(), **told, **size)
    finish(target)
    return target
