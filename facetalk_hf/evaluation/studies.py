# SPDX-License-Identifier: MIT
"""Studies that compare models: what is measured of each, rows that are kept, tables in Markdown between two markers.

The scripts in benchmarks/ share this; nothing of it is needed to use a model.
"""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ..blendshapes import INDEX
from ..data.corpus import decode_audio
from ..errors import FaceTalkError
from ..files import atomic_path
from ..paths import TINY
from ..pipeline.facetalk import FaceTalkPipeline
from .scores import FixedMesh, Predictor, evaluate, held_out_voices
from .timing import machine


BLINK_SHUT = 0.8
"""Weight of eyeBlink from which on a blink counts as one that shuts the eye."""


SCORE_LABELS = {
    "aperture": "aperture r",
    "pucker": "pucker r",
    "f1": "closure F1",
    "lve_rooted": "LVE mm",
    "lve_rooted_mean_estimate": "LVE of the mean",
    "lve_rooted_min": "best LVE",
    "fdd": "FDD mm²",
    "diversity": "diversity mm",
    "diversity_lips": "lip diversity mm",
    "speed_ratio": "speed ratio",
    "jerk_ratio": "jerk ratio",
    "blinks": "blinks/min",
    "blinks_shut": "shut blinks",
    "ms": "ms/s",
}
"""Score of `measure` -> what tables call it."""


def columns(*scores: str, **more: str) -> dict[str, str]:
    """Choose columns of a table: label -> score, of those in `SCORE_LABELS` and of `more`, given as score=label."""
    return {SCORE_LABELS[score]: score for score in scores} | {label: score for score, label in more.items()}


def blink_peaks(weights: np.ndarray, floor: float = 0.3) -> np.ndarray:
    """Find the highest weight of every blink, (n,) float: of each stretch in which eyeBlink is above `floor`.

    Args:
        weights ((T, 53) float): blendshape weights; the mean of both eyes counts.
    """
    track = (weights[:, INDEX["eyeBlink_L"]] + weights[:, INDEX["eyeBlink_R"]]) / 2
    edges = np.flatnonzero(np.diff(np.pad(track > floor, 1).astype(np.int8)))
    return np.array([track[start:stop].max() for start, stop in edges.reshape(-1, 2)])


def measure(
    predict: Predictor, rows: Sequence[dict[str, Any]], mesh: FixedMesh, samples: int = 1, seed: int = 0
) -> dict[str, float]:
    """Compute all scores of `evaluate`, and what these comparisons need besides.

    Clips are predicted one by one, so that no time is lost on padding, after one that warms up.

    Args: as in `evaluate`; `mesh` holds the head.

    Returns:
        dict of `float`: the scores; "speed_ratio" and "jerk_ratio" to the teacher's; "blinks" and "blinks_target" a
        minute, "blinks_shut" and "blinks_shut_target", the share of them that shut the eye (NaN without blinks);
        "ms", milliseconds for a second of audio.
    """
    head = mesh.decoder.head
    made: list[np.ndarray] = []
    seconds: list[float] = []

    def timed(clips: list[np.ndarray], seeds: list[int]) -> Sequence[np.ndarray | torch.Tensor]:
        start = perf_counter()
        codes = predict(clips, seeds)
        seconds.append(perf_counter() - start)
        made.extend(np.asarray(item) for item in codes)
        return codes

    predict([decode_audio(rows[0])], [seed])
    scores = evaluate(timed, rows, head, samples, batch=1, seed=seed, mesh=mesh)
    basis = head.expression_basis.float().cpu().numpy()
    minutes = sum(len(row["weights"]) / row["fps"] for row in rows) / 60
    for name, items, duration in (
        ("", [codes @ basis for codes in made], minutes * samples),
        ("_target", [row["weights"] for row in rows], minutes),
    ):
        peaks = np.concatenate([blink_peaks(item) for item in items])
        scores[f"blinks{name}"] = len(peaks) / duration
        scores[f"blinks_shut{name}"] = float((peaks > BLINK_SHUT).mean()) if len(peaks) else float("nan")
    for name in ("speed", "jerk"):
        target = scores[f"{name}_target"]
        scores[f"{name}_ratio"] = scores[name] / target if target else float("nan")
    return scores | {"ms": 1000 * sum(seconds) / (60 * minutes * samples)}


