# SPDX-License-Identifier: MIT
"""A dataset of recordings animated by a model: rows with motion, in shards that any number of processes make.

What a shard holds depends on the source and the options alone, never on who makes it: one process and many give the
same bytes, and a run that was killed goes on. Processes share nothing but the folder.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..animation.arkit import ARKIT
from ..audio.io import read_audio
from ..blendshapes import EXPRESSIONS
from ..data.building import building, complete
from ..data.checks import check_row
from ..data.corpus import encode_audio, features, require_datasets
from ..data.sounds import SoundPart
from ..errors import FaceTalkError
from ..files import atomic_path
from ..motion.controls import MotionControls
from ..pipeline.facetalk import FaceTalkPipeline


MARKS = ".made"
"""Folder beside the shards that holds a mark for everything that is done."""
SKIPPED = "skipped.json"
ABOUT = (
    "Recordings with **synthetic** motion that a model made for their sound, not captured from anybody. `expression` "
    "are the model's codes; `arkit`, where it is there, ARKit's 52 weights in the order of "
    "`facetalk_hf.animation.arkit.ARKIT`."
)


@dataclass(frozen=True)
class Worker:
    """One of the processes that make a dataset: its number, and how many there are."""

    rank: int = 0
    count: int = 1
    patience: float = 0.5  # seconds between two looks at what the others have done


@dataclass(frozen=True, kw_only=True)
class RowAnimator:
    """Animate rows: sound in, sound and motion out.

    Args:
        pipe ([`FaceTalkPipeline`]): with or without a head. seed (`int`): a row's motion depends on it and its "id".
        controls ([`MotionControls`]): what changes codes. longest (`float`): seconds that a recording may last.
        batch_size (`int`): recordings that are denoised together.
    """

    pipe: FaceTalkPipeline
    seed: int = 0
    controls: MotionControls
    longest: float = 14400.0
    batch_size: int = 1

    def __post_init__(self) -> None:
        kept = self.controls.for_codes(self.pipe.learnt_pose)
        if kept != self.controls or self.controls.num_samples != 1:
            raise FaceTalkError(
                "a dataset has one motion a recording, at the model's own rate, as codes: leave out num_samples, fps "
                "and gaze, and head_motion where the model has not learnt it"
            )

    @property
    def named(self) -> bool:
        """Whether codes stand for named weights, so that there are ARKit's, too."""
        return self.pipe.head is not None and bool(self.pipe.head.config.expression_names)

    def __call__(self, rows: Iterable[dict[str, Any]], split: str, skip: Callable[[str, str], None]) -> Iterator[dict]:
        """Yield the rows with their motion; `skip` is told id and reason of what cannot be used."""
        for group in _batched(rows, self.batch_size):
            heard = []
            for row in group:
                try:
                    heard.append((row, *read_audio(row["audio"], longest=self.longest)))
                except FaceTalkError as error:
                    skip(row["id"], str(error))
            try:
                made = self._animate(heard, split) if heard else []
            except FaceTalkError:  # which one? what the others get does not depend on it
                made = []
                for item in heard:
                    try:
                        made += self._animate([item], split)
                    except FaceTalkError as error:
                        skip(item[0]["id"], str(error))
            yield from made

    def _animate(self, heard: list[tuple[dict[str, Any], np.ndarray, int]], split: str) -> list[dict[str, Any]]:
        generators = [torch.Generator().manual_seed(self._seed_of(row["id"])) for row, *_ in heard]
        clips = [{"array": samples, "sampling_rate": rate} for _, samples, rate in heard]
        output = self.pipe(clips, controls=self.controls, generator=generators, output_type="expression")
        made = []
        for index, (row, samples, rate) in enumerate(heard):
            codes = output.expressions[index].float().cpu().numpy()
            new = row | {"split": split, "sampling_rate": rate, "fps": self.pipe.config["fps"], "expression": codes}
            if output.poses is not None:
                new["head_pose"] = np.asarray(output.poses[index], np.float32)
            if self.named:
                new["arkit"] = self.pipe.arkit(new["expression"])
                if self.pipe.decoder.target_names == EXPRESSIONS:
                    new["weights"] = self.pipe.decoder.weights(new["expression"])
            new["audio"] = encode_audio(samples, rate)
            check_row(new, row["id"])
            made.append(new)
        return made

    def _seed_of(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed} {name}".encode()).digest()[:8], "big") >> 1


