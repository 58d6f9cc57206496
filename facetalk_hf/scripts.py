# SPDX-License-Identifier: MIT
"""Command lines of scripts: options declared as the fields of a dataclass, errors as one line.

A field `batch_size: int = option(32, "samples in a batch")` is the option `--batch-size`, and the key `batch_size` of
a YAML file. transformers' HfArgumentParser has the same aim, but it knows no pairs of numbers and no JSON, and lists
every option twice, with underscores and with hyphens.
"""

import argparse
import dataclasses
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import FaceTalkError, disk_refusal


REQUIRED = dataclasses.MISSING
"""Default of an option that must be given."""

Config = TypeVar("Config")


def option(default: Any, help: str, metavar: str | tuple[str, ...] | None = None) -> Any:
    """Declare a field of a dataclass as an option of a command line.

    Args:
        default: its value where it is not given; `REQUIRED` if it must be.
        help (`str`): what it is, for `--help` and the documentation.
        metavar (`str` or tuple of `str`, *optional*): what `--help` shows in place of the value.
    """
    metadata = {"help": help, "metavar": metavar}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: default.copy(), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """End the program with code 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def make_parser(
    config_class: type, description: str | None = None, prog: str | None = None
) -> argparse.ArgumentParser:
    """Make the parser whose options are the fields of a dataclass, and `--config`.

    Args:
        config_class: a dataclass with fields made by `option`, of type `bool`, `int`, `float`, `str`, `Path`, a
            `Literal` of these, `tuple[T, T]`, `list[T]`, `dict` (given as JSON), or one of them with `None`.
        description (`str`, *optional*): a script's docstring, of which the first line is shown.
    """
    summary = (description or config_class.__doc__ or "").splitlines()[0]
    parser = OneLineParser(prog=prog, description=summary, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file with values for any of the other options")
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        default = field.default_factory() if field.default_factory is not REQUIRED else field.default
        default = None if default is REQUIRED else default
        more: dict[str, Any] = _reading(hints[field.name], default)
        if "action" not in more and field.metadata["metavar"]:
            more["metavar"] = field.metadata["metavar"]
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, default=default, help=field.metadata["help"], **more)
    return parser


def _reading(kind: Any, default: Any) -> dict[str, Any]:
    """Arguments of `add_argument` that make it read values of a type."""
    if get_origin(kind) in (Union, types.UnionType):  # with None
        kind = next(item for item in get_args(kind) if item is not types.NoneType)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction if default else "store_true"}
    if kind is dict or get_origin(kind) is dict:
        return {"type": json.loads}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    if get_origin(kind) is tuple:
        return {"nargs": len(get_args(kind)), "type": get_args(kind)[0]}
    if get_origin(kind) is list:
        return {"nargs": "*", "type": get_args(kind)[0]}
    return {"type": kind}


def parse_config(
    config_class: type[Config], description: str | None = None, argv: list[str] | None = None, prog: str | None = None
) -> Config:
    """Read a command line into a dataclass; a YAML file overrides the defaults, the command line overrides both.

    A mistake ends the program as argparse does. That includes a `FaceTalkError` raised by the dataclass itself, in
    `__post_init__`, about options that do not go together.

    Args:
        config_class, description: as in `make_parser`.
        argv (list of `str`, *optional*): the command line; `sys.argv` by default.
        prog (`str`, *optional*): what the program is called in its messages; the script's name by default.
    """
    parser = make_parser(config_class, description, prog)
    fields = dataclasses.fields(config_class)  # type: ignore[arg-type]  # mypy cannot say "a dataclass"
    path = parser.parse_known_args(argv)[0].config
    if path:
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            parser.error(f"cannot read {path}: {str(error).splitlines()[0]}")
        if not isinstance(values, dict):
            parser.error(f"{path} holds no options such as `batch_size: 32`")
        unknown = sorted(set(values) - {field.name for field in fields})
        if unknown:
            parser.error(f"{path} has unknown options: {', '.join(unknown)}")
        parser.set_defaults(**values)
    found = vars(parser.parse_args(argv))
    del found["config"]
    for field in fields:
        needed = field.default is REQUIRED and field.default_factory is REQUIRED
        if needed and found[field.name] is None:
            parser.error(f"--{field.name.replace('_', '-')} is needed")
        if isinstance(field.default, tuple):
            found[field.name] = tuple(found[field.name])
    try:
        return config_class(**found)
    except FaceTalkError as error:
        parser.error(str(error))


def run_script(main: Callable[[], object]) -> None:
    """Run the main function of a script; `FaceTalkError`, and what the disk refuses, become a line and exit code 2.

    That holds for every process of `accelerate launch`, too: the others are not left to wait for one that failed.
    """
    try:
        main()
    except Exception as error:
        reason = str(error) if isinstance(error, FaceTalkError) else disk_refusal(error)
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.filename or 'the disk'}: {error.strerror}"
        if reason is None:
            raise
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(reason).split())}", file=sys.stderr, flush=True)
        code = 2
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: stopped", file=sys.stderr, flush=True)
        code = 130
    else:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # What waits in a collective operation would wait on, and torch's farewell is a traceback.
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)
