# SPDX-License-Identifier: MIT
"""Keyframes as files: csv, json or npz; docs/control.md shows one of each."""

import csv
import json
import os
from pathlib import Path

import numpy as np

from .errors import FaceTalkError
from .keyframes import Keyframes


def read_keyframes(path: str | os.PathLike) -> Keyframes:
    """Read a file of keyframes.

    - csv: a column `frame`, and one for each channel; an empty cell leaves the channel free.
    - json: `{"frames": {"12": {"jawOpen": 0.4}}, "channels": {"eyeBlinkLeft": [0, 0.1, null, ...]}}`, either or both;
      `null` leaves a frame free.
    - npz: `frames` (K,) int with `expression` (K, D) codes, or with `weights` (K, W) and their `names` (W,), NaN where
      free. Without `frames` all frames of the clip are meant.

    Raises:
        FaceTalkError: no such file, another layout, or keyframes that `Keyframes` refuses.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".json": _read_json, ".npz": _read_npz}
    if not path.is_file():
        raise FaceTalkError(f"no such file: {path}")
    if path.suffix.lower() not in readers:
        raise FaceTalkError(f"{path} must be a .csv, .json or .npz of keyframes")
    try:
        keyframes = readers[path.suffix.lower()](path)
    except FaceTalkError as error:
        raise FaceTalkError(f"{path}: {error}") from error
    except Exception as error:  # any damaged file: from UnicodeDecodeError to BadZipFile
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"{path} cannot be read as keyframes: {reason}") from error
    if not keyframes:
        raise FaceTalkError(f"{path} holds no keyframe")
    return keyframes


def _read_csv(path: Path) -> Keyframes:
    keyframes = Keyframes()
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream, skipinitialspace=True)
        if "frame" not in (rows.fieldnames or ()):
            raise FaceTalkError("the first line must name the columns, one of them frame")
        if len(set(rows.fieldnames)) < len(rows.fieldnames):
            raise FaceTalkError("two columns have the same name")
        for row in rows:
            if None in row or None in row.values():
                raise FaceTalkError(f"line {rows.line_num} has not as many cells as the first")
            cells = {name: _number(cell, name, rows.line_num) for name, cell in row.items() if cell.strip()}
            if not cells:
                continue
            if "frame" not in cells:
                raise FaceTalkError(f"line {rows.line_num} has no frame number")
            keyframes.fix_channels([cells.pop("frame")], cells)
    return keyframes


def _number(cell: str, name: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FaceTalkError(f"line {line}: {name} must be a number, not {cell.strip()!r}")
    return value


def _read_json(path: Path) -> Keyframes:
    keyframes = Keyframes()
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not set(document) <= {"frames", "channels"}:
        raise FaceTalkError('it must be an object with "frames" or "channels"')
    for frame, weights in document.get("frames", {}).items():
        if not str(frame).strip().isdigit():
            raise FaceTalkError(f"{frame!r} is no frame number: keyframes are numbered with whole numbers from 0")
        keyframes.fix_channels([int(frame)], weights)
    curves = {
        name: [np.nan if value is None else value for value in curve] if isinstance(curve, list) else curve
        for name, curve in document.get("channels", {}).items()
    }
    return keyframes.fix_channels(None, curves)


def _read_npz(path: Path) -> Keyframes:
    keyframes = Keyframes()
    with np.load(path, allow_pickle=False) as arrays:
        known = {"frames", "expression", "weights", "names"}
        if not set(arrays.files) <= known or not {"expression", "weights"} & set(arrays.files):
            raise FaceTalkError("it must hold frames, and expression or weights with names")
        frames = arrays["frames"] if "frames" in arrays else None
        if "expression" in arrays:
            codes = arrays["expression"]
            keyframes.fix_frames(np.arange(len(codes)) if frames is None else frames, codes)
        if "weights" in arrays:
            weights, names = arrays["weights"], arrays["names"].tolist()
            if weights.ndim != 2 or weights.shape[1] != len(names) or len(set(names)) < len(names):
                raise FaceTalkError(f"weights must be (frames, {len(names)}), a column for each of the names")
            keyframes.fix_channels(frames, dict(zip(names, weights.T, strict=True)))
    return keyframes
