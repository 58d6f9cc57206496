# SPDX-License-Identifier: MIT
"""`facetalk stream`: sound from a pipe or file in, ARKit weights out while it comes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..paths import TINY


if TYPE_CHECKING:
    import numpy as np


class Rows(StrEnum):
    """How a frame is written."""

    csv = "csv"
    json = "json"


def stream(
    audio: Annotated[str, typer.Argument(metavar="AUDIO|-", help="Sound file, or - for raw 16-bit mono on stdin.")],
    rate: Annotated[int, typer.Option(metavar="HZ", help="Samples a second on stdin.")] = 16000,
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Denoising steps.", show_default="the model's own")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(metavar="W", help="Weight of the audio, 1 = plain.", show_default="the model's own")
    ] = None,
    intensity: Annotated[float, typer.Option(metavar="R", help="Scale of the motion.")] = 1.0,
    hop: Annotated[int, typer.Option(metavar="N", help="Frames made at a time.")] = 2,
    format: Annotated[
        Rows, typer.Option(metavar="csv|json", help="Live Link Face rows, or one JSON object a line.")
    ] = Rows.csv,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Write ARKit's 52 weights of every frame to stdout, as soon as its sound was heard."""
    from .common import Dtype, check_model, check_number, load_pipeline

    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--rate", rate, 1, 2**31 - 1)
    check_model(model)
    if audio == "-":
        chunks = read_pcm()
    else:
        from ..audio.io import read_audio

        clip, rate = read_audio(Path(audio))
        chunks = (clip[start : start + rate // 10 + 1] for start in range(0, len(clip), rate // 10 + 1))

    import torch

    pipe = load_pipeline(model, device, Dtype.float32)
    outputs = pipe.stream(
        chunks,
        rate,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        intensity=intensity,
        generator=torch.Generator().manual_seed(seed),
        output_type="arkit",
        hop=hop,
    )
    try:
        write_rows(outputs, format, pipe.config.fps)
    except BrokenPipeError:
        # The reader has gone; without this, Python complains once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_pcm() -> "Iterator[np.ndarray]":
    """Samples (S,) int16 of stdin, little-endian, as they come. Half a sample at the end is left out."""
    import numpy as np

    rest = b""
    while data := sys.stdin.buffer.read1(8192):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2")


def write_rows(outputs: Iterator, format: Rows, fps: float) -> None:
    """Print every frame as one line, whole, at once: what breaks off leaves a valid file."""
    import json

    from ..animation.arkit import ARKIT, live_link_header, live_link_row

    if format == Rows.csv:
        typer.echo(live_link_header())
    with contextlib.closing(outputs):
        for output in outputs:
            for index, weights in enumerate(output.arkit, output.index):
                if format == Rows.csv:
                    line = live_link_row(index, weights, fps)
                else:
                    values = {name: round(float(value), 6) for name, value in zip(ARKIT, weights, strict=True)}
                    line = json.dumps({"frame": index, "time": round(index / fps, 6), "weights": values})
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
