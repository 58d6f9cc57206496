# SPDX-License-Identifier: MIT
"""The ablations of the paper's table 2, and of choices that are ours, on one corpus with one budget and one seed.

    python benchmarks/ablations.py --corpus data/corpus --work runs/ablations            # all of it
    python benchmarks/ablations.py --corpus data/corpus --work runs/ablations --only full no_film --train-steps 500

Every variant is trained by training/train_denoiser.py from training/configs/tiny.yaml, with the audio encoder and the
head of --model. A row is measured once: started again, the script goes on where it was. It writes the tables of
docs/ablations.md between its markers, and all scores to --output.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from facetalk_hf import FaceTalkDenoiser, FaceTalkError, FaceTalkPipeline
from facetalk_hf.data.corpus import decode_audio
from facetalk_hf.evaluation.motion_metrics import jerk, speed
from facetalk_hf.evaluation.scores import pipeline_predictor
from facetalk_hf.evaluation.studies import (
    Study,
    columns,
    digest,
    markdown_table,
    one_step_predictor,
    open_study,
    study_parser,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.facial_weights import facial_weights
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
# Name -> what the table calls it, changes to the network, options of the training.
VARIANTS = {
    "full": ("full", {}, ()),
    "no_augmentation": ("without expression augmentation", {}, ("--augmentation", "1", "1")),
    "untold": ("augmented, but the factor r is no input (as in the paper)", {}, ("--intensity-dropout", "1")),
    "no_film": ("without FiLM: timestep added to the input", {"timestep_conditioning": "additive"}, ()),
    "no_alignment": ("without alignment mask", {"alignment_width": None}, ()),
    "regression": (
        "without diffusion: regression, one step",
        {},
        ("--objective", "regression", "--augmentation", "1", "1", "--null-probability", "0"),
    ),
    "no_skips": ("without UNet skips", {"skip_connections": False}, ()),
    "local_16": ("local window, 16 frames on both sides", {"attention_mode": "local", "window": 16}, ()),
    "causal_32": ("causal window, 32 frames", {"attention_mode": "causal", "window": 32}, ()),
    "causal": ("causal, no window (as in the paper)", {"attention_mode": "causal", "window": None}, ()),
}
ATTENTION = ("local_16", "causal_32", "causal")
GUIDANCE = (1.0, 1.25, 1.5, 2.0, 3.0)
TEMPERATURES = (0.0, 0.2, 0.4, 0.7, 1.0)
# As the paper samples: what is compared is the network's own.
PLAIN = {"mouth_temperature": 1.0, "blink_contrast": 0.0}
COLUMNS = columns(
    "aperture", "pucker", "f1", "lve_rooted", "fdd", "diversity", "diversity_lips", "speed_ratio", "jerk_ratio", "ms"
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    docs = ROOT / "docs"
    parser = study_parser(__doc__, docs / "results" / "ablations.json", docs / "ablations.md", 20, 2)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="trained variants and encoded audio are kept there")
    add("--config", type=Path, default=ROOT / "training" / "configs" / "tiny.yaml", help="recipe of every variant")
    add("--cache-dir", type=Path, help="encoded corpus (default: in --work)")
    add("--train-steps", type=int, default=2000, help="updates of every variant")
    add("--only", nargs="+", choices=[*VARIANTS, "guidance", "temperature", "smoothing"], help="these rows alone")
    add("--train-only", action="store_true", help="measure nothing")
    add("--train-arguments", nargs=argparse.REMAINDER, default=[], help="the rest goes to train_denoiser.py")
    return parser.parse_args(argv)


def attention(config: Path, changes: dict) -> tuple[str, int | None]:
    """How frames see each other in a variant."""
    settings = FaceTalkDenoiser.tiny_config(**(yaml.safe_load(config.read_text()).get("model_config") or {}) | changes)
    return settings["attention_mode"], settings["window"]


def variants(args: argparse.Namespace) -> dict[str, tuple]:
    """Those to be trained: a kind of attention that is the recipe's own is the row "full" already."""
    same = attention(args.config, {})
    chosen = {name: VARIANTS[name] for name in VARIANTS if not args.only or name in args.only}
    return {
        name: value
        for name, value in chosen.items()
        if name not in ATTENTION or attention(args.config, value[1]) != same
    }


