# SPDX-License-Identifier: MIT
"""Where a model computes: as diffusers says it, which for that asks every module for hooks, several times a call."""

from typing import Any

import torch
from torch import nn


def hooked(model: nn.Module) -> bool:
    """Tell whether offloading or casting has left a hook of diffusers' or accelerate's in any module of a model."""
    waiting: list[nn.Module | None] = [model]
    for module in waiting:  # which grows meanwhile
        if module is not None:
            held = module.__dict__
            if "_diffusers_hook" in held or "_hf_hook" in held:
                return True
            waiting.extend(held["_modules"].values())
    return False


def placement(model: Any) -> tuple[torch.device, torch.dtype]:
    """Return `device` and `dtype` of a model of diffusers or transformers."""
    if hooked(model):
        return model.device, model.dtype
    first = next(item for item in model.parameters() if item.is_floating_point())
    return first.device, first.dtype
