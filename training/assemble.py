# SPDX-License-Identifier: MIT
"""Put trained parts together as one pipeline folder in half precision; `facetalk assemble` is the same.

    python training/assemble.py --head data/nphm/head --encoder data/encoder --denoiser data/denoiser \
        --output-dir facetalk_hf/checkpoints/facetalk-tiny
"""

import sys

from facetalk_hf.learning.assembling import AssembleOptions, assemble
from facetalk_hf.scripts import parse_config, run_script


def main() -> None:
    # --encoder is what this script called it before there was a command.
    sys.argv = ["--audio-encoder" if word == "--encoder" else word for word in sys.argv]
    print(assemble(parse_config(AssembleOptions, __doc__)))


if __name__ == "__main__":
    run_script(main)
