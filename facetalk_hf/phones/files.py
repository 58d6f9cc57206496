# SPDX-License-Identifier: MIT
"""Files of timed phones, as aligners and engines of speech write them: csv, TextGrid, JSON."""

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FaceTalkError
from ..files import atomic_path
from .reading import Alphabet, Row, to_segments
from .segments import Segment


_PHONE = ("phone", "phoneme", "phon", "ph", "label", "symbol", "name", "text", "mark", "value", "p")
_START = ("start", "begin", "onset", "xmin", "tmin", "from", "start_time", "start_s", "t0", "s")
_END = ("end", "stop", "offset", "xmax", "tmax", "to", "end_time", "end_s", "t1", "e")
_DURATION = ("duration", "dur", "length", "d")
_LISTS = ("phones", "phonemes", "segments", "alignment", "entries", "tiers")
_TIER = re.compile(r"(^|[\s_-])(phones?|phonemes?|phons?|segments?)$", re.IGNORECASE)


def read_phones(path: str | os.PathLike, alphabet: Alphabet | None = None) -> list[Segment]:
    """Read timed phones from a csv, a TextGrid of Praat or a JSON file; what it is, its content tells.

    - csv, tsv or words with blanks between: columns phone, start and end (or duration) by their headings, or without
      headings in this order or as start, end, phone. A column "Type" (Montreal Forced Aligner) keeps "phones" only.
    - TextGrid, long or short, UTF-8 or UTF-16: the interval tier that is called phones, phonemes or segments, or the
      only one.
    - JSON: lists [phone, start, end] (or [start, end, phone]), or objects with such fields, or one of these under
      "phones".

    Args:
        path (`str` or `os.PathLike`): the file.
        alphabet (`str`, *optional*): "arpabet", "ipa" or "common"; by default that of the names, see
            [`~facetalk_hf.phones.reading.detect_alphabet`].

    Returns:
        list of [`Segment`]: the common alphabet, seconds, sorted, without gaps ("pau"), from 0 s on.

    Raises:
        FaceTalkError: no such file, or one whose phones cannot be used; the line says which.
    """
    path = Path(path)
    try:
        content = _decode(path.read_bytes())
    except OSError as error:
        raise FaceTalkError(f"cannot read phones from {path}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise FaceTalkError(f"{path} is no text in UTF-8 or UTF-16, so it holds no phones") from error
    start = content.lstrip()
    if not start:
        raise FaceTalkError(f"{path} is empty")
    if "ooTextFile" in start[:200] or path.suffix.lower() == ".textgrid":
        rows = _text_grid(start, path)
    elif start[0] in "[{" or path.suffix.lower() == ".json":
        try:
            rows = _from_json(json.loads(start), path)
        except json.JSONDecodeError as error:
            raise FaceTalkError(f"{path} is no JSON: {error.msg} in line {error.lineno}") from error
        except RecursionError as error:
            raise FaceTalkError(f"{path} holds no phones, but lists in lists in lists") from error
    else:
        rows = _table(content, path)
    if long := [phone for phone, _, _ in rows if len(phone) > 80]:
        raise FaceTalkError(f"{path}: {_short(long[0])} is no phone")
    return to_segments(rows, alphabet, str(path))


def write_phones(segments: Sequence[Segment], path: str | os.PathLike) -> None:
    """Write segments as JSON, a list of [phone, start, end], which `read_phones` reads."""
    lines = ",\n".join(json.dumps([phone, round(start, 4), round(end, 4)]) for phone, start, end in segments)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def _number(value: Any, what: str, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FaceTalkError(f"{place}: {what} {_short(repr(value))} is no number of seconds") from None


def _short(text: str) -> str:
    """Cut what a message quotes."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _three(values: Sequence[Any], place: str) -> Row:
    """Read a row without headings: the phone comes first, or last."""
    if len(values) < 3:
        raise FaceTalkError(f"{place}: a phone, its start and its end are needed, not {_short(repr(list(values)))}")
    if _is_number(values[0]) and _is_number(values[1]):
        values = [values[2], *values[:2]]
    return str(values[0]).strip(), _number(values[1], "start", place), _number(values[2], "end", place)


def _fields(values: dict[str, Any], place: str) -> Row:
    """Read a row with headings."""
    known = {str(key).strip().lower().replace(" ", "_"): value for key, value in values.items() if key is not None}
    phone, start, end, duration = (
        next((known[name] for name in names if name in known), None) for names in (_PHONE, _START, _END, _DURATION)
    )
    if phone is None or start is None or (end is None and duration is None):
        raise FaceTalkError(
            f"{place}: phone, start and end are needed, there are {_short(', '.join(map(str, values)))}"
        )
    begin = _number(start, "start", place)
    stop = _number(end, "end", place) if end is not None else begin + _number(duration, "duration", place)
    return str(phone).strip(), begin, stop


def _from_json(data: Any, path: Path) -> list[Row]:
    if isinstance(data, dict):
        inner = next((data[key] for key in _LISTS if key in data), None)
        if inner is None:
            inside = [key for key, value in data.items() if isinstance(value, dict) and "phones" in value]
            more = f"; it holds {len(inside)} recordings: take the phones of one out" if inside else ""
            raise FaceTalkError(f"{path}: no list of phones in it, under {_LISTS[0]!r} or by itself{more}")
        return _from_json(inner, path)
    if not isinstance(data, list):
        raise FaceTalkError(f"{path}: phones must be a list, not {type(data).__name__}")
    rows = []
    for index, item in enumerate(data):
        place = f"{path}: entry {index}"
        if isinstance(item, dict):
            rows.append(_fields(item, place))
        elif isinstance(item, list | tuple):
            rows.append(_three(item, place))
        else:
            raise FaceTalkError(f"{place} is neither [phone, start, end] nor an object of these: {_short(repr(item))}")
    return rows


def _table(content: str, path: Path) -> list[Row]:
    lines = [line for line in content.splitlines() if line.strip()]
    mark = next((mark for mark in "\t;," if mark in lines[0]), None)
    if mark:
        cells = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=mark))
    else:
        cells = [line.split() for line in lines]
    if sum(_is_number(cell) for cell in cells[0]) >= 2:  # no headings
        return [_three(row, f"{path}: line {index}") for index, row in enumerate(cells, 1)]
    rows = []
    for index, row in enumerate(cells[1:], 2):
        place = f"{path}: line {index}"
        if len(row) < len(cells[0]):
            raise FaceTalkError(f"{place} has {len(row)} columns, the first line {len(cells[0])}")
        values = dict(zip(cells[0], row, strict=False))
        kind = next((value for key, value in values.items() if key.strip().lower() == "type"), "phones")
        if kind.strip().lower() in ("phones", "phone"):
            rows.append(_fields(values, place))
    return rows


def _text_grid(content: str, path: Path) -> list[Row]:
    """Read a TextGrid: long and short files hold the same values in the same order, the long one with names."""
    # Values are texts in double quotes, with "" for a quote inside, and numbers that stand by themselves: those in
    # "intervals [3]:" do not, nor those of names such as "item1".
    found = re.findall(r'"((?:[^"]|"")*)"|(?<![\w\[.])(-?\d+(?:\.\d*)?(?:[eE]-?\d+)?)(?![\w\].])', content)
    values = [text.replace('""', '"') if not number else float(number) for text, number in found]
    tiers: dict[str, list[Row]] = {}
    try:
        at = next(i for i, value in enumerate(values) if value in ("IntervalTier", "TextTier"))
        while at < len(values):
            kind, name, count = str(values[at]), str(values[at + 1]), int(values[at + 4])
            size = 3 if kind == "IntervalTier" else 2
            items = values[at + 5 : at + 5 + size * count]
            if len(items) != size * count or kind not in ("IntervalTier", "TextTier"):
                raise ValueError
            if kind == "IntervalTier":
                tiers[name] = [
                    (str(items[i + 2]).strip(), float(items[i]), float(items[i + 1])) for i in range(0, len(items), 3)
                ]
            at += 5 + size * count
    except (StopIteration, ValueError, IndexError, OverflowError) as error:
        raise FaceTalkError(f"{path} is no complete TextGrid with interval tiers") from error
    named = [name for name in tiers if _TIER.search(name.strip())]
    chosen = named if len(named) == 1 else list(tiers)
    if len(chosen) != 1:
        raise FaceTalkError(
            f"{path}: which tier holds the phones, of {', '.join(map(repr, tiers)) or 'none'}? Call one 'phones'"
        )
    return tiers[chosen[0]]
