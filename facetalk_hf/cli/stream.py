# SPDX-License-Identifier: MIT
"""`facetalk stream`: sound from a pipe, file or microphone in, ARKit weights out while it comes, or to an engine."""

import contextlib
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..live.clock import FrameClock
from ..live.frames import Sink, SoundTrack, live_frames, send_frames, split_address
from ..live.live_link import LiveLinkSender
from ..live.osc import OscSender
from ..live.sources import LiveSource, microphone
from ..live.websocket import WebSocketServer
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
    audio: Annotated[
        str,
        typer.Argument(
            metavar="AUDIO|-|mic", help="Sound file, - for raw 16-bit mono on stdin, mic for a microphone."
        ),
    ],
    rate: Annotated[int, typer.Option(metavar="HZ", help="Samples a second on stdin or of the microphone.")] = 16000,
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    fast: Annotated[
        bool | None,
        typer.Option(
            "--fast/--no-fast",
            help="Few steps, by the model's weights for them.",
            show_default="where the model has such weights and no option needs the others",
        ),
    ] = None,
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
    live_link: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Send to Unreal's Live Link, which listens at port 11111.")
    ] = None,
    subject: Annotated[str, typer.Option(metavar="NAME", help="Name of the face in Live Link.")] = "facetalk",
    osc: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Send by OSC, as the Virtual Motion Capture protocol.")
    ] = None,
    websocket: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve JSON of weights and sound to web pages.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Write ARKit's 52 weights of every frame to stdout as soon as its sound was heard, or send them to engines."""
    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--style-strength", style_strength, 0, 1)
    check_number("--rate", rate, 1, 2**31 - 1)
    check_number("--hop", hop, 1)
    controls = with_emotions(controls, emotion_file)
    controls.check_ranges(flag_of)
    check_model(model)
    for flag, address in (("--live-link", live_link), ("--osc", osc), ("--websocket", websocket)):
        if address is not None:
            split_address(address, flag)
    chunks: Iterable[np.ndarray] = microphone(rate) if audio == "mic" else read_pcm()
    if audio not in ("-", "mic"):
        clip, rate = read_clip(Path(audio))
        chunks = (clip[start : start + rate // 10 + 1] for start in range(0, len(clip), rate // 10 + 1))

    import torch

    from ..pipeline.few_steps import prefers_few_steps

    pipe = load_pipeline(model, device, Dtype.float32)
    pipe = pipe if style is None else pipe.with_style(style, style_strength)
    pipe = pipe.few_steps() if (prefers_few_steps(pipe, controls) if fast is None else fast) else pipe
    fps, sinks = pipe.config["fps"], contextlib.ExitStack()
    with sinks:
        places: list[Sink] = []
        if live_link is not None:
            places.append(LiveLinkSender(*split_address(live_link, "--live-link"), fps, subject))
        if osc is not None:
            places.append(OscSender(*split_address(osc, "--osc")))
        if websocket is not None:
            places.append(WebSocketServer(*split_address(websocket, "--websocket"), fps, rate))
        for place in places:
            sinks.callback(place.close)
        track, source = SoundTrack(rate, fps), None
        if places:
            source = LiveSource(chunks, rate) if audio in ("-", "mic") else None
            chunks = track.listen(chunks if source is None else source)
        generator = torch.Generator().manual_seed(seed)
        outputs = pipe.stream(chunks, rate, controls=controls, generator=generator, output_type="arkit", hop=hop)
        if places:
            where = ", ".join(filter(None, (live_link, osc, websocket)))
            typer.echo(f"61 values at {fps:g} frames a second to {where}; Ctrl-C ends it", err=True)
            with contextlib.closing(cast("Generator[SpeechStreamOutput]", outputs)):
                send_frames(live_frames(outputs, track), places, FrameClock(fps), source)
            return
        try:
            write_rows(outputs, format, fps)
        except BrokenPipeError:
            # The reader has gone; without this, Python complains once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_pcm() -> "Iterator[np.ndarray]":
    """Read samples (S,) int16 from stdin, little-endian, as they come. Half a sample at the end is left out."""
    import numpy as np

    rest, source = b"", sys.stdin.fileno()
    while data := os.read(source, 8192):  # no buffer of Python's, whose lock a thread would hold when all ends
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2")


def write_rows(outputs: "Iterator[SpeechStreamOutput]", format: Rows, fps: float) -> None:
    """Print every frame as one line, whole, at once: what breaks off leaves a valid file."""
    import json

    from ..animation.arkit import ARKIT, live_link_header, live_link_row, rotations
    from ..blendshapes import TONGUE

    if format == Rows.csv:
        typer.echo(live_link_header())
    with contextlib.closing(cast("Generator[SpeechStreamOutput]", outputs)):
        for output in outputs:
            assert output.arkit is not None
            poses = [None] * len(output.arkit) if output.poses is None else output.poses
            angles = rotations(output.arkit, output.poses)
            for row, (weights, pose) in enumerate(zip(output.arkit, poses, strict=True)):
                index = output.index + row
                if format == Rows.csv:
                    line = live_link_row(index, weights, fps, angles[row])
                else:
                    values = {name: round(float(value), 6) for name, value in zip(ARKIT, weights, strict=True)}
                    facts = {"frame": index, "time": round(index / fps, 6), "weights": values}
                    if output.tongue is not None:
                        said = output.tongue[row]
                        facts["tongue"] = {n: round(float(value), 5) for n, value in zip(TONGUE, said, strict=True)}
                    if pose is not None:
                        facts["head"] = [round(float(value), 5) for value in pose]
                    line = json.dumps(facts)
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
