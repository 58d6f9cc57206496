# SPDX-License-Identifier: MIT
"""The inputs of a fit: the clouds of a sequence, and landmarks, poses, unit or identity where they are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..arrays import read_npy, to_float32
from ..errors import FaceTalkError
from ..units import Unit
from .point_clouds import Cloud, check_landmarks, read_sequence


@dataclass
class SequenceInputs:
    """A sequence of T frames as read, with all that is known of it.

    Args:
        source: where it was read. files: the file of each frame, for messages. frames: T clouds.
        landmarks ((T, 68, 3) float32, *optional*): in the clouds' space, NaN where unknown.
        transforms (`Path`, *optional*): known poses. rough_pose: approximate pose of the first frame, from which ICP
            starts; both as `read_transforms` reads them.
        unit (`str`): unit of the points, a name of `UNITS` or "auto".
        identity ((Z,) `torch.Tensor`, *optional*): the person's code; else it is found.
    """

    source: Path
    files: list[Path]
    frames: list[Cloud]
    landmarks: np.ndarray | None = None
    transforms: Path | None = None
    rough_pose: Path | None = None
    unit: Literal["auto"] | Unit = "auto"
    identity: torch.Tensor | None = None


def read_inputs(
    source: Path, landmarks: Path | None = None, transforms: Path | None = None, rough_pose: Path | None = None,
    unit: Literal["auto"] | Unit = "auto",
) -> SequenceInputs:  # fmt: skip
    """Read the frames of a folder and their landmarks, of an .npy file or the frames' own.

    Raises:
        FaceTalkError: as `read_sequence` and `read_landmarks`.
    """
    files, frames = read_sequence(source)
    marks = read_landmarks(landmarks, frames, files)
    return SequenceInputs(source, files, frames, marks, transforms, rough_pose, unit)


def read_landmarks(path: Path | None, frames: list[Cloud], files: list[Path]) -> np.ndarray | None:
    """Read landmarks (T, 68, 3) from a file, or take the frames' own; `None` where no frame has any.

    Raises:
        FaceTalkError: a file that cannot be read, another number of frames, landmarks of some frames only.
    """
    if path is None:
        own = [frame.landmarks for frame in frames if frame.landmarks is not None]
        without = [file for file, frame in zip(files, frames, strict=True) if frame.landmarks is None]
        if without and own:
            raise FaceTalkError(
                f"{without[0]} has no landmarks, other frames have: give them for all (NaN) or for none"
            )
        return None if without else np.stack(own)
    try:
        marks = to_float32(read_npy(path))
    except (OSError, ValueError, TypeError) as error:
        raise FaceTalkError(f"{path} is no NumPy file with landmarks: {error}") from error
    check_landmarks(marks, path)
    if marks.ndim != 3 or len(marks) != len(frames):
        raise FaceTalkError(f"{path} has landmarks of shape {marks.shape} for {len(frames)} frames")
    return marks
