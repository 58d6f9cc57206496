# SPDX-License-Identifier: MIT
"""The pipeline's controls as widgets of the page and as arguments of the endpoint, from their one declaration."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence

import gradio as gr

from facetalk_hf.conditions import STYLE
from facetalk_hf.motion.controls import MotionControls
from facetalk_hf.motion.options import Option, options_of


# The page has "Samples", and nobody can tell it phones.
OPTIONS = [item for item in options_of(MotionControls) if item.name not in ("num_samples", "phone_strength")]
ACTING = ("emotion", "emotion_scale", *STYLE)


def names_of(item: Option) -> list[str]:
    """Names of an option's arguments: `steps`; of two parts `gaze_yaw` and `gaze_pitch`."""
    name = item.spelling.replace("-", "_")
    return [f"{name}_{part}" for part in item.parts] or [name]


def make_widgets(acting: bool = True) -> dict[str, gr.components.Component]:
    """Make the widget of every argument, by name, to be rendered; a field that is left empty is None.

    Without `acting`, for a model that was not trained with them, those of emotion and style are not shown.
    """
    widgets = {name: _widget(item, name, index) for item in OPTIONS for index, name in enumerate(names_of(item))}
    for item in OPTIONS:
        for name in names_of(item):
            if item.name in ACTING:
                widgets[name].visible = acting
    return widgets


def _widget(item: Option, name: str, index: int) -> gr.components.Component:
    low, high = item.bounds[index]
    common = {"label": name.replace("_", " ").capitalize(), "info": item.sentence, "render": False}
    if item.kind is bool:
        return gr.Checkbox(item.default, **common)
    if item.keyed:
        return gr.Slider(low, high, value=0, step=0.05, **common | {"info": None})
    if item.default is None:
        # A number field of gradio shows and sends 0 where it was left empty.
        return gr.Textbox(None, placeholder=item.unset, max_lines=1, **common)
    top = item.usual if math.isinf(high) else high
    return gr.Slider(low, top, value=item.default, step=(top - low) / 20, **common)


def controls_from(values: Sequence) -> MotionControls:
    """Make controls from the values of the widgets, in their order."""
    values, chosen = iter(values), {}
    for item in OPTIONS:
        given = [_number(next(values), item.kind) for _ in names_of(item)]
        if item.keyed:
            chosen[item.name] = {part: value for part, value in zip(item.parts, given, strict=True) if value} or None
        elif item.parts:
            chosen[item.name] = (
                None if given == [None] * len(given) else tuple(0.0 if value is None else value for value in given)
            )
        else:
            chosen[item.name] = given[0]
    return MotionControls(**chosen)


def _default(item: Option) -> object:
    return 0.0 if item.keyed else None if item.parts else item.default


def _number(value: object, kind: type) -> object:
    """Read what a field holds: a number, or `None` where it is empty; controls refuse any other text."""
    if not isinstance(value, str):
        return value
    try:
        return kind(value) if value.strip() else None
    except ValueError:
        return value


def from_widgets(function: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """Let a generator function with an argument `controls` take the values of the widgets there, by their names."""
    own = inspect.signature(function).parameters
    place = list(own).index("controls")
    names = {name: _default(item) for item in OPTIONS for name in names_of(item)}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    spread = [inspect.Parameter(name, kind, default=default) for name, default in names.items()]

    @functools.wraps(function)
    def call(*values: object) -> Iterator:
        end = place + len(names)
        yield from function(*values[:place], controls_from(values[place:end]), *values[end:])

    parameters = list(own.values())
    call.__signature__ = inspect.Signature(parameters[:place] + spread + parameters[place + 1 :])
    return call
