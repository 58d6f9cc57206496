# SPDX-License-Identifier: MIT
"""Train the denoiser on a corpus of speech and expression codes, with the audio encoder frozen (FaceTalk, section 4).

    python training/train_denoiser.py --config training/configs/tiny.yaml \
        --corpus data/corpus --audio_encoder data/audio_encoder --output_dir data/denoiser

All audio is encoded once, unless --online_audio is given. Every sample of every step is a function of the seed and
its index, and a checkpoint is renamed into place when it is complete: a run that was killed and is started again with
--resume gives the weights that it would have given undisturbed. At the end OUTPUT_DIR/denoiser and
OUTPUT_DIR/scheduler hold the parts of a pipeline. All options and the lines that start several processes are in
docs/training.md.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from diffusers import DPMSolverMultistepScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from facetalk_hf import FaceTalkPipeline, NPHMModel
from facetalk_hf.data import corpus
from facetalk_hf.data.feature_cache import encode_corpus, load_audio_encoder, read_speech
from facetalk_hf.data.segments import SegmentDataset, take_batch
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.checkpointing import begin, checkpoints, finish, rotate, step_of
from facetalk_hf.learning.objective import NUM_TIMESTEPS, DiffusionObjective, RegressionObjective, sampling_scheduler
from facetalk_hf.models.denoiser import FaceTalkDenoiser


def make_parser() -> argparse.ArgumentParser:
    """The options; docs/options.py makes the table in docs/training.md from them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--config", help="YAML file with values for any of the other options")
    add("--corpus", help="folder of Parquet shards with audio and expression codes (training/build_corpus.py)")
    add("--audio_encoder", help="folder or Hub id of the frozen encoder and its feature extractor")
    add("--feature_extractor", help="folder or Hub id of the feature extractor, where it lies elsewhere")
    add("--output_dir", help="checkpoints and the result go there")
    add("--online_audio", action="store_true", help="encode a batch's clips at every step instead of all clips once")
    add("--cache_dir", help="keep the encoded corpus in this folder, for this and later runs; by default in memory")
    add("--preset", choices=("paper", "tiny"), default="paper", help="size of the network")
    add("--model_config", type=json.loads, default={}, help="JSON: changes to the preset")
    add("--segment_frames", type=int, default=48, help="length of a training segment; 48 = 2 s")
    add("--batch_size", type=int, default=32, help="segments in a batch, of one process")
    add("--gradient_accumulation_steps", type=int, default=1, help="batches an update")
    add("--max_train_steps", type=int, default=100_000, help="updates")
    add("--learning_rate", type=float, default=1e-4, help="of Adam, at its highest")
    add("--lr_scheduler", default="constant", help="constant, constant_with_warmup, cosine, ... (diffusers' names)")
    add("--lr_warmup_steps", type=int, default=0, help="updates until the learning rate is reached")
    add("--adam_beta2", type=float, default=0.999, help="of Adam")
    add("--weight_decay", type=float, default=0.0, help="of AdamW; 0 makes it the paper's Adam")
    add("--max_grad_norm", type=float, default=1.0, help="gradients are scaled down to this norm")
    add("--null_probability", type=float, default=0.25, help="share of segments whose audio is the null audio")
    add("--augmentation", type=float, nargs=2, default=(1.0, 1.0), metavar=("A", "B"), help="codes * r, r ~ U(A, B)")
    add(
        "--intensity_dropout",
        type=float,
        default=0.1,
        help="share of segments whose r the network isn't told; 1 for a network without that input",
    )
    add(
        "--objective",
        choices=("diffusion", "regression"),
        default="diffusion",
        help="regression: x_0 from zeros at the last timestep, to compare with (no noise, one step at sampling)",
    )
    add("--velocity_weight", type=float, default=0.0, help="weight of the velocity loss")
    add("--loss_matrix", help=".npy with a matrix (D, K): errors of codes @ matrix count as well")
    add("--loss_matrix_weight", type=float, default=1.0, help="weight of the errors in the space of --loss_matrix")
    add("--snr_gamma", type=float, help="min-SNR weights: each timestep's loss times min(SNR, this); by default 1")
    add("--ema_decay", type=float, default=0.0, help="the result is a moving average of the weights; 0 for none")
    add("--mixed_precision", choices=("no", "fp16", "bf16"), help="by default as in `accelerate launch`")
    add("--gradient_checkpointing", action="store_true", help="recompute the blocks, to save memory")
    add("--cpu", action="store_true", help="don't use an accelerator that is there")
    add("--num_workers", type=int, default=0, help="processes that cut segments; 0 to do it in the training process")
    add("--seed", type=int, default=0, help="of the weights and of everything that is drawn")
    add("--checkpointing_steps", type=int, default=1000, help="updates from one checkpoint to the next")
    add("--checkpoints_total_limit", type=int, default=2, help="older checkpoints are removed")
    add("--validation_steps", type=int, default=1000, help="updates from one validation loss to the next; 0 for none")
    add(
        "--validation_video",
        type=int,
        default=0,
        help="updates from one video of a held-out clip, drawn by the "
        "whole pipeline, to the next: OUTPUT_DIR/validation/step-*.mp4; 0 for none",
    )
    add("--head", help="folder or Hub id of the head, for --validation_video and --push_to_hub")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if there is one")
    add("--report_to", help="tensorboard, wandb, trackio, ... (names of Accelerate's trackers)")
    add("--push_to_hub", action="store_true", help="publish the result as a model at the end, with --head if given")
    add("--hub_model_id", help="repository for --push_to_hub, USER/NAME")
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Defaults are the paper's where it gives them; a YAML file overrides them, the command line overrides both."""
    parser = make_parser()
    config = parser.parse_known_args(argv)[0].config
    if config:
        values = yaml.safe_load(Path(config).read_text())
        unknown = sorted(set(values) - set(vars(parser.parse_args([]))))
        if unknown:
            parser.error(f"{config} has unknown options: {', '.join(unknown)}")
        parser.set_defaults(**values)
    args = parser.parse_args(argv)
    for name in ("corpus", "audio_encoder", "output_dir"):
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed")
    for flag, name in (("validation_video", "head"), ("push_to_hub", "hub_model_id")):
        if getattr(args, flag) and getattr(args, name) is None:
            parser.error(f"--{flag} needs --{name}")
    return args


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, limit: int) -> None:
    """Write the state of all processes beside its place, rename it, remove the oldest."""
    target = folder / f"checkpoint-{step}"
    if accelerator.is_main_process:
        begin(target)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(target.with_name(f".{target.name}")))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        finish(target)
        rotate(folder, limit)