def animate_dataset(
    parts: list[SoundPart],
    folder: str | Path,
    animate: Callable[[], RowAnimator],
    settings: dict[str, Any],
    rows: int = 40,
    worker: Worker = Worker(),  # noqa: B008  frozen
    name: str | None = None,
    log: Callable[[str], object] = print,
) -> None:
    """Animate a dataset; the folder appears when all of it is there.

    The first process counts and checks what all have made, and needs the others to be at work, now or before.

    Args:
        parts: of [`~facetalk_hf.data.sounds.open_sounds`].
        folder (`str` or `Path`): the corpus to be, on a disk that all processes see. What a killed run has left is
            used.
        animate: makes the animator, where there is anything left to do.
        settings: all that the result depends on; a run that goes on must have the same.
        rows (`int`): of a shard.
        worker ([`Worker`]): who this is.
        name (`str`, *optional*): title of the card.

    Raises:
        FaceTalkError: the folder is in use or was begun with other settings; not one recording can be used.
    """
    folder = Path(folder)
    work = folder.with_name(f".{folder.name}.partial")
    if complete(folder):
        if not worker.rank:
            shutil.rmtree(folder / MARKS, ignore_errors=True)
            log(f"{folder} is complete; remove it to make it anew")
        return
    if worker.rank:
        _wait(lambda: (work / MARKS / "settings.json").is_file() or complete(folder), worker)
        if not complete(folder):
            _make(parts, work, animate, settings, rows, worker, log)
        return
    with building(folder, name, ABOUT, keep=True) as work:
        (work / MARKS).mkdir(exist_ok=True)
        if not (work / MARKS / "settings.json").is_file():
            _mark(work, "settings", settings)
        _make(parts, work, animate, settings, rows, worker, log)
        missing = _missing(parts, work)
        if missing:
            log(f"waiting for {missing} part(s) of other processes")
            _wait(lambda: not _missing(parts, work), worker)
        _finish(parts, work, log)
    shutil.rmtree(folder / MARKS, ignore_errors=True)


def _make(
    parts: list[SoundPart], work: Path, animate: Callable[[], RowAnimator], settings: dict, rows: int, worker: Worker,
    log: Callable[[str], object],
) -> None:  # fmt: skip
    """Make the shards that are this process' own and not there yet."""
    _check_settings(work, settings)
    animator: RowAnimator | None = None
    alone = len(parts) < worker.count  # then processes share a part, and each reads past the rows of others
    for number, part in enumerate(parts):
        if (not alone and number % worker.count != worker.rank) or _is_made(work, part):
            continue
        unit = -1
        for unit, group in enumerate(_batched(part.read(), rows)):
            if alone and (number + unit) % worker.count != worker.rank:
                continue
            if (work / MARKS / f"{part.name}-{unit:05d}.json").is_file():
                continue
            if animator is None:
                animator = animate()
            skipped: dict[str, str] = {}
            made = list(animator(group, part.split, skipped.__setitem__))
            if made:
                _write(made, work / part.split / f"{part.name}-{unit:05d}.parquet", part.extra, animator)
            _mark(work, f"{part.name}-{unit:05d}", {"rows": len(made), "skipped": skipped})
            log(f"{part.name}-{unit:05d}: {len(made)} recordings" + f", {len(skipped)} skipped" * bool(skipped))
        _mark(work, part.name, {"units": unit + 1})


def _write(rows: list[dict[str, Any]], path: Path, extra: dict[str, Any], animator: RowAnimator) -> None:
    datasets = require_datasets()
    schema = features(len(rows[0]["expression"][0]))
    if animator.named:
        schema["arkit"] = datasets.List(datasets.List(datasets.Value("float32"), length=len(ARKIT)))
    schema |= extra
    plain = [
        {key: value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()} for row in rows
    ]
    plain = [{key: row.get(key) for key in schema} for row in plain]
    table = datasets.Dataset.from_list(plain, features=datasets.Features(schema))
    with atomic_path(path) as temporary:
        table.to_parquet(temporary)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _finish(parts: list[SoundPart], work: Path, log: Callable[[str], object]) -> None:
    """Gather what was skipped and why."""
    skipped: dict[str, str] = {}
    for part in parts:
        for unit in range(_read(work, part.name)["units"]):
            skipped |= _read(work, f"{part.name}-{unit:05d}")["skipped"]
    if not any(work.rglob("*.parquet")):
        reason = next(iter(skipped.values()), "there are none")
        raise FaceTalkError(f"not one recording can be used: {reason}; remove {work} before you try again")
    if skipped:
        with atomic_path(work / SKIPPED) as temporary:
            temporary.write_text(json.dumps(skipped, indent=1, ensure_ascii=False), encoding="utf-8")
        log(f"{len(skipped)} recording(s) skipped: see {SKIPPED}")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """FaceTalkError where a folder was begun with other settings."""
    with suppress(FileNotFoundError):
        earlier = _read(folder, "settings")
        different = [key for key in settings if earlier.get(key) != json.loads(json.dumps(settings[key], default=str))]
        if different:
            raise FaceTalkError(
                f"{folder} was begun with another {different[0]}: give the same again, or remove the folder"
            )


def _mark(work: Path, name: str, facts: dict[str, Any]) -> None:
    with atomic_path(work / MARKS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, ensure_ascii=False, default=str), encoding="utf-8")


def _read(work: Path, name: str) -> dict[str, Any]:
    return json.loads((work / MARKS / f"{name}.json").read_text(encoding="utf-8"))


def _is_made(work: Path, part: SoundPart) -> bool:
    """Whether a part has been read to its end and all of its shards are there."""
    marks = work / MARKS
    if not (marks / f"{part.name}.json").is_file():
        return False
    return all((marks / f"{part.name}-{unit:05d}.json").is_file() for unit in range(_read(work, part.name)["units"]))


def _missing(parts: list[SoundPart], work: Path) -> int:
    return sum(not _is_made(work, part) for part in parts)


def _wait(ready: Callable[[], bool], worker: Worker) -> None:
    while not ready():
        time.sleep(worker.patience)


def _batched(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Group rows, as itertools.batched does from Python 3.12 on."""
    rows = iter(rows)
    while group := list(islice(rows, size)):
        yield group
