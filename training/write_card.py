# SPDX-License-Identifier: MIT
"""Write the model card of a pipeline folder from the template and the scores of evaluate.py.

python training/write_card.py --model facetalk_hf/checkpoints/facetalk-tiny --metrics metrics.json
"""

import argparse
import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from facetalk_hf.evaluation_report import card_table, eval_results
from facetalk_hf.files import atomic_path


TEMPLATE = Path(__file__).parent.parent / "model_card.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True, help="JSON of evaluate.py")
    options = parser.parse_args()
    measured = json.loads(options.metrics.read_text())
    scores, settings = measured["scores"], measured["settings"]
    data = ModelCardData(
        library_name="diffusers",
        license="mit",
        pipeline_tag="other",
        tags=["facetalk", "facetalk_hf", "nphm", "audio-driven", "talking-head", "3d", "diffusers:FaceTalkPipeline"],
        model_name=options.model.resolve().name,
        eval_results=eval_results(scores, "diffusion", "Speech by voices never trained on, motion by rules"),
    )
    evaluation = (
        f"On voices never trained on ({', '.join(scores)}), {settings['clips']} sentences each, seed "
        f"{settings['seed']}, {settings['samples']} sample(s) of each, by `training/evaluate.py`. "
        '"regression" is the audio encoder\'s own deterministic head, "diffusion" the pipeline; docs/evaluation.md '
        "in the code repository defines the scores.\n\n" + card_table(scores)
    )
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), evaluation=evaluation)
    with atomic_path(options.model / "README.md") as temporary:
        temporary.write_text(str(card), encoding="utf-8")


if __name__ == "__main__":
    main()
