# SPDX-License-Identifier: MIT
"""What must be true of a sequence before it enters a corpus, and of the rows of a corpus together."""

from pathlib import Path
from typing import Any

import numpy as np

from ..conditions import BOUNDS, CONDITIONS
from ..errors import FaceTalkError
from .corpus import decode_audio


SPLITS = ("train", "validation", "test")
SLACK = 2
"""Frames by which audio and motion may differ."""
FRAMES = ("expression", "poses", "weights", "closure", "residual", "head_pose", "conditions")
"""Columns with a value a frame."""


def check_row(row: dict[str, Any], place: str | Path) -> None:
    """One row: as many frames everywhere, finite numbers, audio of the same length.

    Args:
        row: fields of `corpus.SCHEMA`.
        place (`str` or `Path`): file or folder that it was made from, for the message.

    Raises:
        FaceTalkError: names the place, and the frame where there is one.
    """
    if row["split"] not in SPLITS:
        raise FaceTalkError(f"{place}: the split must be one of {', '.join(SPLITS)}, not {row['split']!r}")
    if not (np.isfinite(row["fps"]) and row["fps"] > 0):
        raise FaceTalkError(f"{place}: {row['fps']} frames a second cannot be")
    lengths = {name: len(row[name]) for name in FRAMES if row.get(name) is not None}
    if not lengths or not min(lengths.values()):
        raise FaceTalkError(f"{place} has no frames of motion")
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise FaceTalkError(f"{place}: {lengths[first]} frames of {first}, but {length} of {name}")
    for name in lengths:
        check_finite(row[name], f"{place}: {name}", allow_nan=name in ("residual", "conditions"))
    check_conditions(row.get("conditions"), place)
    if row.get("identity") is not None and not np.isfinite(row["identity"]).all():
        raise FaceTalkError(f"{place}: the identity code is NaN or infinite")
    check_length(len(decode_audio(row)), row["sampling_rate"], lengths[first], row["fps"], place)


def check_conditions(values: np.ndarray | None, place: str | Path) -> None:
    """FaceTalkError where what a motion was told, (T, C) with NaN for what it was not, is beyond its bounds."""
    if values is None:
        return
    if np.ndim(values) != 2 or np.shape(values)[1] != len(CONDITIONS):
        raise FaceTalkError(f"{place}: conditions must be {len(CONDITIONS)} numbers a frame, not {np.shape(values)}")
    for name, column in zip(CONDITIONS, np.asarray(values).T, strict=True):
        low, high = BOUNDS[name]
        bad = (column < low - 1e-4) | (column > high + 1e-4)  # NaN is neither
        if bad.any():
            frame = int(np.flatnonzero(bad)[0])
            raise FaceTalkError(f"{place}: {name} is {column[frame]:g} in frame {frame}, not {low:g} to {high:g}")


def check_finite(values: np.ndarray, name: str, allow_nan: bool = False) -> None:
    """FaceTalkError with the first frame of (T, ...) `values` that is not finite; `allow_nan` lets NaN pass."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    if bad.any():
        frame = int(np.flatnonzero(bad.any(axis=1))[0])
        raise FaceTalkError(f"{name} is NaN or infinite in frame {frame}; mend it, or cut the sequence before it")


def check_length(samples: int, sampling_rate: int, frames: int, fps: float, place: str | Path) -> None:
    """FaceTalkError where audio and motion differ in length by more than `SLACK` frames."""
    heard = samples * fps / sampling_rate
    if abs(heard - frames) > SLACK + 1e-6:
        word = "longer" if heard > frames else "shorter"
        raise FaceTalkError(
            f"{place}: the audio lasts {samples / sampling_rate:.2f} s, {heard:.1f} frames at {fps:g} a second, but "
            f"the motion has {frames}; it is {word} by more than {SLACK} frames: cut both to the same time, or mend "
            "the frame rate"
        )


def cut_to_length(row: dict[str, Any], samples: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Row and audio (S,) of equal length: the shorter decides, within what `check_length` lets pass.

    Frames that have no sound at all at their end go, and samples behind the last frame.
    """
    frames = min(len(row[name]) for name in FRAMES if row.get(name) is not None)
    frames = max(1, min(frames, int(len(samples) * row["fps"] / row["sampling_rate"] + 0.5)))
    changes = {name: row[name][:frames] for name in FRAMES if row.get(name) is not None}
    return row | changes, samples[: int(np.ceil(frames * row["sampling_rate"] / row["fps"] - 1e-6))]


class CorpusChecker:
    """Rows of a corpus one after the other: no name twice, codes of one length.

    Args:
        code_dim (`int`, *optional*): length of the codes; by default that of the first row that has codes.
    """

    def __init__(self, code_dim: int | None = None) -> None:
        self.code_dim = code_dim
        self.places: dict[str, str | Path] = {}

    def __call__(self, row: dict[str, Any], place: str | Path) -> None:
        """Raise [`FaceTalkError`] where the row, made from `place`, does not go with those before."""
        name = row["id"]
        if name in self.places:
            raise FaceTalkError(f"the name {name} is there twice: {self.places[name]} and {place}; rename one")
        self.places[name] = place
        if row.get("expression") is not None:
            size = np.shape(row["expression"])[-1]
            self.code_dim = size if self.code_dim is None else self.code_dim
            if size != self.code_dim:
                raise FaceTalkError(
                    f"{place}: row {name} has codes of {size} numbers, the corpus has codes of {self.code_dim}; they "
                    "belong to another head or basis"
                )
