# SPDX-License-Identifier: MIT
"""What every decoder of heads shares."""

from dataclasses import dataclass

import numpy as np
import torch


UPPER_LIP, LOWER_LIP = (61, 62, 63), (67, 66, 65)  # inner contour, iBUG order


Identity = str | int | np.ndarray | torch.Tensor | None


@dataclass
class HeadGeometry:
    """What all frames of an identity share, in mm: surface, motion fields of surface and landmarks, paint."""

    base: np.ndarray  # (V, 3) at expression code zero
    targets: np.ndarray  # (R, V, 3)
    names: tuple[str, ...]
    faces: np.ndarray  # (F, 3)
    colors: np.ndarray  # (V, 3) uint8
    parts: np.ndarray  # (V,) uint8
    landmarks: np.ndarray  # (68, 3) at expression code zero
    landmark_targets: np.ndarray  # (R, 68, 3)


def aperture(landmarks: np.ndarray) -> np.ndarray:
    """Vertical distance between the inner lips, mm: (..., 68, 3) -> (...), the mean over the three middle pairs."""
    return (landmarks[..., UPPER_LIP, 1] - landmarks[..., LOWER_LIP, 1]).mean(-1).astype(np.float32)


def _array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    return np.ascontiguousarray(values, np.float32)
