# SPDX-License-Identifier: MIT
"""The card (README.md) of a corpus, from what was counted in it: what it holds, its columns, and how it is read."""

from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ..hub.cards import sections
from ..paths import packaged
from .corpus import SCHEMA


SPDX = ("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""Licences whose name on the Hub is that of the row in small letters; any other one is "other" there."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
TAGS = ["facetalk", "facetalk_hf", "audio-driven", "talking-head", "3d", "speech"]
ABOUT = "Speech and the motion of the face."
OURS = ("", "What is there", "Reading it", "Columns", "Source and licence", "Must not be used for")
"""Sections of the template; any other one of an earlier card comes behind them."""


def dataset_card(
    summary: dict[str, Any],
    name: str,
    about: str | None = None,
    place: str = "path/to/this/folder",
    license: str | None = None,
    earlier: DatasetCard | None = None,
) -> DatasetCard:
    """Make the card, its header as the Hub and `load_dataset` read it.

    Args:
        summary: what `building.summarise` returns.
        name (`str`): title.
        about (`str`, *optional*): first paragraphs; by default those of the earlier card.
        place (`str`): what the example loads; a Hub id, once there is one.
        license (`str`, *optional*): by default that of the rows if it is one the Hub knows, else that of the earlier
            card, else "other".
        earlier (`DatasetCard`, *optional*): its introduction, and sections that are not ours, are kept.
    """
    licences, rows = list(summary["licences"]), sum(split["rows"] for split in summary["splits"].values())
    stated = licences[0].lower() if len(licences) == 1 and licences[0].lower() in SPDX else None
    body = {} if earlier is None else sections(earlier.text)
    data = DatasetCardData(
        license=license or stated or (earlier and earlier.data.get("license")) or "other",
        language=sorted(summary["languages"]) or None, pretty_name=name, task_categories=["other"], tags=TAGS,
        configs=[{"config_name": "default", "data_files": summary["data_files"]}],
        size_categories=[next((label for limit, label in SIZES if rows < limit), "n>1M")],
    )  # fmt: skip
    columns = [
        {
            "name": column, "kind": kind.replace("D)", f"{summary['code_dim']})"),
            "meaning": SCHEMA.get(column, ("", ""))[1],
            "known": {0: "no row", rows: "all rows"}.get(summary["known"][column])
            or f"{summary['known'][column]} of {rows} rows",
        }
        for column, kind in summary["columns"].items()
    ]  # fmt: skip
    told = (("Source", "sources"), ("Spoken by", "engines"), ("Licence", "licences"))
    return DatasetCard.from_template(
        data, template_path=str(packaged("dataset_card.md")), name=name, place=place,
        about=about or body.get("") or ABOUT, columns=columns,
        **{key: summary[key] for key in ("splits", "shared_speakers", "code_dim")},
        sources=[line for label, key in told for line in counted(label, summary[key])],
        more=[(title, text) for title, text in body.items() if title not in OURS],
    )  # fmt: skip


def counted(label: str, values: dict[str, int], most: int = 20) -> list[str]:
    """Lines that say how many sequences have which value, the most frequent ones first."""
    order = sorted(values.items(), key=lambda item: -item[1])
    lines = [f"{label}: {value} ({count} sequences)" for value, count in order[:most]]
    return lines + ([f"{label}: {len(order) - most} others"] if len(order) > most else [])
