# SPDX-License-Identifier: MIT
"""What a motion is told beside its sound, over time: emotions from names, text and files, affect and style."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.arousal import arousal
from ..conditions import BOUNDS, CONDITIONS, STYLE
from ..errors import FaceTalkError
from .controls import MotionControls
from .options import named_numbers


@dataclass(frozen=True)
class EmotionCurve:
    """Keyframes of emotion and style over time, with straight lines between them; ends are held.

    Args:
        keys (`Mapping[str, ...]`): name of `facetalk_hf.conditions.CONDITIONS` -> times (K,) in s, rising, and values
            (K,) within its bounds.

    Raises:
        FaceTalkError: an unknown name, times that do not rise, values beyond the bounds.
    """

    keys: Mapping[str, tuple[Sequence[float], Sequence[float]]]

    def __post_init__(self) -> None:
        for name, (times, values) in self.keys.items():
            if name not in BOUNDS:
                raise FaceTalkError(f"no emotion or style is called {name!r}: there are {', '.join(CONDITIONS)}")
            if len(times) != len(values) or not len(times):
                raise FaceTalkError(f"{name} has {len(times)} times, but {len(values)} values")
            if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
                raise FaceTalkError(f"the times of {name} must be seconds that rise")
            low, high = BOUNDS[name]
            if not all(low <= value <= high for value in values):  # NaN is refused too
                raise FaceTalkError(f"{name} must be numbers between {low:g} and {high:g}")

    def at(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return the values (T,) of every name at times (T,) in s."""
        return {
            name: np.interp(times, np.asarray(seconds, float), np.asarray(values, float))
            for name, (seconds, values) in self.keys.items()
        }


def read_emotions(path: str | os.PathLike) -> EmotionCurve:
    """Read keyframes of emotion and style from a csv: a column `time` in s, and one for each of some names.

    An empty cell is no keyframe of its column.

    Raises:
        FaceTalkError: a file that cannot be read, an unknown name, a cell that is no number, bad times or values.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FaceTalkError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    names = [name for name in rows[0] if name is not None] if rows else []
    if "time" not in names or len(names) < 2:
        raise FaceTalkError(f"{path} must be a csv with a column time, in seconds, and columns such as happy")
    keys: dict[str, tuple[list[float], list[float]]] = {}
    for number, row in enumerate(rows, 2):
        for name in names:
            text = (row[name] or "").strip()
            if name == "time" or not text:
                continue
            try:
                time, value = float(row["time"] or ""), float(text)
            except ValueError:
                raise FaceTalkError(f"{path}: line {number} has no number for time or {name}") from None
            times, values = keys.setdefault(name, ([], []))
            times.append(time)
            values.append(value)
    try:
        return EmotionCurve(keys)
    except FaceTalkError as error:
        raise FaceTalkError(f"{Path(path).name}: {error}") from None


def told_conditions(
    controls: MotionControls,
    names: Sequence[str] | None,
    frames: int,
    fps: float,
    sound: tuple[np.ndarray, int] | None = None,
    first: int = 0,
    heard: float | None = None,
) -> np.ndarray | None:
    """Lay out what controls ask for as the numbers that a denoiser is told, (frames, C) float32.

    Args:
        controls ([`MotionControls`]): checked.
        names (sequence of `str`, *optional*): the denoiser's `condition_names`; without them the result is `None`.
        frames (`int`), fps (`float`): of the motion.
        sound ((S,) float and Hz, *optional*): the speech, for `emotion="auto"`.
        first (`int`, *optional*, defaults to 0): number of the first frame, in a stream.
        heard (`float`, *optional*): arousal of these frames in place of that of `sound`, in a stream.

    Raises:
        FaceTalkError: a curve of another number of frames.
    """
    if not names:
        return None
    values: dict[str, Any] = {name: getattr(controls, name) for name in STYLE}
    emotion = controls.emotion
    if emotion == "auto":
        if heard is not None:
            values["arousal"] = heard
        elif sound is not None:
            values["arousal"] = arousal(*sound, frames, fps)
    elif emotion is not None and not isinstance(emotion, (str, Mapping)):
        values |= emotion.at((np.arange(frames) + first + 0.5) / fps)
    elif emotion is not None and emotion != "neutral":
        values |= named_numbers(emotion)
    result = np.zeros((frames, len(names)), np.float32)
    for column, name in enumerate(names):
        value = np.asarray(values.get(name, 0.0), np.float32)
        if value.ndim and value.shape != (frames,):
            raise FaceTalkError(f"the curve of {name} has {value.size} values, the clip has {frames} frames")
        result[:, column] = value
    return result
