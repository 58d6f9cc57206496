# SPDX-License-Identifier: MIT
"""A corpus as a dataset repository: shards of one split each, and a card that is read off them."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from . import corpus
from .errors import FaceTalkError
from .hub import new_folder
from .hub_cards import sections
from .hub_checks import check_folder


SHARD_BYTES = 300_000_000
ROW_GROUP = 20
"""Rows of a group: what a reader in the browser has to fetch to show one."""

SPDX = ("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""Licences whose name on the Hub is that of the row in small letters; any other one is "other" there."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
TAGS = ["facetalk", "facetalk_hf", "audio-driven", "talking-head", "3d", "speech"]
MEANING = {
    "id": "name of the sequence", "speaker": "who speaks", "split": "train, validation or test",
    "audio": "one channel; FLAC in `bytes`", "sampling_rate": "of the audio, Hz", "fps": "frames a second",
    "expression": "expression codes, (frames, code size)", "weights": "blendshape weights, (frames, 53)",
    "closure": "how much the lips are shut by a sound, 0 to 1, (frames)", "text": "what is said",
    "phones": "phones with `start` and `end` in s", "language": "of the text", "engine": "program that spoke",
    "licence": "terms of the sequence",
}  # fmt: skip
OURS = ("Reading it", "Columns", "Source and licence", "Must not be used for")


def write_dataset(
    source: str | os.PathLike, folder: str | os.PathLike, repo_id: str | None = None, license: str | None = None
) -> list[str]:
    """Write a dataset repository: data/SPLIT-*.parquet, the small files of the corpus, and its card.

    All columns go along as they are; "audio" is declared as audio, so that the Hub plays it.

    Args:
        source (`str` or `os.PathLike`): a corpus, in the format of [`facetalk_hf.corpus`].
        folder (`str` or `os.PathLike`): new or empty.
        repo_id (`str`, *optional*): the repository that the card's example loads.
        license (`str`, *optional*): by default that of the rows if it is one the Hub knows, else "other".

    Returns:
        list of `str`: the files, as paths in the folder.

    Raises:
        FaceTalkError: no corpus, shards whose columns differ, or something that must not be published.
    """
    source = Path(source)
    shards = corpus.shards(source)
    with new_folder(folder) as folder:
        write_splits(shards, folder / "data")
        for name in ("lips.npy", "basis.npz"):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        earlier = DatasetCard.load(source / "README.md") if (source / "README.md").is_file() else None
        card = dataset_card(folder, (repo_id or folder.name).split("/")[-1], repo_id, license, earlier)
        card.save(folder / "README.md")
        return check_folder(folder, "dataset")


def write_splits(shards: list[Path], folder: Path) -> None:
    """Copy the rows of mixed shards into SPLIT-00000-of-0000N.parquet, in their order."""
    import pyarrow.compute
    import pyarrow.parquet

    folder.mkdir()
    schema, writers, written = None, {}, Counter()
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
            part = table.filter(pyarrow.compute.equal(table.column("split"), split)).cast(schema)
            place = folder / f".{split}-{written[split]:05d}"
            if split not in writers:
                writers[split] = pyarrow.parquet.ParquetWriter(place, schema)
            writers[split].write_table(part, row_group_size=ROW_GROUP)
            if place.stat().st_size > SHARD_BYTES:
                writers.pop(split).close()
                written[split] += 1
    for split, writer in writers.items():
        writer.close()
        written[split] += 1
    for path in folder.iterdir():  # now their number is known
        split, _, number = path.name[1:].rpartition("-")
        path.rename(folder / f"{split}-{number}-of-{written[split]:05d}.parquet")


def audio_features(metadata: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The schema's note for `datasets`, with the column "audio" declared as such."""
    note = json.loads(metadata.get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    if "audio" in features:
        features["audio"] = {"sampling_rate": 16000, "_type": "Audio"}
    return {b"huggingface": json.dumps(note).encode()} if features else {}


def dataset_card(
    folder: Path,
    name: str,
    repo_id: str | None = None,
    license: str | None = None,
    earlier: DatasetCard | None = None,
) -> DatasetCard:
    """The card of a folder of `write_splits`: what its rows hold, counted; the arguments are those of `write_dataset`.

    Introduction and further sections of an earlier card are kept.
    """
    import pyarrow.parquet

    splits: dict[str, dict[str, Any]] = {}
    told = {key: Counter() for key in ("source", "engine", "licence", "language")}
    paths = sorted((folder / "data").glob("*.parquet"))
    for path in paths:
        file = pyarrow.parquet.ParquetFile(path)
        present = [key for key in (*told, "speaker", "fps") if key in file.schema_arrow.names]
        split = splits.setdefault(path.name.split("-")[0], {"rows": 0, "speakers": set(), "seconds": 0.0})
        motion = [key for key in ("expression", "weights") if key in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=[*present, *motion]):
            split["rows"] += len(batch)
            if "speaker" in present:
                split["speakers"] |= set(batch.column("speaker").to_pylist()) - {None}
            lengths = [batch.column(key).value_lengths().to_pylist() for key in motion]
            for fps, *frames in zip(batch.column("fps").to_pylist(), *lengths, strict=True):
                split["seconds"] += max([count or 0 for count in frames], default=0) / fps
            for key in told:
                if key in present:
                    told[key].update(value for value in batch.column(key).to_pylist() if value)
    schema = pyarrow.parquet.read_schema(paths[0])
    order = sorted(splits, key=lambda split: ("train", "validation", "test", split).index(split))
    rows, licences = sum(split["rows"] for split in splits.values()), list(told["licence"])
    only = licences[0].lower() if len(licences) == 1 else ""
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in order]
    data = DatasetCardData(
        license=license or (only if only in SPDX else "other"), language=sorted(told["language"]) or None,
        pretty_name=name, task_categories=["other"], tags=TAGS,
        configs=[{"config_name": "default", "data_files": files}],
        size_categories=[next((label for limit, label in SIZES if rows < limit), "n>1M")],
    )  # fmt: skip
    meanings = MEANING | {key: value[1] for key, value in getattr(corpus, "SCHEMA", {}).items()}
    body = sections(earlier.text) if earlier is not None else {"": ""}
    lines = [
        f"{label}: {value} ({count} sequences)"
        for key, label in (("source", "Source"), ("engine", "Spoken by"), ("licence", "Licence"))
        for value, count in told[key].most_common(20)
    ]
    return DatasetCard.from_template(
        data, template_path=str(Path(__file__).parent / "assets" / "dataset_card.md"), name=name, repo_id=repo_id,
        splits=[{
            "name": split, "rows": splits[split]["rows"], "speakers": len(splits[split]["speakers"]),
            "minutes": f"{splits[split]['seconds'] / 60:.1f}",
        } for split in order],
        columns=[{"name": f.name, "kind": f"`{kind(f)}`", "meaning": meanings.get(f.name, "")} for f in schema],
        sources=lines or ["Not stated in the rows."], intro=body[""].split("\n|")[0].strip(),
        more=[(title, text) for title, text in body.items() if title and title not in OURS],
    )  # fmt: skip


def kind(field: Any) -> str:
    """A column's type in a few words."""
    if field.name == "audio":
        return "audio"
    text = str(field.type).replace("element: ", "").replace("item: ", "").replace("fixed_size_list", "list")
    return text.replace("<", "(").replace(">", ")")
