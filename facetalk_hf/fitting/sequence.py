# SPDX-License-Identifier: MIT
"""The fit of a sequence of point clouds, from its inputs to its files: poses, identity, expression codes, report."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from ..files import atomic_path
from ..models.nphm import NPHMModel
from .alignment import STABLE, align_clouds, align_landmarks, find_poses
from .config import FittingConfig
from .expressions import SequenceFit, fit_expressions
from .fields import make_field
from .identity import fit_identity, identity_prior
from .inputs import SequenceInputs
from .observations import FrameObservation
from .posed_field import PosedField
from .poses import Poses
from .report import write_report


RESULTS = ("fit.npz", "report.json", "report.png", "comparison.mp4")
MakeField = Callable[[NPHMModel, torch.Tensor], PosedField]


@dataclass
class FittedSequence:
    """The results of `fit_sequence`: the person's `field`, T `observations` in canonical space, `fit`, report.json."""

    field: PosedField
    observations: list[FrameObservation]
    fit: SequenceFit
    report: dict


def fit_sequence(
    head: NPHMModel, inputs: SequenceInputs, output: Path, config: FittingConfig | None = None,
    make_field: MakeField = make_field, log: Callable[[str], None] = lambda line: None, extra: dict | None = None,
) -> FittedSequence:  # fmt: skip
    """Fit poses and identity where they are not given, then expressions, and write all results.

    `output` gets identity.npy, poses.npz, windows/ as they are solved, then fit.npz and, last, report.json. What an
    earlier run left of `RESULTS` is removed once the inputs are known to be usable.

    Args:
        head (`NPHMModel`): float32, on the CPU. inputs (`SequenceInputs`). output (`Path`): a folder.
        config (`FittingConfig`, *optional*): weights of the objective, points a frame, frames a second.
        make_field: makes the field of a head and an identity code (Z,); a batched one for many sequences at once.
        log: called with a line at each step that takes long. extra: entries for report.json, before all others.

    Raises:
        FaceTalkError: inputs that cannot be used.
    """
    config, frames, marks = config or FittingConfig(), inputs.frames, inputs.landmarks
    code = inputs.identity
    rough = make_field(head, identity_prior(head)[0] if code is None else code)
    if marks is not None and not len(rough.landmarks):
        raise FaceTalkError(
            "this head has no landmarks to compare yours with: converted heads are posed by ICP or --transforms"
        )
    poses = find_poses(rough, inputs)
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # of a run before: with other input they would seem to be this one's
        (output / name).unlink(missing_ok=True)
    if code is None:
        log(f"{inputs.source}: finding the person from {len(frames)} frame(s)")
        code = fit_identity(head, observe(inputs, poses), fitting=config)
    field = make_field(head, code)
    # Again, now with the person's own shape.
    if inputs.transforms is None and marks is None:
        clouds = [frame.points for frame in frames]
        poses = align_clouds(field, clouds, poses.scale, poses.rotations[0], poses.translations[0])
    elif inputs.transforms is None and marks is not None:
        poses = align_landmarks(marks, field.landmarks.numpy(), poses.scale)
    save(output / "identity.npy", np.save, code.numpy())
    save(output / "poses.npz", np.savez, s=np.full(len(frames), poses.scale), R=poses.rotations, t=poses.translations)
    observations, windows = observe(inputs, poses), output / "windows"
    fresh, begin = not windows.is_dir(), (time.thread_time(), time.time())
    fit = fit_expressions(field, observations, config, windows, lambda n, total: log(f"  window {n} of {total}"))
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


def observe(inputs: SequenceInputs, poses: Poses) -> list[FrameObservation]:
    """Carry the frames to canonical space."""
    return [
        FrameObservation(
            torch.from_numpy(poses.to_model(i, frame.points)),
            None if inputs.landmarks is None else torch.from_numpy(poses.to_model(i, inputs.landmarks[i])),
            normals=None if frame.normals is None else torch.from_numpy(poses.rotate(i, frame.normals)),
        )
        for i, frame in enumerate(inputs.frames)
    ]


def save(path: Path, write: Callable[..., None], *arrays: object, **named: object) -> None:
    """Write arrays to a file, whole or not at all."""
    with atomic_path(path) as temporary:
        write(temporary, *arrays, **named)
