# SPDX-License-Identifier: MIT
"""Trained parts put together as one pipeline folder, whole or not at all."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DPMSolverMultistepScheduler

from ..data.feature_cache import load_audio_encoder
from ..errors import FaceTalkError
from ..files import atomic_folder
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from ..paths import BASIS, TINY, TINY_NAME
from ..pipeline.facetalk import FaceTalkPipeline
from ..scripts import REQUIRED, option
from .training import PARTS, load_part


@dataclass(kw_only=True)
class AssembleOptions:
    """Put trained parts together as one pipeline folder, which all commands take as --model."""

    denoiser: Path = option(REQUIRED, "folder of a training: holds denoiser/, scheduler/ and what belongs to them")
    output_dir: Path = option(REQUIRED, "folder of the pipeline; an older one is replaced when the new one is whole")
    audio_encoder: str | None = option(None, "folder, Hub id or facetalk-tiny; by default the one of the training")
    feature_extractor: str | None = option(None, "where it lies elsewhere")
    head: str | None = option(None, "folder or Hub id of the head, or facetalk-tiny; by default that of the training")
    corpus: Path | None = option(None, "corpus whose vertex basis the codes are of; by default that of the training")
    fps: float | None = option(None, "frames a second; by default those of the training's corpus")
    closure_threshold: float | None = option(
        None, "probability from which lips that the encoder hears close are closed; by default the encoder's own"
    )
    dtype: Literal["float16", "float32"] = option("float16", "number format of the weights")


def assemble(options: AssembleOptions) -> str:
    """Assemble a pipeline; return a line that says what it is.

    Raises:
        FaceTalkError: a part is missing, or the parts do not fit together.
    """
    known = _parts(options.denoiser)
    encoder_name = options.audio_encoder or known.get("audio_encoder")
    if encoder_name is None:
        raise FaceTalkError(f"{options.denoiser} does not say its audio encoder: give --audio-encoder")
    extractor_name = options.feature_extractor or (None if options.audio_encoder else known.get("feature_extractor"))
    encoder, extractor = load_audio_encoder(encoder_name, extractor_name)
    if options.closure_threshold is not None:
        if not hasattr(encoder.config, "closure_threshold"):
            raise FaceTalkError(f"--closure-threshold: {encoder_name} does not hear lips close, a LogMelEncoder does")
        encoder.config.closure_threshold = options.closure_threshold
    denoiser = load_part(FaceTalkDenoiser, options.denoiser / "denoiser", "denoiser")
    head_name = options.head or known.get("head")
    head_name = str(Path(TINY) / "head") if head_name == TINY_NAME else head_name
    head = None if head_name is None else load_part(NPHMModel, head_name, "head")
    size = denoiser.config["code_dim"]
    if head is not None and head.config["expression_dim"] != size:
        raise FaceTalkError(f"the denoiser gives codes of {size} numbers, the head takes {head.config.expression_dim}")
    if encoder.config.hidden_size != denoiser.config["audio_dim"]:
        given, wanted = encoder.config.hidden_size, denoiser.config["audio_dim"]
        raise FaceTalkError(
            f"the encoder gives {given} features, the denoiser was trained on {wanted}: another encoder"
        )
    scheduler = load_part(DPMSolverMultistepScheduler, options.denoiser / "scheduler", "scheduler")
    pipe = FaceTalkPipeline(
        denoiser=denoiser, scheduler=scheduler, audio_encoder=encoder,
        feature_extractor=extractor, head=head, fps=options.fps or known.get("fps", 24.0),
    )  # fmt: skip
    pipe.to(dtype=getattr(torch, options.dtype))
    corpus = options.corpus or (Path(known["corpus"]) if known.get("corpus") else None)
    basis = None if corpus is None or head is not None else corpus / BASIS
    if options.corpus is not None and basis is not None and not basis.is_file():
        raise FaceTalkError(f"{corpus} has no {BASIS}: its codes are not of vertices, give --head")
    write_whole(pipe, options.output_dir, basis if basis is not None and basis.is_file() else None)
    count = sum(file.stat().st_size for file in options.output_dir.rglob("*") if file.is_file())
    shown = (
        "a head" if head is not None else "the vertices of its corpus" if basis and basis.is_file() else "codes only"
    )
    return f"{options.output_dir}: {count / 1e6:.2f} MB, {pipe.config['fps']:g} frames a second, {shown}"


def write_whole(pipe: FaceTalkPipeline, target: Path, basis: Path | None = None) -> None:
    """Write a pipeline beside its place and move it there whole; the card of an older one stays."""
    with atomic_folder(target) as fresh:
        pipe.save_pretrained(fresh)
        if basis is not None:
            (fresh / "basis").mkdir()
            shutil.copyfile(basis, fresh / "basis" / BASIS)
        tidy(fresh)
        card = target / "README.md"
        if card.exists():
            shutil.copy(card, fresh / card.name)


def tidy(folder: Path) -> None:
    """Remove the paths of this machine from the configurations, and let everybody read the weights."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _parts(folder: Path) -> dict[str, Any]:
    """Read what a training noted beside its denoiser; nothing where it was another program's."""
    if not (folder / "denoiser").is_dir():
        raise FaceTalkError(f"{folder} holds no denoiser/: give the --output-dir of a training that has ended")
    if not (folder / PARTS).is_file():
        return {}
    try:
        return dict(json.loads((folder / PARTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FaceTalkError(f"{folder / PARTS} is damaged: remove it, and name the parts") from error
