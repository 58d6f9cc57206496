# SPDX-License-Identifier: MIT
"""The `facetalk` command: recordings in, talking heads out.

Input that cannot be used ends with exit code 2 and one line on stderr. Everything that can be checked without a model
is checked before one is loaded, and every recording before the first is animated, so that a long job does not die of
its last file. The commands import modules of ours that load torch, diffusers or transformers where they need them, so
that `--help`, `info` and complaints about input come at once.
"""

import io
import signal
import sys
from typing import Annotated, NoReturn

import typer

from ..errors import FaceTalkError, disk_refusal
from ..paths import __version__
from .convert import convert
from .dataset import dataset
from .export import export
from .export_onnx import export_onnx
from .fit import fit as fit_clouds
from .generate import generate
from .info import info
from .road import OURS, assemble, corpus, train
from .stream import stream as stream_live


app = typer.Typer(
    epilog="Bad input: exit code 2 and one line that says what is wrong.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(generate)
app.command()(dataset)
app.command()(info)
app.add_typer(convert, name="convert")
app.command()(export)
app.command()(export_onnx)
app.command("fit")(fit_clouds)
app.command()(stream_live)
for step in (corpus, train, assemble):
    app.command(context_settings=OURS)(step)


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


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 0, 2 for bad input, 130 when interrupted."""
    # A terminated run cleans up like an interrupted one: temporary files are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = app(args=arguments, prog_name="facetalk", standalone_mode=False)
    except FaceTalkError as error:
        code = complain(str(error), 2)
    except typer.TyperException as error:  # an option that is not there, a number that is none
        code = complain(f"{error.format_message().rstrip('.')} (see facetalk --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = complain("stopped; files that are there are complete", 130)
    except Exception as error:
        reason = disk_refusal(error)
        if reason is None:
            raise
        code = complain(f"{reason}; files that are there are complete", 2)
    sys.exit(code or 0)


def complain(message: str, code: int) -> int:
    """Print one line on stderr and hand the exit code through."""
    print("facetalk: " + " ".join(message.split()), file=sys.stderr)
    return code
