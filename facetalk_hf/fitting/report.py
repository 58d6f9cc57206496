# SPDX-License-Identifier: MIT
"""The numbers about a fit: residual, speed of the mouth, bad frames, as report.json."""

import json
from pathlib import Path

import numpy as np
import torch

from ..files import atomic_path
from ..units import MILLIMETRES
from .expressions import SequenceFit
from .posed_field import PosedField


def write_report(path: Path, field: PosedField, fit: SequenceFit, extra: dict) -> dict:
    """Write `report.json`: residual and velocity of every frame, bad frames, terms of the objective."""
    speed = mouth_speed(field, fit.weights)
    report = extra | {
        "frames": len(fit.weights),
        "residual_mm": {"mean": float(np.mean(fit.residual)), "frames": np.round(fit.residual, 4).tolist()},
        "velocity_mm_per_frame": {"mean": float(np.mean(speed)), "frames": np.round(speed, 4).tolist()},
        "outlier_share": np.round(fit.outlier_share, 4).tolist(), "bad_frames": fit.bad_frames, "terms": fit.terms,
    }  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    return report


def mouth_speed(field: PosedField, weights: np.ndarray) -> np.ndarray:
    """Compute the mean speed (T,) of the 20 mouth landmarks, mm a frame; of the anchors for a head without landmarks.

    The first frame has that of the second.
    """
    places = field.mouth(torch.from_numpy(weights).float()) * MILLIMETRES
    if len(places) < 2:
        return np.zeros(len(places))
    speed = (places[1:] - places[:-1]).norm(dim=-1).mean(-1).numpy()
    return np.concatenate([speed[:1], speed])
