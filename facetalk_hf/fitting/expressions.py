# SPDX-License-Identifier: MIT
"""Expression codes of whole sequences: FaceTalk's sliding windows over posed point clouds, kept as they are made."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from ..files import atomic_path
from ..units import MILLIMETRES
from .blinks import find_blinks
from .observations import FittingConfig, FrameObservation, WindowResult
from .posed_field import PosedField
from .window_solver import solve_window


@dataclass
class SequenceFit:
    """What a sequence of T frames was fitted to.

    Args:
        weights ((T, W) float64): named weights, or codes where a head has no names. expressions ((T, D) float32).
        residual ((T,) mm): mean distance of the points near the fit, outliers aside. far ((T,)): share of outliers.
        bad_frames: frames that were trusted less, because they are missing or hardly fit.
        terms: each term of the objective, summed over the frames of all windows.
    """

    weights: np.ndarray
    expressions: np.ndarray
    residual: np.ndarray
    far: np.ndarray
    bad_frames: list[int]
    terms: dict[str, float]


def window_starts(frames: int, config: FittingConfig) -> list[int]:
    """First frames of the windows over a sequence: every window - overlap, until the end is covered."""
    step = config.window - config.overlap
    return [0, *range(step, max(frames - config.overlap, 1), step)]


def fit_expressions(
    field: PosedField,
    observations: list[FrameObservation],
    config: FittingConfig | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SequenceFit:
    """Fit T frames window by window.

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
    frames = [thin(frame, config.points, index) for index, frame in enumerate(observations)]
    key = fingerprint(field, frames, config)
    total = len(frames)
    weights = start_weights(field, total)
    residual, far, terms = np.zeros(total), np.zeros(total), {}
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
        residual[first:last], far[first:last] = result.residual, result.far
        terms = {name: terms.get(name, 0.0) + value for name, value in result.terms.items()}
        if progress is not None:
            progress(number + 1, len(starts))
    weights, blinks = find_blinks(field, observations, weights, config)
    terms |= blinks
    bad = [i for i in range(total) if not frames[i].trust or far[i] > config.bad_frame or not np.isfinite(residual[i])]
    return SequenceFit(weights.numpy(), field.codes(weights).numpy(), residual, far, bad, terms)


def start_weights(field: PosedField, frames: int) -> torch.Tensor:
    """(T, W) first guesses: a mouth a little open. From lips that are shut, Gauss-Newton seldom finds open ones."""
    weights = torch.zeros(frames, field.size, dtype=torch.float64)
    if "jawOpen" in field.names:
        weights[:, field.names.index("jawOpen")] = 0.2
    return weights


def thin(frame: FrameObservation, count: int, seed: int) -> FrameObservation:
    """At most `count` points of a frame, the same ones in every run."""
    if len(frame.points) <= count:
        return frame
    rows = np.sort(np.random.default_rng(seed).choice(len(frame.points), count, replace=False))
    return frame.take(torch.from_numpy(rows))


def fingerprint(field: PosedField, frames: list[FrameObservation], config: FittingConfig) -> str:
    """A hash of all that a fit depends on: points, identity, config, and the head's weights by a sample."""
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
    """Keep a window, whole or not at all."""
    if path is None:
        return
    with atomic_path(path) as temporary:
        np.savez(
            temporary, key=key, weights=result.weights.numpy(), residual=result.residual, far=result.far,
            terms=json.dumps(result.terms),
        )  # fmt: skip


def read_window(path: Path | None, key: str) -> WindowResult | None:
    """A window that was kept, or `None` where there is none or it belongs to another input."""
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as data:
        if str(data["key"]) != key:
            return None
        return WindowResult(
            torch.from_numpy(data["weights"]), data["residual"], data["far"], json.loads(str(data["terms"]))
        )


def velocity(field: PosedField, weights: np.ndarray) -> np.ndarray:
    """(T,) mean speed of the 20 mouth landmarks in mm a frame, of the anchors where a head has no landmarks.

    The first frame has that of the second.
    """
    places = field.mouth(torch.from_numpy(weights).float()) * MILLIMETRES
    if len(places) < 2:
        return np.zeros(len(places))
    speed = (places[1:] - places[:-1]).norm(dim=-1).mean(-1).numpy()
    return np.concatenate([speed[:1], speed])
