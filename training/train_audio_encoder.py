# SPDX-License-Identifier: MIT
"""Train the small audio encoder by regression of the mouth; afterwards it is frozen, as the paper's wav2vec 2.0 is.

    python training/train_audio_encoder.py --corpus DIR [DIR ...] --output-dir DIR [--max-train-steps 5000]

The result is OUTPUT_DIR/audio_encoder and OUTPUT_DIR/feature_extractor (averaged weights). A run that is killed goes
on with --resume, and ends with the same weights. Everything random comes from --seed and the step. One process, one
thread. --init DIR --max-train-steps 0 --phone-head-steps 1500 fits the phone head of a trained encoder alone.
"""

import json

import numpy as np
import torch

from facetalk_hf.audio.log_mel import LogMelFeatureExtractor
from facetalk_hf.audio_features import LogMelEncoder, LogMelEncoderConfig
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data.corpus import read
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.evaluation.metrics import closure_score, correlation, lip_aperture
from facetalk_hf.files import atomic_path
from facetalk_hf.learning.loop import Event, Trainer
from facetalk_hf.learning.mouth_regression import (
    COLUMNS,
    AudioEncoderOptions,
    Clip,
    MouthObjective,
    Pool,
    start_from_mean,
    warm_cosine,
)
from facetalk_hf.learning.phone_head import refit_phone_head
from facetalk_hf.phones.visemes import PHONES
from facetalk_hf.scripts import parse_config, run_script


@torch.no_grad()
def evaluate(model: LogMelEncoder, held_out: dict) -> dict[str, dict[str, float]]:
    """Measure agreement with the rules on clean, whole clips, by voice: pooled frames, closure at logit 0."""
    model.eval()
    table = {}
    for voice, items in held_out.items():
        made, wanted = [], []
        for features, target in items:
            motion = model.predict_motion(model(features[None]).last_hidden_state)
            made.append(np.concatenate([motion.weights[0].numpy(), motion.closure_logits[0, :, None].numpy()], axis=1))
            wanted.append(target)
        made, wanted = np.concatenate(made), np.concatenate(wanted)
        aperture = [lip_aperture(x[:, INDEX["jawOpen"]], x[:, INDEX["mouthClose"]]) for x in (made, wanted)]
        table[voice] = {
            "aperture": correlation(*aperture),
            "jaw": correlation(made[:, INDEX["jawOpen"]], wanted[:, INDEX["jawOpen"]]),
            "pucker": correlation(made[:, INDEX["mouthPucker"]], wanted[:, INDEX["mouthPucker"]]),
            "funnel": correlation(made[:, INDEX["mouthFunnel"]], wanted[:, INDEX["mouthFunnel"]]),
            "bite": correlation(made[:, INDEX["mouthRollLower"]], wanted[:, INDEX["mouthRollLower"]]),
            "f1": closure_score(made[:, -1] > 0, wanted[:, -1] > 0.5)["f1"],
            "f1_1": closure_score(made[:, -1] > 0, wanted[:, -1] > 0.5, tolerance=1)["f1"],
        }
    model.train()
    return table


def load(options: AudioEncoderOptions, extractor: LogMelFeatureExtractor) -> tuple[list[list[Clip]], dict]:
    """Read the training clips of each corpus, and features and targets of the others by voice."""
    corpora: list[list[Clip]] = []
    held_out: dict[str, list] = {}
    for corpus in options.corpus:
        clips: list[Clip] = []
        for row in read(corpus, ("train", "validation", "test"), ("id", "audio", "phones", "speaker", "split")):
            clip = Clip.of_row(row)
            left_out = row["speaker"] in options.leave_out
            if row["split"] == "train" and not left_out:
                clips.append(clip)
                continue
            group = "left out" if left_out else clip.speaker if row["split"] == "test" else "validation"
            audio = clip.audio.astype(np.float32) / 32767
            features = extractor.normalize(extractor.log_mel(audio))
            held_out.setdefault(group, []).append((features, clip.target(1.0, len(features) // COLUMNS, audio)))
        corpora.append(clips)
    return corpora, held_out


def make_model(options: AudioEncoderOptions, targets: torch.Tensor) -> LogMelEncoder:
    """Make the encoder to be trained, or load the one to go on from."""
    if options.init:
        return LogMelEncoder.from_pretrained(options.init).float().train()
    sizes = ("hidden_size", "num_hidden_layers", "stem_size", "num_stem_layers", "look_ahead_choices")
    config = LogMelEncoderConfig(
        num_phones=len(PHONES),
        look_ahead_frames=max(options.look_ahead_choices),
        **{name: getattr(options, name) for name in sizes},
    )
    model = LogMelEncoder(config).train()
    start_from_mean(model, targets)
    return model


def main(argv: list[str] | None = None) -> None:
    options = parse_config(AudioEncoderOptions, __doc__, argv)
    torch.set_num_threads(1)
    trainer = Trainer(options, "facetalk-audio-encoder", mixed_precision=options.mixed_precision)
    torch.manual_seed(options.seed)
    extractor = LogMelFeatureExtractor()
    corpora, held_out = load(options, extractor)
    hours = [sum(len(clip.audio) for clip in clips) / extractor.sampling_rate / 3600 for clips in corpora]
    shares = options.share or hours
    if len(shares) != len(corpora):
        raise FaceTalkError(f"--share has {len(shares)} numbers for {len(corpora)} corpora")
    look_aheads = [frames for frames in options.look_ahead_choices if frames < max(options.look_ahead_choices)]
    pool = Pool(list(zip(shares, corpora, strict=True)), extractor, options.pool, options.crop, look_aheads)
    pool.renew(options.pool // 2, np.random.default_rng([options.seed, 1]))
    targets = torch.cat([target for _, target in pool.items])
    model = make_model(options, targets)
    count = sum(value.numel() for value in model.parameters())
    print(f"{sum(map(len, corpora))} clips, {sum(hours):.2f} h; {count / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, options.max_train_steps))

    def validate(step: int) -> dict[str, float]:
        """Measure and save the averaged weights."""
        table = evaluate(model, held_out)
        model.save_pretrained(options.output_dir / "audio_encoder")
        extractor.save_pretrained(options.output_dir / "feature_extractor")
        with atomic_path(options.output_dir / "metrics.json") as temporary:
            temporary.write_text(json.dumps({"step": step, **table}, indent=1))
        return {f"{voice} {name}": value for voice, row in table.items() for name, value in row.items()}

    events = [Event(options.validation_steps or options.max_train_steps, validate)]
    batches = pool.batches(options, trainer.steps)
    trainer.run(model, optimizer, schedule, batches, MouthObjective(targets), events, state=[pool])
    if options.phone_head_steps:
        refit_phone_head(model, extractor, corpora, options.phone_head_steps, options.seed)
        validate(options.max_train_steps)
    trainer.close()


if __name__ == "__main__":
    run_script(main)
