# SPDX-License-Identifier: MIT
"""Building a corpus: splits by speaker, shards of one split each, and a folder that appears when it is complete."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import FaceTalkError
from ..files import atomic_path
from .card import dataset_card
from .checks import SPLITS, CorpusChecker, check_row
from .corpus import MANIFEST, SCHEMA, read_shard, shards, write_shard


SHARD_ROWS = 40


def split_speakers(
    speakers: Iterable[str], validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, str]:
    """Give every speaker a split, for all of his sequences: test voices are never heard in training.

    Speakers are ordered by a hash of seed and name, so the result depends on neither order nor machine. Test and
    validation get their shares, rounded, but one speaker each as soon as there are two and three speakers.

    Args:
        speakers: names; repetitions count once.
        validation (`float`), test (`float`): shares of the speakers; 0 for none.
        seed (`int`): another one gives another choice.

    Returns:
        dict name -> "train", "validation" or "test".
    """
    if not (0 <= validation and 0 <= test and validation + test < 1):
        raise FaceTalkError(f"shares of {validation:g} and {test:g} leave nothing to train on")
    names = sorted(set(speakers), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    counts: dict[str, int] = {}
    for split, share in (("test", test), ("validation", validation)):
        free = len(names) - 1 - sum(counts.values())
        counts[split] = min(free, max(1, round(share * len(names)))) if share > 0 else 0
    ends = {"test": counts["test"], "validation": counts["test"] + counts["validation"]}
    return {
        name: "test" if i < ends["test"] else "validation" if i < ends["validation"] else "train"
        for i, name in enumerate(names)
    }


def name_splits(
    speakers: set[str], validation: Sequence[str] | float = 0.1, test: Sequence[str] | float = 0.1, seed: int = 0
) -> dict[str, str]:
    """Choose every speaker's split, by name where names are given in place of a share; see `split_speakers`.

    Raises:
        FaceTalkError: a name that no speaker has.
    """
    named: dict[str, str] = {}
    shares: dict[str, float] = {}
    for split, chosen in (("validation", validation), ("test", test)):
        shares[split] = chosen if isinstance(chosen, float | int) else 0.0
        named |= {} if isinstance(chosen, float | int) else dict.fromkeys(chosen, split)
    if unknown := sorted(set(named) - speakers):
        raise FaceTalkError(f"no speaker {unknown[0]}; there are {', '.join(sorted(speakers)[:12])}")
    return split_speakers(speakers - set(named), **shares, seed=seed) | named


@contextmanager
def building(
    folder: str | Path, name: str | None = None, about: str | None = None, keep: bool = False
) -> Iterator[Path]:
    """Yield a hidden folder beside `folder` for shards and other files; it becomes `folder` when all is written.

    At the end its rows are counted and checked together, and card and `corpus.json` are written. Whatever goes wrong
    before, and be it the power, there is no `folder`.

    Args:
        folder (`str` or `Path`): the corpus to be; it must not exist, or be empty.
        name (`str`, *optional*), about (`str`): title and first paragraph of the card.
        keep (`bool`): what an interrupted run has left is there again; by default it is removed.

    Raises:
        FaceTalkError: the folder is in use, or the rows do not go together.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FaceTalkError(f"{folder} exists already; remove it, or choose another place")
    work = folder.with_name(f".{folder.name}.partial")
    if not keep:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    yield work
    finish(work, name or folder.name, about=about)
    os.replace(work, folder)


def complete(folder: str | Path) -> bool:
    """Whether `building` has finished this folder."""
    return (Path(folder) / MANIFEST).is_file()


def finish(folder: str | Path, name: str, **card: Any) -> dict[str, Any]:
    """Check the shards of a folder together, write README.md and then `corpus.json`; return the summary.

    Args:
        folder (`str` or `Path`): with SPLIT/*.parquet.
        name (`str`): the card's title.
        card: more for [`~facetalk_hf.data.card.dataset_card`].

    Raises:
        FaceTalkError: no rows, a name twice, codes of different lengths.
    """
    folder = Path(folder)
    summary = summarise(folder)
    with atomic_path(folder / "README.md") as temporary:
        dataset_card(summary, name, **card).save(temporary)
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8")
    return summary


