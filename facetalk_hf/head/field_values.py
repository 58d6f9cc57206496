# SPDX-License-Identifier: MIT
"""A network's field at many points, in pieces that fit the device."""

from collections.abc import Callable

import numpy as np
import torch


CHUNK = 8192  # points that stay in the processor's cache


@torch.no_grad()
def evaluate(
    field: Callable[[torch.Tensor], torch.Tensor],
    points: np.ndarray,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
) -> np.ndarray:
    """Evaluate field((1, n, 3)) -> (1, n, ..) at points (P, 3), piece by piece: (P, ..) float32.

    Args:
        field: takes float32 points on `device`.
        points: an array of real numbers.
        device: where the field is evaluated.
        chunk (`int`, *optional*): points at a time; by default `CHUNK`, and 32 times as many on a GPU.
    """
    if chunk is None:
        chunk = CHUNK if torch.device(device).type == "cpu" else 32 * CHUNK
    parts = torch.from_numpy(np.ascontiguousarray(points, np.float32)).split(chunk)
    return torch.cat([field(part[None].to(device))[0].float().cpu() for part in parts]).numpy()
