# SPDX-License-Identifier: MIT
"""Train the phone recogniser of the large ear, on the frozen features of a Whisper encoder.

    python training/train_phone_recognizer.py --corpus DIR [DIR ...] --cache-dir DIR --output-dir DIR

The features are made once, in --cache-dir, .03 x real time on one core; training is some minutes. The result is
OUTPUT_DIR/phone_recognizer (averaged weights), which `LargeEar.from_pretrained(recognizer=...)` takes. A run that is
killed goes on with --resume, and ends with the same weights. One process, one thread.
"""

from functools import partial

import torch

from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.learning.loop import Event, Trainer
from facetalk_hf.learning.mouth_regression import warm_cosine
from facetalk_hf.learning.phone_recognition import (
    PhoneRecognizerOptions,
    crops,
    hear_corpora,
    phone_accuracy,
    phone_loss,
)
from facetalk_hf.models.phone_recognizer import PhoneRecognizer
from facetalk_hf.phones.visemes import PHONES
from facetalk_hf.scripts import parse_config, run_script


def main(argv: list[str] | None = None) -> None:
    options = parse_config(PhoneRecognizerOptions, __doc__, argv)
    torch.set_num_threads(1)
    trainer = Trainer(options, "facetalk-phone-recognizer")
    encoder, extractor = load_audio_encoder(options.encoder)
    clips = hear_corpora(options, encoder, extractor)
    training, held_out = ([clip for clip in clips if clip.left_out == out] for out in (False, True))
    torch.manual_seed(options.seed)
    model = PhoneRecognizer(
        encoder.config.d_model, len(PHONES), options.hidden_size, options.num_blocks, encoder=options.encoder_name
    ).train()
    seconds = sum(len(clip.phones) for clip in training) / 50
    count = sum(value.numel() for value in model.parameters())
    print(f"{len(training)} clips, {seconds / 3600:.2f} h; {count / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, options.max_train_steps))

    def validate(step: int) -> dict[str, float]:
        """Measure on speakers left out and save the averaged weights."""
        found = phone_accuracy(model.eval(), held_out)
        model.save_pretrained(options.output_dir / "phone_recognizer")
        model.train()
        return found

    events = [Event(options.validation_steps or options.max_train_steps, validate)]
    loss = partial(phone_loss, options.label_smoothing)
    trainer.run(model, optimizer, schedule, crops(training, options, trainer.steps), loss, events)
    trainer.close()


if __name__ == "__main__":
    run_script(main)