def one_step_predictor(pipe: FaceTalkPipeline) -> Predictor:
    """Make a predictor of a denoiser that was trained as a regression (`--objective regression`): x_0 from zeros."""

    @torch.no_grad()
    def predict(clips: list[np.ndarray], seeds: list[int]) -> list[torch.Tensor]:
        result = []
        for clip in clips:
            features = pipe.encode_audio(clip, sampling_rate=16000)
            nothing = features.new_zeros(1, features.shape[1], pipe.denoiser.sample_dim)
            names = pipe.denoiser.config.condition_names
            neutral = features.new_zeros(1, len(names)) if names else None
            last = pipe.denoiser.config.max_timesteps - 1
            sample = pipe.denoiser(nothing, last, features, conditions=neutral).sample
            codes, _ = pipe.denoiser.split_sample(sample)
            result.append(pipe.denoiser.denormalize(codes)[0].float().cpu())
        return result

    return predict


class StudyResults:
    """Rows of a study in a JSON file. A row is on disk as soon as it is measured, and is not measured again.

    Args:
        path (`str` or `Path`): the file. A study that was interrupted goes on with what it holds.
        settings (`dict`): what every row depends on (corpus, clips, seed ...), values of JSON.

    Raises:
        FaceTalkError: the file holds rows of other settings, which cannot be compared with new ones.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = Path(path), json.loads(json.dumps(settings))
        self.rows: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return
        try:
            written = json.loads(self.path.read_text())
            earlier, self.rows = written["settings"], written["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise FaceTalkError(f"{self.path} is no results file of a study; name another one") from error
        other = sorted(name for name in earlier | self.settings if earlier.get(name) != self.settings.get(name))
        if other:
            raise FaceTalkError(
                f"{self.path} was made with other settings ({', '.join(other)}); name another file, or remove it"
            )

    def measure(self, name: str, function: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Take the row of that name from the file, or from `function` and then into the file, with time and date."""
        if name not in self.rows:
            start = perf_counter()
            row = {key: None if value != value else value for key, value in function().items()}  # JSON has no NaN
            row |= {"wall_seconds": round(perf_counter() - start, 2), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
            self.rows[name] = row
            content = {"command": command(), "machine": machine(), "settings": self.settings, "rows": self.rows}
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")
        return self.rows[name]

    def provenance(self) -> str:
        """Say when, by which command and on what machine the last row was measured, as a sentence of Markdown."""
        written = json.loads(self.path.read_text())
        last = max(row["date"] for row in self.rows.values())
        return f"Last measured {last}: `{written['command']}`; {written['machine']}."


@dataclass
class Study:
    """Everything that a row of a study is measured with.

    Args:
        pipe ([`FaceTalkPipeline`]): with a head.
        rows: clips of the corpus.
        mesh ([`FixedMesh`]): of the head.
        results ([`StudyResults`]): rows that are kept.
        page (`Path`): of Markdown, with the tables.
        seed (`int`): of the first sample of the first clip.
    """

    pipe: FaceTalkPipeline
    rows: list[dict[str, Any]]
    mesh: FixedMesh
    results: StudyResults
    page: Path
    seed: int

    def measure(
        self, name: str, predict: Predictor, samples: int = 1, more: Callable[[], dict[str, Any]] = dict
    ) -> dict[str, Any]:
        """Measure a row by `measure`, and by `more`, unless it is kept already, and print it."""
        made = self.results.measure(name, lambda: measure(predict, self.rows, self.mesh, samples, self.seed) | more())
        scores = f"LVE {made['lve_rooted']:.3f} mm, aperture {made['aperture']:.3f}, {made['ms']:.1f} ms/s"
        print(f"{name}: {scores}", flush=True)
        return made

    def write(self, name: str, *parts: str) -> str:
        """Write paragraphs and tables between the markers of that name on the page; return the text."""
        text = "\n\n".join(parts)
        write_between_markers(self.page, name, text)
        return text


def study_parser(description: str, results: Path, page: Path, clips: int, samples: int | None) -> ArgumentParser:
    """Make a command line with the options that all studies have; each adds its own.

    Args:
        description (`str`): the script's docstring. results, page (`Path`): defaults of --output and --page.
        clips (`int`): default of --clips. samples (`int` or `None`): of --samples; `None` for no such option.
    """
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder of training/build_corpus.py")
    add("--model", type=Path, default=Path(TINY), help="folder of a pipeline")
    add("--output", type=Path, default=results, help="all scores")
    add("--page", type=Path, default=page, help="page with the tables")
    add("--clips", type=int, default=clips, help="of each held-out voice")
    if samples is not None:
        add("--samples", type=int, default=samples, help="motions of each clip, for the diversity")
    add("--resolution", type=int, default=64, help="of the mesh that errors in mm are measured on")
    add("--seed", type=int, default=0)
    return parser


def open_study(args: Namespace, **settings: Any) -> Study:
    """Load what the options of `study_parser` ask for, on one thread.

    Args:
        args: the parsed options. settings: what rows depend on besides model, corpus, clips, samples and seed.

    Raises:
        FaceTalkError: see `StudyResults` and `held_out_voices`.
    """
    torch.set_num_threads(1)
    common = {"model": digest(args.model), "corpus": args.corpus.name, "clips": args.clips, "seed": args.seed}
    common |= {"samples": args.samples} if hasattr(args, "samples") else {}
    results = StudyResults(args.output, common | settings)
    rows = [row for voice in held_out_voices(args.corpus, args.clips).values() for row in voice]
    pipe = FaceTalkPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    if pipe.head is None:
        raise FaceTalkError(f"{args.model} has no head, so its codes cannot be measured")
    return Study(pipe, rows, FixedMesh(pipe.head, resolution=args.resolution), results, args.page, args.seed)


def command() -> str:
    """Give the line that started this script, with the last part alone of absolute paths, which are of one machine."""
    script = Path(sys.argv[0])
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python", f"{script.parent.name}/{script.name}", *words])


@contextmanager
def revision(name: str, root: Path) -> Iterator[Path]:
    """Lay out the library of another git revision of the repository `root` in a folder, for as long as it is used.

    Raises:
        FaceTalkError: there is no such revision.
    """
    archive = subprocess.run(["git", "archive", name, "facetalk_hf"], cwd=root, capture_output=True)
    if archive.returncode:
        raise FaceTalkError(f"git knows no revision {name} of facetalk_hf: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def digest(folder: str | Path) -> str:
    """Compute twelve digits that change with any weight of a model folder; sha256 over its safetensors files."""
    result = hashlib.sha256()
    for path in sorted(Path(folder).glob("**/*.safetensors")):
        result.update(path.read_bytes())
    return result.hexdigest()[:12]


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Write a table of Markdown; numbers with four significant digits, what is missing (`None`, NaN) as a dash."""
    lines = [[str(name) for name in head]] + [[_cell(value) for value in row] for row in rows]
    lines.insert(1, ["---"] + ["---:"] * (len(lines[0]) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"
    return str(value)


def write_between_markers(path: str | Path, name: str, text: str) -> None:
    """Replace what a Markdown page holds between `<!-- name -->` and `<!-- /name -->`, and nothing else of it.

    Args:
        path (`str` or `Path`): the page; a new one is made if there is none. name (`str`): of the place; at the end if
            the page has no such place yet. text (`str`): what goes there.
    """
    path = Path(path)
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    block = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    place = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    page = place.sub(lambda _: block, page) if place.search(page) else f"{page.rstrip()}\n\n{block}\n".lstrip()
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
