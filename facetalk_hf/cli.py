# SPDX-License-Identifier: MIT
"""The `facetalk` command: recordings in, talking heads out.

Input that cannot be used ends with exit code 2 and one line on stderr. Everything that can be checked without a model
is checked before one is loaded, and every recording before the first is animated, so that a long job does not die of
its last file. Heavy libraries are imported inside the functions that need them, to keep `--help` quick.
"""

import math
import os
import re
import signal
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import TINY, __version__
from .blendshapes import LOOK_DEGREES
from .cli_convert import convert
from .cli_export import Format, export, writer_options
from .cli_fit import fit as fit_clouds
from .cli_inputs import output_folder, plan_outputs, read_fixed, read_identity
from .cli_stream import stream as stream_live
from .errors import FaceTalkError
from .inspection import describe_model, describe_result, read_model_index


if TYPE_CHECKING:
    import numpy as np

    from .animation import HeadAnimation
    from .pipeline_facetalk import FaceTalkPipeline


HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

app = typer.Typer(
    epilog="Bad input: exit code 2 and one line that says what is wrong.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(convert, name="convert")
app.command()(export)
app.command("fit")(fit_clouds)
app.command()(stream_live)


class Dtype(StrEnum):
    """Number format of the networks; the names are torch's."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.callback(invoke_without_command=True)
def facetalk(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Speech to a moving 3D head."""
    if version:
        typer.echo(f"facetalk_hf {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
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


@app.command()
def info(
    path_or_id: Annotated[str, typer.Argument(help="Model folder, Hub id, or an .npz that generate wrote.")] = TINY,
) -> None:
    """Say what a model, or a result, consists of."""
    path = Path(path_or_id)
    if path.suffix == ".npz":
        lines = describe_result(path)
    else:
        check_model(path_or_id)
        lines = describe_model(path if path.is_dir() else fetch_model(path_or_id))
    typer.echo("\n".join(lines))


def check_number(option: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Refuse a number outside of [low, high], and NaN and infinity; None is an option that was not given."""
    if value is None or (low <= value <= high and math.isfinite(value)):
        return
    bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
    raise FaceTalkError(f"{option} must be {bounds}, not {value}")


def check_size(size: int) -> None:
    """Refuse an edge of the video that no player takes."""
    check_number("--size", size, 64, 2160)
    if size % 2:
        raise FaceTalkError(f"--size must be even for video, not {size}")


def read_clip(path: Path) -> "tuple[np.ndarray, int]":
    """Read one recording as (S,) float32 and its own rate in Hz; FaceTalkError says what is wrong with it."""
    from .audio import read_audio

    return read_audio(path)


def check_model(model: str) -> None:
    """Refuse what can be no model before anything heavy is imported."""
    path = Path(model)
    if path.exists():
        read_model_index(path)
    elif not HUB_ID.fullmatch(model):
        raise FaceTalkError(f"no model folder {model}: give a folder with a model_index.json, or a Hub id (user/name)")


def load_pipeline(model: str, device: str, dtype: Dtype) -> "FaceTalkPipeline":
    """Load a pipeline with its head onto a device; whatever is wrong with the model becomes one line."""
    import torch

    from .pipeline_facetalk import FaceTalkPipeline

    quiet_libraries()
    place = choose_device(device)
    try:
        pipe = FaceTalkPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    except FaceTalkError:
        raise
    except Exception as error:
        # A broken folder or a failed download: the libraries raise anything from KeyError to their own classes.
        raise FaceTalkError(f"cannot load the model {model}: {first_line(error)}") from error
    if pipe.head is None:
        raise FaceTalkError(f"the model {model} has no head to animate: it gives expression codes to Python only")
    pipe.set_progress_bar_config(desc="denoising", unit="step")
    if place == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Small networks wait in every layer for their slowest thread: on a busy machine all are slower than half.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    return pipe.to(place)


def choose_device(name: str) -> str:
    """Turn "auto" into the best device there is; refuse one that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise FaceTalkError(f"no device {name!r} on this machine: --device cpu always works") from error
    return name


def fetch_model(model: str) -> Path:
    """Download a model from the Hub, or find it in the cache."""
    from .pipeline_facetalk import FaceTalkPipeline

    quiet_libraries()
    try:
        return Path(FaceTalkPipeline.download(model))
    except Exception as error:
        raise FaceTalkError(f"cannot get the model {model}: {first_line(error)}") from error


def save(animation: "HeadAnimation", kind: Format, path: Path, **options: object) -> None:
    """Write one result; a full disk is the user's to mend, so it is one line too."""
    try:
        animation.save(path, format=str(kind), **options)
    except OSError as error:
        raise FaceTalkError(f"cannot write {path}: {error.strerror or error}") from error


def quiet_libraries() -> None:
    """Warnings of the libraries are for developers; the progress bars of the long steps stay."""
    import diffusers
    import transformers

    warnings.simplefilter("ignore")
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def first_line(error: BaseException) -> str:
    """First line of a message, or the kind of error where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 0, 2 for bad input, 130 when interrupted."""
    # A terminated run cleans up like an interrupted one: temporary files are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = app(args=arguments, prog_name="facetalk", standalone_mode=False)
    except FaceTalkError as error:
        code = complain(str(error), 2)
    except typer.TyperException as error:  # an option that is not there, a number that is none
        code = complain(f"{error.format_message().rstrip('.')} (see facetalk --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = complain("stopped; files that are there are complete", 130)
    sys.exit(code or 0)


def complain(message: str, code: int) -> int:
    """Print one line on stderr and hand the exit code through."""
    print("facetalk: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
