# SPDX-License-Identifier: MIT
"""`facetalk convert`: official head checkpoints in, model folders out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..conversion.files import check_anchors, check_checkpoint


if TYPE_CHECKING:
    from ..models.nphm import NPHMModel


convert = typer.Typer(help="Turn official NPHM and MonoNPHM checkpoints into model folders.")
Anchors = Annotated[Path, typer.Option(metavar="F.npy", help="Mean anchors, a file of the official repository.")]
Folder = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the head; made if missing.")]


@convert.command()
def nphm(
    identity_checkpoint: Annotated[Path, typer.Option(metavar="F.tar", help="Checkpoint of the identity stage.")],
    expression_checkpoint: Annotated[Path, typer.Option(metavar="F.tar", help="Checkpoint of the expression stage.")],
    anchors: Anchors,
    output: Folder,
    backward: Annotated[
        bool, typer.Option("--backward", help="The deformation leads from posed to canonical points.")
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="compress|glob_only|expr_only", help="For files that don't say it.", show_default="found"
        ),
    ] = None,
) -> None:
    """Convert NPHM: 39 anchors, a forward deformation."""
    check_checkpoint(identity_checkpoint)
    check_checkpoint(expression_checkpoint)
    check_anchors(anchors, 39)

    from ..conversion.convert import convert_nphm

    report(convert_nphm(identity_checkpoint, expression_checkpoint, anchors, output, backward, mode), output)


@convert.command()
def mononphm(
    checkpoint: Annotated[Path, typer.Option(metavar="F.tar", help="Checkpoint of MonoNPHM.")],
    anchors: Anchors,
    output: Folder,
) -> None:
    """Convert MonoNPHM: 65 anchors, a backward deformation, colour."""
    check_checkpoint(checkpoint)
    check_anchors(anchors, 65)

    from ..conversion.convert import convert_mononphm

    report(convert_mononphm(checkpoint, anchors, output), output)


def report(head: "NPHMModel", folder: Path) -> None:
    """Say in one line what was converted."""
    config = head.config
    sizes = f"identity codes of {head.identity_dim} and expression codes of {config.expression_dim} numbers"
    named = f"{config.num_identities} and {config.num_expressions} named"
    typer.echo(f"{folder}: {config.deformation} head, {config.num_anchors} anchors, {sizes}, {named}")
