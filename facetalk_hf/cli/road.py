# SPDX-License-Identifier: MIT
"""`facetalk corpus`, `train` and `assemble`: from recordings to a model. Options are fields, as those of training/."""

import os
import sys
from typing import Annotated, Any

import typer

from ..paths import packaged


Words = Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]", help="See --help.")]
OURS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that reads its own words."""


def corpus(words: Words = None) -> None:
    """Build a corpus from recordings: codes, fits, trackings or vertex sequences, at any frame rate."""
    from ..importers.building import CorpusOptions, build_corpus
    from ..scripts import parse_config

    options = parse_config(CorpusOptions, argv=words or ["--help"], prog="facetalk corpus")
    _quiet()
    build_corpus(options, typer.echo)


def train(words: Words = None) -> None:
    """Train the denoiser on a corpus, by the recipe of a preset."""
    words = list(words or ["--help"])
    preset = next((b for a, b in zip(words, words[1:], strict=False) if a == "--preset"), None)
    preset = next((word.partition("=")[2] for word in words if word.startswith("--preset=")), preset)
    if any(word.split("=")[0] == "--lora-rank" for word in words):
        preset = "style"
    if preset in ("tiny", "paper", "style") and not any(word.split("=")[0] == "--config" for word in words):
        words = ["--config", str(packaged(f"{preset}.yaml")), *words]

    from ..learning.denoiser import DenoiserOptions
    from ..learning.training import train_denoiser
    from ..scripts import parse_config

    options = parse_config(DenoiserOptions, "Train the denoiser on a corpus.", argv=words, prog="facetalk train")
    _quiet()
    train_denoiser(options)
    if options.lora_rank:
        typer.echo(f"{options.output_dir}/style: a style; `facetalk generate --style` takes it")
    else:
        typer.echo(f"{options.output_dir}: denoiser and scheduler; `facetalk assemble` makes a model of them")


def assemble(words: Words = None) -> None:
    """Put trained parts together as a model folder, with a head, the vertices of its corpus, or neither."""
    from ..learning.assembling import AssembleOptions
    from ..learning.assembling import assemble as put_together
    from ..scripts import parse_config

    options = parse_config(AssembleOptions, argv=words or ["--help"], prog="facetalk assemble")
    _quiet()
    typer.echo(put_together(options))


def _quiet() -> None:
    """Leave stderr to our own lines; complain at once where training's packages are missing."""
    from ..data.corpus import quiet_datasets
    from .common import quiet_libraries

    quiet_datasets()
    quiet_libraries()
    if "OMP_NUM_THREADS" not in os.environ and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(max(1, (os.cpu_count() or 1) // 2))
