# SPDX-License-Identifier: MIT
"""`facetalk dataset`: generation over a whole dataset, by any number of processes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FaceTalkError
from ..motion.controls import MotionControls
from ..motion.options import takes
from ..paths import TINY
from .common import Dtype, check_model, check_number, load_pipeline
from .controls import command_option, flag_of


if TYPE_CHECKING:
    from ..importers.animating import RowAnimator


@takes(MotionControls, annotate=command_option)
def dataset(
    source: Annotated[str, typer.Argument(metavar="DIR|ID", help="Folder of sounds; a dataset, or its Hub id.")],
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the result; appears when complete.")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of the dataset.", show_default="all")
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="NAME", help="Configuration of the dataset.")] = None,
    audio_column: Annotated[str, typer.Option(metavar="NAME", help="Column of its sounds.")] = "audio",
    model: Annotated[
        str, typer.Option(metavar="PATH_OR_ID", help="Model folder or Hub id.", show_default="the embedded model")
    ] = TINY,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same motion.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Few steps, by the model's weights for them.")] = False,
    *,
    controls: MotionControls,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Recordings that are denoised together.")] = 1,
    shard_rows: Annotated[int, typer.Option(metavar="N", help="Recordings of a shard.")] = 40,
    longest: Annotated[float, typer.Option(metavar="S", help="Seconds a recording may last; others skipped.")] = 600.0,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[
        Dtype, typer.Option(metavar="|".join(Dtype), help="Number format of the networks.")
    ] = Dtype.float32,
) -> None:
    """Animate all recordings of a folder or dataset: a dataset with columns of motion."""
    check_number("--seed", seed, 0, 2**63 - 1)
    check_number("--batch-size", batch_size, 1)
    check_number("--shard-rows", shard_rows, 1)
    check_number("--longest", longest, 0.1)
    controls.check_ranges(flag_of)
    check_model(model)
    rank, count = (_number_of(name, default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    if not 0 <= rank < count:
        raise FaceTalkError(f"RANK is {rank} of WORLD_SIZE {count}: these are set by accelerate launch")

    from dataclasses import asdict

    from ..data.sounds import open_sounds
    from ..importers.animating import RowAnimator, Worker, animate_dataset

    def animator() -> "RowAnimator":
        import torch

        local = os.environ.get("LOCAL_RANK")
        place = f"cuda:{local}" if device == "auto" and local and torch.cuda.is_available() else device
        pipe = load_pipeline(model, place, dtype)
        pipe = pipe.few_steps() if fast else pipe
        pipe.set_progress_bar_config(disable=True)
        # Sums are taken in another order by another number of threads; more cores are used by more processes.
        torch.set_num_threads(1)
        return RowAnimator(pipe=pipe, seed=seed, controls=controls, longest=longest, batch_size=batch_size)

    parts = open_sounds(source, shard_rows, split, config, audio_column)
    settings = {
        "model": model, "seed": seed, "fast": fast, "batch size": batch_size, "shard size": shard_rows,
        "longest": longest, "dtype": str(dtype), "source": source, "controls": asdict(controls),
        "parts": [part.name for part in parts],
    }  # fmt: skip
    name = Path(output_dir).resolve().name
    animate_dataset(parts, output_dir, animator, settings, shard_rows, Worker(rank, count), name, typer.echo)


def _number_of(name: str, default: int) -> int:
    try:
        return int(os.environ.get(name, default))
    except ValueError as error:
        raise FaceTalkError(f"{name} in the environment is no number: {os.environ[name]!r}") from error
