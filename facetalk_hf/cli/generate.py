# SPDX-License-Identifier: MIT
"""`facetalk generate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import FaceTalkError
from ..head.looks import Look
from ..motion.controls import MotionControls
from ..motion.options import takes
from ..paths import TINY
from .common import (
    COMPRESS,
    DETAIL,
    Detail,
    Dtype,
    Format,
    check_model,
    check_number,
    load_pipeline,
    read_clip,
    save,
    writer_options,
)
from .controls import command_option, flag_of
from .film import Background, Pitch, Size, Yaw, Zoom, read_film
from .inputs import (
    check_ear,
    hear_phones,
    output_folder,
    plan_outputs,
    read_fixed,
    read_identity,
    read_spoken,
    read_texts,
    with_emotions,
)
from .vertex_models import animate_vertices


@takes(MotionControls, annotate=command_option)
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
    hair: Annotated[
        str | None, typer.Option(metavar="KIND[:VOLUME]", help="Hair instead of the head's own, if it learnt any.")
    ] = None,
    hair_color: Annotated[
        str | None, typer.Option(metavar="COLOR", help="Of hair and brows: a name or #rrggbb.")
    ] = None,
    skin: Annotated[str | None, typer.Option(metavar="COLOR", help="Of the skin: a name or #rrggbb.")] = None,
    eyes: Annotated[str | None, typer.Option(metavar="COLOR", help="Of the irises: a name or #rrggbb.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Few steps, by the model's weights for them.")] = False,
    style: Annotated[
        str | None, typer.Option(metavar="FOLDER|NAME", help="Somebody's style, trained; or one of the model's.")
    ] = None,
    style_strength: Annotated[float, typer.Option(metavar="S", help="Share of the style, 0 to 1.")] = 1.0,
    *,
    controls: MotionControls,
    keyframes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fixed frames and channels: .csv, .json, .npz.")
    ] = None,
    phones: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Timed phones, csv, TextGrid or json; of several recordings a folder, named alike."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="FILE|STRING", help="What is said, instead of phones; or a folder of .txt, named alike."),
    ] = None,
    ear: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_ID", help="Whisper encoder that hears the phones, such as openai/whisper-base."),
    ] = None,
    language: Annotated[str, typer.Option(metavar="CODE", help="Language of the text, as espeak-ng calls it.")] = "en",
    emotion_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Emotion and style over time: .csv with a column time.")
    ] = None,
    format: Annotated[
        list[Format] | None,
        typer.Option(
            metavar="|".join(Format), help="What to write; repeat for several.", show_default="mp4, glb and npz"
        ),
    ] = None,
    geometry: Annotated[bool, typer.Option("--geometry", help="Keep head and sound in the npz.")] = False,
    size: Size = "512",
    yaw: Yaw = 0.0,
    pitch: Pitch = 0.0,
    zoom: Zoom = 1.0,
    background: Background = None,
    detail: Annotated[Detail, DETAIL] = Detail.template,
    compress: Annotated[bool, COMPRESS] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    longest: Annotated[float, typer.Option(metavar="S", help="Seconds that a recording may last.")] = 14400.0,
    dtype: Annotated[
        Dtype, typer.Option(metavar="|".join(Dtype), help="Number format of the networks.")
    ] = Dtype.float32,
) -> None:
    """Animate recordings: DIR/<name>.mp4, .glb and .npz for each."""
    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--style-strength", style_strength, 0, 1)
    check_number("--longest", longest, 0.1)
    controls = with_emotions(controls, emotion_file)
    controls.check_ranges(flag_of)
    formats = list(dict.fromkeys(format or (Format.npz, Format.glb, Format.mp4)))
    film = read_film(formats, size, yaw, pitch, zoom, background)
    targets = plan_outputs(audio, output_dir, formats, controls.num_samples)
    head, look = read_identity(identity), Look.named(hair, skin, hair_color, eyes)
    fixed = read_fixed(keyframes, len(audio))
    if sum(given is not None for given in (phones, text, ear)) > 1:
        raise FaceTalkError("--phones, --text and --ear are three ways to say what is spoken: give one of them")
    check_ear(ear)
    spoken, texts = read_spoken(phones, audio), read_texts(text, audio)
    check_model(model)
    clips = [read_clip(path, longest) for path in audio]

    with output_folder(output_dir):
        pipe = load_pipeline(model, device, dtype)
        spoken = spoken if ear is None else hear_phones(ear, device, clips)
        pipe = pipe if style is None else pipe.with_style(style, style_strength)
        pipe = pipe.few_steps() if fast else pipe
        if pipe.head is not None:
            pipe.decoder.look = look
        import torch

        for index, (source, (clip, sampling_rate), samples) in enumerate(zip(audio, clips, targets, strict=True)):
            # A generator for each file: a result does not depend on the other files of the command.
            options: dict[str, Any] = {"keyframes": fixed, "generator": torch.Generator().manual_seed(seed)}
            options |= {"phones": spoken[index], "text": texts[index], "language": language}
            if pipe.head is None:
                animations = animate_vertices(pipe, clip, sampling_rate, head, controls, **options)
            else:
                output = pipe(clip, sampling_rate=sampling_rate, identity=head, controls=controls, **options)
                animations = output.animations
            for animation, files in zip(animations, samples, strict=True):
                typer.echo(f"{source}: {animation.duration:.2f} s, {animation.num_frames} frame(s)")
                for kind, path in files.items():
                    sound = files.get(Format.wav)
                    save(animation, kind, path, **writer_options(kind, film, sound, geometry, detail, compress))
                    typer.echo(f"  {path}")
