# SPDX-License-Identifier: MIT
"""Styles of made-up people: can they be told by their motion, and do the lips still close?

    python benchmarks/styles.py --cache CACHE --page docs/styles.md

A mumbler, a shouter, somebody who smiles with one side and somebody who blinks often are made by rules. Each speaks
--minutes of one synthetic voice; a style is trained on each; other voices then say other sentences with it. Corpora
and styles are kept in --cache. A clip is recognised when, of the five people (the four and the teacher as it is), the
mean of the one it is to be like is the nearest in the five measures, each over its spread among the people.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetalk_hf import TINY, FaceTalkPipeline
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.data.building import building, complete, write_rows
from facetalk_hf.data.corpus import decode_audio, quiet_datasets, read
from facetalk_hf.evaluation.lip_events import LipEvents
from facetalk_hf.evaluation.studies import markdown_table, write_between_markers
from facetalk_hf.files import atomic_path
from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.learning.training import train_denoiser
from facetalk_hf.motion.blinks import blinks
from facetalk_hf.paths import packaged
from facetalk_hf.phones.segments import Segment
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script
from facetalk_hf.synthetic.acting import perform
from facetalk_hf.synthetic.voices import voice_rows


ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT / "training" / "texts"
VOICE, OTHERS = "flite-slt", ("flite-awb", "festival-ked", "espeak-en")
MEASURES = ("opening", "spread", "one-sided", "blinks", "brows")
PLAIN = "nobody in particular"


@dataclass
class Options:
    """Options of this script."""

    cache: Path = option(REQUIRED, "folder for corpora and styles, outside of the repository")
    model: str = option(str(TINY), "folder of the model that gets the styles")
    minutes: float = option(2.0, "speech of each person")
    steps: int = option(200, "updates of each training")
    clips: int = option(4, "of each other voice, to be animated")
    output: Path = option(ROOT / "docs" / "results" / "styles.json", "all numbers as JSON")
    page: Path | None = option(None, "docs/styles.md: write the table between its markers")


def column(weights: np.ndarray, *names: str) -> np.ndarray:
    """The mean of some weights (T,)."""
    return weights[:, [INDEX[name] for name in names]].mean(1)


def mumbler(weights: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> None:
    """Hardly opens the mouth, hardly moves the face."""
    weights[:, [name.startswith(("jaw", "mouth")) for name in EXPRESSIONS]] *= 0.55
    weights[:, [name.startswith("brow") for name in EXPRESSIONS]] *= 0.4


def shouter(weights: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> None:
    """Opens the mouth wide, shows the teeth, raises the brows."""
    for name in ("jawOpen", "mouthClose"):  # together, so that closed lips stay closed
        weights[:, INDEX[name]] *= 1.5
    for name in ("mouthLowerDown_L", "mouthLowerDown_R", "mouthUpperUp_L", "mouthUpperUp_R"):
        weights[:, INDEX[name]] = 1.6 * weights[:, INDEX[name]] + 0.12 * free * (weights[:, INDEX["jawOpen"]] > 0.1)
    for name in ("browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R"):
        weights[:, INDEX[name]] += 0.25


def smiler(weights: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> None:
    """Smiles with the left side, always."""
    for name, amount in (("mouthSmile_L", 0.4), ("mouthDimple_L", 0.2), ("cheekSquint_L", 0.2)):
        weights[:, INDEX[name]] += amount * (0.4 + 0.6 * free)


def blinker(weights: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> None:
    """Blinks 45 times a minute."""
    for side, lid in zip("LR", blinks(len(weights), 24.0, rng, 45.0).T, strict=True):
        weights[:, INDEX[f"eyeBlink_{side}"]] = lid


PEOPLE: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], None] | None] = {
    PLAIN: None, "mumbler": mumbler, "shouter": shouter, "one-sided smiler": smiler, "frequent blinker": blinker,
}  # fmt: skip


def spoken(voice: str, number: int, count: int) -> list[dict[str, Any]]:
    """Clips of a voice."""
    return voice_rows(voice, number, 0, TEXTS, count)[0]


def act(row: dict[str, Any], person: str) -> np.ndarray:
    """Weights (T, 53) of a person who says a clip: those of the rules, told nothing, then their manner."""
    rng = np.random.default_rng([14, *row["id"].encode()])
    segments = [Segment(phone["phone"], phone["start"], phone["end"]) for phone in row["phones"]]
    told = np.zeros((len(row["weights"]), len(CONDITIONS)))
    made = perform(segments, decode_audio(row), row["sampling_rate"], len(told), row["fps"], told, rng)
    weights, manner = made.weights.copy(), PEOPLE[person]
    if manner is not None:
        manner(weights, 1 - made.closure, rng)
    return weights.clip(0, 1)


def build(person: str, head: Any, options: Options) -> Path:
    """The corpus of a person."""
    folder = options.cache / f"{person.replace(' ', '-')}-{options.minutes:g}-min"
    if complete(folder):
        return folder

    def rows() -> Iterator[tuple[dict[str, Any], Path]]:
        seconds, number = 0.0, 0
        while seconds < 60 * options.minutes:
            for row in spoken(VOICE, number, 8):
                kept = {name: row[name] for name in ("id", "audio", "sampling_rate", "fps", "phones", "licence")}
                weights = act(row, person)
                code = head.expression_from_weights(torch.from_numpy(weights)).numpy()
                about = {"speaker": person, "split": "train", "consent": "nobody: made by rules"}
                seconds += len(weights) / row["fps"]
                yield kept | about | {"expression": code, "weights": weights}, folder
            number += 1

    with building(folder, about="A made-up person.") as work:
        write_rows(rows(), work)
    return folder


def train(corpus: Path, options: Options) -> tuple[Path, float]:
    """The style of a corpus, and the seconds that it took."""
    target = options.cache / f"{corpus.name}-{options.steps}-steps"
    clock = target / "seconds"
    if not clock.is_file():
        begin = time.process_time()
        recipe = ["--config", str(packaged("style.yaml")), "--init", options.model, "--corpus", str(corpus)]
        recipe += ["--output-dir", str(target), "--max-train-steps", str(options.steps), "--cpu"]
        train_denoiser(parse_config(DenoiserOptions, argv=recipe))
        clock.write_text(f"{time.process_time() - begin:.1f}")
    return target / "style", float(clock.read_text())


def measure(weights: np.ndarray, fps: float) -> np.ndarray:
    """Numbers of `MEASURES` of a motion (T, 53)."""
    jaw = column(weights, "jawOpen") - column(weights, "mouthClose")
    lids = column(weights, "eyeBlink_L", "eyeBlink_R") > 0.5
    return np.array([
        np.percentile(jaw, 95), column(weights, "mouthLowerDown_L", "mouthLowerDown_R").mean(),
        (column(weights, "mouthSmile_L") - column(weights, "mouthSmile_R")).mean(),
        (np.diff(lids.astype(int)) > 0).sum() / (len(weights) / fps / 60),
        column(weights, "browInnerUp_L", "browInnerUp_R").mean(),
    ])  # fmt: skip


def animate(pipe: FaceTalkPipeline, row: dict[str, Any]) -> np.ndarray:
    """Weights (T, 53) that a pipeline gives a clip."""
    seed = torch.Generator().manual_seed(len(row["text"]))
    sound = {"audio": decode_audio(row), "sampling_rate": row["sampling_rate"]}
    codes = pipe(**sound, generator=seed, output_type="expression").expressions[0]
    return np.asarray(pipe.decoder.weights(codes))


def main(argv: list[str] | None = None) -> None:
    """Make people, train, animate, measure."""
    options = parse_config(Options, __doc__, argv)
    torch.set_num_threads(1)
    quiet_datasets()
    base = FaceTalkPipeline.from_pretrained(options.model)
    base.set_progress_bar_config(disable=True)
    assert base.head is not None
    own = {person: list(read(build(person, base.head, options), ("train",), ("weights", "fps"))) for person in PEOPLE}
    of_people = {
        person: np.mean([measure(row["weights"], row["fps"]) for row in rows], 0) for person, rows in own.items()
    }
    spread = np.std(list(of_people.values()), axis=0)
    tests = [row for number, voice in enumerate(OTHERS) for row in spoken(voice, 900 + number, options.clips)]

    def study(name: str, goal: str, motions: list[np.ndarray]) -> dict[str, Any]:
        """Measures of the clips of one pipeline, or of the rules."""
        found = np.stack([measure(item, row["fps"]) for item, row in zip(motions, tests, strict=True)])
        groups = found.reshape(len(OTHERS), -1, len(MEASURES)).mean(1)
        nearest = [min(PEOPLE, key=lambda who: np.abs((of_people[who] - one) / spread).sum()) for one in groups]
        lips = LipEvents()
        for weights, row in zip(motions, tests, strict=True):
            codes = base.head.expression_from_weights(torch.from_numpy(weights.astype(np.float32)))
            phones = [(phone["phone"], phone["start"], phone["end"]) for phone in row["phones"]]
            lips.add(phones, base.decode(codes).lip_aperture, row["fps"])
        scores = lips.summary()
        return {
            "who": goal, "what": name, **dict(zip(MEASURES, found.mean(0).tolist(), strict=True)),
            "recognised": float(np.mean([who == goal for who in nearest])),
            "recall": scores.recall, "precision": scores.precision, "f1": scores.f1,
        }  # fmt: skip

    rows, facts = [], {}
    for person in PEOPLE:
        rows.append(study("by rules", person, [act(row, person) for row in tests]))
        made = {"": base}
        if person != PLAIN:
            folder, seconds = train(build(person, base.head, options), options)
            size = sum(path.stat().st_size for path in folder.iterdir())
            facts[person] = {"seconds": seconds, "bytes": size}
            made = {f"strength {strength:g}": base.with_style(folder, strength) for strength in (0.5, 1.0)}
            if (Path(options.model) / "few_steps").is_dir():
                made["strength 1, few steps"] = made["strength 1"].few_steps()
        for name, pipe in made.items():
            pipe.set_progress_bar_config(disable=True)
            rows.append(study(name or "the model", person, [animate(pipe, row) for row in tests]))
            print({key: value if isinstance(value, str) else round(value, 3) for key, value in rows[-1].items()})
    print(facts)
    head = ["", "", *("opening", "lower lip down", "smile left - right", "blinks a minute", "brows"), "recognised"]
    shown = []
    for row in rows:
        numbers = [f"{row[name]:.1f}" if name == "blinks" else f"{row[name]:.2f}" for name in MEASURES]
        lips = [f"{row[name]:.2f}" for name in ("recall", "precision", "f1")]
        shown.append((row["who"], row["what"], *numbers, f"{100 * row['recognised']:.0f} %", *lips))
    table = markdown_table([*head, "stops recalled", "closures that are true", "F1"], shown)
    print(table)
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps({"rows": rows, "trainings": facts}, indent=1))
    if options.page is not None:
        write_between_markers(options.page, "styles", table)


if __name__ == "__main__":
    run_script(main)
