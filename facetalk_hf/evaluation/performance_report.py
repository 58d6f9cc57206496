# SPDX-License-Identifier: MIT
"""Results of benchmarks/benchmark.py as Markdown: tables, conclusions, and what they were measured on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .studies import markdown_table
from .timing import PACKAGES


SECTIONS = ("stages", "length", "batch", "streaming")
HOUR = 3600.0
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99, "worst": 1.0}


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Write rows of a section as a Markdown table with columns that line up."""
    head: list[str]
    keys: tuple[str, ...]
    if name == "stages":
        head = ["", "wall ms", "CPU ms", "for one", "x real time", "x encoding (CPU)"]
        keys = ("what", "seconds", "cpu_seconds", "unit", "real_time", "encoding")
        rows = [row | {key: 1e3 * row[key] for key in keys[1:3]} for row in rows]
    elif name == "length":
        head = ["audio, s", "steps", "wall s", "CPU s", "CPU ms a second of audio"]
        head += ["peak GB before the call", "after it", "with the head decoded"]
        keys = ("audio_seconds", "steps", "seconds", "cpu_seconds", "rate", "loaded_gb", "peak_gb", "peak_decoded_gb")
        rows = [row | {"rate": 1e3 * row.get("cpu_seconds", np.nan) / row["audio_seconds"]} for row in rows]
    elif name == "batch":
        head = ["clips", "wall s", "CPU s", "s of audio a second, wall", "CPU", "x one clip (CPU)"]
        keys = ("clips", "seconds", "cpu_seconds", "throughput", "cpu_throughput", "ratio")
        rows = [row | {"ratio": row["cpu_throughput"] / rows[0]["cpu_throughput"]} for row in rows]
    else:
        head = ["frames a portion", "clock", "delay of sound, s", *(f"{name} ms" for name in QUANTILES), "x real time"]
        keys = ("hop", "clock", "delay", *QUANTILES, "real_time")
    lines = markdown_table(head, [[row.get(key) for key in keys] for row in rows]).splitlines()
    cells = [line[2:-2].split(" | ") for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"| {' | '.join(f'{cell:<{width}}' for cell, width in zip(line, widths, strict=True))} |" for line in cells
    )


def remarks(name: str, section: dict[str, Any]) -> Iterator[str]:
    """Conclude from the rows of a section, as sentences."""
    if "problem" in section:
        yield f"Not measured: {section['problem']}."
    if name == "length":
        found = {row["audio_seconds"]: row for row in section["rows"]}
        short, long, hour = (found.get(seconds) for seconds in (10, 600, HOUR))
        if short and long and "seconds" in short and "seconds" in long:
            ratio = long["cpu_seconds"] / short["cpu_seconds"]
            yield f"10 minutes cost {ratio:.1f} times the CPU time of 10 seconds (wanted: at most 70)."
        if hour and "peak_gb" in hour:
            peak = max(hour["peak_gb"], hour.get("peak_decoded_gb", 0))
            yield f"An hour of audio at once: {peak:.2f} GB at the peak (wanted: under 2)."
        for row in section["rows"]:
            if "failed" in row:
                yield f"{row['audio_seconds']:g} s: the process ended with exit code {row['failed']}."


def circumstances(section: dict[str, Any]) -> str:
    """Say when and on what a section was measured, and whether the machine had other work."""
    what, settings = section["conditions"], section["settings"]
    text = (
        f"{what['date']}, {what['cpu']}, {what['threads']} of {what['cores']} cores, load average {what['load']:g} "
        f"before and {section['load_after']:g} after"
    )
    if what["device"] != "cpu":
        text += f", {what['device']}"
    if what["load"] > 0.5 * what["cores"]:
        text += "; **the machine was busy: read the CPU time, not the wall time**"
    return f"{text}. {settings['model']} ({settings['digest']}), {section['what']}."


def report(sections: dict[str, dict[str, Any]]) -> str:
    """Write all sections as Markdown, with how and where they were measured."""
    parts: list[str] = []
    commands: list[str] = []
    for name in SECTIONS:
        if name in sections:
            section = sections[name]
            rows = [table(name, section["rows"])] if section["rows"] else []
            parts += [f"### {name.capitalize()}", circumstances(section), *rows, *remarks(name, section)]
            commands.append(f"`{section['command']}`")
    last = max(sections.values(), key=lambda section: section["conditions"]["date"])["conditions"]
    versions = ", ".join(
        f"{name} {last[name]}" for name in ("facetalk_hf", "python", *PACKAGES, "system") if name in last
    )
    return "\n\n".join([f"{versions}. Measured by {', '.join(dict.fromkeys(commands))}.", *parts])
