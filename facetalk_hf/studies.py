# SPDX-License-Identifier: MIT
"""What a study writes: rows that are measured once and kept, and tables in Markdown pages between two markers."""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from .errors import FaceTalkError
from .files import atomic_path


class StudyResults:
    """Rows of a study in a JSON file. A row is on disk as soon as it is measured, and is not measured again.

    Args:
        path (`str` or `Path`): the file. A study that was interrupted goes on with what it holds.
        settings (`dict`): what every row depends on (corpus, clips, seed ...), values of JSON.

    Raises:
        FaceTalkError: the file holds rows of other settings, which cannot be compared with new ones.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = Path(path), json.loads(json.dumps(settings))
        self.rows: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return
        try:
            written = json.loads(self.path.read_text())
            earlier, self.rows = written["settings"], written["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise FaceTalkError(f"{self.path} is no results file of a study; name another one") from error
        other = sorted(name for name in earlier | self.settings if earlier.get(name) != self.settings.get(name))
        if other:
            raise FaceTalkError(
                f"{self.path} was made with other settings ({', '.join(other)}); name another file, or remove it"
            )

    def measure(self, name: str, function: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The row of that name, from the file, or from `function` and then into the file, with its time and date."""
        if name not in self.rows:
            start = perf_counter()
            row = dict(function())
            row |= {"wall_seconds": round(perf_counter() - start, 2), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
            self.rows[name] = row
            content = {"command": command(), "machine": machine(), "settings": self.settings, "rows": self.rows}
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")
        return self.rows[name]


def command() -> str:
    """The line that started this script; of absolute paths, which say something of one machine alone, the last part."""
    script = Path(sys.argv[0])
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python", f"{script.parent.name}/{script.name}", *words])


def machine() -> str:
    """What timings depend on, in words without the name of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    used = f"{torch.get_num_threads()} of {cores} CPU cores{device}"
    return f"{used}, {platform.system()} {platform.machine()}, torch {torch.__version__}"


def digest(folder: str | Path) -> str:
    """Twelve digits that change with any weight of a model folder; sha256 over its safetensors files."""
    result = hashlib.sha256()
    for path in sorted(Path(folder).glob("**/*.safetensors")):
        result.update(path.read_bytes())
    return result.hexdigest()[:12]


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of Markdown; numbers with four significant digits, what is missing (`None`, NaN) as a dash."""
    lines = [[str(name) for name in head]] + [[_cell(value) for value in row] for row in rows]
    lines.insert(1, ["---"] + ["---:"] * (len(lines[0]) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"
    return str(value)


def write_between_markers(path: str | Path, name: str, text: str) -> None:
    """Replace what a Markdown page holds between `<!-- name -->` and `<!-- /name -->`, and nothing else of it.

    Args:
        path (`str` or `Path`): the page; a new one is made if there is none. name (`str`): of the place; at the end if
            the page has no such place yet. text (`str`): what goes there.
    """
    path = Path(path)
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    block = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    place = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    page = place.sub(lambda _: block, page) if place.search(page) else f"{page.rstrip()}\n\n{block}\n".lstrip()
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
