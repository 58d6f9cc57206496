# SPDX-License-Identifier: MIT
"""Model cards: model_card.md filled in for one pipeline, with what its earlier card says of it."""

import re
from collections.abc import Sequence
from typing import Any, cast

from huggingface_hub import ModelCard, ModelCardData
from torch import nn

from ..paths import packaged
from .eval_results import card_table, eval_results


TAGS = ["facetalk", "facetalk_hf", "nphm", "audio-driven", "talking-head", "3d", "diffusers:FaceTalkPipeline"]
ABOUT = ("Training", "Evaluation", "Limits")
"""Sections that only the model's author can write: they are taken over from the card that lies beside the weights."""
OURS = ("Model details", "How to get started", "Uses", *ABOUT, "Citation")
"""All sections of model_card.md; any other one of an earlier card goes before the citation."""


def sections(text: str) -> dict[str, str]:
    """Split a card's text by its headings of the second level; the text before them is "", its title left out."""
    found, title, fenced = {"": ""}, "", False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            title = line[3:].strip()
            found[title] = ""
        elif fenced or not line.startswith("# "):
            found[title] += line + "\n"
    return {title: body.strip() for title, body in found.items()}


def evaluation_text(measured: dict[str, Any]) -> str:
    """Write the section "Evaluation" from the JSON of training/evaluate.py: how it was measured, and a table."""
    scores, settings = measured["scores"], measured["settings"]
    return (
        f"On voices never trained on ({', '.join(scores)}), {settings['clips']} sentences each, seed "
        f"{settings['seed']}, {settings['samples']} sample(s) of each, by `training/evaluate.py`. "
        '"regression" is the audio encoder\'s own deterministic head, "diffusion" the pipeline; docs/evaluation.md '
        "in the code repository defines the scores.\n\n" + card_table(scores) + "\n\n"
        "Every score of this kind measures agreement with the motion of the corpus. Where rules made that motion, as "
        "for facetalk-tiny,\na perfect score would be a perfect imitation of the rules, not of a face."
    )


def parts_of(pipe: Any) -> list[dict[str, str]]:
    """List name, class and number of parameters of every component of a pipeline."""
    rows = []
    for name, part in pipe.components.items():
        count = sum(value.numel() for value in part.parameters()) if isinstance(part, nn.Module) else 0
        kind = "none" if part is None else f"`{type(part).__name__}`"
        rows.append({"name": name, "kind": kind, "parameters": f"{count / 1e6:.2f} M" if count else ""})
    return rows


def model_card(
    pipe: Any,
    name: str,
    *,
    model_id: str | None = None,
    earlier: ModelCard | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    language: str | Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    base_model: str | None = None,
    measured: dict[str, Any] | None = None,
    dataset_name: str = "Speech by voices never trained on, motion by rules",
    variants: str = "fp16",
    has_few_steps: bool = False,
    default_model: bool = False,
    code: str | None = None,
) -> ModelCard:
    """Write the card of a model.

    Args:
        pipe ([`FaceTalkPipeline`]): what is described.
        name (`str`): title, and name in the model-index.
        model_id (`str`, *optional*): the repository that the examples load.
        earlier (`ModelCard`, *optional*): says what an argument does not, in its header and in its sections on uses,
            training, evaluation and limits. A card with nothing filled in, as diffusers writes it, says nothing.
        license, license_name, license_link, language, datasets, base_model: metadata of the Hub.
        measured (`dict`, *optional*): JSON of training/evaluate.py, for the model-index and the table.
        dataset_name (`str`): what was measured on.
        variants (`str`): which weights there are, in words.
        has_few_steps (`bool`): whether there is a folder few_steps/.
        default_model (`bool`): this is facetalk-tiny, whose making the template describes.
        code (`str`, *optional*): address of the code repository.
    """
    text, header = {}, {}
    if earlier is not None and "[More Information Needed]" not in earlier.text:
        text, header = sections(earlier.text), earlier.data.to_dict()
    known: dict[str, Any] = {
        "license": license, "license_name": license_name, "license_link": license_link, "language": language,
        "datasets": list(datasets) if datasets else None, "base_model": base_model,
    }  # fmt: skip
    if license is None:
        known |= {key: header.get(key) for key in ("license", "license_name", "license_link")}
    known |= {key: header.get(key) for key, value in known.items() if value is None}
    results = eval_results(measured["scores"], "diffusion", dataset_name) if measured else None
    if results is None and header and earlier is not None:
        results = cast(ModelCardData, earlier.data).eval_results
    tags = list(dict.fromkeys([*TAGS, *(header.get("tags") or [])]))
    data = ModelCardData(
        library_name="diffusers", pipeline_tag="other", tags=tags, inference=False,
        model_name=name if results else None, eval_results=results,
        **{key: value for key, value in known.items() if value is not None},
    )  # fmt: skip
    own = {key.lower(): text[key] for key in ABOUT if text.get(key)} | {"intro": text.get("")}
    own["uses"] = re.split(r"^### ", text.get("Uses", ""), maxsplit=1, flags=re.MULTILINE)[0].strip()
    if measured:
        own["evaluation"] = evaluation_text(measured)
    return ModelCard.from_template(
        data, template_path=str(packaged("model_card.md")), model_name=name, model_id=model_id, parts=parts_of(pipe),
        variants=variants, fps=f"{pipe.config.fps:g}", code_dim=pipe.denoiser.config.code_dim, code=code,
        license_text=known["license_name"] or (known["license"] or "").upper(), has_head=pipe.head is not None,
        has_few_steps=has_few_steps, default_model=default_model,
        more=[(title, body) for title, body in text.items() if title and title not in OURS], **own,
    )  # fmt: skip
