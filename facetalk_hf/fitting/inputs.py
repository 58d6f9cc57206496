# SPDX-License-Identifier: MIT
"""What a sequence is fitted from: its clouds, what is known of it beside them, and the weights of the objective."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from .observations import FittingConfig
from .point_clouds import Cloud, check_landmarks, read_sequence


@dataclass
class SequenceInputs:
    """A sequence of T frames as read, and what is known of it.

    Args:
        source: where it was read. files: the file of each frame, for messages. frames: T clouds.
        landmarks ((T, 68, 3) float32, *optional*): in the clouds' space, NaN where unknown.
        transforms (`Path`, *optional*): known poses. rough_pose: about where the first frame's head is; both as
            `read_transforms` reads them.
        unit (`str`): unit of the points, a name of `UNITS` or "auto".
        identity ((Z,) `torch.Tensor`, *optional*): the person's code; else it is found.
    """

    source: Path
    files: list[Path]
    frames: list[Cloud]
    landmarks: np.ndarray | None = None
    transforms: Path | None = None
    rough_pose: Path | None = None
    unit: str = "auto"
    identity: torch.Tensor | None = None


def read_inputs(
    source: Path, landmarks: Path | None = None, transforms: Path | None = None, rough_pose: Path | None = None,
    unit: str = "auto",
) -> SequenceInputs:  # fmt: skip
    """Read the frames of a folder and their landmarks, of an .npy file or the frames' own.

    Raises:
        FaceTalkError: as `read_sequence` and `read_landmarks`.
    """
    files, frames = read_sequence(source)
    marks = read_landmarks(landmarks, frames, files)
    return SequenceInputs(source, files, frames, marks, transforms, rough_pose, unit)


def read_landmarks(path: Path | None, frames: list[Cloud], files: list[Path]) -> np.ndarray | None:
    """Landmarks (T, 68, 3) of a file, or of the frames' own where all have them; `None` where none has any.

    Raises:
        FaceTalkError: a file that cannot be read, another number of frames, landmarks of some frames only.
    """
    if path is None:
        own = [frame.landmarks for frame in frames]
        without = [file for file, marks in zip(files, own, strict=True) if marks is None]
        if without and len(without) < len(own):
            raise FaceTalkError(
                f"{without[0]} has no landmarks, other frames have: give them for all (NaN) or for none"
            )
        return None if without else np.stack(own)
    try:
        marks = np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise FaceTalkError(f"{path} is no NumPy file with landmarks") from error
    check_landmarks(marks, path)
    if marks.ndim != 3 or len(marks) != len(frames):
        raise FaceTalkError(f"{path} has landmarks of shape {marks.shape} for {len(frames)} frames")
    return marks


def read_config(path: Path | None, points: int, fps: float) -> FittingConfig:
    """The objective's weights: `points` and `fps`, and over them what a yaml or json file says.

    Raises:
        FaceTalkError: a file that cannot be read, or what `FittingConfig` does not know or refuses.
    """
    import yaml

    values = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text())  # json is yaml
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
        known = {entry.name: type(entry.default) for entry in fields(FittingConfig)}
        if not isinstance(values, dict):
            raise FaceTalkError(f"{path} is no list of settings such as `temporal: 0.1`")
        if unknown := [str(name) for name in values if name not in known]:
            raise FaceTalkError(f"{path}: no setting {unknown[0]}; there are {', '.join(known)}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or (known[name] is int and value % 1):
                raise FaceTalkError(f"{path}: {name} must be a number{' without fraction' * (known[name] is int)}")
            values[name] = known[name](value)
    try:
        return FittingConfig(**({"points": points, "fps": fps} | values))
    except FaceTalkError as error:
        raise FaceTalkError(f"{path}: {error}" if path else str(error)) from error
