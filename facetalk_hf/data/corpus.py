# SPDX-License-Identifier: MIT
"""The corpus of spoken sequences: schema, shards, reader, and the way to `datasets` and from the Hub.

A corpus is a folder of Parquet shards in the format of Hugging Face `datasets`, one row a sequence. Audio lies in the
rows as encoded bytes (FLAC), so `datasets.Audio(decode=False)` reads it and no torchcodec is needed.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio.io import read_audio
from ..blendshapes import EXPRESSIONS
from ..conditions import CONDITIONS, POSE
from ..errors import FaceTalkError
from ..files import atomic_path


POSE_SIZE = 13
"""Numbers of a pose: s, the nine of R row by row, the three of t."""

SCHEMA: dict[str, tuple[str, str]] = {
    "id": ("string", "name of the row, unique in the corpus"),
    "speaker": ("string", "who speaks"),
    "sequence": ("string", "what the speaker's recording is called"),
    "split": ("string", "train, validation or test"),
    "audio": ("audio", "one channel, FLAC of 16 bits: `bytes`, and `path`, which is null"),
    "sampling_rate": ("int32", "of the audio, Hz"),
    "fps": ("float32", "frames a second; a row has T frames"),
    "expression": ("(T, D) float32", "expression codes, or coefficients of a basis of vertices"),
    "identity": ("(Z,) float32", "the person's identity code"),
    "poses": ("(T, 13) float32", "s, R row by row, t: x_head = s R x + t takes recorded points to the head's space"),
    "residual": ("(T,) float32", "mean distance of the recording from its codes, mm; NaN where nothing was recorded"),
    "weights": (f"(T, {len(EXPRESSIONS)}) float32", "blendshape weights"),
    "closure": ("(T,) float32", "how much the lips are shut by a sound, 0 to 1"),
    "head_pose": (f"(T, {len(POSE)}) float32", "yaw, pitch, roll in degrees, x, y, z in mm; rigid motion of the head"),
    "conditions": (f"(T, {len(CONDITIONS)}) float32", f"what the motion was told: {', '.join(CONDITIONS)}"),
    "text": ("string", "what is said"),
    "phones": ("phones", "list of `phone`, `start` and `end` in seconds"),
    "language": ("string", "of the text, ISO 639-1"),
    "confidence": ("float32", "of the times of the phones, where they were found in a recording, 0 to 1"),
    "engine": ("string", "program that made the audio"),
    "source": ("string", "where the sequence was taken from"),
    "licence": ("string", "terms of the sequence"),
    "consent": ("string", "how the person who is shown agreed to this use of the recording"),
}
"""Name -> kind and meaning of every column. Only id, split, audio, sampling_rate and fps are always known; other
columns are null, or absent from shards of an older version."""

REQUIRED = ("id", "split", "audio", "sampling_rate", "fps")
MANIFEST = "corpus.json"
"""Written last: the shards of a corpus with their numbers of rows, and what was counted in them."""


def require_datasets() -> Any:
    """Import `datasets`; FaceTalkError where the package is missing."""
    try:
        import datasets
    except ImportError as error:
        raise FaceTalkError("corpora need the package datasets: pip install 'facetalk-hf[train]'") from error
    return datasets


def quiet_datasets() -> None:
    """Switch off the progress bars of `datasets`; FaceTalkError where the package is missing."""
    require_datasets().disable_progress_bars()


def features(code_dim: int | None = None) -> Any:
    """Make the schema of a row, `datasets.Features`; with `code_dim` also "expression" (T, code_dim)."""
    datasets = require_datasets()
    value, numbers = datasets.Value, datasets.List(datasets.Value("float32"))
    kinds = {
        "audio": {"bytes": value("binary"), "path": value("string")},
        "phones": datasets.List({"phone": value("string"), "start": value("float32"), "end": value("float32")}),
        "(T,) float32": numbers,
        "(Z,) float32": numbers,
    }
    widths = {"expression": code_dim, "poses": POSE_SIZE, "weights": len(EXPRESSIONS)}
    widths |= {"head_pose": len(POSE), "conditions": len(CONDITIONS)}
    schema = {}
    for name, (kind, _) in SCHEMA.items():
        if name not in widths:
            schema[name] = kinds[kind] if kind in kinds else value(kind)
        elif widths[name] is not None:
            schema[name] = datasets.List(datasets.List(value("float32"), length=widths[name]))
    return datasets.Features(schema)


def encode_audio(samples: np.ndarray, sampling_rate: int) -> dict[str, Any]:
    """Encode (S,) float in -1..1 as the "audio" field of a row: 16-bit FLAC bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1 - 2**-15), sampling_rate, format="FLAC", subtype="PCM_16")
    return {"bytes": buffer.getvalue(), "path": None}


