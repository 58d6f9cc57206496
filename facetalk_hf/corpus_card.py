# SPDX-License-Identifier: MIT
"""The card (README.md) of a corpus, from its summary: what it holds, its columns, and how it is read."""

from typing import Any

from huggingface_hub import DatasetCardData

from .corpus import SCHEMA


KNOWN_LICENCES = ("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")
"""Licences whose name on the Hub is that of the row in small letters; any other one is "other" there."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

TEXT = """
# {name}

{about}

Made with facetalk_hf: one row a spoken sequence, audio together with the
motion of the face{codes}.

| split | sequences | speakers | frames | minutes |
|---|---|---|---|---|
{splits}

{speakers}

## Reading it

```python
from datasets import Audio, load_dataset

dataset = load_dataset("{place}", split="{split}").cast_column("audio", Audio(decode=False))
```

The cast keeps the audio as bytes, which `soundfile.read(io.BytesIO(row["audio"]["bytes"]))` decodes; `datasets` itself
would need torchcodec. `streaming=True` works. In facetalk_hf, `corpus.load` does all of that, and `corpus.read` yields
rows of numpy arrays.

## Columns

| column | type | meaning | known in |
|---|---|---|---|
{columns}

## Source and licence

{sources}
"""


def dataset_card(
    summary: dict[str, Any], name: str = "Talking heads", about: str = "Speech and the motion of the face.",
    place: str = "path/to/this/folder",
) -> str:  # fmt: skip
    """The card as text, its header as the Hub and `load_dataset` read it.

    Args:
        summary: what `corpus_building.summarise` returns.
        name (`str`), about (`str`): title and first paragraph.
        place (`str`): what the example loads; a Hub id, once there is one.
    """
    licences = summary["licences"]
    only = next(iter(licences)).lower() if len(licences) == 1 else ""
    rows = sum(split["rows"] for split in summary["splits"].values())
    data = DatasetCardData(
        pretty_name=name, license=only if only in KNOWN_LICENCES else "other",
        size_categories=[next((label for limit, label in SIZES if rows < limit), "n>1M")],
        task_categories=["other"], tags=["facetalk", "facetalk_hf", "audio-driven", "talking-head", "3d", "speech"],
        configs=[{"config_name": "default", "data_files": summary["data_files"]}],
    )  # fmt: skip
    splits = "\n".join(
        f"| {split} | {count['rows']} | {count['speakers']} | {count['frames']} | {count['seconds'] / 60:.1f} |"
        for split, count in summary["splits"].items()
    )
    shared = summary["shared_speakers"]
    speakers = f"{shared} speaker(s) are in more than one split." if shared else "No speaker is in two splits."
    size = f"{summary['code_dim']})"
    columns = "\n".join(
        f"| {column} | {kind.replace('D)', size)} | {meaning} | {known(summary, column, rows)} |"
        for column, (kind, meaning) in SCHEMA.items()
        if column in summary["known"]
    )
    codes = "" if summary["code_dim"] is None else f" as codes of {summary['code_dim']} numbers a frame"
    text = TEXT.format(
        name=name, about=about, codes=codes, splits=splits, speakers=speakers, columns=columns, place=place,
        split=next(iter(summary["splits"])),
        sources="\n".join(counted("Source", summary["sources"]) + counted("Licence", licences)),
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n{text}"


def known(summary: dict[str, Any], column: str, rows: int) -> str:
    """In how many rows a column is not null, in words."""
    count = summary["known"][column]
    return "all rows" if count == rows else f"{count} of {rows} rows"


def counted(label: str, values: dict[str, int], most: int = 20) -> list[str]:
    """Lines that say how many sequences have which value, the most frequent ones first."""
    order = sorted(values.items(), key=lambda item: -item[1])
    lines = [f"- {label}: {value} ({count} sequences)" for value, count in order[:most]]
    return lines + ([f"- {label}: {len(order) - most} others"] if len(order) > most else [])
