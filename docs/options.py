# SPDX-License-Identifier: MIT
"""Write tables of options into the pages: of train_denoiser.py and of generation, from their declarations.

python docs/options.py
"""

import argparse
from pathlib import Path

from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.motion.controls import MotionControls
from facetalk_hf.motion.options import options_of
from facetalk_hf.scripts import make_parser


DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- options: python docs/options.py -->\n", "<!-- end of options -->\n"

PAGES_OF_CONTROLS = ("command-line.md", "control.md")
BEGIN_CONTROLS, END_CONTROLS = "<!-- controls: python docs/options.py -->\n", "<!-- end of controls -->\n"


def controls_table() -> str:
    """One row a control: its names in Python and on the command line, what it does, range, default."""
    rows = ["| in Python | as a command | | range | default | in a stream |", "| --- | --- | --- | --- | --- | --- |"]
    for item in options_of(MotionControls):
        values = "NAME=X,..." if item.keyed else " ".join(item.parts).upper()
        flag = " ".join(filter(None, (f"--{item.spelling}", values)))
        flag += "" if item.parts or item.kind is bool else " N" if item.kind is int else " X"
        facts = (f"`{item.name}`", f"`{flag}`", item.help, item.limits, item.default_words, "yes" if item.live else "")
        rows.append(f"| {' | '.join(facts)} |")
    return "\n".join(rows) + "\n"


def with_controls(text: str) -> str:
    """A page with a fresh table of the controls between its marks."""
    before, _, rest = text.partition(BEGIN_CONTROLS)
    return before + BEGIN_CONTROLS + controls_table() + END_CONTROLS + rest.partition(END_CONTROLS)[2]


def table(parser: argparse.ArgumentParser) -> str:
    """One row an option: name, default, what it does."""
    rows = ["| option | default | |", "| --- | --- | --- |"]
    for action in parser._actions:
        if action.dest == "help":
            continue
        default = action.default
        if default is None or default == {} or default is False:
            default = ""
        elif isinstance(default, tuple):
            default = " ".join(map(str, default))
        name = action.option_strings[-1]
        if action.choices:
            name += " " + "\\|".join(action.choices)
        rows.append(f"| `{name}` | {default} | {action.help} |")
    return "\n".join(rows) + "\n"


def filled(text: str) -> str:
    """The document with a fresh table between the marks."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table(make_parser(DenoiserOptions)) + END + rest.partition(END)[2]


if __name__ == "__main__":
    document = DOCS / "training.md"
    document.write_text(filled(document.read_text()))
    for page in PAGES_OF_CONTROLS:
        document = DOCS / page
        document.write_text(with_controls(document.read_text()))
