# SPDX-License-Identifier: MIT
"""What the commands share: formats, checks, models that are found and loaded, results that are written."""

import json
import math
import os
import re
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import FaceTalkError, FaceTalkWarning


if TYPE_CHECKING:
    import numpy as np

    from ..animation.head_animation import HeadAnimation
    from ..pipeline.facetalk import FaceTalkPipeline


HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Dtype(StrEnum):
    """Number format of the networks; the names are torch's."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Format(StrEnum):
    """What `facetalk` can write; docs/export.md says what each holds."""

    mp4 = "mp4"
    webm = "webm"
    png = "png"
    glb = "glb"
    npz = "npz"
    ply = "ply"
    obj = "obj"
    csv = "csv"
    json = "json"
    weights = "weights"
    visemes = "visemes"
    wav = "wav"
    usd = "usd"
    usda = "usda"
    usdc = "usdc"
    vrm = "vrm"
    vrma = "vrma"


FOLDERS = (Format.ply, Format.obj, Format.png)
FILMS = (Format.mp4, Format.webm, Format.png)


ENDINGS = {
    Format.ply: "",
    Format.obj: "-obj",
    Format.png: "-png",
    Format.weights: ".weights.csv",
    Format.visemes: ".visemes.csv",
}
"""What follows the stem of a recording, where it is not a dot and the format."""


def check_number(option: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Refuse a number outside of [low, high], and NaN and infinity; None is an option that was not given."""
    if value is None or (low <= value <= high and math.isfinite(value)):
        return
    bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
    raise FaceTalkError(f"{option} must be {bounds}, not {value}")


def read_clip(path: Path, longest: float | None = None) -> "tuple[np.ndarray, int]":
    """Read one recording as (S,) float32 and its own rate in Hz; FaceTalkError says what is wrong with it."""
    from ..audio.io import read_audio

    return read_audio(path, longest=longest)


def read_model_index(folder: Path) -> dict:
    """Read model_index.json of a pipeline folder.

    Raises:
        FaceTalkError: not a folder, no such file in it, or not a file that diffusers wrote.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        what = "is a file" if folder.is_file() else "has no model_index.json"
        raise FaceTalkError(f"{folder} {what}: a model is a folder that save_pretrained wrote")
    index = read_json(path)
    if "_class_name" not in index:
        raise FaceTalkError(f"{path} names no pipeline class: a model is a folder that save_pretrained wrote")
    return index


def read_json(path: Path) -> dict:
    """Read a JSON object; FaceTalkError if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FaceTalkError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise FaceTalkError(f"{path} holds no JSON object")
    return value


def check_model(model: str) -> None:
    """Refuse what can be no model before anything heavy is imported."""
    path = Path(model)
    if path.exists():
        read_model_index(path)
    elif not HUB_ID.fullmatch(model):
        raise FaceTalkError(f"no model folder {model}: give a folder with a model_index.json, or a Hub id (user/name)")


def load_pipeline(model: str, device: str, dtype: Dtype) -> "FaceTalkPipeline":
    """Load a pipeline with its head onto a device; whatever is wrong with the model becomes one line."""
    from .libraries import import_libraries

    import_libraries()
    import torch

    from ..pipeline.facetalk import FaceTalkPipeline
    from .vertex_models import has_basis

    quiet_libraries()
    place = choose_device(device)
    try:
        pipe = FaceTalkPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    except FaceTalkError:
        raise
    except Exception as error:
        # A broken folder or a failed download: the libraries raise anything from KeyError to their own classes.
        raise FaceTalkError(f"cannot load the model {model}: {first_line(error)}") from error
    if pipe.head is None and not has_basis(pipe):
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
    from ..pipeline.facetalk import FaceTalkPipeline

    quiet_libraries()
    try:
        return Path(FaceTalkPipeline.download(model))
    except Exception as error:
        raise FaceTalkError(f"cannot get the model {model}: {first_line(error)}") from error


def save(animation: "HeadAnimation", kind: Format, path: Path, **options: object) -> None:
    """Write one result; a full disk is the user's to mend, so it is one line too."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", FaceTalkWarning)
        try:
            animation.save(path, format=str(kind), **options)
        except OSError as error:
            raise FaceTalkError(f"cannot write {path}: {error.strerror or error}") from error
    for note in notes:
        if issubclass(note.category, FaceTalkWarning):
            typer.echo(f"  {path.name}: {note.message}")


def quiet_libraries() -> None:
    """Silence warnings of the libraries, which are for developers; progress bars of long steps stay."""
    import diffusers
    import transformers

    warnings.simplefilter("ignore")
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def first_line(error: BaseException) -> str:
    """First line of a message, or the kind of error where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


class Detail(StrEnum):
    """How fine the head in a glb is; see `facetalk_hf.animation.glb.write_glb`."""

    template = "template"
    full = "full"


DETAIL = typer.Option(metavar="|".join(Detail), help="Head of a glb: one topology for all, or as it was extracted.")
COMPRESS = typer.Option("--compress", help="A small glb for web pages (meshopt).")


def writer_options(
    kind: Format, film: dict, sound: Path | None = None, geometry: bool = False, detail: Detail = Detail.template,
    compress: bool = False,
) -> dict[str, object]:  # fmt: skip
    """Choose what a writer is told beside the path: what `film.read_film` read, the sound that a USD refers to."""
    if kind == Format.glb:
        return {"detail": detail.value, "compress": compress}
    if kind in FILMS:
        return film
    if kind == Format.npz:
        return {"geometry": geometry}
    return {"audio": sound} if kind in (Format.usd, Format.usda, Format.usdc) else {}
