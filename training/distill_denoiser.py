# SPDX-License-Identifier: MIT
"""Teach a denoiser to sample in few steps, from its own samples alone; the result is a small file beside its weights.

    python training/distill_denoiser.py --model facetalk_hf/checkpoints/facetalk-tiny --corpus data/corpus \
        --cache-dir data/cache --output-dir facetalk_hf/checkpoints/facetalk-tiny/few_steps

The teacher's samples are drawn first (`facetalk_hf.learning.distillation`), with guidance and the mouth's
temperature; then a LoRA of its weights is trained on them. Only the audio of the corpus is used, not its
motion. The run is a function of the seed. docs/sampling.md says how good the result is.
"""

import os
from time import perf_counter

import torch
from tqdm import tqdm

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.data.feature_cache import encode_corpus
from facetalk_hf.learning.checkpointing import begin, finish
from facetalk_hf.learning.distillation import FewStepObjective, join, step_weights, teacher_paths
from facetalk_hf.learning.few_steps import FewStepLoss, FewStepOptions, draw_points, teacher_segments
from facetalk_hf.learning.loop import Event, Trainer
from facetalk_hf.models.lora import LoraAdapter, fuse_lora, fused_parameters, load_lora, save_lora
from facetalk_hf.pipeline.few_steps import few_step_scheduler
from facetalk_hf.scripts import parse_config, run_script


def report(step: int, values: list[float]) -> None:
    losses = " ".join(f"{value:.4f}" for value in values)
    print(f"step {step}: validation {losses}", flush=True)


def main(argv: list[str] | None = None) -> None:
    options = parse_config(FewStepOptions, __doc__, argv)
    trainer = Trainer(options, "facetalk-few-steps")
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    teacher = pipe.denoiser.eval().requires_grad_(False)
    ear = (pipe.audio_encoder, pipe.feature_extractor)
    clips = encode_corpus(options.corpus, "train", *ear, options.cache_dir, options.audio_augmentation)
    segments, start = teacher_segments(options, clips, teacher), perf_counter()
    settings = (options.steps, options.substeps, options.guidance_scale, options.mouth_temperature)
    with torch.autocast("cpu", torch.bfloat16, enabled=options.mixed_precision == "bf16"):
        settings += (pipe.head, options.batch_size, options.emotion_scale)
        drawn = teacher_paths(teacher, pipe.scheduler, segments, *settings)
        paths = join(list(tqdm(drawn, "teacher's samples", -(-options.segments // options.batch_size))))
    minutes = paths.length.sum() / pipe.config.fps / 60
    print(f"{minutes:.1f} min of samples in {perf_counter() - start:.0f} s", flush=True)

    weights = step_weights(few_step_scheduler(pipe.scheduler), options.steps)
    loss = FewStepLoss(teacher, pipe.head, FewStepObjective(paths, weights, clips.audio), options)
    torch.manual_seed(options.seed)
    student = LoraAdapter(teacher, options.rank)
    report(0, loss.validate({}))
    optimizer = torch.optim.Adam(student.parameters(), options.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        options.learning_rate,
        total_steps=options.max_train_steps + 1,
        pct_start=min(options.warmup_steps / options.max_train_steps, 0.5),
    )

    def validate(_: int) -> dict[str, float]:
        losses = loss.validate(fused_parameters(teacher, student.lora()))
        return {f"validation {index}": value for index, value in enumerate(losses, 1)}

    events = [Event(options.validation_steps, validate)]
    trainer.run(student, optimizer, schedule, draw_points(options, trainer.steps), loss, events)
    trainer.close()

    target = options.output_dir
    told = ("guidance_scale", "mouth_temperature", "emotion_scale")
    known = {name: getattr(options, name) for name in told}
    size = save_lora(begin(target), teacher, student.lora(), num_inference_steps=options.steps, **known)
    finish(target)
    fuse_lora(teacher, load_lora(target, teacher)[0])
    report(options.max_train_steps, loss.validate({}))  # of what was written
    print(f"{target}: {size / 1e3:.0f} kB, {perf_counter() - start:.0f} s, {os.cpu_count()} cores")


if __name__ == "__main__":
    run_script(main)
