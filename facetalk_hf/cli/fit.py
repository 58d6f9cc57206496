# SPDX-License-Identifier: MIT
"""`facetalk fit`: a video or a folder of point clouds in, identity and expression codes out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import FaceTalkError
from ..paths import TINY
from ..units import UNITS, Unit
from .common import check_model, check_number, quiet_libraries


def fit(
    clouds: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A video, or its landmarks (npz); or a folder: a ply, obj or npz a frame, numbered, or clouds.npz.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.npz|DIR",
            help="Where the results go. Of clouds, always a folder, whose kept windows are used again.",
        ),
    ],
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
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Clouds: 68 a frame (T, 68, 3) in their space, npy. Video: a tracker's, npz.",
        ),
    ] = None,
    unit: Annotated[
        Literal["auto", Unit], typer.Option(metavar="|".join(["auto", *UNITS]), help="Unit of the points.")
    ] = "auto",
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Frames a second.", show_default="24, or the video's own")
    ] = None,
    rough_pose: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="About where the head is in the first frame, as for --transforms: ICP starts there.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of the objective as yaml: FittingConfig, VideoConfig."),
    ] = None,
    points: Annotated[int, typer.Option(metavar="N", help="Points a frame that are used.")] = 1600,
    face: Annotated[int, typer.Option(metavar="N", help="Video: whose face, 1 for the largest.")] = 1,
    focal: Annotated[
        float | None, typer.Option(metavar="N", help="Video: focal length in pixels.", show_default="found")
    ] = None,
    tracker: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Video: MediaPipe's face_landmarker.task.", show_default="kept, or fetched once"
        ),
    ] = None,
    video: Annotated[
        bool | None,
        typer.Option("--video/--no-video", help="Write the side-by-side video.", show_default="of clouds only"),
    ] = None,
) -> None:
    """Fit a head to a video of somebody talking, or to point clouds."""
    if clouds.is_file() or not clouds.exists() and clouds.suffix:
        from .fit_video import VideoRequest, fit_one_video

        if not clouds.exists():
            raise FaceTalkError(f"no such file: {clouds}")
        fit_one_video(
            VideoRequest(
                clouds, output, model, identity, landmarks, face, focal, tracker, fps, config, bool(video)
            )
        )  # fmt: skip
        return
    fps = 24.0 if fps is None else fps
    from ..fitting.point_clouds import SEQUENCE_FILE, frame_files

    check_number("--fps", fps, 1, 1000)
    check_number("--points", points, 100, 100_000)
    if transforms is not None and rough_pose is not None:
        raise FaceTalkError("--rough-pose is for frames whose pose is sought; leave it out with --transforms")
    if not (clouds / SEQUENCE_FILE).exists():
        frame_files(clouds)  # refuses what is no sequence before torch is loaded

    import torch

    from ..fitting.config import read_config
    from ..fitting.inputs import read_inputs
    from ..fitting.pictures import write_comparison, write_plot
    from ..fitting.sequence import fit_sequence
    from ..head.identity_files import read_identity_code
    from ..head.loading import load_head

    settings = read_config(config, points, fps)
    inputs = read_inputs(clouds, landmarks, transforms, rough_pose, unit)
    if not (Path(model) / "config.json").is_file():  # not a head alone
        check_model(model)
    quiet_libraries()
    head = load_head(model)
    torch.set_num_threads(1)  # small networks: more threads wait for each other
    if identity is not None:
        inputs.identity = torch.from_numpy(read_identity_code(identity, head.identity_dim))
    fitted = fit_sequence(head, inputs, output, settings, log=typer.echo)
    result, report = fitted.fit, fitted.report
    write_plot(output / "report.png", fitted.field, result)
    if video is None or video:
        seen = [frame.points.numpy() for frame in fitted.observations]
        code = fitted.field.identity[0].numpy()
        write_comparison(output / "comparison.mp4", head, code, result, seen, settings.fps)
    bad = ", ".join(inputs.files[i].name for i in result.bad_frames[:8])
    typer.echo(
        f"{clouds}: {len(inputs.frames)} frames, residual {report['residual_mm']['mean']:.2f} mm, mouth "
        f"{report['velocity_mm_per_frame']['mean']:.2f} mm a frame" + (f"; hardly fit: {bad}" if bad else "")
    )
    typer.echo(f"  {output / 'fit.npz'}")
