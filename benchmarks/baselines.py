# SPDX-License-Identifier: MIT
"""The diffusion beside a plain regression and an autoregressive decoder in the style of FaceFormer (Fan et al. 2022).

    python benchmarks/baselines.py --corpus data/corpus --work runs/ablations

All are trained on the same encoded corpus, with the same losses, number of updates, batch and seed, and measured by
the same scores. Diffusion and regression are the rows "full" and "regression" of benchmarks/ablations.py, which trains
them if --work does not hold them yet; they share the network. The third is ours, for this comparison only: frame i
from the audio and the codes before it, with FaceFormer's periodic positions, its attention bias that falls by whole
periods into the past, and its alignment bias, which leaves a frame its own audio alone. It differs in pre-norm blocks,
codes in place of vertices, scheduled sampling in training, and kept keys and values. The script writes its table into
docs/ablations.md between its markers, and all scores to --output.
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from facetalk_hf import FaceTalkDenoiser, FaceTalkError, FaceTalkPipeline
from facetalk_hf.data.feature_cache import encode_corpus, load_audio_encoder
from facetalk_hf.data.segments import SegmentDataset
from facetalk_hf.evaluation.scores import Predictor, pipeline_predictor, regression_predictor
from facetalk_hf.evaluation.studies import (
    StudyResults,
    markdown_table,
    measure,
    one_step_predictor,
    open_study,
    study_parser,
    write_between_markers,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.learning.objective import DiffusionObjective


ROOT = Path(__file__).resolve().parents[1]
# Score -> its label, in the order of the table.
COLUMNS = {
    "aperture r": "aperture",
    "pucker r": "pucker",
    "closure F1": "f1",
    "LVE mm": "lve_rooted",
    "LVE of the mean": "lve_rooted_mean_estimate",
    "best LVE": "lve_rooted_min",
    "FDD mm²": "fdd",
    "diversity mm": "diversity",
    "speed ratio": "speed_ratio",
    "jerk ratio": "jerk_ratio",
    "blinks/min": "blinks",
    "shut blinks": "blinks_shut",
    "ms/s": "ms",
}
ROWS = {
    "diffusion": "diffusion, denoiser of the recipe",
    "regression": "regression, the same network",
    "autoregressive": "autoregressive, FaceFormer-style",
    "teacher_forced": "the same, given the true past",
    "encoder": "motion head of the audio encoder, trained longer",
    "shipped": "diffusion, shipped model, trained longer",
}


class AutoregressiveBlock(nn.Module):
    """Causal self-attention, the frame's own audio, feed-forward; each adds to the residual stream."""

    def __init__(self, hidden_size: int, num_heads: int, ff_mult: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)
        # Cross-attention with one key to a query: a linear map of that frame's audio, see `AlignedAudio`.
        self.audio = nn.Linear(hidden_size, hidden_size)
        self.norm_ff = nn.LayerNorm(hidden_size)
        self.ff = nn.Sequential(
            nn.Linear(hidden_size, ff_mult * hidden_size), nn.GELU(), nn.Linear(ff_mult * hidden_size, hidden_size)
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        audio: torch.Tensor,
        bias: torch.Tensor,
        memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, C) and the keys and values so far (2, B, H, M, C / H) -> the same with this call's frames."""
        qkv = self.to_qkv(self.norm_attention(hidden_states)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        new = torch.stack((key, value))
        memory = new if memory is None else torch.cat((memory, new), dim=3)
        out = F.scaled_dot_product_attention(query, memory[0], memory[1], attn_mask=bias)
        hidden_states = hidden_states + self.to_out(out.transpose(1, 2).flatten(2)) + self.audio(audio)
        return hidden_states + self.ff(self.norm_ff(hidden_states)), memory


class AutoregressiveDecoder(nn.Module):
    """Codes from audio, frame by frame.

    Args:
        code_dim (`int`): channels D of a code. audio_dim (`int`): channels A of a frame of speech features.
        hidden_size, num_layers, num_heads, ff_mult (`int`): as in the denoiser.
        period (`int`): frames after which positions repeat and the attention bias falls by a step; 24 is a second.
    """

    def __init__(
        self,
        code_dim: int,
        audio_dim: int,
        hidden_size: int = 128,
        num_layers: int = 5,
        num_heads: int = 4,
        ff_mult: int = 3,
        period: int = 24,
    ) -> None:
        super().__init__()
        self.period = period
        self.code_in = nn.Linear(code_dim, hidden_size)
        self.audio_in = nn.Sequential(nn.LayerNorm(audio_dim), nn.Linear(audio_dim, hidden_size), nn.SiLU())
        self.blocks = nn.ModuleList(AutoregressiveBlock(hidden_size, num_heads, ff_mult) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(hidden_size)
        self.code_out = nn.Linear(hidden_size, code_dim)
        for values in (self.code_out.weight, self.code_out.bias):
            nn.init.zeros_(values)
        angle = torch.arange(period)[:, None] * torch.exp(
            -math.log(10000.0) * torch.arange(0, hidden_size, 2) / hidden_size
        )
        self.register_buffer("positions", torch.stack((angle.sin(), angle.cos()), -1).flatten(1), persistent=False)
        slopes = 2.0 ** (-8.0 * torch.arange(1, num_heads + 1) / num_heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, previous: torch.Tensor, audio_features: torch.Tensor) -> torch.Tensor:
        """All frames at once.

        Args:
            previous ((B, N, D) float): normalised codes; frame i holds what is known as frame i - 1, 0 at the start.
            audio_features ((B, N, A) float): speech features.

        Returns:
            (B, N, D) float.
        """
        return self._run(previous, self.audio_in(audio_features), 0, None)[0]

    @torch.no_grad()
    def generate(self, audio_features: torch.Tensor) -> torch.Tensor:
        """Codes (B, N, D), each frame from those that were made before it."""
        audio = self.audio_in(audio_features)
        memory = None
        frames = [audio.new_zeros(len(audio), 1, self.code_out.out_features)]
        for index in range(audio.shape[1]):
            code, memory = self._run(frames[-1], audio[:, index : index + 1], index, memory)
            frames.append(code)
        return torch.cat(frames[1:], dim=1)

    def _run(
        self, previous: torch.Tensor, audio: torch.Tensor, start: int, memory: list[torch.Tensor] | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Frames from `start` on, given the keys and values of those before it, one tensor a block."""
        index = torch.arange(start + previous.shape[1], device=audio.device)
        back = index[start:, None] - index[None]
        bias = -self.slopes[:, None, None] * back.div(self.period, rounding_mode="floor")
        bias = bias.masked_fill(back < 0, float("-inf"))
        hidden_states = self.code_in(previous) + self.positions[index[start:] % self.period]
        kept = []
        for block, earlier in zip(self.blocks, memory or [None] * len(self.blocks), strict=True):
            hidden_states, latest = block(hidden_states, audio, bias.to(hidden_states.dtype), earlier)
            kept.append(latest)
        return self.code_out(self.norm_out(hidden_states)), kept


def shifted(codes: torch.Tensor) -> torch.Tensor:
    """(B, N, D): frame i becomes what was frame i - 1, the first one 0, the mean code."""
    return F.pad(codes[:, :-1], (0, 0, 1, 0))


def scheduled_inputs(
    model: AutoregressiveDecoder, codes: torch.Tensor, audio_features: torch.Tensor, share: float
) -> torch.Tensor:
    """History to train on: the true codes, a `share` of the frames replaced by what the model makes of the true ones.

    Fed with true codes alone, the model never sees its own errors, and they grow when it runs freely (exposure bias).
    Scheduled sampling in parallel, with one pass without gradients (Mihaylova and Martins 2019).

    Args:
        codes ((B, N, D) float): normalised. audio_features ((B, N, A) float). share (`float`): 0 ... 1.

    Returns:
        (B, N, D) float, shifted by a frame: the `previous` of the model.
    """
    previous = shifted(codes)
    if share <= 0:
        return previous
    with torch.no_grad():
        own = shifted(model(previous, audio_features).to(codes.dtype))
    chosen = torch.rand(codes.shape[:2], device=codes.device) < share
    return torch.where(chosen[:, :, None], own, previous)


def train_autoregressive(args: argparse.Namespace, denoiser: FaceTalkDenoiser) -> AutoregressiveDecoder:
    """Train the decoder, or load it if that is done: same clips, losses, optimiser and schedule as the denoiser's."""
    recipe = yaml.safe_load(args.config.read_text())
    encoder, extractor = load_audio_encoder(args.model / "audio_encoder", args.model / "feature_extractor")
    torch.manual_seed(args.seed)
    config, path = denoiser.config, args.work / f"autoregressive-{args.train_steps}-{args.seed}.safetensors"
    sizes = {name: config[name] for name in ("hidden_size", "num_layers", "num_heads", "ff_mult")}
    model = AutoregressiveDecoder(config.code_dim, config.audio_dim, **sizes)
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    clips = encode_corpus(args.corpus, "train", encoder, extractor, args.cache_dir or args.work / "cache")
    batch_size = args.batch_size or recipe["batch_size"]
    # Null audio and augmented expressions serve the diffusion; what always gives one result has no use for them.
    data = SegmentDataset(
        clips, recipe["segment_frames"], args.train_steps * batch_size, seed=args.seed, null_probability=0.0
    )
    matrix = args.corpus / "lips.npy"
    matrix = torch.from_numpy(np.load(matrix)) if matrix.exists() else None
    weights = (recipe.get("velocity_weight", 0.0), matrix, recipe.get("loss_matrix_weight", 1.0))
    objective = DiffusionObjective(denoiser, *weights)  # for its normalisation and its losses
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe["learning_rate"], betas=(0.9, recipe.get("adam_beta2", 0.999)), weight_decay=0.0
    )
    warmup = max(1, args.train_steps // 10)
    counts = {"num_warmup_steps": warmup, "num_training_steps": args.train_steps}
    schedule = get_scheduler(recipe["lr_scheduler"], optimizer, **counts)
    ema = EMAModel(model.parameters(), recipe["ema_decay"], foreach=True)
    bf16 = recipe.get("mixed_precision") == "bf16" and not args.full_precision
    for step in tqdm(range(args.train_steps), desc="training autoregressive"):
        batch = data.__getitems__(list(range(step * batch_size, (step + 1) * batch_size)))
        target, audio = (batch["codes"] - objective.mean) / objective.std, batch["audio"]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            previous = scheduled_inputs(model, target, audio, step / args.train_steps)
            prediction = model(previous, audio)
        loss = objective.compare(prediction.float(), target, batch["frame_mask"]).mean()
        if not torch.isfinite(loss):
            raise FaceTalkError(f"the loss of the autoregressive decoder is not finite at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ema.step(model.parameters())
    ema.copy_to(model.parameters())
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
    model = train_autoregressive(args, networks["full"])
    pipe, rows, mesh, results = open_study(args, train_steps=args.train_steps, recipe=args.config.read_text())
    shipped = pipe.denoiser

    def row(name: str, predict: Predictor, denoiser: FaceTalkDenoiser, samples: int = 1) -> None:
        pipe.register_modules(denoiser=denoiser)
        size = {"autoregressive": model, "teacher_forced": model, "encoder": pipe.audio_encoder}.get(name, denoiser)
        found = results.measure(
            name,
            lambda: (
                measure(predict, rows, mesh, samples, args.seed)
                | {"parameters": sum(parameter.numel() for parameter in size.parameters())}
            ),
        )
        print(f"{name}: LVE {found['lve_rooted']:.3f} mm, {found['ms']:.1f} ms/s", flush=True)

    full = networks["full"]
    row("diffusion", pipeline_predictor(pipe, blink_contrast=0.0), full, args.samples)
    row("regression", one_step_predictor(pipe), networks["regression"])
    row("autoregressive", autoregressive_predictor(pipe, model), full)
    row("teacher_forced", autoregressive_predictor(pipe, model, rows, args.seed), full)
    row("encoder", regression_predictor(pipe), full)
    row("shipped", pipeline_predictor(pipe, blink_contrast=0.0), shipped, args.samples)
    print(write(args, results))


def write(args: argparse.Namespace, results: StudyResults) -> str:
    """The table of the page, which is returned as well."""
    table = []
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
    text = (
        f"Seed {args.seed}, {args.train_steps} updates each but for the last two, {args.clips} clips of each held-out "
        f"voice, {args.samples} samples of a clip by diffusion. Parameters are those behind the audio encoder, but "
        f"for its own motion head. The teacher has {target['blinks_target']:.1f} blinks a minute, {shut:.0f} % of "
        f"them shut. {results.provenance()}\n\n" + markdown_table(["", "parameters", *COLUMNS], table)
    )
    write_between_markers(args.page, "baselines", text)
    return text


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"baselines.py: {error}") from error
