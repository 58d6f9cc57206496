# SPDX-License-Identifier: MIT
"""Code blocks of Markdown: found, told apart by the comment above them, and their commands read.

A block is run unless a comment in the line above says otherwise, with the reason:

    <!-- checked, not run: takes hours -->   options of commands are parsed; Python is compiled, its imports are made
    <!-- not run: a synopsis -->             nothing is done
    <!-- file: keys.csv -->                  the block is the content of a file that the page's examples read
"""

import argparse
import ast
import contextlib
import io
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from accelerate.commands.launch import launch_command_parser
from markdown_it import MarkdownIt

from facetalk_hf.cli.main import app, main


ROOT = Path(__file__).parents[2]
MARK = re.compile(r"\s*<!-- (checked, not run|not run|file): (.+?) -->\s*")
# Programs that are not ours; their options are theirs to check.
FOREIGN = {"git", "cd", "arecord", "ffmpeg", "ffplay", "hf", "export", "source", "curl"}
OPERATORS = {"|", "&&", "||", ";", "<", ">", ">>"}


@dataclass
class Block:
    """One code block: its text, language, first line in the page, and what the comment above it says."""

    text: str
    language: str
    line: int
    mark: str | None
    reason: str | None


def blocks(path: Path) -> list[Block]:
    """All code blocks of a page, fenced and indented."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("fence", "code_block"):
            start = token.map[0]
            mark = MARK.fullmatch(lines[start - 1]) if start else None
            found.append(Block(token.content, token.info, start + 1, *(mark.groups() if mark else (None, None))))
    return found


@dataclass
class Command:
    """One command of a line of shell: words, and files for its output and input."""

    words: list[str]
    stdout: str | None = None
    stdin: str | None = None
    piped: bool = False


def commands(text: str) -> list[Command]:
    """The commands of a block, without comments, variables set in front, and a virtual environment's folder."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        reader.whitespace_split = True
        command, redirect = Command([]), None
        for word in [*reader, ";"]:
            if word in ("<", ">"):
                redirect = "stdin" if word == "<" else "stdout"
            elif redirect:
                setattr(command, redirect, word)
                redirect = None
            elif word in OPERATORS:
                if command.words:
                    found.append(command)
                command = Command([], piped=word == "|")
            elif command.words or not re.match(r"[A-Z_]+=", word):
                command.words.append(word if command.words else word.removeprefix(".venv/bin/"))
    return found


def run_shell(text: str) -> None:
    """Run a block of `facetalk` commands in the working folder, in this process."""
    for command in commands(text):
        assert command.words[0] == "facetalk", f"{command.words[0]!r} is not run here: mark the block"
        words = []
        for word in command.words[1:]:
            words += sorted(map(str, Path().glob(word))) if "*" in word else [word]
        with contextlib.ExitStack() as stack:
            if command.stdout:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(_text_file(command.stdout))))
            with pytest.raises(SystemExit) as leave:
                main(words)
        assert leave.value.code == 0, " ".join(command.words)


def _text_file(path: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(path, "wb"), encoding="utf-8")  # noqa: SIM115  closed by the stack


def check_shell(text: str) -> None:
    """Every command exists and takes the options that it is given."""
    for command in commands(text):
        name, *words = command.words
        if name == "facetalk":
            check_facetalk(words)
        elif name in ("python", "python3"):
            check_python(words)
        elif name == "accelerate":
            assert words.pop(0) == "launch"
            options = launch_command_parser().parse_args(words)
            check_python([options.training_script, *options.training_script_args])
        elif name == "make":
            check_make(words)
        elif name == "pip":
            check_pip(words)
        else:
            assert name in FOREIGN, f"what is {name!r}?"


def check_facetalk(words: list[str]) -> None:
    """Let the command line read its arguments, and do nothing."""
    command, context = typer.main.get_command(app), None
    name = "facetalk"
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, words = command.resolve_command(context, rest)


class _Read(Exception):
    """The arguments were read without a complaint."""


def check_python(words: list[str]) -> None:
    """Let a script of the repository read its arguments, and stop it there."""
    if words[0] == "-m":
        assert words[1] in ("venv", "http.server"), words
        return
    if words[0] == "facetalk_hf.cli":  # accelerate launch --module
        return check_facetalk(words[1:])
    script = ROOT / words[0]
    assert script.is_file(), f"there is no {words[0]}"
    if not re.search(r"ArgumentParser|study_parser|parse_config", script.read_text(encoding="utf-8")):
        assert not [word for word in words if word.startswith("-")], f"{words[0]} has no options"
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        result = parse(self, args, namespace)
        if args is None:
            raise _Read
        return result

    with pytest.MonkeyPatch.context() as patch, pytest.raises((_Read, SystemExit)) as end:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", list(words))
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        runpy.run_path(str(script), run_name="__main__")
    assert end.type is _Read or end.value.code == 0  # --help ends with 0


def check_make(words: list[str]) -> None:
    """Targets and variables are those of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()
    for word in words:
        name, assigned, _ = word.partition("=")
        assert re.search(rf"^{name} :=", text, re.M) if assigned else name in targets, f"make has no {word}"


def check_pip(words: list[str]) -> None:
    """Extras and files of `pip install` exist."""
    assert words.pop(0) == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for before, word in zip([None, *words], words, strict=False):
        for extra in (re.search(r"\[(.*)\]", word) or [None, ""])[1].split(","):
            assert extra in extras or not extra, f"there is no extra {extra}"
        assert before not in ("-c", "-r") or (ROOT / word).is_file(), word


def check_python_block(text: str) -> None:
    """It compiles, and what it imports is there."""
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), "imports", "exec"), {})  # noqa: S102  our own page
