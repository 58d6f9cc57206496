# SPDX-License-Identifier: MIT
"""Write the card of facetalk-tiny, or of another run of its scripts, from the template and the scores of evaluate.py.

python training/write_card.py --model facetalk_hf/checkpoints/facetalk-tiny --metrics metrics.json

Cards of other models: training/publish.py.
"""

import argparse
import json
from pathlib import Path

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.files import atomic_path
from facetalk_hf.hub.cards import model_card
from facetalk_hf.scripts import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="JSON of evaluate.py")
    options = parser.parse_args()
    card = model_card(
        FaceTalkPipeline.from_pretrained(options.model),
        options.model.resolve().name,
        license="mit",
        measured=json.loads(options.metrics.read_text()),
        has_few_steps=(options.model / "few_steps").is_dir(),
        default_model=True,
    )
    with atomic_path(options.model / "README.md") as temporary:
        temporary.write_text(str(card), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
