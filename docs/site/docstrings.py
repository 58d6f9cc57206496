# SPDX-License-Identifier: MIT
"""Docstrings in diffusers' grammar, "name (`type`, *optional*, defaults to x): what", as Markdown for the site.

An argument that the signature does not have, and a reference to a name that is not there, are warnings, which
`mkdocs build --strict` does not pass.
"""

import ast
import logging
import re
import sys
import textwrap
from pathlib import Path

import griffe


# These two modules import nothing heavy, so that the site is built without torch.
sys.path.insert(0, str(Path(__file__).parents[2]))
from facetalk_hf.motion.controls import MotionControls  # noqa: E402
from facetalk_hf.motion.options import options_of, with_entries  # noqa: E402


SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Examples):$")
TITLES = {"Args": "Arguments"}
REFERENCE = re.compile(r"\[`~?([\w.]+)`\](?![\[(])")
ANOTHER = re.compile(r"(?<=\. )(\w+) \(((?:[^()]|\([^()]*\))*)\): ")
log = logging.getLogger("mkdocs.plugins.facetalk.docstrings")


class DiffusersDocstrings(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded."""

    def on_package(self, *, pkg, loader, **kwargs) -> None:
        """Find what can be referred to, then write all docstrings anew."""
        objects = list(walk(pkg))
        self.names = {obj.path: obj.path for obj in objects}
        for obj in objects:
            short = f"{obj.parent.name}.{obj.name}" if obj.parent and obj.parent.is_class else obj.name
            if not obj.is_module:
                self.names.setdefault(short, obj.path)
        # A method of a base class without a page of its own is shown with the class.
        for name in ("from_pretrained", "push_to_hub", "decode", "animate"):
            self.names[f"FaceTalkPipeline.{name}"] = f"{pkg.name}.pipeline.facetalk.FaceTalkPipeline.{name}"
        for obj in objects:
            if obj.is_function:
                spread_options(obj)
            if obj.docstring:
                obj.docstring.value = self.markdown(obj)

    def markdown(self, obj) -> str:
        """The docstring of an object as Markdown."""
        text = obj.docstring.value.replace("Examples:\n\n", f"{examples(obj)}\n\n")
        lines, result = text.splitlines(), []
        while lines:
            line = lines.pop(0)
            section = SECTION.match(line)
            if not section:
                result.append(line)
                continue
            block = []
            while lines and (not lines[0].strip() or lines[0].startswith(" ")):
                block.append(lines.pop(0))
            body = textwrap.dedent("\n".join(block)).strip()
            result += ["", f"**{TITLES.get(section[1], section[1])}**", ""]
            if section[1] in ("Args", "Attributes"):
                body = self.definitions(obj, body, check=section[1] == "Args")
            elif section[1] == "Raises":
                body = re.sub(r"^(\w+): ", lambda match: f"{self.link(obj, match[1])}: ", body, flags=re.M)
            result += [body, ""]
        return REFERENCE.sub(lambda match: self.link(obj, match[1]), "\n".join(result))

    def definitions(self, obj, body: str, check: bool) -> str:
        """Entries "a, b (type): text", continued by indentation, as a definition list."""
        known, result = parameters(obj), []
        for entry in re.split(r"\n(?=\S)", body):
            head, text = split_outside(" ".join(entry.split()), ":", 1)
            head = head.rstrip(".")
            pieces = [re.match(r"(\*{0,2}\w+)(?: \((.*)\))?$", piece) for piece in split_outside(head, ", ")]
            if not all(pieces):
                log.warning(f"{obj.path}: cannot read the argument {head!r}")
                continue
            # "a (type): text. b (type): text" in one entry are two.
            more = []
            for match in reversed([found for found in ANOTHER.finditer(text) if found[1] in (known or ())]):
                more.insert(0, f"`{match[1]}` ({match[2]})\n:   {text[match.end() :]}\n")
                text = text[: match.start()]
            if check and known is not None and (odd := {piece[1].strip("*") for piece in pieces} - known):
                log.warning(f"{obj.path}: no such argument: {', '.join(sorted(odd))}")
            terms = [f"`{piece[1]}`" + (f" ({piece[2]})" if piece[2] and text else "") for piece in pieces]
            text = text or ", ".join(piece[2] for piece in pieces if piece[2]) or "no more to say"
            result += [f"{', '.join(terms)}\n:   {text}\n", *more]
        return "\n".join(result)

    def link(self, obj, name: str) -> str:
        """A reference to an object of the package; names of other packages stay code."""
        path = self.names.get(name) or self.names.get(f"{obj.parent.path}.{name}" if obj.parent else "")
        if path is None and name.startswith("facetalk_hf"):
            log.warning(f"{obj.path}: there is no {name}")
        return f"[`{name}`][{path}]" if path else f"`{name}`"


def walk(obj):
    """The object and all that is defined in it."""
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from walk(member) if member.is_module or member.is_class else (member,)


def spread_options(obj) -> None:
    """Give a function that `takes` the controls their parameters and entries, as the decorator does at run time."""
    marks = [str(item.value) for item in obj.decorators if str(item.value).startswith("takes(MotionControls")]
    if not marks:
        return
    options = options_of(MotionControls, live="live=True" in marks[0])
    kind, found = griffe.ParameterKind.positional_or_keyword, []
    for parameter in obj.parameters:
        if parameter.name == "controls":
            found += [griffe.Parameter(item.name, kind=kind, default=repr(item.default)) for item in options]
        elif parameter.kind is not griffe.ParameterKind.var_keyword:
            found.append(griffe.Parameter(parameter.name, annotation=parameter.annotation, kind=kind,
                                          default=parameter.default))  # fmt: skip
    found.append(griffe.Parameter("controls", kind=griffe.ParameterKind.keyword_only, default="None"))
    obj.parameters = griffe.Parameters(*found)
    if obj.docstring:
        obj.docstring.value = with_entries(obj.docstring.value, options)


def parameters(obj) -> set[str] | None:
    """Names that the Args of an object may have; None where they cannot be known."""
    if obj.is_function:
        return {parameter.name for parameter in obj.parameters}
    if not obj.is_class:
        return None
    init = obj.members.get("__init__") or obj.inherited_members.get("__init__")
    return {parameter.name for parameter in init.parameters} if init else set(obj.members)


def examples(obj) -> str:
    """What diffusers' @replace_example_docstring puts in at run time, read from the module's source."""
    example = obj.module.members.get("EXAMPLE_DOC_STRING")
    if example is None:
        return "Examples:\n\n"
    return textwrap.dedent(ast.literal_eval(str(example.value))).strip()


def split_outside(text: str, separator: str, most: int = -1) -> list[str]:
    """Split where no bracket and no code is open; with `most` 1 always two parts, the second maybe empty."""
    parts, depth, code, start, i = [], 0, False, 0, 0
    while i < len(text):
        character = text[i]
        code ^= character == "`"
        depth += 0 if code else (character in "([{") - (character in ")]}")
        if not code and depth == 0 and text.startswith(separator, i) and len(parts) != most:
            parts.append(text[start:i])
            start = i = i + len(separator)
            continue
        i += 1
    parts.append(text[start:].strip() if most == 1 else text[start:])
    return [*parts, ""] if most == 1 and len(parts) == 1 else parts
