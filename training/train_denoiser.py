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

from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.learning.training import train_denoiser
from facetalk_hf.scripts import parse_config, run_script


def main(argv: list[str] | None = None) -> None:
    train_denoiser(parse_config(DenoiserOptions, __doc__, argv))


if __name__ == "__main__":
    run_script(main)
