# SPDX-License-Identifier: MIT
"""Teach a denoiser to sample in few steps, from its own samples alone; the result is a small file beside its weights.

    python training/distill_denoiser.py --model facetalk_hf/checkpoints/facetalk-tiny --corpus data/corpus \
        --cache_dir data/cache --output_dir facetalk_hf/checkpoints/facetalk-tiny/few_steps

The teacher's samples are drawn first (`facetalk_hf.learning.distillation`), with guidance and the mouth's
temperature; then a low-rank change of its weights is trained on them. Only the audio of the corpus is used, not its
motion. The run is a function of the seed. docs/sampling.md says how good the result is.
"""

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.data.feature_cache import encode_corpus
from facetalk_hf.data.segments import SegmentDataset
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.checkpointing import begin, finish
from facetalk_hf.learning.distillation import FewStepObjective, join, step_weights, teacher_paths
from facetalk_hf.learning.objective import DiffusionObjective, normalized_matrix, sample_loss
from facetalk_hf.models.lora import fuse_lora, fused_parameters, init_lora, load_lora, save_lora
from facetalk_hf.motion.controls import MOUTH_TEMPERATURE
from facetalk_hf.pipeline.few_steps import few_step_scheduler


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--model", required=True, help="folder of the pipeline whose denoiser is the teacher")
    add("--corpus", required=True, help="folder of Parquet shards with audio (training/build_corpus.py)")
    add("--cache_dir", help="as for train_denoiser.py, whose encoded corpus is used if it is there")
    add("--output_dir", required=True, help="folder of the result")
    add("--steps", type=int, default=4, help="of the student")
    add("--substeps", type=int, default=8, help="of the teacher for one of the student's")
    add("--guidance_scale", type=float, default=1.25, help="of the teacher")
    add(
        "--mouth_temperature", type=float, default=MOUTH_TEMPERATURE, help="of the teacher; 1 for a head without names"
    )
    add("--segments", type=int, default=512, help="samples of the teacher")
    add("--segment_frames", type=int, default=144, help="length of one; 144 = 6 s")
    add("--rank", type=int, default=10, help="of the change of a weight matrix")
    add("--batch_size", type=int, default=16)
    add("--max_train_steps", type=int, default=700)
    add("--learning_rate", type=float, default=3e-3, help="of Adam, at its highest")
    add("--warmup_steps", type=int, default=50)
    add("--velocity_weight", type=float, default=1.0, help="as for train_denoiser.py")
    add("--loss_matrix", help="as for train_denoiser.py")
    add("--loss_matrix_weight", type=float, default=0.3, help="as for train_denoiser.py")
    add("--blink_weight", type=float, default=0.5, help="of the errors of the lids, if the head names its shapes")
    add("--ema_decay", type=float, default=0.995, help="the result is a moving average of the change; 0 for none")
    add("--validation_share", type=float, default=0.06, help="share of the samples that are kept out of the training")
    add("--mixed_precision", choices=("no", "bf16"), default="no")
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    pipe = FaceTalkPipeline.from_pretrained(args.model)
    teacher = pipe.denoiser.eval().requires_grad_(False)
    clips = encode_corpus(args.corpus, "train", pipe.audio_encoder, pipe.feature_extractor, args.cache_dir)
    half = torch.autocast("cpu", torch.bfloat16, enabled=args.mixed_precision == "bf16")

    options = {"num_samples": args.segments, "seed": args.seed, "null_probability": 0.0}
    told = teacher.config.intensity_range
    if told:  # `teacher_paths` sets half of them to 1
        options |= {"augmentation": told, "intensity_dropout": 0.0}
    segments = SegmentDataset(clips, args.segment_frames, **options)
    few = few_step_scheduler(pipe.scheduler)
    start = perf_counter()
    settings = (args.steps, args.substeps, args.guidance_scale, args.mouth_temperature, pipe.head, args.batch_size)
    with half:
        drawn = teacher_paths(teacher, pipe.scheduler, segments, *settings)
        total = -(-args.segments // args.batch_size)
        paths = join(list(tqdm(drawn, desc="teacher's samples", total=total)))
    minutes = paths.length.sum() / 24 / 60
    print(f"{minutes:.1f} min of samples in {perf_counter() - start:.0f} s", flush=True)

    matrix = torch.from_numpy(np.load(args.loss_matrix)) if args.loss_matrix else None
    compare = DiffusionObjective(teacher, args.velocity_weight, matrix, args.loss_matrix_weight).compare
    names = pipe.head.config.expression_names if pipe.head is not None else None
    lids = [index for index, name in enumerate(names or ()) if name.startswith("eyeBlink")]
    lids = normalized_matrix(pipe.head.expression_basis[:, lids].float(), teacher.code_std) if lids else None
    examples = FewStepObjective(paths, step_weights(few, args.steps), clips.audio)
    torch.manual_seed(args.seed)
    change = init_lora(teacher, args.rank, skip=("null_audio",))
    average = {name: value.detach().clone() for name, value in change.items()}
    held_out = max(int(args.validation_share * args.segments), 1)
    tells = told is not None

    def loss(weights: dict[str, torch.Tensor], rows: np.ndarray, step: np.ndarray) -> torch.Tensor:
        inputs, target = examples.batch(rows, step)
        if not tells:
            inputs.pop("intensity")
        with half:
            output = torch.func.functional_call(teacher, weights, (), inputs | {"return_dict": False})[0]
        losses = compare(output.float(), target, inputs["frame_mask"])
        if lids is not None:
            losses = losses + args.blink_weight * sample_loss(output.float(), target, inputs["frame_mask"], lids)
        return losses

    @torch.no_grad()
    def validate(weights: dict[str, torch.Tensor]) -> list[float]:
        """Loss at each of the student's steps."""
        rows = np.arange(held_out)
        return [loss(weights, rows, np.full(held_out, step)).mean().item() for step in range(args.steps)]

    def report(step: int, values: list[float]) -> None:
        losses = " ".join(f"{value:.4f}" for value in values)
        print(f"step {step}: validation {losses}", flush=True)

    report(0, validate({}))
    optimizer = torch.optim.Adam(change.values(), args.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        args.learning_rate,
        total_steps=args.max_train_steps + 1,
        pct_start=min(args.warmup_steps / args.max_train_steps, 0.5),
    )
    rng = np.random.default_rng(args.seed)
    for index in tqdm(range(1, args.max_train_steps + 1), desc="training"):
        rows = rng.integers(held_out, args.segments, args.batch_size)
        step = np.arange(args.batch_size) % args.steps  # as many of each
        losses = loss(fused_parameters(teacher, change), rows, step)
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(change.values(), 1.0)
        if not torch.isfinite(norm):
            raise FaceTalkError(f"the gradient is not finite at step {index}; try a lower --learning_rate")
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        decay = min(args.ema_decay, index / (index + 9))
        for name, value in change.items():
            average[name].lerp_(value.detach(), 1 - decay)
        if index % max(args.max_train_steps // 5, 1) == 0:
            report(index, validate(fused_parameters(teacher, average)))

    target = Path(args.output_dir)
    known = {name: getattr(args, name) for name in ("guidance_scale", "mouth_temperature")}
    size = save_lora(begin(target), teacher, average, num_inference_steps=args.steps, **known)
    finish(target)
    fuse_lora(teacher, load_lora(target, teacher)[0])
    report(args.max_train_steps, validate({}))  # of what was written
    print(f"{target}: {size / 1e3:.0f} kB, {perf_counter() - start:.0f} s, {os.cpu_count()} cores")


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        sys.exit(f"distill_denoiser.py: {error}")
