# SPDX-License-Identifier: MIT
"""`facetalk fit` for a video, or for the landmarks that a tracker found in one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import FaceTalkError
from .common import check_model, check_number, quiet_libraries


if TYPE_CHECKING:
    import numpy as np


@dataclass
class VideoRequest:
    """What was asked for: a `source` video or landmarks file, and the options of `facetalk fit`."""

    source: Path
    output: Path
    model: str
    identity: Path | None
    landmarks: Path | None
    face: int
    focal: float | None
    tracker: Path | None
    fps: float | None
    config: Path | None
    video: bool


def fit_one_video(request: VideoRequest) -> None:
    """Fit a video: NAME.npz, NAME.landmarks.npz, NAME.report.json, and NAME.fit.mp4 where it is asked for."""
    check_number("--face", request.face, 1, 100)
    check_number("--fps", request.fps, 1, 1000)
    check_number("--focal", request.focal, 1, 1e6)
    if not (Path(request.model) / "config.json").is_file():  # not a head alone
        check_model(request.model)
    source: Path | None = request.source
    ready = request.landmarks
    if request.source.suffix == ".npz":
        source, ready = None, request.source
        if request.video:
            raise FaceTalkError("--video shows the recording: give the video, and its landmarks by --landmarks")
    target = request.output if request.output.suffix == ".npz" else request.output / f"{request.source.stem}.npz"
    if ready is not None and target.resolve() == ready.resolve():
        raise FaceTalkError(f"{target} would replace the landmarks that it is made of: choose another --output")

    import numpy as np
    import torch

    from ..fitting.config import read_settings
    from ..fitting.video.fit import fit_video, write_results
    from ..fitting.video.landmarks import read_landmarks
    from ..fitting.video.reading import read_pictures
    from ..fitting.video.solver import VideoConfig
    from ..fitting.video.tracker import find_weights, track_video
    from ..head.identity_files import read_identity_code
    from ..head.loading import load_head

    settings = VideoConfig(**read_settings(request.config, VideoConfig()))
    kept = target.with_name(target.stem + ".landmarks.npz")
    if ready is not None:
        marks = read_landmarks(ready)
    else:
        pictures = read_pictures(request.source, log=typer.echo)
        try:
            marks = track_video(pictures, find_weights(request.tracker), request.face, _count)
        except FaceTalkError as error:
            raise FaceTalkError(str(error) if "/" in str(error) else f"{request.source}: {error}") from error
        marks.save(kept)
    audio, rate = _sound(source)
    quiet_libraries()
    head = load_head(request.model)
    torch.set_num_threads(1)  # small networks: more threads wait for each other
    code = None if request.identity is None else np.asarray(read_identity_code(request.identity, head.identity_dim))
    fitted = fit_video(head, marks, settings, code, request.focal, request.fps, audio, rate, log=typer.echo)
    cuts = marks.cuts()
    report = write_results(target, fitted, str(request.source), {"cuts_s": cuts})
    if request.video and source is not None:
        from ..fitting.video.side_by_side import write_side_by_side

        write_side_by_side(target.with_name(target.stem + ".fit.mp4"), source, marks, fitted)
    off = report["residual_mm"]
    typer.echo(
        f"{request.source}: {report['frames']} frames at {report['fps']:g} fps, face in {100 * report['found']:.0f} %"
        + (f", landmarks {off:.2f} mm off" if off is not None else "")
        + ("" if audio is not None else ", no sound")
    )
    if cuts:
        times = ", ".join(f"{at:.1f}" for at in cuts[:5]) + (" ..." if len(cuts) > 5 else "")
        typer.echo(
            f"  the picture cuts at {times} s: if somebody else is shown there, fit the parts as videos of their own"
        )
    typer.echo(f"  {target}")


def _count(done: int) -> None:
    """Say now and then how many frames have been looked at."""
    if done % 250 == 0:
        typer.echo(f"  {done} frames")


def _sound(source: Path | None) -> "tuple[np.ndarray | None, int]":
    """Read the sound of a video; `None` where there is none."""
    from ..audio.io import read_audio

    if source is None:
        return None, 16000
    try:
        return read_audio(source)
    except FaceTalkError:
        return None, 16000
