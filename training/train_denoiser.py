# SPDX-License-Identifier: MIT
"""Train the denoiser on a corpus of speech and expression codes, with the audio encoder frozen (FaceTalk, section 4).

    python training/train_denoiser.py --config training/configs/tiny.yaml \
        --corpus data/corpus --audio-encoder data/audio_encoder --output-dir data/denoiser

All audio is encoded once, unless --online-audio is given. Every sample of every step is a function of the seed and
its index, and a checkpoint is renamed into place when it is complete: a run that was killed and is started again with
--resume gives the weights that it would have given undisturbed. At the end OUTPUT_DIR/denoiser and
OUTPUT_DIR/scheduler hold the parts of a pipeline. All options and the lines that start several processes are in
docs/training.md.
"""

from accelerate.utils import set_seed

from facetalk_hf import NPHMModel
from facetalk_hf.data import corpus
from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.learning.checkpointing import save_whole
from facetalk_hf.learning.denoiser import (
    DenoiserLoss,
    DenoiserOptions,
    make_denoiser,
    make_loader,
    make_objective,
    make_optimizer,
    read_split,
    render_clip,
    upload,
)
from facetalk_hf.learning.loop import Event, Trainer
from facetalk_hf.learning.objective import sampling_scheduler
from facetalk_hf.scripts import parse_config, run_script


def main(argv: list[str] | None = None) -> None:
    options = parse_config(DenoiserOptions, __doc__, argv)
    trainer = Trainer(
        options,
        "facetalk-denoiser",
        cpu=options.cpu,
        mixed_precision=options.mixed_precision,
        accumulation=options.gradient_accumulation_steps,
    )
    accelerator = trainer.accelerator
    encoder, extractor = load_audio_encoder(options.audio_encoder, options.feature_extractor)
    encoder.to(accelerator.device)
    head = NPHMModel.from_pretrained(options.head) if options.head else None  # missing? say so at once
    with accelerator.main_process_first():  # the others read the cache, if there is one
        clips, online = read_split(options, "train", encoder, extractor)
        held_out = read_split(options, "validation", encoder, extractor) if options.validation_steps else None

    set_seed(options.seed)  # here, because encoding draws numbers, and reading the cache does not
    denoiser = make_denoiser(options, clips, encoder.config.hidden_size if online else clips.audio.shape[1])
    objective = make_objective(options, denoiser, accelerator.device)
    optimizer, schedule = make_optimizer(options, denoiser)
    parts = {"audio_encoder": encoder, "feature_extractor": extractor, "head": head}

    def validate(_: int) -> dict[str, float]:
        return DenoiserLoss(objective, held_out[1]).validate(denoiser, held_out[0], options, accelerator.device)

    def render(step: int) -> None:
        if accelerator.is_main_process:
            target = options.output_dir / "validation" / f"step-{step:06d}.mp4"
            render_clip(denoiser, parts | {"head": head.to(accelerator.device)}, options.corpus, target, options.seed)

    events = (Event(options.validation_steps, validate), Event(options.validation_video, render, at_end=False))
    batches = make_loader(options, clips, trainer)
    trainer.run(denoiser, optimizer, schedule, batches, DenoiserLoss(objective, online), events)

    if accelerator.is_main_process:
        save_whole(denoiser.eval(), options.output_dir / "denoiser")
        save_whole(sampling_scheduler(), options.output_dir / "scheduler")
        if options.push_to_hub:
            fps = next(corpus.read(options.corpus, ("train",), ("fps",)))["fps"]
            upload(options.output_dir, parts | {"fps": fps}, options.hub_model_id)
    trainer.close()


if __name__ == "__main__":
    run_script(main)
