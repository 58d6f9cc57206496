# SPDX-License-Identifier: MIT
"""`facetalk generate`."""

from pathlib import Path
from typing import Annotated

import typer

from ..blendshapes import LOOK_DEGREES
from ..paths import TINY
from .common import (
    Dtype,
    Format,
    check_model,
    check_number,
    check_size,
    load_pipeline,
    read_clip,
    save,
    writer_options,
)
from .inputs import output_folder, plan_outputs, read_fixed, read_identity


def generate(
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO", help="Sound or video files of any kind and rate.")],
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; made if missing.")],
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    identity: Annotated[
        str,
        typer.Option(
            metavar="zero|INT|random:SEED|FILE.npy", help="Mean head, one of the model, a new one, your code."
        ),
    ] = "zero",
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Denoising steps.", show_default="the model's own")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Few steps, by the model's weights for them.")] = False,
    guidance_scale: Annotated[
        float | None, typer.Option(metavar="W", help="Weight of the audio, 1 = plain.", show_default="the model's own")
    ] = None,
    mouth_temperature: Annotated[
        float | None, typer.Option(metavar="T", help="How freely the mouth is sampled, 0 to 1.", show_default="0.4")
    ] = None,
    intensity: Annotated[float, typer.Option(metavar="R", help="Scale of the motion.")] = 1.0,
    upper_face_intensity: Annotated[
        float | None, typer.Option(metavar="R", help="Scale of all but the mouth.", show_default="--intensity")
    ] = None,
    num_samples: Annotated[int, typer.Option(metavar="K", help="Different motions for each recording.")] = 1,
    silence_gate: Annotated[bool, typer.Option("--silence-gate", help="Rest the mouth where nobody speaks.")] = False,
    smoothing: Annotated[float, typer.Option(metavar="S", help="Calm the motion: Gaussian of S seconds.")] = 0.0,
    blink_contrast: Annotated[
        float | None, typer.Option(metavar="C", help="Shut or leave out half blinks, 0 to 1.", show_default="1")
    ] = None,
    blink_rate: Annotated[
        float | None, typer.Option(metavar="N", help="Blinks a minute, 0 for none.", show_default="as generated")
    ] = None,
    gaze: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="YAW PITCH", help="Look to the head's own left and up, degrees.", show_default=False),
    ] = None,
    head_motion: Annotated[float, typer.Option(metavar="R", help="Sway and nods, 1 is usual.")] = 0.0,
    keyframes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fixed frames and channels: .csv, .json, .npz.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Frame rate of the results.", show_default="the model's own")
    ] = None,
    format: Annotated[
        list[Format] | None,
        typer.Option(
            metavar="|".join(Format), help="What to write; repeat for several.", show_default="mp4, glb and npz"
        ),
    ] = None,
    geometry: Annotated[bool, typer.Option("--geometry", help="Keep head and sound in the npz.")] = False,
    size: Annotated[int, typer.Option(metavar="N", help="Edge of the video in pixels.")] = 512,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[
        Dtype, typer.Option(metavar="|".join(Dtype), help="Number format of the networks.")
    ] = Dtype.float32,
) -> None:
    """Animate recordings: DIR/<name>.mp4, .glb and .npz for each."""
    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--steps", steps, 1)
    check_number("--guidance-scale", guidance_scale, 0)
    check_number("--mouth-temperature", mouth_temperature, 0, 1)
    check_number("--intensity", intensity, 0)
    check_number("--upper-face-intensity", upper_face_intensity, 0)
    check_number("--blink-contrast", blink_contrast, 0, 1)
    check_number("--blink-rate", blink_rate, 0, 60)
    check_number("--head-motion", head_motion, 0, 2)
    for angle, limit in zip(gaze or (), (LOOK_DEGREES["Out"], LOOK_DEGREES["Up"]), strict=False):
        check_number("--gaze", angle, -limit, limit)
    check_number("--num-samples", num_samples, 1)
    check_number("--smoothing", smoothing, 0)
    check_number("--fps", fps, 1, 1000)
    check_size(size)
    formats = list(dict.fromkeys(format or (Format.npz, Format.glb, Format.mp4)))
    targets = plan_outputs(audio, output_dir, formats, num_samples)
    head = read_identity(identity)
    fixed = read_fixed(keyframes, len(audio))
    check_model(model)
    clips = [read_clip(path) for path in audio]

    with output_folder(output_dir):
        pipe = load_pipeline(model, device, dtype)
        pipe = pipe.few_steps() if fast else pipe
        options = {"guidance_scale": guidance_scale, "num_inference_steps": steps}
        options = {name: value for name, value in options.items() if value is not None}
        for source, (clip, sampling_rate), samples in zip(audio, clips, targets, strict=True):
            import torch

            output = pipe(
                clip,
                sampling_rate=sampling_rate,
                identity=head,
                num_samples=num_samples,
                mouth_temperature=mouth_temperature,
                intensity=intensity,
                upper_face_intensity=upper_face_intensity,
                silence_gate=silence_gate,
                smoothing=smoothing,
                blink_contrast=blink_contrast,
                blink_rate=blink_rate,
                gaze=gaze,
                head_motion=head_motion,
                fps=fps,
                keyframes=fixed,
                # A generator for each file: a result does not depend on the other files of the command.
                generator=torch.Generator().manual_seed(seed),
                output_type="animation",
                **options,
            )
            for animation, files in zip(output.animations, samples, strict=True):
                typer.echo(f"{source}: {animation.duration:.2f} s, {animation.num_frames} frame(s)")
                for kind, path in files.items():
                    save(animation, kind, path, **writer_options(kind, size, files.get(Format.wav), geometry))
                    typer.echo(f"  {path}")
