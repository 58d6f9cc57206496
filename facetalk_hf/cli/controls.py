# SPDX-License-Identifier: MIT
"""Options of the commands that are made from the pipeline's controls."""

from typing import Annotated, Any

import typer

from ..motion.options import Option


def command_option(item: Option) -> Any:
    """Make the annotation by which typer reads a control: `--blink-rate N`, with its sentence and default."""
    flag = f"--{item.spelling}"
    if item.kind is bool:
        return Annotated[bool, typer.Option(flag, help=item.sentence)]
    kind: Any = tuple.__class_getitem__((item.kind,) * len(item.parts)) if item.parts else item.kind
    metavar = " ".join(item.parts).upper() or ("N" if item.kind is int else "X")
    unset = item.unset.replace("that of ", "--") if item.unset else True
    if item.keyed:
        metavar = "|".join(("NAME=X,...", *item.words))
        names = f"{item.sentence} Names: {', '.join(item.parts)}."
        return Annotated[str | None, typer.Option(flag, metavar=metavar, help=names, show_default=unset)]
    return Annotated[
        kind | None if item.default is None else kind,
        typer.Option(flag, metavar=metavar, help=item.sentence, show_default=unset),
    ]


def flag_of(item: Option) -> str:
    """Spell a control as users of the command know it, for errors."""
    return f"--{item.spelling}"
