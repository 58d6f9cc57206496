# SPDX-License-Identifier: MIT
"""`facetalk export`: a saved npz in another format; and the formats that the command knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FaceTalkError
from ..paths import TINY
from ..units import MILLIMETRES, UNITS, Unit
from .common import (
    COMPRESS,
    DETAIL,
    FOLDERS,
    Detail,
    Format,
    check_model,
    check_number,
    quiet_libraries,
    read_clip,
    save,
    writer_options,
)
from .film import Background, Pitch, Size, Yaw, Zoom, read_film


if TYPE_CHECKING:
    from ..animation.head_animation import HeadAnimation


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz", help="A result of generate.")],
    output: Annotated[Path, typer.Option(metavar="PATH", help="File to write; a folder for ply and obj.")],
    format: Annotated[
        Format | None, typer.Option(metavar="|".join(Format), help="What to write.", show_default="by the suffix")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model that made the file.", show_default="the embedded model")
    ] = TINY,
    audio: Annotated[Path | None, typer.Option(metavar="SOUND", help="The recording, for mp4, wav and usd.")] = None,
    fps: Annotated[float | None, typer.Option(metavar="N", help="Another frame rate, such as 25, 30 or 60.")] = None,
    smoothing: Annotated[float, typer.Option(metavar="S", help="Calm the motion: Gaussian of S seconds.")] = 0.0,
    geometry: Annotated[
        bool, typer.Option("--geometry", help="Keep head and sound in the npz that is written.")
    ] = False,
    rig: Annotated[
        Path | None,
        typer.Option(metavar="GLB|FOLDER", help="Another head: .glb or .gltf with morph targets, or .obj files."),
    ] = None,
    rig_unit: Annotated[Unit, typer.Option(metavar="|".join(UNITS), help="Unit of the .obj files.")] = "mm",
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Accept shapes of the rig that are no ARKit channels.")
    ] = False,
    size: Size = "512",
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    zoom: Zoom = 1.0,
    background: Background = None,
    detail: Annotated[Detail, DETAIL] = Detail.template,
    compress: Annotated[bool, COMPRESS] = False,
) -> None:
    """Turn a saved npz into another format: the motion as it was saved, on the head of its model or another."""
    from ..animation.formats import WRITERS
    from ..animation.npz import has_geometry, load_animation, read_arrays
    from ..motion.editing import retime, smooth

    kind = output_format(output, format)
    film = read_film([kind], size, yaw, pitch, zoom, background)
    check_number("--smoothing", smoothing, 0)
    check_number("--fps", fps, 1, 1000)
    if output.resolve() in {file.resolve(), rig and rig.resolve()}:
        raise FaceTalkError(f"{output} would be replaced by its own result: choose another --output")
    sound = None if audio is None else read_clip(audio)
    if rig is not None and rig.is_file() and kind != Format.glb:
        raise FaceTalkError(f"the head of a glb can be written as glb only, not as {kind}")
    needs_head = rig is None and (geometry or WRITERS[kind].needs_head) and not has_geometry(read_arrays(file))
    decoder = None
    if needs_head:
        check_model(model)
        from ..head.decoding import make_decoder
        from ..head.loading import load_head

        quiet_libraries()
        decoder = make_decoder(load_head(model))
    animation = load_animation(file, decoder)
    if sound is not None:
        animation = animation.replace(audio=sound[0], sampling_rate=sound[1])
    animation = smooth(animation, smoothing)
    animation = animation if fps is None else retime(animation, fps)
    options = writer_options(kind, film, audio, geometry, detail, compress)
    if rig is not None:
        put_on_rig(animation, kind, output, rig, ignore_unknown, rig_unit, options)
    else:
        save(animation, kind, output, **options)
    typer.echo(f"{output}: {animation.duration:.2f} s, {animation.num_frames} frame(s) at {animation.fps:g} fps")


def put_on_rig(
    animation: "HeadAnimation", kind: Format, output: Path, rig: Path, ignore: bool, unit: Unit, options: dict
) -> None:
    """Write the motion on another head, and say what of it that head cannot show."""
    from ..animation.retargeting import (
        glb_can_turn,
        glb_shape_names,
        is_viseme,
        missing_channels,
        read_obj_rig,
        retarget,
        retarget_glb,
    )

    if rig.is_dir():
        head = read_obj_rig(rig, ignore, UNITS[unit] * MILLIMETRES)
        names = list(head.target_names)
        visemes = [path.stem for path in rig.glob("*.[oO][bB][jJ]") if is_viseme(path.stem)]
        save(retarget(animation, head), kind, output, **options)
    else:
        names = glb_shape_names(rig)
        visemes = [name for name in names if is_viseme(name)]
        retarget_glb(output, animation, rig, ignore)
        if animation.poses is not None and not glb_can_turn(rig):
            typer.echo(f"{rig} has no joint called head, so its head does not turn", err=True)
    if visemes:
        shown = ", ".join(visemes[:5]) + (f" and {len(visemes) - 5} more" if len(visemes) > 5 else "")
        typer.echo(f"{rig} has visemes too, which stay at rest: {shown}", err=True)
    if missing := missing_channels(animation, names):
        typer.echo(f"{rig} has no shape for {', '.join(missing)}", err=True)


def output_format(output: Path, format: Format | None) -> Format:
    """Choose the format that was asked for, or that of the output's suffix; FaceTalkError if it says none."""
    from ..animation.formats import format_of

    name = format or format_of(output)
    if name not in tuple(Format):
        raise FaceTalkError(f"cannot tell what {output} should be: give --format, one of {', '.join(Format)}")
    if output.exists() and output.is_dir() != (name in FOLDERS):
        raise FaceTalkError(f"{output} is in the way of the result: remove it or choose another --output")
    return Format(name)
