# SPDX-License-Identifier: MIT
"""`facetalk export-onnx`: the stream of a model as files for browsers and for programs without torch."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import FaceTalkError
from ..paths import TINY
from .common import Dtype, check_model, check_number, load_pipeline


def export_onnx(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where networks and config.json go.")],
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    hop: Annotated[int, typer.Option(metavar="N", help="Frames made at a time: 1 is the quickest to answer.")] = 2,
    look_ahead: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds heard ahead of a frame.", show_default="the model's own"),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="Of the weights: fp16, equal to PyTorch, or int8, which is smaller.")
    ] = "fp16",
    plain: Annotated[bool, typer.Option("--plain", help="Plain .onnx files, for other programs.")] = False,
    head: Annotated[bool, typer.Option("--head", help="Also write head.glb, the mean head with its shapes.")] = False,
) -> None:
    """Write the live stream of a model as ONNX files, with its few-step weights."""
    check_number("--hop", hop, 1)
    check_number("--look-ahead", look_ahead, 0.04)
    if precision not in ("fp16", "int8"):
        raise FaceTalkError(f"--precision must be fp16 or int8, not {precision!r}")
    if output.is_file():
        raise FaceTalkError(f"{output} is a file: name a folder")
    check_model(model)
    from ..portable import exporting

    pipe = load_pipeline(model, "cpu", Dtype.float32)
    sizes = exporting.export_onnx(pipe, output, hop, look_ahead, precision=precision, plain=plain)
    if head:
        sizes |= exporting.export_head(pipe, output)
    for name, size in sizes.items():
        typer.echo(f"{output / name}: {size / 1e6:.2f} MB")
