# SPDX-License-Identifier: MIT
"""`facetalk fit`: a folder of point clouds in, identity and expression codes out."""

import re
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import TINY
from .errors import FaceTalkError


if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from .alignment import Alignment
    from .models.nphm import NPHMModel
    from .point_clouds import Cloud
    from .posed_field import PosedField
    from .window_solver import FittingConfig


RESULTS = ("fit.npz", "report.json", "report.png", "comparison.mp4")


class Unit(StrEnum):
    """What one unit of the points is."""

    auto = "auto"
    m = "m"
    cm = "cm"
    mm = "mm"
    model = "model"


def fit(
    clouds: Annotated[
        Path, typer.Argument(metavar="CLOUDS_DIR", help="A ply, obj or npz a frame, numbered; or clouds.npz.")
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; kept windows are used again.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="PATH_OR_ID", help="Model, or folder of a head alone.", show_default="the embedded model"
        ),
    ] = TINY,
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="The person's code.", show_default="found from the frames")
    ] = None,
    transforms: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="Known poses s, R, t: npz, json or NPHM's three npy files.")
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="68 landmarks a frame (T, 68, 3) in the clouds' space.")
    ] = None,
    unit: Annotated[Unit, typer.Option(metavar="|".join(Unit), help="Unit of the points.")] = Unit.auto,
    fps: Annotated[float, typer.Option(metavar="N", help="Frames a second of the video.")] = 24.0,
    rough_pose: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="About where the head is in the first frame, as for --transforms: ICP starts there.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of the objective, FittingConfig as yaml or json.")
    ] = None,
    points: Annotated[int, typer.Option(metavar="N", help="Points a frame that are used.")] = 1600,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Write the side-by-side video.")] = True,
) -> None:
    """Fit a head to point clouds of somebody talking."""
    from .cli import check_number

    check_number("--fps", fps, 1, 1000)
    check_number("--points", points, 100, 100_000)
    if transforms is not None and rough_pose is not None:
        raise FaceTalkError("--rough-pose is for frames whose pose is sought; leave it out with --transforms")

    import numpy as np
    import torch

    from .alignment import STABLE, align_clouds, align_landmarks
    from .fitting import fit_expressions
    from .fitting_report import write_comparison, write_plot, write_report
    from .identity_fitting import fit_identity, typical
    from .point_clouds import read_sequence
    from .posed_field import PosedField
    from .window_solver import FrameObservation

    settings = read_config(config, points, fps)
    files, frames = read_sequence(clouds)
    marks = read_marks(landmarks, frames, files)
    head = load_head(model)
    torch.set_num_threads(1)  # small networks: more threads wait for each other
    known = None if identity is None else read_code(identity, head.identity_dim)
    rough = PosedField(head, typical(head)[0] if known is None else known)
    if marks is not None and not len(rough.landmarks):
        raise FaceTalkError(
            "this head has no landmarks to compare yours with: converted heads are posed by ICP or --transforms"
        )
    poses = find_poses(rough, frames, marks, transforms, unit, files, rough_pose)

    def observed() -> list:
        return [
            FrameObservation(
                torch.from_numpy(poses.to_model(i, frame.points)),
                None if marks is None else torch.from_numpy(poses.to_model(i, marks[i])),
                normals=None if frame.normals is None else torch.from_numpy(poses.turned(i, frame.normals)),
            )
            for i, frame in enumerate(frames)
        ]

    output.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # of a run before: with other input they would seem to be this one's
        (output / name).unlink(missing_ok=True)
    code_file, pose_file = output / "identity.npy", output / "poses.npz"
    code = known
    if code is None:
        typer.echo(f"{clouds}: finding the person from {len(frames)} frame(s)")
        code = fit_identity(head, observed(), fitting=settings)
    field = PosedField(head, code)
    if transforms is None and marks is None:
        # Again, now with the person's own shape.
        poses = align_clouds(
            field, [frame.points for frame in frames], poses.scale, poses.rotations[0], poses.translations[0]
        )
    elif transforms is None:
        poses = align_landmarks(marks, field.landmarks.numpy(), poses.scale)
    save(code_file, np.save, code.numpy())
    save(pose_file, np.savez, s=np.full(len(frames), poses.scale), R=poses.rotations, t=poses.translations)
    observations = observed()
    result = fit_expressions(
        field, observations, settings, output / "windows",
        progress=lambda done, total: typer.echo(f"  window {done} of {total}"),
    )  # fmt: skip
    save(
        output / "fit.npz", np.savez, expressions=result.expressions, weights=result.weights.astype(np.float32),
        names=np.array(field.names), identity=code.numpy(), fps=fps, residual=result.residual,
    )  # fmt: skip
    extra = {
        "source": str(clouds), "scale": poses.scale, "pose_residual_mm": poses.residual.tolist(),
        "config": asdict(settings), "pose_landmarks": 0 if marks is None else len(STABLE),
    }  # fmt: skip
    report = write_report(output / "report.json", field, result, extra)
    write_plot(output / "report.png", field, result)
    if video:
        write_comparison(
            output / "comparison.mp4", head, code.numpy(), result, [o.points.numpy() for o in observations], fps
        )
    bad = ", ".join(files[i].name for i in result.bad_frames[:8])
    typer.echo(
        f"{clouds}: {len(frames)} frames, residual {report['residual_mm']['mean']:.2f} mm, mouth "
        f"{report['velocity_mm_per_frame']['mean']:.2f} mm a frame" + (f"; hardly fit: {bad}" if bad else "")
    )
    typer.echo(f"  {output / 'fit.npz'}")


