# SPDX-License-Identifier: MIT
"""A style of one's own: the LoRA of train_denoiser.py --lora-rank, fused into a copy of a denoiser."""

import copy
import os
from pathlib import Path
from typing import Any, cast

import torch

from ..errors import FaceTalkError
from ..models.denoiser import FaceTalkDenoiser
from ..models.lora import WEIGHTS, fuse_lora, load_lora
from ..paths import STYLES


def style_folder(style: str | os.PathLike, model_folder: Path | None) -> Path:
    """Find the folder of a style: a folder, that of the training it came from, or a name in the model's `styles/`.

    Raises:
        FaceTalkError: there is none.
    """
    given = Path(style)
    places = [given, given / "style"]
    if model_folder is not None:
        places.append(model_folder / STYLES / given)
    for place in places:
        if (place / WEIGHTS).is_file():
            return place
    own = model_folder / STYLES if model_folder is not None else None
    known = sorted(path.name for path in own.iterdir()) if own is not None and own.is_dir() else []
    has = f"the model has {', '.join(known)}" if known else "the model has none of its own"
    raise FaceTalkError(f"no style {style}: give a folder with {WEIGHTS}; {has}")


def styled_denoiser(
    denoiser: FaceTalkDenoiser, origin: FaceTalkDenoiser, folder: str | os.PathLike, strength: float
) -> FaceTalkDenoiser:
    """Copy a denoiser with a style fused into it.

    Args:
        denoiser ([`FaceTalkDenoiser`]): may hold few-step weights or another style: LoRAs of one network add up.
        origin ([`FaceTalkDenoiser`]): the network before any of them, which the style was made for.
        folder (`str` or `os.PathLike`): of the style.
        strength (`float`): 0 to 1.

    Raises:
        FaceTalkError: a strength outside of 0 to 1, no style in the folder, or one of other weights.
    """
    if not 0 <= strength <= 1:
        raise FaceTalkError(f"the strength of a style must be between 0 and 1, not {strength}")
    lora, _ = load_lora(folder, cast(torch.nn.Module, origin))
    styled = copy.deepcopy(denoiser)
    fuse_lora(cast(Any, styled), lora, strength)
    return styled
