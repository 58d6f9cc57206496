# SPDX-License-Identifier: MIT
"""Turn a Whisper model of CTranslate2 (faster-whisper's model.bin) into a folder that `--audio-encoder` takes."""

from dataclasses import dataclass
from pathlib import Path

from facetalk_hf.conversion.whisper import convert_whisper
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script


@dataclass
class Options:
    """Options of this script."""

    model: Path = option(REQUIRED, "model.bin of CTranslate2 in float16 or float32")
    output: Path = option(REQUIRED, "folder to write")


def main() -> None:
    config = parse_config(Options, __doc__)
    model = convert_whisper(config.model, config.output)
    print(f"{sum(value.numel() for value in model.parameters()) / 1e6:.1f} M parameters in {config.output}")


if __name__ == "__main__":
    run_script(main)
