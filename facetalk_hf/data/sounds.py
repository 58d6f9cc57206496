# SPDX-License-Identifier: MIT
"""Recordings without motion, read in parts: a folder of sound files, or a dataset with a column of audio."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FaceTalkError
from .checks import FRAMES, SPLITS
from .corpus import MANIFEST, SCHEMA, load, quiet_datasets, require_datasets


SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aiff", ".mp4", ".mkv", ".webm")
STRINGS = ("speaker", "sequence", "text", "language", "source", "licence", "engine")
OURS = ("split", "sampling_rate", "fps", "identity", *FRAMES)
"""Columns that are made anew, or that belong to the motion which a row had before."""


@dataclass(frozen=True)
class SoundPart:
    """A part of a source, which any process can read without the others.

    Args:
        name: file name of what is made of it, without suffix. split: "train", "validation" or "test".
        read: makes an iterator of rows: "id", "audio" (encoded, or a path) and what else the source has.
        extra: kinds of `datasets` of the columns that a corpus does not know.
    """

    name: str
    split: str
    read: Callable[[], Iterator[dict[str, Any]]]
    extra: dict[str, Any] = field(default_factory=dict)


def open_sounds(
    source: str | Path, rows: int, split: str | None = None, config: str | None = None, audio_column: str = "audio"
) -> list[SoundPart]:
    """Find the recordings of a source, as parts in an order that is always the same.

    Args:
        source (`str` or `Path`): folder of sound or video files; or what `datasets.load_dataset` reads by streaming: a
            folder of Parquet files, a corpus, or the id of a dataset on the Hub.
        rows (`int`): files of a part, of a folder of sounds; a dataset has a part for each of its own files.
        split (`str`, *optional*): of the dataset; all by default. A split of another name than ours is "train", unless
            it begins like "dev", "val" or "test".
        config (`str`, *optional*): configuration of the dataset.
        audio_column (`str`): where its sounds are.

    Raises:
        FaceTalkError: nothing there, or no such split or column.
    """
    folder = Path(source)
    if folder.is_dir() and not any(folder.rglob("*.parquet")) and not any(folder.glob("metadata.*")):
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS and path.is_file())
        if not paths:
            raise FaceTalkError(f"{folder} has neither sound files nor a dataset: {', '.join(SOUNDS)}, *.parquet")
        chosen = [paths[start : start + rows] for start in range(0, len(paths), rows)]
        return [
            SoundPart(f"{number:05d}", "train", partial(_read_files, folder, part))
            for number, part in enumerate(chosen)
        ]
    if folder.is_file():
        raise FaceTalkError(f"{folder} is a file: give its folder, or `facetalk generate` the file")
    found = _open_dataset(source, split, config)
    parts = []
    for name, dataset in sorted(found.items()):
        dataset = dataset.decode(False)
        features = dataset.features or require_datasets().Dataset.from_list([next(iter(dataset))]).features
        if audio_column not in features:
            raise FaceTalkError(f"{source} has no column {audio_column}, only {', '.join(features)}: --audio-column")
        ours = (folder / MANIFEST).is_file()
        extra = {old: new for old, new in _extra(features, ours).items() if old != audio_column}
        for number in range(dataset.num_shards):
            label = f"{_plain(name)}-{number:05d}"
            read = partial(_read_dataset, dataset, number, label, audio_column, extra, ours)
            parts.append(SoundPart(label, split_of(name), read, {new: features[old] for old, new in extra.items()}))
    return parts


def split_of(name: str) -> str:
    """Choose the split of a corpus for that of a dataset: "dev.clean" and "valid" are "validation"."""
    starts = {"validation": ("val", "dev"), "test": ("test", "eval")}
    return next((ours for ours in SPLITS[1:] if name.lower().startswith(starts[ours])), "train")


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name)


def _open_dataset(source: str | Path, split: str | None, config: str | None) -> dict[str, Any]:
    """Open a dataset for streaming, as a dict of its splits."""
    quiet_datasets()
    if (Path(source) / MANIFEST).is_file():
        found = load(source, split, streaming=True)
    else:
        try:
            found = require_datasets().load_dataset(str(source), name=config, split=split, streaming=True)
        except Exception as error:  # of libraries and networks: nearly any
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise FaceTalkError(f"no dataset in {source}, neither a folder nor on the Hub: {reason}") from error
    return found if isinstance(found, dict) else {split or "train": found}


def _extra(features: Any, ours: bool) -> dict[str, str]:
    """Name the columns that go along although a corpus has no place for them; one that is ours gets another name."""
    kept = [name for name in features if name not in STRINGS and name not in OURS]
    kept = [name for name in kept if not (ours and name in SCHEMA)]
    return {name: f"source_{name}" if name in SCHEMA else name for name in kept}


def _read_files(folder: Path, paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield {"id": path.relative_to(folder).as_posix(), "audio": {"path": str(path)}, "sequence": path.stem}


def _read_dataset(
    dataset: Any, number: int, label: str, column: str, extra: dict[str, str], ours: bool
) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(dataset.shard(num_shards=dataset.num_shards, index=number)):
        made = {name: str(row[name]) for name in STRINGS if row.get(name) is not None}
        made |= {name: row.get(name) for name in ("phones", "confidence") if ours}
        made |= {new: row.get(old) for old, new in extra.items()}
        yield made | {"id": row["id"] if ours else f"{label}-{index:06d}", "audio": _sound(row[column])}


def _sound(value: Any) -> Any:
    """Fetch the bytes of what a dataset only points to."""
    path = value.get("path") if isinstance(value, dict) else value
    if isinstance(value, dict) and (value.get("bytes") is not None or path is None):
        return value
    if "://" in str(path):
        with require_datasets().utils.file_utils.xopen(str(path), "rb") as file:
            return {"bytes": file.read(), "path": None}
    return {"bytes": None, "path": path}
