# SPDX-License-Identifier: MIT
"""Train the denoiser on a corpus of speech and expression codes, with the audio encoder frozen (FaceTalk, section 4).

    python training/train_denoiser.py --config training/configs/tiny.yaml \
        --corpus data/corpus --audio_encoder data/audio_encoder --output_dir data/denoiser

All audio is encoded once. Every sample of every step is a function of the seed and its index, and a checkpoint is
renamed into place when it is complete: a run that was killed and is started again with --resume gives the weights
that it would have given undisturbed. Several processes: see `accelerate launch --help`; reduced precision:
--mixed_precision. At the end OUTPUT_DIR/denoiser and OUTPUT_DIR/scheduler hold the components of a pipeline.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModel, PreTrainedModel, SequenceFeatureExtractor

from facetalk_hf import corpus
from facetalk_hf.audio_features import LogMelEncoder, LogMelEncoderConfig, LogMelFeatureExtractor, encode_speech
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.losses import normalized_matrix, sample_loss, velocity_loss
from facetalk_hf.models.denoiser import FaceTalkDenoiser
from facetalk_hf.segments import EncodedClips, SegmentDataset, take_batch


NUM_TIMESTEPS = 1000


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Defaults are the paper's where it gives them; a YAML file overrides them, the command line overrides both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--config", help="YAML file with values for any of the other options")
    add("--corpus", help="folder of Parquet shards with audio and expression codes (training/build_corpus.py)")
    add("--audio_encoder", help="folder or Hub id of the frozen encoder and its feature extractor")
    add("--feature_extractor", help="folder or Hub id of the feature extractor, where it lies elsewhere")
    add("--output_dir", help="checkpoints and the result go there")
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
    add("--adam_beta2", type=float, default=0.999)
    add("--weight_decay", type=float, default=0.0)
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
    add("--ema_decay", type=float, default=0.0, help="the result is a moving average of the weights; 0 for none")
    add("--mixed_precision", choices=("no", "fp16", "bf16"), help="by default as in `accelerate launch`")
    add("--gradient_checkpointing", action="store_true", help="recompute the blocks, to save memory")
    add("--cpu", action="store_true", help="don't use an accelerator that is there")
    add("--num_workers", type=int, default=0, help="processes that cut segments; 0 to do it in the training process")
    add("--seed", type=int, default=0)
    add("--checkpointing_steps", type=int, default=1000, help="updates from one checkpoint to the next")
    add("--checkpoints_total_limit", type=int, default=2, help="older checkpoints are removed")
    add("--validation_steps", type=int, default=1000, help="updates from one validation loss to the next; 0 for none")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if there is one")
    add("--report_to", help="tensorboard, wandb, trackio, ...")
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
    return args


def load_audio_encoder(
    encoder: str, feature_extractor: str | None
) -> tuple[PreTrainedModel, SequenceFeatureExtractor]:
    """Our log-mel encoder from a folder, or one of the wav2vec 2.0 family from a folder or the Hub."""
    path = Path(encoder) / "config.json"
    ours = path.exists() and json.loads(path.read_text())["model_type"] == LogMelEncoderConfig.model_type
    model_class = LogMelEncoder if ours else AutoModel
    extractor_class = LogMelFeatureExtractor if ours else AutoFeatureExtractor
    model = model_class.from_pretrained(encoder, dtype=torch.float32).eval().requires_grad_(False)
    return model, extractor_class.from_pretrained(feature_extractor or encoder)


def encode_corpus(args: argparse.Namespace, split: str, device: torch.device) -> EncodedClips:
    """Codes and audio features of the clips of a split, encoded once or taken from the cache."""
    encoder, extractor = load_audio_encoder(args.audio_encoder, args.feature_extractor)
    encoder.to(device)
    folder = None
    if args.cache_dir:
        key = hashlib.sha256(f"{split} {extractor.to_json_string()}".encode())
        for name, tensor in encoder.state_dict().items():
            key.update(name.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        for shard in corpus.shards(args.corpus):
            key.update(f"{shard.name} {shard.stat().st_size} {shard.stat().st_mtime_ns}".encode())
        folder = Path(args.cache_dir) / f"{split}-{key.hexdigest()[:16]}"
        if folder.exists():
            return EncodedClips.load(folder)

    @torch.inference_mode()
    def clips() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        columns = ("audio", "sampling_rate", "expression", "fps")
        for row in tqdm(corpus.read(args.corpus, (split,), columns), desc=f"encoding {split}", unit=" clips"):
            if "expression" not in row:
                raise FaceTalkError(f"{args.corpus} has no expression codes; training/build_corpus.py adds them")
            samples = corpus.decode_audio(row)
            features, _ = encode_speech(encoder, extractor, [samples], row["fps"], row["sampling_rate"])
            yield row["expression"], features[0].cpu().numpy()

    return EncodedClips.collect(clips(), folder)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, the oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, limit: int) -> None:
    """Write the state of all processes beside its place, rename it, remove the oldest."""
    target, work = folder / f"checkpoint-{step}", folder / f".checkpoint-{step}"
    if accelerator.is_main_process:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(work))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(work, target)
        for old in checkpoints(folder)[:-limit]:
            shutil.rmtree(old)


def save_component(component: FaceTalkDenoiser | DPMSolverMultistepScheduler, target: Path) -> None:
    """`save_pretrained`, whole or not at all; an older result is replaced."""
    work, old = target.with_name(f".{target.name}"), target.with_name(f".{target.name}-old")
    for path in (work, old):
        shutil.rmtree(path, ignore_errors=True)
    component.save_pretrained(work)
    if target.exists():
        os.replace(target, old)
    os.replace(work, target)
    shutil.rmtree(old, ignore_errors=True)


class Objective:
    """Noise a batch, predict, compare: the paper's loss and the additions that the options ask for."""

    def __init__(self, args: argparse.Namespace, denoiser: FaceTalkDenoiser, device: torch.device) -> None:
        self.args = args
        self.noise_schedule = DDPMScheduler(
            NUM_TIMESTEPS, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
        )
        # add_noise would copy the table from the CPU at every step.
        self.noise_schedule.alphas_cumprod = self.noise_schedule.alphas_cumprod.to(device)
        self.tell_intensity = denoiser.config.intensity_range is not None
        self.mean, self.std = denoiser.code_mean.to(device), denoiser.code_std.to(device)
        self.matrix = None
        if args.loss_matrix:
            matrix = torch.from_numpy(np.load(args.loss_matrix)).float().to(device)
            self.matrix = normalized_matrix(matrix, self.std)

    def __call__(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Loss of each segment, (B,) float."""
        mask = None if batch["frame_mask"].all() else batch["frame_mask"]
        target = (batch["codes"] - self.mean) / self.std
        timestep = batch["timestep"]
        noisy = self.noise_schedule.add_noise(target, batch["noise"], timestep)
        if self.args.objective == "regression":
            timestep, noisy = torch.full_like(timestep, NUM_TIMESTEPS - 1), torch.zeros_like(noisy)
        known = {"intensity": batch["intensity"]} if self.tell_intensity else {}
        output = model(noisy, timestep, batch["audio"], mask, batch["audio_keep"], return_dict=False, **known)
        prediction = output[0].float()
        loss = sample_loss(prediction, target, mask)
        if self.args.velocity_weight:
            loss = loss + self.args.velocity_weight * velocity_loss(prediction, target, mask)
        if self.matrix is not None:
            loss = loss + self.args.loss_matrix_weight * sample_loss(prediction, target, mask, self.matrix)
        return loss


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    accelerator = Accelerator(
        cpu=args.cpu,
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.report_to,
        project_dir=args.output_dir,
    )
    output_dir = Path(args.output_dir)
    earlier = checkpoints(output_dir)
    if earlier and not args.resume:
        raise FaceTalkError(f"{output_dir} has checkpoints already; add --resume, or choose another --output_dir")

    with accelerator.main_process_first():  # the others read the cache, if there is one
        clips = encode_corpus(args, "train", accelerator.device)
        validation_clips = encode_corpus(args, "validation", accelerator.device) if args.validation_steps else None
    preset = FaceTalkDenoiser.tiny_config if args.preset == "tiny" else FaceTalkDenoiser.paper_config
    dims = {"code_dim": clips.codes.shape[1], "audio_dim": clips.audio.shape[1], "max_timesteps": NUM_TIMESTEPS}
    if args.intensity_dropout < 1 and args.augmentation[0] < args.augmentation[1]:
        dims["intensity_range"] = tuple(args.augmentation)
    set_seed(args.seed)  # here, because encoding draws numbers, and reading the cache does not
    denoiser = FaceTalkDenoiser(**preset(**dims) | args.model_config).train()
    mean, std = clips.statistics()
    denoiser.code_mean.copy_(mean)
    denoiser.code_std.copy_(std)
    if args.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    objective = Objective(args, denoiser, accelerator.device)

    per_update = args.batch_size * accelerator.num_processes * args.gradient_accumulation_steps
    first_step = int(earlier[-1].name.rpartition("-")[2]) if earlier else 0
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

    @torch.no_grad()
    def validate() -> float:
        """Loss on fixed segments of the validation split, audio given, with the weights that will be saved."""
        held_out = SegmentDataset(validation_clips, args.segment_frames, 256, **options | {"null_probability": 0.0})
        if ema:
            ema.store(denoiser.parameters())
            ema.copy_to(denoiser.parameters())
        losses = []
        for start in range(0, len(held_out), args.batch_size):
            batch = held_out.__getitems__(list(range(start, min(start + args.batch_size, len(held_out)))))
            batch = {key: value.to(accelerator.device) for key, value in batch.items()}
            losses.append(objective(model, batch))
        if ema:
            ema.restore(denoiser.parameters())
        return torch.cat(losses).mean().item()

    progress = tqdm(
        total=args.max_train_steps, initial=first_step, desc="training", disable=not accelerator.is_main_process
    )
    step, running, shown = first_step, None, {}
    for batch in loader:
        with accelerator.accumulate(model):
            losses = objective(model, batch)
            accelerator.backward(losses.mean())
            if accelerator.sync_gradients:
                # Gradients are the mean over all processes here, so all of them stop together.
                norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
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
        if step % args.checkpointing_steps == 0 or step == args.max_train_steps:
            save_checkpoint(accelerator, output_dir, step, args.checkpoints_total_limit)
    progress.close()

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if ema:
            ema.copy_to(denoiser.parameters())
        save_component(denoiser.eval(), output_dir / "denoiser")
        save_component(
            DPMSolverMultistepScheduler(
                NUM_TIMESTEPS,
                beta_schedule="squaredcos_cap_v2",
                prediction_type="sample",
                timestep_spacing="trailing",
            ),
            output_dir / "scheduler",
        )
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"train_denoiser.py: {error}") from error
