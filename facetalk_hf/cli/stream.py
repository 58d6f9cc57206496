# SPDX-License-Identifier: MIT
"""`facetalk stream`: sound from a pipe or file in, ARKit weights out while it comes."""

import contextlib
import io
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..motion.controls import MotionControls
from ..motion.options import takes
from ..paths import TINY
from .common import Dtype, check_model, check_number, load_pipeline, read_clip
from .controls import command_option, flag_of
from .inputs import with_emotions


if TYPE_CHECKING:
    import numpy as np

    from ..pipeline.streaming import SpeechStreamOutput


class Rows(StrEnum):
    """How a frame is written."""

    csv = "csv"
    json = "json"


@takes(MotionControls, live=True, annotate=command_option)
def stream(
    audio: Annotated[str, typer.Argument(metavar="AUDIO|-", help="Sound file, or - for raw 16-bit mono on stdin.")],
    rate: Annotated[int, typer.Option(metavar="HZ", help="Samples a second on stdin.")] = 16000,
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Few steps, by the model's weights for them.")] = False,
    style: Annotated[
        str | None, typer.Option(metavar="FOLDER|NAME", help="Somebody's style, trained; or one of the model's.")
    ] = None,
    style_strength: Annotated[float, typer.Option(metavar="S", help="Share of the style, 0 to 1.")] = 1.0,
    *,
    controls: MotionControls,
    hop: Annotated[int, typer.Option(metavar="N", help="Frames made at a time.")] = 2,
    emotion_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Emotion and style over time: .csv with a column time.")
    ] = None,
    format: Annotated[
        Rows, typer.Option(metavar="csv|json", help="Live Link Face rows, or one JSON object a line.")
    ] = Rows.csv,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Write ARKit's 52 weights of every frame to stdout, as soon as its sound was heard."""
    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--style-strength", style_strength, 0, 1)
    check_number("--rate", rate, 1, 2**31 - 1)
    check_number("--hop", hop, 1)
    controls = with_emotions(controls, emotion_file)
    controls.check_ranges(flag_of)
    check_model(model)
    chunks: Iterable[np.ndarray] = read_pcm()
    if audio != "-":
        clip, rate = read_clip(Path(audio))
        chunks = (clip[start : start + rate // 10 + 1] for start in range(0, len(clip), rate // 10 + 1))

    import torch

    pipe = load_pipeline(model, device, Dtype.float32)
    pipe = pipe if style is None else pipe.with_style(style, style_strength)
    pipe = pipe.few_steps() if fast else pipe
    source = torch.Generator().manual_seed(seed)
    outputs = pipe.stream(chunks, rate, controls=controls, generator=source, output_type="arkit", hop=hop)
    try:
        write_rows(outputs, format, pipe.config["fps"])
    except BrokenPipeError:
        # The reader has gone; without this, Python complains once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_pcm() -> "Iterator[np.ndarray]":
    """Read samples (S,) int16 from stdin, little-endian, as they come. Half a sample at the end is left out."""
    import numpy as np

    rest, source = b"", cast(io.BufferedReader, sys.stdin.buffer)
    while data := source.read1(8192):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2")


def write_rows(outputs: "Iterator[SpeechStreamOutput]", format: Rows, fps: float) -> None:
    """Print every frame as one line, whole, at once: what breaks off leaves a valid file."""
    import json

    import numpy as np

    from ..animation.arkit import ARKIT, live_link_header, live_link_row

    if format == Rows.csv:
        typer.echo(live_link_header())
    with contextlib.closing(cast("Generator[SpeechStreamOutput]", outputs)):
        for output in outputs:
            assert output.arkit is not None
            poses = [None] * len(output.arkit) if output.poses is None else output.poses
            for index, (weights, pose) in enumerate(zip(output.arkit, poses, strict=True), output.index):
                if format == Rows.csv:
                    angles = np.zeros((3, 3))  # head, eyes; yaw, pitch, roll as in `animation.arkit`
                    angles[0] = 0 if pose is None else np.radians(pose[:3] * (1, -1, -1))
                    line = live_link_row(index, weights, fps, angles)
                else:
                    values = {name: round(float(value), 6) for name, value in zip(ARKIT, weights, strict=True)}
                    facts = {"frame": index, "time": round(index / fps, 6), "weights": values}
                    if pose is not None:
                        facts["head"] = [round(float(value), 5) for value in pose]
                    line = json.dumps(facts)
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
