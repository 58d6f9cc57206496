# SPDX-License-Identifier: MIT
"""Write the table of train_denoiser.py's options into docs/training.md, from their declaration.

python docs/options.py
"""

import argparse
from pathlib import Path

from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.scripts import make_parser


DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- options: python docs/options.py -->\n", "<!-- end of options -->\n"


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
