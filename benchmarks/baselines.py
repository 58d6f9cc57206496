# SPDX-License-Identifier: MIT
"""The diffusion beside a plain regression and an autoregressive decoder in the style of FaceFormer (Fan et al. 2022).

    python benchmarks/baselines.py --corpus data/corpus --work runs/ablations

All are trained on the same encoded corpus, with the same losses, number of updates, batch and seed, and measured by
the same scores. Diffusion and regression are the rows "full" and "regression" of benchmarks/ablations.py, which trains
them if --work does not hold them yet; they share the network. The third is ours, for this comparison only
(facetalk_hf/learning/autoregressive.py). The script writes its table into docs/ablations.md between its markers, and
all scores to --output.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from facetalk_hf import FaceTalkDenoiser, FaceTalkError, FaceTalkPipeline
from facetalk_hf.data.feature_cache import encode_corpus, load_audio_encoder
from facetalk_hf.evaluation.scores import Predictor, pipeline_predictor, regression_predictor
from facetalk_hf.evaluation.studies import Study, columns, markdown_table, one_step_predictor, open_study, study_parser
from facetalk_hf.files import atomic_path
from facetalk_hf.learning.autoregressive import AutoregressiveDecoder, shifted, train_autoregressive
from facetalk_hf.learning.loop import TrainingOptions
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
COLUMNS = columns(
    "aperture", "pucker", "f1", "lve_rooted", "lve_rooted_mean_estimate", "lve_rooted_min", "fdd", "diversity",
    "speed_ratio", "jerk_ratio", "blinks", "blinks_shut", "ms",
)  # fmt: skip
ROWS = {
    "diffusion": "diffusion, denoiser of the recipe",
    "regression": "regression, the same network",
    "autoregressive": "autoregressive, FaceFormer-style",
    "teacher_forced": "the same, given the true past",
    "encoder": "motion head of the audio encoder, trained longer",
    "shipped": "diffusion, shipped model, trained longer",
}


def trained_autoregressive(args: argparse.Namespace, denoiser: FaceTalkDenoiser) -> AutoregressiveDecoder:
    """Train the decoder, or load it if that is done."""
    recipe = yaml.safe_load(args.config.read_text())
    if args.full_precision:
        recipe["mixed_precision"] = "no"
    encoder, extractor = load_audio_encoder(args.model / "audio_encoder", args.model / "feature_extractor")
    torch.manual_seed(args.seed)
    config, path = denoiser.config, args.work / f"autoregressive-{args.train_steps}-{args.seed}.safetensors"
    sizes = {name: config[name] for name in ("hidden_size", "num_layers", "num_heads", "ff_mult")}
    model = AutoregressiveDecoder(config.code_dim, config.audio_dim, **sizes)
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    clips = encode_corpus(args.corpus, "train", encoder, extractor, args.cache_dir or args.work / "cache")
    lips = args.corpus / "lips.npy"
    loop = TrainingOptions(
        output_dir=args.work / "autoregressive", batch_size=args.batch_size or recipe["batch_size"], seed=args.seed,
        max_train_steps=args.train_steps, ema_decay=recipe["ema_decay"], checkpointing_steps=0,
    )  # fmt: skip
    matrix = torch.from_numpy(np.load(lips)) if lips.exists() else None
    train_autoregressive(model, denoiser, clips, recipe, loop, matrix)
    with atomic_path(path) as temporary:
        save_file(model.state_dict(), temporary)
    return model.eval()


def autoregressive_predictor(
    pipe: FaceTalkPipeline, model: AutoregressiveDecoder, rows: list[dict] | None = None, seed: int = 0
) -> Predictor:
    """The decoder run freely; with the `rows` that are measured each frame gets the true codes before it."""
    basis = pipe.head.expression_basis.float()

    @torch.no_grad()
    def predict(clips: list[np.ndarray], seeds: list[int]) -> list[torch.Tensor]:
        result = []
        for clip, number in zip(clips, seeds, strict=True):
            features = pipe.encode_audio(clip, sampling_rate=16000)
            if rows is None:
                codes = model.generate(features)
            else:
                truth = torch.from_numpy(rows[number - seed]["weights"]) @ basis.T  # `evaluate` seeds by the index
                codes = model(shifted(pipe.denoiser.normalize(truth)[None]), features)
            result.append(pipe.denoiser.denormalize(codes)[0])
        return result

    return predict


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    docs = ROOT / "docs"
    parser = study_parser(__doc__, docs / "results" / "baselines.json", docs / "ablations.md", 20, 5)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="the --work of benchmarks/ablations.py")
    add("--config", type=Path, default=ROOT / "training" / "configs" / "tiny.yaml", help="recipe of all of them")
    add("--cache-dir", type=Path, help="encoded corpus (default: in --work)")
    add("--train-steps", type=int, default=2000, help="updates")
    add("--batch-size", type=int, help="of the autoregressive decoder, where --train-arguments change the recipe's")
    add("--full-precision", action="store_true", help="no bfloat16 for the autoregressive decoder")
    add("--train-arguments", nargs=argparse.REMAINDER, default=[], help="the rest goes to train_denoiser.py")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    command = [sys.executable, Path(__file__).with_name("ablations.py"), "--train-only"]
    command += ["--only", "full", "regression"]
    command += ["--corpus", args.corpus, "--work", args.work, "--model", args.model, "--config", args.config]
    command += ["--train-steps", args.train_steps, "--seed", args.seed]
    command += ["--cache-dir", args.cache_dir] if args.cache_dir else []
    command += ["--train-arguments", *args.train_arguments] if args.train_arguments else []
    if subprocess.run([str(word) for word in command]).returncode:
        raise FaceTalkError("benchmarks/ablations.py could not train the denoisers; its message is above")

    networks = {}
    for name in ("full", "regression"):
        networks[name] = FaceTalkDenoiser.from_pretrained(args.work / name / "denoiser").eval()
    model = trained_autoregressive(args, networks["full"])
    study = open_study(args, train_steps=args.train_steps, recipe=args.config.read_text())
    pipe, shipped, full = study.pipe, study.pipe.denoiser, networks["full"]

    def row(name: str, predict: Predictor, denoiser: FaceTalkDenoiser, samples: int = 1) -> None:
        pipe.register_modules(denoiser=denoiser)
        size = {"autoregressive": model, "teacher_forced": model, "encoder": pipe.audio_encoder}.get(name, denoiser)
        study.measure(
            name, predict, samples, lambda: {"parameters": sum(value.numel() for value in size.parameters())}
        )

    row("diffusion", pipeline_predictor(pipe, blink_contrast=0.0), full, args.samples)
    row("regression", one_step_predictor(pipe), networks["regression"])
    row("autoregressive", autoregressive_predictor(pipe, model), full)
    row("teacher_forced", autoregressive_predictor(pipe, model, study.rows, args.seed), full)
    row("encoder", regression_predictor(pipe), full)
    row("shipped", pipeline_predictor(pipe, blink_contrast=0.0), shipped, args.samples)
    print(write(args, study))


def write(args: argparse.Namespace, study: Study) -> str:
    """The table of the page, which is returned as well."""
    results, table = study.results, []
    for name, label in ROWS.items():
        row = dict(results.rows[name])
        if name not in ("diffusion", "shipped"):  # one result: its mean and its best are itself
            row |= {"diversity": 0.0, "lve_rooted_min": row["lve_rooted"]}
            row["lve_rooted_mean_estimate"] = row["lve_rooted"]
        if name == "teacher_forced":
            row["ms"] = None  # all frames at once, which needs the result beforehand
        table.append([label, f"{row['parameters'] / 1e6:.2f} M", *(row.get(key) for key in COLUMNS.values())])
    target = results.rows["diffusion"]
    shut = 100 * (target["blinks_shut_target"] or 0)
    about = (
        f"Seed {args.seed}, {args.train_steps} updates each but for the last two, {args.clips} clips of each held-out "
        f"voice, {args.samples} samples of a clip by diffusion. Parameters are those behind the audio encoder, but "
        f"for its own motion head. The teacher has {target['blinks_target']:.1f} blinks a minute, {shut:.0f} % of "
        f"them shut. {results.provenance()}"
    )
    return study.write("baselines", about, markdown_table(["", "parameters", *COLUMNS], table))


if __name__ == "__main__":
    run_script(main)
