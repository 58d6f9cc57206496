# SPDX-License-Identifier: MIT
"""Poses of a recorded head: similarities x_model = s R x + t, read from files, and whether they fit a head's size."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..arrays import read_npy, read_npz, to_float64
from ..errors import FaceTalkError
from ..units import MILLIMETRES, UNITS, Unit


@dataclass
class Poses:
    """One scale for the sequence and a rigid pose a frame: x_model = scale * R_t p + t_t.

    Args:
        scale (`float`): model units in a recorded one. rotations ((T, 3, 3)), translations ((T, 3)): float64.
        residual ((T,) mm): what each frame was left with, NaN where nothing was measured.
    """

    scale: float
    rotations: np.ndarray
    translations: np.ndarray
    residual: np.ndarray

    def to_model(self, index: int, points: np.ndarray) -> np.ndarray:
        """Carry recorded points (P, 3) of a frame to canonical space, float32."""
        return (self.scale * points @ self.rotations[index].T + self.translations[index]).astype(np.float32)

    def rotate(self, index: int, directions: np.ndarray) -> np.ndarray:
        """Rotate recorded directions (P, 3) of a frame to canonical space, float32."""
        return (directions @ self.rotations[index].T).astype(np.float32)


LEAST, MOST = 100 / MILLIMETRES, 800 / MILLIMETRES
"""Model units that the points of a head may be across."""


def head_size(points: np.ndarray) -> float:
    """Measure points (P, 3) across, from the 2nd to the 98th percentile."""
    return float(np.linalg.norm(np.subtract(*np.percentile(points, [98, 2], axis=0))))


def check_unit(points: np.ndarray, unit: Literal["auto"] | Unit, place: str) -> float:
    """Check that points (P, 3) are as large as a head in a unit, and give the number of model units in it.

    Args:
        points ((P, 3)): of one frame. unit (`str`): of [`UNITS`], or "auto" for the one that fits best.
        place (`str`): where the points are from, for messages.

    Raises:
        FaceTalkError: no head has this size in that unit; the message names the unit that would fit.
    """
    size = head_size(points)
    fitting = [name for name, factor in UNITS.items() if LEAST < size * factor < MOST]
    guess = min(fitting, key=lambda name: abs(np.log(size * UNITS[name] / 1.3)), default=None)
    if unit == "auto":
        if guess is None:
            raise FaceTalkError(
                f"{place}: the points are {size:.3g} across, no head in m, cm, mm or model units; "
                "give landmarks or a transform with its scale"
            )
        return UNITS[guess]
    if unit not in fitting:
        hint = f"they look like {guess}: use --unit {guess}" if guess else "is the cloud a head?"
        raise FaceTalkError(f"{place}: the points are {size:.3g} {unit} across, no head's size; {hint}")
    return UNITS[unit]


def check_placed(points: np.ndarray, place: str, source: str) -> None:
    """Check that points (P, 3), carried to canonical space by `source`, have a head's size and place.

    Raises:
        FaceTalkError: they have not; where another unit would explain it, the message names it.
    """
    size = head_size(points)
    if not LEAST < size < MOST:
        steps = {"mm, not m": 1e-3, "cm, not m": 1e-2, "mm, not cm": 0.1, "m, not mm": 1e3, "m, not cm": 100.0}
        fits = [name for name, factor in steps.items() if LEAST < size * factor < MOST]
        hint = f"the points seem to be in {fits[0]}, that s was made for" if fits else "is s right?"
        raise FaceTalkError(
            f"{place}: with {source} the points are {size * MILLIMETRES:.3g} mm across, no head's size; {hint}"
        )
    middle = float(np.linalg.norm(np.median(points, axis=0)))
    if middle > 1.2:
        raise FaceTalkError(
            f"{place}: with {source} the points are {middle * MILLIMETRES:.0f} mm away from where a head is; "
            "are R and t for x_model = s R x + t?"
        )


def read_transforms(path: Path, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read known similarities x_model = s R x + t: scales (T,), rotations (T, 3, 3), translations (T, 3) float64.

    `path` is an .npz or .json with `s`, `R` and `t` (once, or one a frame), or a folder with NPHM's s.npy, R.npy and
    t.npy.

    Raises:
        FaceTalkError: a part is missing, has another shape, is not finite, or R is no rotation.
    """
    path, parts = Path(path), {}
    try:
        if path.is_dir():
            parts = {name: read_npy(path / f"{name}.npy") for name in "sRt"}
        elif path.suffix == ".json":
            parts = {name: np.asarray(value, float) for name, value in json.loads(path.read_text()).items()}
        else:
            parts = read_npz(path)
        scale, rotation, move = (to_float64(parts[name]) for name in "sRt")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FaceTalkError(f"{path} holds no transform s, R, t: {error}") from error
    try:
        scale = np.broadcast_to(scale.reshape(-1), (frames,))
        rotation = np.broadcast_to(rotation.reshape(-1, 3, 3), (frames, 3, 3))
        move = np.broadcast_to(move.reshape(-1, 3), (frames, 3))
    except ValueError as error:
        raise FaceTalkError(f"{path}: s, R and t must be given once, or for each of the {frames} frames") from error
    if not all(np.isfinite(part).all() for part in (scale, rotation, move)) or (scale <= 0).any():
        raise FaceTalkError(f"{path}: a transform is not finite, or its scale is not positive")
    wrong = np.abs(rotation).max((1, 2)) > 1.01  # its square might overflow
    if not wrong.any():
        wrong = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > 1e-3
    if wrong.any() or (np.linalg.det(rotation) < 0).any():
        raise FaceTalkError(f"{path}: R of frame {int(wrong.argmax())} is no rotation; the scale belongs in s")
    return scale.copy(), rotation.copy(), move.copy()
