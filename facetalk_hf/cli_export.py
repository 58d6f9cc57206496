# SPDX-License-Identifier: MIT
"""`facetalk export`: a saved npz in another format; and the formats that the command knows."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import TINY
from .errors import FaceTalkError


if TYPE_CHECKING:
    from .decoding import HeadDecoder


class Format(StrEnum):
    """What `facetalk` can write; docs/export.md says what each holds."""

    mp4 = "mp4"
    glb = "glb"
    npz = "npz"
    ply = "ply"
    obj = "obj"
    csv = "csv"
    json = "json"
    weights = "weights"
    wav = "wav"
    usd = "usd"
    usda = "usda"
    usdc = "usdc"


FOLDERS = (Format.ply, Format.obj)
ENDINGS = {Format.ply: "", Format.obj: "-obj", Format.weights: ".weights.csv"}
"""What follows the stem of a recording, where it is not a dot and the format."""


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
    size: Annotated[int, typer.Option(metavar="N", help="Edge of the video in pixels.")] = 512,
) -> None:
    """Turn a saved npz into another format: the motion as it was saved, on the head of its model."""
    from .animation import MOTION_FORMATS
    from .cli import check_model, check_number, check_size, read_clip, save
    from .loading import has_geometry, load_animation, read_arrays
    from .motion import retime, smooth

    kind = output_format(output, format)
    check_size(size)
    check_number("--smoothing", smoothing, 0)
    if output.resolve() == file.resolve():
        raise FaceTalkError(f"{file} would be replaced by its own result: choose another --output")
    sound = None if audio is None else read_clip(audio)
    needs_head = (geometry or kind not in MOTION_FORMATS) and not has_geometry(read_arrays(file))
    if needs_head:
        check_model(model)
    animation = load_animation(file, load_head(model) if needs_head else None)
    if sound is not None:
        animation = animation.replace(audio=sound[0], sampling_rate=sound[1])
    if smoothing:
        animation = smooth(animation, smoothing)
    if fps is not None:
        animation = retime(animation, fps)
    save(animation, kind, output, **writer_options(kind, size, audio, geometry))
    typer.echo(f"{output}: {animation.duration:.2f} s, {animation.num_frames} frame(s) at {animation.fps:g} fps")


def output_format(output: Path, format: Format | None) -> Format:
    """The format that was asked for, or the one that the output's suffix says; FaceTalkError if it says none."""
    from .animation import format_of

    name = format or format_of(output)
    if name not in tuple(Format):
        raise FaceTalkError(f"cannot tell what {output} should be: give --format, one of {', '.join(Format)}")
    if output.exists() and output.is_dir() != (name in FOLDERS):
        raise FaceTalkError(f"{output} is in the way of the result: remove it or choose another --output")
    return Format(name)


def writer_options(kind: Format, size: int, sound: Path | None = None, geometry: bool = False) -> dict[str, object]:
    """What a writer is told beside the path: the size of the video, the sound file that a USD stage refers to."""
    if kind == Format.mp4:
        return {"size": size}
    if kind == Format.npz:
        return {"geometry": geometry}
    return {"audio": sound} if kind in (Format.usd, Format.usda, Format.usdc) else {}


def load_head(model: str) -> "HeadDecoder":
    """The decoder of a model's head alone: no audio encoder, no denoiser."""
    import torch

    from .cli import fetch_model, first_line, quiet_libraries
    from .decoding import HeadDecoder
    from .models.nphm import NPHMModel

    quiet_libraries()
    folder = (Path(model) if Path(model).is_dir() else fetch_model(model)) / "head"
    if not folder.is_dir():
        raise FaceTalkError(f"the model {model} has no head to animate")
    try:
        return HeadDecoder(NPHMModel.from_pretrained(folder, torch_dtype=torch.float32))
    except FaceTalkError:
        raise
    except Exception as error:  # a broken folder: anything from KeyError to the classes of the libraries
        raise FaceTalkError(f"cannot load the head of {model}: {first_line(error)}") from error
