# SPDX-License-Identifier: MIT
"""The corpus of spoken sequences: schema, shards, reader, 48-frame segments, collator.

A corpus is a folder of Parquet shards in the format of Hugging Face `datasets`, one row a sequence. Audio lies in the
rows as encoded bytes (FLAC), so `datasets.Audio(decode=False)` reads it and no torchcodec is needed.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from .blendshapes import EXPRESSIONS
from .errors import FaceTalkError
from .files import atomic_path


SEGMENT_FRAMES = 48
"""Length of a training sequence, 2 s at 24 fps (FaceTalk, section 4)."""


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise FaceTalkError("corpora need the package datasets: pip install 'facetalk-hf[train]'") from error
    return datasets


def features(code_dim: int | None = None) -> Any:
    """The schema of a row, `datasets.Features`; with `code_dim` also "expression" (T, code_dim)."""
    datasets = _datasets()
    value = datasets.Value
    schema = {
        "id": value("string"),
        "audio": {"bytes": value("binary"), "path": value("string")},
        "sampling_rate": value("int32"),
        "weights": datasets.List(datasets.List(value("float32"), length=len(EXPRESSIONS))),
        "closure": datasets.List(value("float32")),
        "fps": value("float32"),
        "speaker": value("string"),
        "language": value("string"),
        "engine": value("string"),
        "text": value("string"),
        "phones": datasets.List({"phone": value("string"), "start": value("float32"), "end": value("float32")}),
        "split": value("string"),
        "licence": value("string"),
    }
    if code_dim is not None:
        schema["expression"] = datasets.List(datasets.List(value("float32"), length=code_dim))
    return datasets.Features(schema)


def encode_audio(samples: np.ndarray, sampling_rate: int) -> dict[str, Any]:
    """(S,) float in -1..1 -> the "audio" field: 16-bit FLAC bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1 - 2**-15), sampling_rate, format="FLAC", subtype="PCM_16")
    return {"bytes": buffer.getvalue(), "path": None}


def decode_audio(row: dict[str, Any]) -> np.ndarray:
    """The "audio" field of a row -> (S,) float32 at the row's sampling rate."""
    samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
    return samples


def write_shard(rows: Sequence[dict[str, Any]], path: str | Path, code_dim: int | None = None) -> None:
    """Write rows as one Parquet file, whole or not at all.

    Args:
        rows: dictionaries with the fields of `features`.
        path (`str` or `Path`): the file, "*.parquet".
        code_dim (`int`, *optional*): length of the expression codes, where the rows have them.
    """
    datasets = _datasets()
    plain = [
        {key: getattr(value, "tolist", lambda value=value: value)() for key, value in row.items()} for row in rows
    ]
    table = datasets.Dataset.from_list(plain, features=features(code_dim))
    with atomic_path(path) as temporary:
        table.to_parquet(temporary)


def shards(folder: str | Path) -> list[Path]:
    """The Parquet files of a corpus, sorted by name.

    Raises:
        FaceTalkError: there are none.
    """
    paths = sorted(Path(folder).glob("**/[!.]*.parquet"))
    if not paths:
        raise FaceTalkError(f"no corpus in {folder}: no *.parquet file; training/build_speech.py makes one")
    return paths


def read_shard(
    path: str | Path, splits: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of one Parquet file as dictionaries; arrays are numpy float32, audio stays encoded.

    Read by pyarrow, not through the cache of `datasets`: a second copy of hours of audio on disk helps nobody here.
    """
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(path, columns=["split"]).column("split").to_pylist()
    if splits is not None and not set(splits) & set(found):
        return
    table = pyarrow.parquet.read_table(path, columns=None if columns is None else sorted({*columns, "split"}))
    matrices = {"weights", "expression"} & set(table.column_names)
    for index, split in enumerate(found):
        if splits is not None and split not in splits:
            continue
        row = {}
        for name in table.column_names:
            scalar = table.column(name)[index]
            if name in matrices:
                values = scalar.values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                row[name] = values.reshape(len(scalar.values), -1)
            elif name == "closure":
                row[name] = scalar.values.to_numpy(zero_copy_only=False).astype(np.float32)
            else:
                row[name] = scalar.as_py()
        yield row


def read(
    folder: str | Path, splits: Sequence[str] = ("train",), columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a corpus, shard by shard.

    Args:
        folder (`str` or `Path`): the corpus.
        splits: which of "train", "validation", "test".
        columns: fields to read; all by default. "split" always comes with them.

    Returns:
        iterator of dictionaries as in `read_shard`.
    """
    for path in shards(folder):
        yield from read_shard(path, splits, columns)


def load(folder: str | Path, split: str | None = None) -> Any:
    """The corpus as a `datasets.Dataset`, its audio column cast to `Audio(decode=False)`.

    Args:
        folder (`str` or `Path`): the corpus.
        split (`str`, *optional*): keep only these rows.
    """
    datasets = _datasets()
    dataset = datasets.load_dataset("parquet", data_files=[str(path) for path in shards(folder)], split="train")
    if split is not None:
        dataset = dataset.filter(lambda value: value == split, input_columns="split")
    return dataset.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))


def segment_starts(frames: int, length: int = SEGMENT_FRAMES, stride: int | None = None) -> list[int]:
    """First frames of the segments that cover a sequence; the last one is moved back to end with it.

    Args:
        frames (`int`): frames of the sequence.
        length (`int`): frames of a segment.
        stride (`int`, *optional*, defaults to `length`): frames from one start to the next.

    Returns:
        list of int; [0] where the sequence is shorter than a segment.
    """
    stride = stride or length
    if frames <= length:
        return [0]
    starts = list(range(0, frames - length + 1, stride))
    if starts[-1] + length < frames:
        starts.append(frames - length)
    return starts


def collate(rows: Sequence[dict[str, np.ndarray | torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack sequences of unequal length: zeros behind the end and a mask.

    Args:
        rows: dictionaries with the same keys; every value is (T_i, ...) with one T_i a row.

    Returns:
        each key (B, T, ...) float32, and "frame_mask" (B, T) bool, true where there is a frame.
    """
    lengths = [len(next(iter(row.values()))) for row in rows]
    longest = max(lengths)
    batch: dict[str, torch.Tensor] = {}
    for key in rows[0]:
        first = torch.as_tensor(rows[0][key])
        out = torch.zeros((len(rows), longest, *first.shape[1:]), dtype=torch.float32)
        for index, row in enumerate(rows):
            out[index, : lengths[index]] = torch.as_tensor(row[key])
        batch[key] = out
    batch["frame_mask"] = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    return batch
