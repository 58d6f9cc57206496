# SPDX-License-Identifier: MIT
"""Options declared once, as fields of a dataclass, from which arguments, command-line options and tables are made.

Only the standard library is imported, so that the command starts at once and the documentation is built without torch.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from ..errors import FaceTalkError


P = ParamSpec("P")
R = TypeVar("R")
Bound = float | tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: what may be given for it, and what it does.

    Args:
        name (`str`): of the field and of the argument in Python.
        default: `None` where it depends on the model or the motion; `unset` says then what is done.
        kind (`type`): `bool`, `int` or `float`; of each part, where there are parts.
        help (`str`): one sentence.
        low, high (`float`, *optional*): bounds, both of them allowed; a tuple with one for each part.
        unit (`str`, *optional*): in the plural.
        unset (`str`, *optional*): what happens by default, where the default is no value.
        parts: names of the numbers that the option consists of, each of which may be given for every frame.
        keyed (`bool`): parts are given by name, as a mapping or as text such as "happy=0.7,surprised=0.2"; those that
            are left out are 0. Also anything with a method `at`, which makes them from times.
        words: texts that may stand in place of a keyed option's parts.
        usual (`float`, *optional*): end of a slider where there is no upper bound.
        flag (`str`, *optional*): another name for the command line and the Space.
        live (`bool`): whether a stream can do it, frame by frame.
        decoded (`bool`): whether it changes the decoded animation, and the codes only with it.
    """

    name: str
    default: Any
    kind: type
    help: str
    low: Bound = None
    high: Bound = None
    unit: str | None = None
    unset: str | None = None
    parts: tuple[str, ...] = ()
    keyed: bool = False
    words: tuple[str, ...] = ()
    usual: float | None = None
    flag: str | None = None
    live: bool = False
    decoded: bool = False

    @property
    def spelling(self) -> str:
        """Name for the command line, without its dashes: `blink-rate`."""
        return (self.flag or self.name).replace("_", "-")

    @property
    def limits(self) -> str:
        """Bounds and unit in words, such as "0 to 60 blinks a minute"; empty for a switch."""
        if self.kind is bool:
            return ""
        rows = dict.fromkeys(_words(low, high, "{low:g} to {high:g}", "at least {low:g}") for low, high in self.bounds)
        return " ".join(filter(None, (", ".join(rows), self.unit)))

    @property
    def sentence(self) -> str:
        """What the option does, with its limits in brackets."""
        return f"{self.help.rstrip('.')} ({self.limits})." if self.limits else self.help

    @property
    def default_words(self) -> str:
        """The default, or what happens without a value."""
        if self.unset is not None:
            return self.unset
        return "no" if self.default is False else f"{self.default:g}"

    def docstring(self) -> str:
        """Write the entry for a docstring's Args, in the grammar of diffusers."""
        kind = f"`{self.kind.__name__}`"
        if self.keyed:
            words = "".join(f', "{word}"' for word in self.words)
            kind = f"`dict` of {', '.join(self.parts)} to {kind} or (N,) {self.kind.__name__}, the same as text{words}"
        elif self.parts:
            kind = f"{' and '.join(self.parts)}, each {kind} or (N,) {self.kind.__name__}"
        default = f", defaults to {self.default!r}" if self.unset is None else ""
        unset = f" By default {self.unset}." if self.unset is not None else ""
        return f"{self.name} ({kind}, *optional*{default}): {self.sentence}{unset}"

    def check(self, value: Any, name: str | None = None) -> None:
        """Raise [`FaceTalkError`] for a value of another kind or outside of the bounds, called `name` there."""
        name = name or self.name
        if self.kind is bool or (value is None and self.default is None):
            return
        if self.keyed:
            self._check_named(value, name)
            return
        if not self.parts:
            given = numbers_of(value)
            if isinstance(given, list):
                given = math.nan
            self._check_number(given, value, name, *self.bounds[0])
            return
        values = [numbers_of(item) for item in value] if isinstance(value, (list, tuple)) else []
        if len(values) != len(self.parts) or None in values:
            raise FaceTalkError(
                f"{name} must be {' and '.join(self.parts)} in {self.unit}, each a number or one for every frame"
            )
        for part, item, (low, high) in zip(self.parts, values, self.bounds, strict=True):
            for number in item if isinstance(item, list) else [item]:
                self._check_number(number, number, f"the {part} of {name}", low, high)

    def _check_named(self, value: Any, name: str) -> None:
        if hasattr(value, "at") or (isinstance(value, str) and value in self.words):
            return
        values = named_numbers(value, name)
        if unknown := [key for key in values if key not in self.parts]:
            raise FaceTalkError(f"{name} has no {unknown[0]!r}: there are {', '.join((*self.parts, *self.words))}")
        for key, given in values.items():
            row, (low, high) = numbers_of(given), self.bounds[self.parts.index(key)]
            for number in row if isinstance(row, list) else [row]:
                self._check_number(number, given if row is None else number, f"{key} of {name}", low, high)

    def _check_number(self, number: float | None, value: Any, name: str, low: float, high: float) -> None:
        whole = self.kind is int
        if number is not None and math.isfinite(number) and low <= number <= high:
            if not whole or isinstance(number, numbers.Integral):
                return
        bounds = _words(low, high, "between {low:g} and {high:g}", "of at least {low:g}")
        raise FaceTalkError(f"{name} must be a {'whole ' * whole}number {bounds}, not {value}")

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of each part, infinite where there are none."""
        low, high = (
            bound if isinstance(bound, tuple) else (default if bound is None else bound,) * max(len(self.parts), 1)
            for bound, default in ((self.low, -math.inf), (self.high, math.inf))
        )
        return list(zip(low, high, strict=True))


def option(default: Any, kind: type | None = None, *, help: str, **facts: Any) -> Any:
    """Declare a field of a dataclass as an [`Option`]; arguments as there, the kind by default that of the default."""
    kind = kind or (float if default is None else type(default))
    return dataclasses.field(default=default, metadata={"option": {"kind": kind, "help": help} | facts})


def options_of(declaration: Any, live: bool = False) -> list[Option]:
    """List the options of a dataclass or of an instance, in their order; with `live` those that a stream can do."""
    options = [
        Option(field.name, field.default, **field.metadata["option"])
        for field in dataclasses.fields(declaration)
        if "option" in field.metadata
    ]
    return [item for item in options if item.live or not live]


def _words(low: float, high: float, both: str, lower: str) -> str:
    return (lower if high == math.inf else both).format(low=low, high=high)


def numbers_of(value: Any) -> Any:
    """Return a number as it is and a row of numbers, of NumPy, torch or Python, as a list; `None` for all else."""
    value = value.tolist() if hasattr(value, "tolist") else value
    row = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, numbers.Real) for item in row):
        return None
    return row if isinstance(value, (list, tuple)) else value


def named_numbers(value: Any, name: str = "the option") -> dict[str, Any]:
    """Read numbers by name from a mapping, or from text such as "happy=0.7,surprised=0.2"; a bare name is 1.

    Raises:
        FaceTalkError: neither, or text that does not read so.
    """
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if not isinstance(value, str):
        raise FaceTalkError(f"{name} must be numbers by name, such as happy=0.7, not {value}")
    result = {}
    for part in filter(None, (item.strip() for item in value.split(","))):
        key, _, number = part.partition("=")
        try:
            result[key.strip()] = float(number or 1)
        except ValueError:
            raise FaceTalkError(f"{name} must be numbers by name, such as happy=0.7, not {value!r}") from None
    return result


def takes(
    declaration: type, live: bool = False, annotate: Callable[[Option], Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function take the options of a dataclass as arguments of its own.

    The function is written with one argument `controls`, and is called with an instance of the dataclass there. The
    function that callers see has the options in its place, by position or by name, and `controls` as a last argument
    by name: an instance, in which options that are given beside it are replaced. Signature and docstring say so, so
    `help`, `inspect` and typer know every option. A `**options` of the function is for type checkers alone.

    Args:
        declaration (`type`): dataclass whose fields are made by `option`.
        live (`bool`): only what a stream can do.
        annotate (`Callable`, *optional*): gives the annotation of an option; there is no argument `controls` then.

    Raises:
        TypeError: by the function, for unknown, missing or surplus arguments, as by any other function.
    """
    options = options_of(declaration, live)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function).parameters
        signature = inspect.signature(function).replace(
            parameters=public_parameters(own, options, declaration, annotate)
        )

        @functools.wraps(function)
        def with_options(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given: dict[str, Any] = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{function.__qualname__}() {error}") from None
            chosen = {item.name: given.pop(item.name) for item in options if item.name in given}
            controls: Any = given.pop("controls", None)
            controls = declaration() if controls is None else controls
            if not isinstance(controls, declaration):
                raise TypeError(f"controls must be {declaration.__name__}, not {type(controls).__name__}")
            # By name, because options stand between the function's own arguments.
            call = cast(Callable[..., R], function)
            return call(**given, controls=dataclasses.replace(cast(Any, controls), **chosen))

        with_options.__dict__["__signature__"] = signature
        with_options.__doc__ = with_entries(function.__doc__, options)
        return with_options

    return decorate


def public_parameters(
    own: Any, options: list[Option], declaration: Any, annotate: Callable[[Option], Any] | None = None
) -> list[inspect.Parameter]:
    """List the parameters of `takes`'s result from those of the function, by name."""
    types = {field.name: field.type for field in dataclasses.fields(declaration)}
    kind, result = inspect.Parameter.POSITIONAL_OR_KEYWORD, []
    for name, parameter in own.items():
        if name == "controls":
            for item in options:
                annotation = types[item.name] if annotate is None else annotate(item)
                result.append(inspect.Parameter(item.name, kind, default=item.default, annotation=annotation))
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            result.append(parameter.replace(kind=kind))
    if annotate is None:
        result.append(own["controls"].replace(kind=inspect.Parameter.KEYWORD_ONLY))
    return result


def with_entries(docstring: str | None, options: list[Option]) -> str | None:
    """Put the entries of options into a docstring's Args, before the one of `controls`."""
    found = re.search(r"^( *)controls \(", docstring or "", re.MULTILINE)
    if docstring is None or found is None:
        return docstring
    indent = found[1]
    entries = (
        textwrap.fill(item.docstring(), 119, initial_indent=indent, subsequent_indent=indent + "    ")
        for item in options
    )
    return docstring[: found.start()] + "".join(f"{entry}\n" for entry in entries) + docstring[found.start() :]
