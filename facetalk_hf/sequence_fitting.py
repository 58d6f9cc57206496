# SPDX-License-Identifier: MIT
"""A sequence of point clouds from its inputs to its files: poses, the person, expression codes, report."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from .alignment import STABLE, Alignment, align_clouds, align_landmarks
from .errors import FaceTalkError
from .files import atomic_path
from .fitting import SequenceFit, fit_expressions
from .fitting_report import write_report
from .identity_fitting import fit_identity, typical
from .models.nphm import NPHMModel
from .point_clouds import check_placed, check_unit, read_transforms
from .posed_field import PosedField
from .sequence_inputs import SequenceInputs
from .window_solver import FittingConfig, FrameObservation


RESULTS = ("fit.npz", "report.json", "report.png", "comparison.mp4")
MakeField = Callable[[NPHMModel, torch.Tensor], PosedField]


@dataclass
class FittedSequence:
    """What `fit_sequence` found: the person's `field`, T `observations` in canonical units, `fit`, report.json."""

    field: PosedField
    observations: list[FrameObservation]
    fit: SequenceFit
    report: dict


def fit_sequence(
    head: NPHMModel, inputs: SequenceInputs, output: Path, config: FittingConfig | None = None,
    make_field: MakeField = PosedField, say: Callable[[str], None] = lambda line: None, extra: dict | None = None,
) -> FittedSequence:  # fmt: skip
    """Find poses and person where they are not given, fit the expressions, and write all that was found.

    OUTPUT gets identity.npy, poses.npz, windows/ as they are solved, then fit.npz and, last, report.json. What an
    earlier run left of `RESULTS` is removed once the inputs are known to be usable.

    Args:
        head (`NPHMModel`): float32, on the CPU. inputs (`SequenceInputs`). output (`Path`): a folder.
        config (`FittingConfig`, *optional*): weights of the objective, points a frame, frames a second.
        make_field: the field of a head and an identity code (Z,); a batched one for many sequences at once.
        say: called with a line at each step that takes long. extra: entries for report.json, before all others.

    Raises:
        FaceTalkError: what of the inputs cannot be used.
    """
    config, frames, marks = config or FittingConfig(), inputs.frames, inputs.landmarks
    code = inputs.identity
    rough = make_field(head, typical(head)[0] if code is None else code)
    if marks is not None and not len(rough.landmarks):
        raise FaceTalkError(
            "this head has no landmarks to compare yours with: converted heads are posed by ICP or --transforms"
        )
    poses = find_poses(rough, inputs)
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # of a run before: with other input they would seem to be this one's
        (output / name).unlink(missing_ok=True)
    if code is None:
        say(f"{inputs.source}: finding the person from {len(frames)} frame(s)")
        code = fit_identity(head, observe(inputs, poses), fitting=config)
    field = make_field(head, code)
    # Again, now with the person's own shape.
    if inputs.transforms is None and marks is None:
        clouds = [frame.points for frame in frames]
        poses = align_clouds(field, clouds, poses.scale, poses.rotations[0], poses.translations[0])
    elif inputs.transforms is None:
        poses = align_landmarks(marks, field.landmarks.numpy(), poses.scale)
    save(output / "identity.npy", np.save, code.numpy())
    save(output / "poses.npz", np.savez, s=np.full(len(frames), poses.scale), R=poses.rotations, t=poses.translations)
    observations, windows = observe(inputs, poses), output / "windows"
    fresh, begin = not windows.is_dir(), (time.thread_time(), time.time())
    fit = fit_expressions(field, observations, config, windows, lambda n, total: say(f"  window {n} of {total}"))
    # Time says nothing about a fit that went on where another had stopped.
    cost = {"thread_s": time.thread_time() - begin[0], "wall_s": time.time() - begin[1]} if fresh else {}
    save(
        output / "fit.npz", np.savez, expressions=fit.expressions, weights=fit.weights.astype(np.float32),
        names=np.array(field.names), identity=code.numpy(), fps=config.fps, residual=fit.residual,
    )  # fmt: skip
    about = {
        "source": str(inputs.source), "scale": poses.scale, "pose_residual_mm": poses.residual.tolist(),
        "config": asdict(config), "pose_landmarks": 0 if marks is None else len(STABLE),
    }  # fmt: skip
    report = write_report(output / "report.json", field, fit, (extra or {}) | about | cost)
    return FittedSequence(field, observations, fit, report)


def observe(inputs: SequenceInputs, poses: Alignment) -> list[FrameObservation]:
    """The frames in canonical space."""
    return [
        FrameObservation(
            torch.from_numpy(poses.to_model(i, frame.points)),
            None if inputs.landmarks is None else torch.from_numpy(poses.to_model(i, inputs.landmarks[i])),
            normals=None if frame.normals is None else torch.from_numpy(poses.turned(i, frame.normals)),
        )
        for i, frame in enumerate(inputs.frames)
    ]


def find_poses(field: PosedField, inputs: SequenceInputs) -> Alignment:
    """Where the head is in each frame: from a file, from landmarks, or by ICP, with the shape of `field`.

    Raises:
        FaceTalkError: a frame that is no head's size or not at a head's place; transforms that cannot be read.
    """
    files, frames, marks, unit = inputs.files, inputs.frames, inputs.landmarks, inputs.unit
    if inputs.transforms is not None:
        scale, rotation, move = read_transforms(inputs.transforms, len(frames))
        if np.ptp(scale) > 1e-6 * scale[0]:
            raise FaceTalkError(f"{inputs.transforms}: the scale changes between frames; a head has one")
        poses = Alignment(float(scale[0]), rotation, move, np.full(len(frames), np.nan))
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), str(inputs.transforms))
        return poses
    if marks is not None:
        scale = None if unit == "auto" else check_unit(frames[0].points, unit, str(files[0]))
        try:
            poses = align_landmarks(marks, field.landmarks.numpy(), scale)
        except FaceTalkError as error:
            number = re.match(r"frame (\d+)", str(error))
            raise FaceTalkError(f"{files[int(number[1])]}: {error}" if number else str(error)) from error
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), "these landmarks")
        return poses
    if inputs.rough_pose is not None:
        scale, rotation, move = read_transforms(inputs.rough_pose, 1)
        first = Alignment(float(scale[0]), rotation, move, np.full(1, np.nan))
        check_placed(first.to_model(0, frames[0].points), str(files[0]), str(inputs.rough_pose))
        return align_clouds(field, [frame.points for frame in frames], float(scale[0]), rotation[0], move[0])
    scales = [check_unit(frame.points, unit, str(path)) for frame, path in zip(frames, files, strict=True)]
    if len(set(scales)) > 1:
        odd = next(i for i, scale in enumerate(scales) if scale != scales[0])
        raise FaceTalkError(f"{files[odd]}: its points are not in the unit of {files[0].name}; use one for all frames")
    return align_clouds(field, [frame.points for frame in frames], scales[0])


def save(path: Path, write: Callable[..., None], *arrays: object, **named: object) -> None:
    """Write arrays, whole or not at all."""
    with atomic_path(path) as temporary:
        write(temporary, *arrays, **named)
