# SPDX-License-Identifier: MIT
"""Scores of `evaluation` for people and for the Hub: tables in plain text and Markdown, entries of a model-index."""

from collections.abc import Sequence

from huggingface_hub import EvalResult


Scores = dict[str, dict[str, dict[str, float]]]
"""voice -> model ("regression", "diffusion", ..) -> score -> value."""

TITLES: dict[str, str] = {
    "aperture": "lip aperture, Pearson r", "jaw": "jaw, r", "pucker": "pucker, r", "funnel": "funnel, r",
    "bite": "lip bite, r", "f1": "lip closure F1", "f1_1": "lip closure F1, one frame of tolerance",
    "lag": "lag, frames, median", "lag_worst": "lag, frames, worst clip", "open_ratio": "spread of aperture, ratio",
    "mve": "MVE, mm", "lve_squared": "LVE squared, mm^2", "lve_rooted": "LVE rooted, mm",
    "lve_root_mean": "LVE, root of the mean, mm", "fdd": "FDD signed, mm^2", "fdd_absolute": "FDD absolute, mm^2",
    "lve_squared_landmarks": "LVE squared on landmarks, mm^2", "lve_rooted_landmarks": "LVE rooted on landmarks, mm",
    "fdd_landmarks": "FDD signed on landmarks, mm^2", "fdd_absolute_landmarks": "FDD absolute on landmarks, mm^2",
    "diversity": "diversity over noise, skin, mm", "diversity_lips": "diversity over noise, lips, mm",
    "silence": "opening in silence, worst, mm",
    "speed": "lip speed, mm/s", "speed_target": "lip speed of the truth, mm/s",
    "jerk": "lip jerk, mm/s^3", "jerk_target": "lip jerk of the truth, mm/s^3", "beats": "beat alignment",
    "beats_target": "beat alignment of the truth", "seam": "speed at seams, ratio",
}  # fmt: skip
"""Every score with its unit. "_min" and "_mean_estimate" after a name: best of K samples, and their mean scored."""

HEADLINE: tuple[str, ...] = ("aperture", "jaw", "pucker", "f1", "f1_1", "lve_rooted", "fdd", "silence", "lag")
"""The scores of a model card; all others are in the JSON file."""


def title(name: str) -> str:
    """Name a score for print, with its unit; the name itself where nothing is known of it."""
    for ending, words in (("_min", ", best of the samples"), ("_mean_estimate", ", mean of the samples")):
        if name.endswith(ending):
            return title(name.removesuffix(ending)) + words
    return TITLES.get(name, name)


def plain_table(scores: Scores) -> str:
    """All scores as text: a row for each, a column for each voice and model."""
    columns = [(voice, model) for voice, models in scores.items() for model in models]
    names = list(dict.fromkeys(name for voice, model in columns for name in scores[voice][model]))
    wide, narrow = max(map(len, map(title, names))) + 2, 14
    lines = [" " * wide + "".join(f"{head[-narrow + 2 :]:>{narrow}}" for head in heads) for heads in zip(*columns)]  # noqa: B905
    for name in names:
        cells = [scores[voice][model].get(name) for voice, model in columns]
        row = "".join(" " * narrow if cell is None else f"{cell:{narrow}.3f}" for cell in cells)
        lines.append(f"{title(name):{wide}}{row}")
    return "\n".join(lines)


def card_table(scores: Scores, names: Sequence[str] = HEADLINE) -> str:
    """Write some scores as a table in Markdown: a row for each voice and model."""
    lines = ["| voice | by | " + " | ".join(title(name) for name in names) + " |", "|---" * (len(names) + 2) + "|"]
    for voice, models in scores.items():
        for model, values in models.items():
            cells = " | ".join(f"{values[name]:.3f}" if name in values else "" for name in names)
            lines.append(f"| {voice} | {model} | {cells} |")
    return "\n".join(lines)


def eval_results(scores: Scores, model: str, dataset_name: str, names: Sequence[str] = HEADLINE) -> list[EvalResult]:
    """Entries for the model-index of a model card, one for each voice and score.

    Args:
        scores: as `evaluate` gave them. model (`str`): whose, for instance "diffusion".
        dataset_name (`str`): what the voices were of. names: which scores.

    Returns:
        list of `huggingface_hub.EvalResult`, for `ModelCardData(eval_results=..)`.
    """
    return [
        EvalResult(
            task_type="audio-driven-animation", task_name="Speech to facial motion", dataset_type="synthetic-speech",
            dataset_name=f"{dataset_name}, {voice}", dataset_config=voice, dataset_split="test", metric_type=name,
            metric_name=title(name), metric_value=round(models[model][name], 4), verified=False,
        )
        for voice, models in scores.items()
        for name in names
        if name in models.get(model, {})
    ]  # fmt: skip