def save_component(component: FaceTalkDenoiser | DPMSolverMultistepScheduler, target: Path) -> None:
    """`save_pretrained`, whole or not at all; an older result is replaced."""
    component.save_pretrained(begin(target))
    finish(target)


def upload(folder: Path, parts: dict[str, Any], hub_model_id: str, **hub: str) -> None:
    """Send the result to the Hub as a whole model with its card, as whoever `hf auth login` or HF_TOKEN says.

    `parts`: the other components of [`FaceTalkPipeline`] and its `fps`; `hub`: arguments of its `push_to_hub`.
    """
    denoiser = FaceTalkDenoiser.from_pretrained(folder / "denoiser")
    pipe = FaceTalkPipeline(denoiser=denoiser, scheduler=sampling_scheduler(), **parts)
    try:
        pipe.push_to_hub(hub_model_id, **hub)
    except FaceTalkError as error:
        raise FaceTalkError(f"the result is in {folder}, but could not be published: {error}") from error


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """With errors that say what to change, before any work is done."""
    trackers = [str(name) for name in get_available_trackers()]  # an enumeration whose members equal no string
    if args.report_to and args.report_to not in trackers:
        raise FaceTalkError(f"--report_to {args.report_to} needs a package: pip install {args.report_to}")
    try:
        return Accelerator(
            cpu=args.cpu,
            mixed_precision=args.mixed_precision,
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            log_with=args.report_to,
            project_dir=args.output_dir,
        )
    except ValueError as error:
        raise FaceTalkError(f"--mixed_precision {args.mixed_precision}: {error}") from error


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    accelerator = make_accelerator(args)
    output_dir = Path(args.output_dir)
    earlier = checkpoints(output_dir)
    if earlier and not args.resume:
        raise FaceTalkError(f"{output_dir} has checkpoints already; add --resume, or choose another --output_dir")

    encoder, extractor = load_audio_encoder(args.audio_encoder, args.feature_extractor)
    encoder.to(accelerator.device)
    head = NPHMModel.from_pretrained(args.head) if args.head else None  # missing? say so at once

    def read(split: str) -> tuple:
        if args.online_audio:
            return read_speech(args.corpus, split, encoder, extractor)
        return encode_corpus(args.corpus, split, encoder, extractor, args.cache_dir), None

    with accelerator.main_process_first():  # the others read the cache, if there is one
        clips, online = read("train")
        validation_clips, validation_online = read("validation") if args.validation_steps else (None, None)
    preset = FaceTalkDenoiser.tiny_config if args.preset == "tiny" else FaceTalkDenoiser.paper_config
    audio_dim = encoder.config.hidden_size if online else clips.audio.shape[1]
    dims = {"code_dim": clips.codes.shape[1], "audio_dim": audio_dim, "max_timesteps": NUM_TIMESTEPS}
    if args.intensity_dropout < 1 and args.augmentation[0] < args.augmentation[1]:
        dims["intensity_range"] = tuple(args.augmentation)
    set_seed(args.seed)  # here, because encoding draws numbers, and reading the cache does not
    denoiser = FaceTalkDenoiser(**preset(**dims) | args.model_config).train()
    mean, std = clips.statistics()
    denoiser.code_mean.copy_(mean)
    denoiser.code_std.copy_(std)
    if args.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    matrix = torch.from_numpy(np.load(args.loss_matrix)) if args.loss_matrix else None
    weights = (args.velocity_weight, matrix, args.loss_matrix_weight, args.snr_gamma)
    objective_class = RegressionObjective if args.objective == "regression" else DiffusionObjective
    objective = objective_class(denoiser, *weights, device=accelerator.device)

    per_update = args.batch_size * accelerator.num_processes * args.gradient_accumulation_steps
    first_step = step_of(earlier[-1]) if earlier else 0
    options = {"num_timesteps": NUM_TIMESTEPS, "null_probability": args.null_probability}
    dataset = SegmentDataset(
        clips,
        args.segment_frames,
        num_samples=max(args.max_train_steps - first_step, 0) * per_update,
        offset=first_step * per_update,
        seed=args.seed,
        augmentation=tuple(args.augmentation),
        intensity_dropout=args.intensity_dropout,
        **options,
    )
    loader = DataLoader(dataset, args.batch_size, num_workers=args.num_workers, collate_fn=take_batch)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(),
        args.learning_rate,
        betas=(0.9, args.adam_beta2),
        weight_decay=args.weight_decay,
        fused=True,
    )
    # Not prepared: a prepared one advances once a process. It is stepped here, once an update.
    lr_scheduler = get_scheduler(
        args.lr_scheduler,
        optimizer,
        num_warmup_steps=args.lr_warmup_steps,
        num_training_steps=args.max_train_steps,
    )
    model, optimizer, loader = accelerator.prepare(denoiser, optimizer, loader)
    accelerator.register_for_checkpointing(lr_scheduler)
    ema = None
    if args.ema_decay:
        ema = EMAModel(denoiser.parameters(), args.ema_decay, foreach=True)
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)
    if earlier:
        accelerator.load_state(str(earlier[-1]))
    if args.report_to:
        plain = {key: value for key, value in vars(args).items() if isinstance(value, int | float | str)}
        accelerator.init_trackers("facetalk-denoiser", plain)

    @contextmanager
    def averaged() -> Iterator[None]:
        """The weights that will be saved, for a while."""
        if ema:
            ema.store(denoiser.parameters())
            ema.copy_to(denoiser.parameters())
        yield
        if ema:
            ema.restore(denoiser.parameters())

    def render(step: int) -> None:
        """A held-out clip, at most 4 s of it, through the whole pipeline."""
        row = next(corpus.read(args.corpus, ("validation",), ("audio", "sampling_rate", "fps")))
        samples = corpus.decode_audio(row)[: 4 * row["sampling_rate"]]
        parts = {"scheduler": sampling_scheduler(), "audio_encoder": encoder, "feature_extractor": extractor}
        pipe = FaceTalkPipeline(denoiser=denoiser, head=head.to(accelerator.device), fps=row["fps"], **parts)
        pipe.set_progress_bar_config(disable=True)
        with averaged():
            seed = torch.Generator().manual_seed(args.seed)
            animation = pipe(samples, sampling_rate=row["sampling_rate"], generator=seed).animations[0]
        target = output_dir / "validation" / f"step-{step:06d}.mp4"
        target.parent.mkdir(exist_ok=True, parents=True)
        animation.save(target, size=256)

    @torch.no_grad()
    def validate() -> float:
        """Loss on fixed segments of the validation split, audio given, with the weights that will be saved."""
        held_out = SegmentDataset(validation_clips, args.segment_frames, 256, **options | {"null_probability": 0.0})
        losses = []
        with averaged():
            for start in range(0, len(held_out), args.batch_size):
                batch = held_out.__getitems__(list(range(start, min(start + args.batch_size, len(held_out)))))
                batch = {key: value.to(accelerator.device) for key, value in batch.items()}
                if validation_online:
                    batch["audio"] = validation_online(batch)
                losses.append(objective(model, batch))
        return torch.cat(losses).mean().item()

    progress = tqdm(
        total=args.max_train_steps, initial=first_step, desc="training", disable=not accelerator.is_main_process
    )
    step, running, shown = first_step, None, {}
    for batch in loader:
        if online:
            batch["audio"] = online(batch)
        with accelerator.accumulate(model):
            losses = objective(model, batch)
            accelerator.backward(losses.mean())
            if accelerator.sync_gradients:
                # Gradients are the mean over all processes here, so all of them stop together. With fp16 they overflow
                # now and then, which the scaler sees to; then it is the loss that counts.
                norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                if accelerator.scaler is not None:
                    norm = accelerator.reduce(losses.detach().mean())
                if not torch.isfinite(norm):
                    accelerator.wait_for_everyone()
                    last = checkpoints(output_dir)
                    raise FaceTalkError(
                        f"the gradient is not finite at step {step} (samples {step * per_update} to "
                        f"{(step + 1) * per_update - 1} of seed {args.seed}, losses {losses.detach().tolist()}); "
                        f"last good checkpoint: {last[-1] if last else 'none'}; try a lower --learning_rate"
                    )
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        if ema:
            ema.step(denoiser.parameters())
        step += 1
        progress.update()
        if step % 20 == 0 or step == args.max_train_steps:
            value = accelerator.reduce(losses.detach().mean(), "mean").item()
            running = value if running is None else 0.95 * running + 0.05 * value
            shown |= {"loss": f"{running:.4f}", "lr": f"{lr_scheduler.get_last_lr()[0]:.1e}"}
            accelerator.log({"loss": value, "lr": lr_scheduler.get_last_lr()[0]}, step)
            progress.set_postfix(shown, refresh=False)
        if args.validation_steps and (step % args.validation_steps == 0 or step == args.max_train_steps):
            value = validate()
            shown["validation"] = f"{value:.4f}"
            accelerator.log({"validation": value}, step)
            if accelerator.is_main_process:
                progress.write(f"step {step}: loss {running or 0:.4f}, validation {value:.4f}")
        if args.validation_video and step % args.validation_video == 0 and accelerator.is_main_process:
            render(step)
        if step % args.checkpointing_steps == 0 or step == args.max_train_steps:
            save_checkpoint(accelerator, output_dir, step, args.checkpoints_total_limit)
    progress.close()

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if ema:
            ema.copy_to(denoiser.parameters())
        save_component(denoiser.eval(), output_dir / "denoiser")
        save_component(sampling_scheduler(), output_dir / "scheduler")
        if args.push_to_hub:
            parts = {"audio_encoder": encoder, "feature_extractor": extractor, "head": head}
            parts["fps"] = next(corpus.read(args.corpus, ("train",), ("fps",)))["fps"]
            upload(output_dir, parts, args.hub_model_id)
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"train_denoiser.py: {error}") from error