def decode_audio(row: dict[str, Any]) -> np.ndarray:
    """Decode the "audio" field of a row to (S,) float32 at the row's sampling rate."""
    samples, _ = read_audio(row["audio"])
    return samples


def pack_poses(scale: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Put s (T,) or a number, R (T, 3, 3) and t (T, 3) into the "poses" field (T, 13) float32."""
    rotation = np.asarray(rotation, np.float32).reshape(-1, 9)
    scale = np.broadcast_to(np.asarray(scale, np.float32).reshape(-1), (len(rotation),))
    return np.concatenate([scale[:, None], rotation, np.asarray(translation, np.float32).reshape(-1, 3)], axis=1)


def unpack_poses(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take s (T,), R (T, 3, 3) and t (T, 3) out of the "poses" field (T, 13)."""
    poses = np.asarray(poses)
    return poses[:, 0], poses[:, 1:10].reshape(-1, 3, 3), poses[:, 10:]


def write_shard(rows: Sequence[dict[str, Any]], path: str | Path, code_dim: int | None = None) -> None:
    """Write rows as one Parquet file, whole or not at all.

    Args:
        rows: dictionaries with fields of `SCHEMA`; what a row lacks, or what is `None`, becomes null.
        path (`str` or `Path`): the file, "*.parquet".
        code_dim (`int`, *optional*): length of the expression codes; by default that of the first row with codes.

    Raises:
        FaceTalkError: a field that the schema does not know, a missing field that must be there, codes of another
            length.
    """
    datasets = require_datasets()
    plain = []
    for row in rows:
        if unknown := sorted(set(row) - set(SCHEMA)):
            raise FaceTalkError(f"row {row.get('id')}: the corpus has no column {', '.join(unknown)}")
        if missing := [name for name in REQUIRED if row.get(name) is None]:
            raise FaceTalkError(f"row {row.get('id')} lacks {', '.join(missing)}")
        if row.get("expression") is not None:
            size = np.shape(row["expression"])[-1]
            code_dim = size if code_dim is None else code_dim
            if size != code_dim:
                raise FaceTalkError(
                    f"row {row['id']} has expression codes of {size} numbers, but those of the corpus have {code_dim}"
                )
        plain.append({name: getattr(value, "tolist", lambda value=value: value)() for name, value in row.items()})
    schema = features(code_dim)
    table = datasets.Dataset.from_list([{name: row.get(name) for name in schema} for row in plain], features=schema)
    with atomic_path(path) as temporary:
        table.to_parquet(temporary)


def shards(folder: str | Path) -> list[Path]:
    """List the Parquet files of a corpus, a folder or a Hub id, sorted by name.

    Raises:
        FaceTalkError: there are none, or one that `corpus.json` names is missing.
    """
    folder = local_folder(folder)
    paths = sorted(path for path in folder.glob("**/[!.]*.parquet") if not _hidden(path.relative_to(folder)))
    if not paths:
        raise FaceTalkError(f"no corpus in {folder}: no *.parquet file; training/build_corpus.py makes one")
    if (folder / MANIFEST).is_file():
        listed = _manifest(folder / MANIFEST)
        there = {path.relative_to(folder).as_posix() for path in paths}
        if gone := sorted(set(listed) - there):
            raise FaceTalkError(
                f"the corpus in {folder} is not complete: {gone[0]} is missing; copy or build it again"
            )
        if extra := sorted(there - set(listed)):
            raise FaceTalkError(f"{folder / extra[0]} is no part of the corpus in {folder}; remove it")
    return paths


def _manifest(path: Path) -> list[str]:
    """Read the names of a corpus' shards from its corpus.json."""
    try:
        return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))["shards"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FaceTalkError(f"{path} is damaged: build the corpus again, or remove the file") from error


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_shard(
    path: str | Path, splits: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Read the rows of one Parquet file: arrays are numpy float32, audio stays encoded, what is unknown is `None`.

    Read by pyarrow, not through the cache of `datasets`: a second copy of hours of audio on disk helps nobody here.
    """
    import pyarrow.parquet

    try:
        found = _splits(path)
        if splits is not None and not set(splits) & set(found):
            return
        names = pyarrow.parquet.read_schema(path).names
        kept = [name for name in names if columns is None or name in columns or name == "split"]
        table = pyarrow.parquet.read_table(path, columns=kept)
        for index, split in enumerate(found):
            if splits is None or split in splits:
                yield {name: _value(name, table.column(name)[index]) for name in kept}
    except (pyarrow.lib.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, FaceTalkError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"{path} is damaged or no shard of a corpus: {reason}") from error


def has_columns(folder: str | Path, names: Sequence[str]) -> bool:
    """Return whether a shard of a corpus has one of these columns."""
    import pyarrow.parquet

    return any(set(names) & set(pyarrow.parquet.read_schema(path).names) for path in shards(folder))


def _splits(path: str | Path) -> list[str]:
    """Read the split of every row of a Parquet file."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path, columns=["split"]).column("split").to_pylist()


def _value(name: str, scalar: Any) -> Any:
    """Convert one cell to what Python or numpy has."""
    kind = SCHEMA[name][0] if name in SCHEMA else ""
    if not scalar.is_valid or not kind.endswith(") float32"):
        return scalar.as_py()
    values, rows = scalar.values, kind.startswith("(T, ")
    numbers = (values.flatten() if rows else values).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused by those who need it
        numbers = numbers.astype(np.float32)
    return numbers.reshape(len(values), -1) if rows else numbers


def read(
    folder: str | Path, splits: Sequence[str] = ("train",), columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Read the rows of a corpus, shard by shard.

    Args:
        folder (`str` or `Path`): the corpus.
        splits: which of "train", "validation", "test".
        columns: fields to read; all by default. "split" always comes with them.

    Returns:
        iterator of dictionaries as in `read_shard`.
    """
    for path in shards(folder):
        yield from read_shard(path, splits, columns)


def local_folder(corpus: str | Path) -> Path:
    """Find a corpus' own folder, or copy one that is named by its Hub id to the cache.

    Raises:
        FaceTalkError: no such folder, and no such dataset on the Hub.
    """
    if Path(corpus).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(corpus)):
        return Path(corpus)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(snapshot_download(str(corpus), repo_type="dataset"))
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FaceTalkError(f"no corpus in {corpus}, neither a folder nor a dataset on the Hub: {reason}") from error


def load(corpus: str | Path, split: str | None = None, streaming: bool = False, **options: Any) -> Any:
    """Load the corpus by `datasets.load_dataset`, its audio column cast to `Audio(decode=False)`.

    Args:
        corpus (`str` or `Path`): a folder, or the id of a dataset on the Hub.
        split (`str`, *optional*): one of its splits; all of them by default.
        streaming (`bool`, *optional*, defaults to `False`): read while iterating, and download no more than that.
        options: for `load_dataset`: `revision`, `token`, `cache_dir`, ...

    Returns:
        `datasets.Dataset`, or a `DatasetDict` of the splits; iterable ones with `streaming`.

    Raises:
        FaceTalkError: no corpus there, or not all of it.
    """
    datasets = require_datasets()
    if Path(corpus).exists():
        files: dict[str, list[str]] = {}
        mixed = False
        for path in shards(corpus):
            found = sorted(set(_splits(path)))
            mixed |= len(found) > 1
            for name in found:
                files.setdefault(name, []).append(str(path))
        if split is not None and split not in files:
            raise FaceTalkError(f"the corpus in {corpus} has no split {split}, only {', '.join(files)}")
        dataset = datasets.load_dataset("parquet", data_files=files, split=split, streaming=streaming, **options)
        for name in files if mixed else ():
            # Shards of an older version hold rows of several splits.
            if split is None:
                dataset[name] = dataset[name].filter(partial(str.__eq__, name), input_columns="split")
            elif split == name:
                dataset = dataset.filter(partial(str.__eq__, name), input_columns="split")
    else:
        try:
            dataset = datasets.load_dataset(str(corpus), split=split, streaming=streaming, **options)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise FaceTalkError(f"cannot load {corpus}, which is no folder, from the Hub: {reason}") from error
    return dataset.cast_column("audio", datasets.Audio(decode=False))
