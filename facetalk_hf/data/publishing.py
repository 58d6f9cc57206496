# SPDX-License-Identifier: MIT
"""A corpus as a dataset repository: the same corpus, shards of one split each, with what is private left out."""

import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard

from ..data import corpus
from ..errors import FaceTalkError
from ..hub.checks import check_folder
from ..hub.publishing import new_folder, upload
from .building import finish
from .checks import SPLITS


SHARD_BYTES = 300_000_000
ROW_GROUP = 20
"""Rows of a group: what a reader in the browser has to fetch to show one."""


def push_to_hub(source: str | os.PathLike, repo_id: str, license: str | None = None, **options: Any) -> str:
    """Publish a corpus as a dataset: written as a folder, looked through, uploaded.

    Args:
        source (`str` or `os.PathLike`): a corpus, in the format of [`facetalk_hf.data.corpus`].
        repo_id (`str`): USER/NAME; made where there is none.
        license (`str`, *optional*): see [`write_dataset`].
        options: private, revision, token, create_pr, commit_message: see [`~facetalk_hf.hub.publishing.upload`].

    Returns:
        `str`: address of the commit.

    Raises:
        FaceTalkError: what must not be published, or what the Hub refuses and why.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(source, folder, repo_id, license)
        return upload(folder, repo_id, "dataset", **options)


def write_dataset(
    source: str | os.PathLike, folder: str | os.PathLike, repo_id: str | None = None, license: str | None = None
) -> list[str]:
    """Write a dataset repository, which is a corpus again: SPLIT/*.parquet, its small files, corpus.json, the card.

    All columns go along as they are; "audio" is declared as audio, so that the Hub plays it.

    Args:
        source (`str` or `os.PathLike`): a corpus, in the format of [`facetalk_hf.data.corpus`].
        folder (`str` or `os.PathLike`): new or empty.
        repo_id (`str`, *optional*): the repository that the card's example loads.
        license (`str`, *optional*): by default that of the rows if it is one the Hub knows, else of the card there.

    Returns:
        list of `str`: the files, as paths in the folder.

    Raises:
        FaceTalkError: no corpus, shards whose columns differ, or something that must not be published.
    """
    place = corpus.local_folder(os.fspath(source))
    shards = corpus.shards(place)
    name = (repo_id or Path(folder).name).split("/")[-1]
    with new_folder(folder) as folder:
        copy_rows(shards, folder)
        for name in ("lips.npy", "basis.npz", "LICENSE"):
            if (place / name).is_file():
                shutil.copyfile(place / name, folder / name)
        card: dict[str, Any] = {"place": repo_id} if repo_id else {}
        if (place / "README.md").is_file():
            card["earlier"] = DatasetCard.load(place / "README.md")
            title = card["earlier"].data.get("pretty_name")
            name = name if title in (None, place.name) else title
        finish(folder, name, license=license, **card)
        return check_folder(folder, "dataset")


def copy_rows(shards: list[Path], folder: Path) -> None:
    """Copy the rows of shards, which may hold several splits, to SPLIT/00000.parquet and so on, in their order."""
    writers: dict[str, Any] = {}
    try:
        _copy_rows(shards, folder, writers)
        for writer in writers.values():
            writer.close()
    except BaseException:
        for writer in writers.values():
            # Its finaliser would try to close it once more, and print that it cannot.
            with suppress(Exception):
                writer.close()
            writer.is_open = False
        raise


def _copy_rows(shards: list[Path], folder: Path, writers: dict[str, Any]) -> None:
    """Copy rows; `writers` holds the file of each split that is open."""
    import pyarrow.compute
    import pyarrow.parquet

    schema = None
    written: Counter[str] = Counter()
    for path in shards:
        table = pyarrow.parquet.read_table(path)
        if schema is None:
            schema = table.schema.with_metadata(audio_features(table.schema.metadata or {}))
        elif not table.schema.equals(schema):
            different = set(schema.names) ^ set(table.schema.names) or "their types"
            raise FaceTalkError(f"{path} has other columns than the shards before it: {different}")
        if "split" not in table.column_names:
            raise FaceTalkError(f"{path} has no column split, so it is no corpus")
        for split in table.column("split").unique().to_pylist():
            if split not in SPLITS:
                raise FaceTalkError(f"{path}: the split must be one of {', '.join(SPLITS)}, not {split!r}")
            part = table.filter(pyarrow.compute.equal(table.column("split"), split)).cast(schema)
            place = folder / split / f"{written[split]:05d}.parquet"
            if split not in writers:
                place.parent.mkdir(exist_ok=True)
                writers[split] = pyarrow.parquet.ParquetWriter(place, schema)
            writers[split].write_table(part, row_group_size=ROW_GROUP)
            if place.stat().st_size > SHARD_BYTES:
                writers.pop(split).close()
                written[split] += 1


def audio_features(metadata: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Make the schema's note for `datasets`, with the column "audio" declared as such."""
    note = json.loads(metadata.get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    if "audio" in features:
        features["audio"] = {"_type": "Audio"}  # at the rate that each row has
    return {b"huggingface": json.dumps(note).encode()} if features else {}
