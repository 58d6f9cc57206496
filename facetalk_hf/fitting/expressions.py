# SPDX-License-Identifier: MIT
"""Expression codes of whole sequences: FaceTalk's sliding windows over point clouds, stored as they are solved."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from ..files import atomic_path
from .blinks import find_blinks
from .config import FittingConfig
from .observations import FrameObservation
from .posed_field import PosedField
from .window_solver import WindowResult, solve_window, start_weights


@dataclass
class SequenceFit:
    """The fit of a sequence of T frames.

    Args:
        weights ((T, W) float64): named weights, or codes where a head has no names. expressions ((T, D) float32).
        residual ((T,) mm): mean distance of the points near the fit. outlier_share ((T,)): share of the other points.
        bad_frames: frames that were trusted less, because they are missing or hardly fit.
        terms: each term of the objective, summed over the frames of all windows.
    """

    weights: np.ndarray
    expressions: np.ndarray
    residual: np.ndarray
    outlier_share: np.ndarray
    bad_frames: list[int]
    terms: dict[str, float]


def window_starts(frames: int, config: FittingConfig) -> list[int]:
    """List the first frames of the windows over a sequence: every window - overlap, until the end is covered."""
    step = config.window - config.overlap
    return [0, *range(step, max(frames - config.overlap, 1), step)]


def fit_expressions(
    field: PosedField,
    observations: list[FrameObservation],
    config: FittingConfig | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SequenceFit:
    """Fit expression weights to T frames, window by window.

    A window starts from the last one's solution of the frames they share, optimises these again and is tied to the
    frame before, which stays. With a folder, `window_000.npz` is written before the next window begins, and a window
    that is there for the same input is read: a run that was stopped ends with the same codes, bit by bit.

    Args:
        field (`PosedField`): the person. observations: T frames in canonical units.
        folder (`Path`, *optional*): where windows are kept. progress: called with windows done and their number.

    Raises:
        FaceTalkError: no frame at all, or none with points.
    """
    config = config or FittingConfig()
    if not observations or not any(len(frame.points) and frame.trust for frame in observations):
        raise FaceTalkError("there is no frame with points to fit")
    frames = [frame.subsample(config.points, index) for index, frame in enumerate(observations)]
    key = fingerprint(field, frames, config)
    total = len(frames)
    weights = start_weights(field, total)
    residual, outlier_share = np.zeros(total), np.zeros(total)
    terms: dict[str, float] = {}
    starts = window_starts(total, config)
    for number, first in enumerate(starts):
        last = min(first + config.window, total)
        path = None if folder is None else Path(folder) / f"window_{number:03d}.npz"
        result = read_window(path, key)
        if result is None:
            previous = weights[first - 1] if first else None
            result = solve_window(field, frames[first:last], weights[first:last], previous, config)
            write_window(path, key, result)
        weights[first:last] = result.weights
        residual[first:last], outlier_share[first:last] = result.residual, result.outlier_share
        terms = {name: terms.get(name, 0.0) + value for name, value in result.terms.items()}
        if progress is not None:
            progress(number + 1, len(starts))
    weights, blinks = find_blinks(field, observations, weights, config)
    terms |= blinks
    trusted = np.array([bool(frame.trust) for frame in frames])
    bad = np.flatnonzero(~trusted | (outlier_share > config.bad_frame) | ~np.isfinite(residual)).tolist()
    return SequenceFit(weights.numpy(), field.codes(weights).numpy(), residual, outlier_share, bad, terms)


def fingerprint(field: PosedField, frames: list[FrameObservation], config: FittingConfig) -> str:
    """Hash all that a fit depends on: points, identity, config, and a sample of the head's weights."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for tensor in field.signature():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    for frame in frames:
        digest.update(frame.points.cpu().numpy().tobytes())
        for known in (frame.landmarks, frame.normals):
            digest.update(b"none" if known is None else known.cpu().numpy().tobytes())
        digest.update(str(frame.trust).encode())
    return digest.hexdigest()


def write_window(path: Path | None, key: str, result: WindowResult) -> None:
    """Store a window, whole or not at all."""
    if path is None:
        return
    with atomic_path(path) as temporary:
        np.savez(
            temporary, key=key, weights=result.weights.numpy(), residual=result.residual, far=result.outlier_share,
            terms=json.dumps(result.terms),
        )  # fmt: skip


def read_window(path: Path | None, key: str) -> WindowResult | None:
    """Read a stored window; `None` where there is none or it belongs to another input."""
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as data:
        if str(data["key"]) != key:
            return None
        return WindowResult(
            torch.from_numpy(data["weights"]), data["residual"], data["far"], json.loads(str(data["terms"]))
        )