def find_poses(
    field: "PosedField", frames: "list[Cloud]", marks: "np.ndarray | None", transforms: Path | None, unit: Unit,
    files: list[Path], rough_pose: Path | None = None,
) -> "Alignment":  # fmt: skip
    """The `Alignment` of the frames: from a file, from landmarks, or by ICP."""
    import numpy as np

    from .alignment import Alignment, align_clouds, align_landmarks
    from .point_clouds import check_placed, check_unit, read_transforms

    if transforms is not None:
        scale, rotation, move = read_transforms(transforms, len(frames))
        if np.ptp(scale) > 1e-6 * scale[0]:
            raise FaceTalkError(f"{transforms}: the scale changes between frames; a head has one")
        poses = Alignment(float(scale[0]), rotation, move, np.full(len(frames), np.nan))
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), str(transforms))
        return poses
    if marks is not None:
        scale = None if unit == Unit.auto else check_unit(frames[0].points, unit, str(files[0]))
        try:
            poses = align_landmarks(marks, field.landmarks.numpy(), scale)
        except FaceTalkError as error:
            number = re.match(r"frame (\d+)", str(error))
            raise FaceTalkError(f"{files[int(number[1])]}: {error}" if number else str(error)) from error
        for index, (path, frame) in enumerate(zip(files, frames, strict=True)):
            check_placed(poses.to_model(index, frame.points), str(path), "these landmarks")
        return poses
    if rough_pose is not None:
        scale, rotation, move = read_transforms(rough_pose, 1)
        first = Alignment(float(scale[0]), rotation, move, np.full(1, np.nan))
        check_placed(first.to_model(0, frames[0].points), str(files[0]), str(rough_pose))
        return align_clouds(field, [frame.points for frame in frames], float(scale[0]), rotation[0], move[0])
    scales = [check_unit(frame.points, unit, str(path)) for frame, path in zip(frames, files, strict=True)]
    if len(set(scales)) > 1:
        odd = next(i for i, scale in enumerate(scales) if scale != scales[0])
        raise FaceTalkError(f"{files[odd]}: its points are not in the unit of {files[0].name}; use one for all frames")
    return align_clouds(field, [frame.points for frame in frames], scales[0])


def read_config(path: Path | None, points: int, fps: float) -> "FittingConfig":
    """The objective's weights: `FittingConfig` with what a yaml or json file says, `points` and `fps` of the options.

    Raises:
        FaceTalkError: a file that cannot be read, or what `FittingConfig` does not know or refuses.
    """
    import yaml

    from .window_solver import FittingConfig

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
        raise FaceTalkError(f"{path}: {error}") from error


def read_marks(path: Path | None, frames: "list[Cloud]", files: list[Path]) -> "np.ndarray | None":
    """Landmarks (T, 68, 3) of a file, or of the frames' own where all have them; `None` where none has any."""
    import numpy as np

    from .point_clouds import check_landmarks

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


def read_code(path: Path, size: int) -> "torch.Tensor":
    """An identity code as a tensor (Z,)."""
    import torch

    from .cli_inputs import read_identity

    code = read_identity(str(path))
    if len(code) != size:
        raise FaceTalkError(f"{path} has {len(code)} numbers; this head's identities have {size}")
    return torch.from_numpy(code)


def load_head(model: str) -> "NPHMModel":
    """The head of a model folder or Hub id, or a head's own folder, in float32 on the CPU."""
    import torch

    from .cli import check_model, fetch_model, quiet_libraries
    from .models.nphm import NPHMModel

    quiet_libraries()
    path = Path(model)
    if not (path / "config.json").is_file():
        check_model(model)
        path = (path if path.is_dir() else fetch_model(model)) / "head"
    try:
        return NPHMModel.from_pretrained(path, torch_dtype=torch.float32).eval()
    except Exception as error:
        raise FaceTalkError(f"cannot load a head from {path}: {str(error).splitlines()[0]}") from error


def save(path: Path, write: "Callable", *arrays: object, **named: object) -> None:
    """Write arrays, whole or not at all."""
    from .files import atomic_path

    with atomic_path(path) as temporary:
        write(temporary, *arrays, **named)