def train(args: argparse.Namespace, name: str) -> Path:
    """Train a variant unless that is done; killed, it goes on from its last checkpoint. Returns its folder."""
    folder, (_, changes, options) = args.work / name, VARIANTS[name]
    base = yaml.safe_load(args.config.read_text()).get("model_config") or {}
    command = [sys.executable, ROOT / "training" / "train_denoiser.py", "--config", args.config]
    command += ["--corpus", args.corpus, "--audio-encoder", args.model / "audio_encoder"]
    command += ["--feature-extractor", args.model / "feature_extractor", "--output-dir", folder, "--resume"]
    command += ["--cache-dir", args.cache_dir or args.work / "cache", "--model-config", json.dumps(base | changes)]
    command += ["--max-train-steps", args.train_steps, "--lr-warmup-steps", max(1, args.train_steps // 10)]
    command += ["--checkpointing-steps", max(1, args.train_steps // 4), "--checkpoints-total-limit", 1]
    command += ["--validation-steps", 0, "--seed", args.seed, *options]
    if (args.corpus / "lips.npy").exists():
        command += ["--loss-matrix", args.corpus / "lips.npy"]
    command += args.train_arguments
    # What is in the folder may come from another recipe, or from another day's encoder.
    recipe = [word.name if isinstance(word, Path) else str(word) for word in command[2:]]
    recipe = json.dumps([recipe, args.config.read_text(), digest(args.model / "audio_encoder")])
    note = args.work / f"{name}.json"
    if note.exists() and note.read_text() != recipe:
        raise FaceTalkError(f"{folder} was trained by another recipe; choose another --work, or remove it and {note}")
    with atomic_path(note) as temporary:
        temporary.write_text(recipe)
    if (folder / "denoiser").exists() and (folder / "scheduler").exists():
        return folder
    print(f"training {name}: {args.train_steps} steps", flush=True)
    done = subprocess.run([str(word) for word in command])
    if done.returncode:
        raise FaceTalkError(f"training of {name} ended with exit code {done.returncode}; its message is above")
    return folder


def outside_motion(pipe: FaceTalkPipeline, rows: list[dict], args: argparse.Namespace, smoothing: bool) -> dict:
    """How scalp, nape and neck move in one sample of each clip and in the teacher: skin that takes less than a tenth.

    "still_speed" in mm/s, "still_jerk" in mm/s^3, each also with "_target".
    """
    decoder = make_decoder(pipe.head, resolution=64, facial_smoothing=smoothing)
    geometry = decoder.geometry(decoder.identity_code())
    weights = facial_weights(geometry.base, geometry.landmarks[48:68].mean(0))
    fields = geometry.targets[:, weights < 0.1]
    basis, predict, values = pipe.head.expression_basis.float().numpy(), pipeline_predictor(pipe, **PLAIN), []
    for index, row in enumerate(rows):
        made = predict([decode_audio(row)], [args.seed + index])[0]
        moved = [
            np.tensordot(decoder(codes).weights[:, : len(fields)], fields, 1)
            for codes in (made, row["weights"] @ basis.T)
        ]
        values.append([measure_of(item, row["fps"]) for measure_of in (speed, jerk) for item in moved])
    names = ("still_speed", "still_speed_target", "still_jerk", "still_jerk_target")
    return dict(zip(names, np.mean(values, axis=0).tolist(), strict=True))


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write."""
    args = parse_args(argv)
    chosen = variants(args)
    if args.train_only:
        for name in chosen:
            train(args, name)
        return

    study = open_study(args, train_steps=args.train_steps, recipe=args.config.read_text())
    pipe, shipped = study.pipe, study.pipe.denoiser

    def use(name: str) -> None:
        pipe.register_modules(denoiser=FaceTalkDenoiser.from_pretrained(train(args, name) / "denoiser").eval())

    for name in chosen:
        use(name)
        if name == "regression":
            study.measure(name, one_step_predictor(pipe))
        else:
            study.measure(name, pipeline_predictor(pipe, **PLAIN), args.samples)
        write(args, study)  # so that an interrupted study has its tables
    if not args.only or "smoothing" in args.only:
        use("full")
        for name, smoothing in (("smoothing", True), ("no_smoothing", False)):
            study.results.measure(name, partial(outside_motion, pipe, study.rows, args, smoothing))
    pipe.register_modules(denoiser=shipped)
    for scale in GUIDANCE if not args.only or "guidance" in args.only else ():
        study.measure(f"guidance {scale:g}", pipeline_predictor(pipe, guidance_scale=scale, **PLAIN), args.samples)
    for value in TEMPERATURES if not args.only or "temperature" in args.only else ():
        predict = pipeline_predictor(pipe, **PLAIN | {"mouth_temperature": value})
        study.measure(f"temperature {value:g}", predict, args.samples)
    print(write(args, study))


def write(args: argparse.Namespace, study: Study) -> str:
    """The tables of the page, which are returned as well."""
    results, same = study.results, attention(args.config, {})
    labels = {name: label for name, (label, _, _) in VARIANTS.items()}
    for name in ATTENTION:
        if attention(args.config, VARIANTS[name][1]) == same:
            labels["full"] += f" ({labels[name]})"

    def table(names: dict[str, str]) -> str:
        rows = {label: dict(results.rows[name]) for name, label in names.items() if name in results.rows}
        if labels["regression"] in rows:  # one result and no other has no diversity
            rows[labels["regression"]] |= {"diversity": 0.0, "diversity_lips": 0.0}
        cells = [[label, *(row.get(key) for key in COLUMNS.values())] for label, row in rows.items()]
        return markdown_table(["", *COLUMNS], cells)

    parts = [
        f"Seed {args.seed}, {args.train_steps} updates a variant, {args.clips} clips of each held-out voice, "
        f"{args.samples} samples a clip. {results.provenance()}",
        table(labels),
    ]
    if "no_smoothing" in results.rows:
        found = [("with facial smoothing", "smoothing"), ("without", "no_smoothing")]
        keys = ("still_speed", "still_jerk", "still_speed_target", "still_jerk_target")
        smoothing = [[label, *(results.rows[name][key] for key in keys)] for label, name in found]
        columns = ["scalp, nape and neck of “full”", "speed mm/s", "jerk mm/s³", "teacher's speed", "teacher's jerk"]
        parts.append(markdown_table(columns, smoothing))
    scales = {f"guidance {scale:g}": f"guidance scale {scale:g}, shipped model" for scale in GUIDANCE}
    if any(name in results.rows for name in scales):
        parts.append(table(scales))
    cooled = {f"temperature {value:g}": f"mouth temperature {value:g}, shipped model" for value in TEMPERATURES}
    if any(name in results.rows for name in cooled):
        parts.append(table(cooled))
    return study.write("ablations", *parts)


if __name__ == "__main__":
    run_script(main)
