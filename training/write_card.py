# SPDX-License-Identifier: MIT
"""Write the model card of a pipeline folder from the template and the scores of evaluate.py.

python training/write_card.py --model facetalk_hf/checkpoints/facetalk-tiny --metrics metrics.json
"""

import argparse
import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from facetalk_hf.files import atomic_path


TEMPLATE = Path(__file__).parent.parent / "model_card.md"
COLUMNS = {"aperture": "aperture r", "jaw": "jaw r", "pucker": "pucker r", "f1": "closure F1", "f1_1": "F1, 1 frame"}


def table(metrics: dict) -> str:
    """Markdown table of the scores: one row a held-out voice and kind of prediction."""
    lines = ["| voice | by | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for voice, kinds in metrics.items():
        for kind, scores in kinds.items():
            cells = " | ".join(f"{scores[name]:.3f}" for name in COLUMNS)
            lines.append(f"| {voice} | {kind} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="JSON of evaluate.py")
    options = parser.parse_args()
    data = ModelCardData(
        library_name="diffusers",
        license="mit",
        pipeline_tag="other",
        tags=["facetalk", "facetalk_hf", "nphm", "audio-driven", "talking-head", "3d", "diffusers:FaceTalkPipeline"],
    )
    evaluation = (
        "On voices never trained on (festival lj and pc, flite rms), 40 sentences each, by `training/evaluate.py`. "
        '"regression" is the audio encoder\'s own deterministic head, "diffusion" one sample of the pipeline at its '
        "defaults.\n\n" + table(json.loads(options.metrics.read_text()))
    )
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), evaluation=evaluation)
    with atomic_path(options.model / "README.md") as temporary:
        temporary.write_text(str(card), encoding="utf-8")


if __name__ == "__main__":
    main()