def summarise(folder: str | Path) -> dict[str, Any]:
    """Count what a folder of shards holds: rows, speakers, frames and seconds of every split, rows with each column.

    Raises:
        FaceTalkError: no rows, a name twice, codes of different lengths.
    """
    import pyarrow.parquet

    folder = Path(folder)
    if not any(folder.rglob("*.parquet")):
        raise FaceTalkError("there are no sequences to make a corpus of")
    checker, known, names = CorpusChecker(), Counter[str](), dict[str, int]()
    kinds: dict[str, str] = {}
    splits: dict[str, dict] = {split: {"rows": 0, "speakers": set(), "frames": 0, "seconds": 0.0} for split in SPLITS}
    files: dict[str, set] = {split: set() for split in SPLITS}
    told: dict[str, Counter[str]] = {
        "sources": Counter(),
        "licences": Counter(),
        "engines": Counter(),
        "languages": Counter(),
    }
    for path in shards(folder):
        place = path.relative_to(folder)
        fields = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(path)}
        kinds |= {column: SCHEMA[column][0] if column in SCHEMA else kind for column, kind in fields.items()}
        count = 0
        for row in read_shard(path, columns=sorted(set(fields) - {"audio"})):  # every row has it, and it is large
            checker(row, place)
            count += 1
            known.update(["audio", *(column for column, value in row.items() if value is not None)])
            motion = next((row[key] for key in ("expression", "weights") if row.get(key) is not None), ())
            part = splits[row["split"]]
            part["rows"] += 1
            part["speakers"].add(row.get("speaker") or "unknown")
            part["frames"] += len(motion)
            part["seconds"] += len(motion) / row["fps"]
            files[row["split"]].add(f"{place.parent.as_posix()}/*.parquet" if place.parts[1:] else place.as_posix())
            for key, column in (("sources", "source"), ("licences", "licence")):
                told[key][row.get(column) or f"{column} unknown"] += 1
            for key, column in (("engines", "engine"), ("languages", "language")):
                told[key].update([row[column]] if row.get(column) else [])
        names[place.as_posix()] = count
    used = [split for split in SPLITS if splits[split]["rows"]]
    people = Counter(speaker for split in used for speaker in splits[split]["speakers"])
    return {
        "version": 1, "code_dim": checker.code_dim,
        "splits": {split: splits[split] | {"speakers": len(splits[split]["speakers"])} for split in used},
        "shared_speakers": sum(count > 1 for count in people.values()),
        "columns": kinds, "known": {column: known[column] for column in kinds}, **told,
        "data_files": [{"split": split, "path": sorted(files[split])} for split in used], "shards": names,
    }  # fmt: skip


def write_splits(rows: Sequence[dict[str, Any]], folder: str | Path, name: str, code_dim: int | None = None) -> None:
    """Write rows as `folder`/SPLIT/`name`.parquet, a file for each split among them; that of "train" comes last."""
    for split in reversed(SPLITS):
        if part := [row for row in rows if row["split"] == split]:
            write_shard(part, Path(folder) / split / f"{name}.parquet", code_dim)


def write_rows(rows: Iterable[tuple[dict[str, Any], Path]], folder: str | Path, shard_rows: int = SHARD_ROWS) -> int:
    """Check rows and write them as shards of one split each, in order; return how many there were.

    Args:
        rows: pairs of a row and the place that it was made from.
        folder (`str` or `Path`): what `building` has yielded.
        shard_rows (`int`): rows of a shard.

    Raises:
        FaceTalkError: a row that cannot be used, with its place; see `check_row` and `CorpusChecker`.
    """
    checker, count = CorpusChecker(), 0
    waiting: dict[str, list] = {split: [] for split in SPLITS}
    numbers = dict.fromkeys(SPLITS, 0)

    def flush(split: str) -> None:
        if waiting[split]:
            write_shard(waiting[split], Path(folder) / split / f"{numbers[split]:05d}.parquet", checker.code_dim)
            numbers[split] += 1
            waiting[split].clear()

    for row, place in rows:
        checker(row, place)
        check_row(row, place)
        waiting[row["split"]].append(row)
        count += 1
        if len(waiting[row["split"]]) >= shard_rows:
            flush(row["split"])
    for split in SPLITS:
        flush(split)
    return count
