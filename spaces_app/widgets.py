# SPDX-License-Identifier: MIT
"""Parts of the page that gradio has not: the gallery of heads, and the stage with videos, 3D head and curves."""

import base64
import html
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData


PAGE = Path(__file__).parent / "page"
LIVE = PAGE / "facetalk-live"
SPRITE = Path(__file__).parent / "heads.jpg"
COLUMNS = 11  # as draw_heads.py lays them out


def head_gallery(count: int, pictures: bool) -> gr.HTML:
    """Radio buttons: the mean head, `count` named ones, a random one; the value is `{"head": .., "picture": ..}`.

    Args:
        count: how many heads the model names. pictures: whether heads.jpg shows those of this model.
    """
    tiles = [_tile("zero", "Mean head", "mean", 0)]
    tiles += [_tile(str(index), f"Head {index}", str(index), index + 1) for index in range(count)]
    tiles.append(_tile("", "Random head", "random", None))
    rows = -(-(count + 1) // COLUMNS)
    style = f"--columns: {COLUMNS}; --rows: {rows};"
    if pictures:
        style += f" --sprite: url(data:image/jpeg;base64,{base64.b64encode(SPRITE.read_bytes()).decode()});"
    return gr.HTML(
        {"head": "zero", "picture": ""},
        html_template=f'<fieldset class="ft-heads" style="{style}"><legend>Head</legend>{"".join(tiles)}</fieldset>',
        js_on_load=(PAGE / "heads.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        container=True,
        padding=True,
    )


def _tile(value: str, label: str, caption: str, place: int | None) -> str:
    spot = "" if place is None else f"--x: {place % COLUMNS}; --y: {place // COLUMNS}"
    checked = " checked" if value == "zero" else ""
    drawn = ' class="ft-drawn" hidden' if place is None else ""
    attributes = f'type="radio" name="ft-head" value="{value}" aria-label="{label}"{checked}'
    return (
        f'<label{drawn} title="{label}"><input {attributes}>'
        f'<span style="{spot}"></span><small aria-hidden="true">{caption}</small></label>'
    )


def stage() -> gr.HTML:
    """Where results appear; the value is what `engine.animate` yields, through `for_page`."""
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in ("viewer.js", "stage.js"))
    return gr.HTML(
        None,
        html_template=(PAGE / "stage.html").read_text(encoding="utf-8"),
        js_on_load=script,
        apply_default_css=False,
        elem_id="stage",
    )


def live() -> str:
    """The page that listens to the microphone by itself, or how to get it."""
    if not all((LIVE / name).is_dir() for name in ("vendor", "model")):
        return "<p>This server was set up without the live page: <code>python prepare_live.py</code> adds it.</p>"
    return '<iframe class="ft-live" src="live/live.html" title="Live head" allow="microphone" loading="lazy"></iframe>'


def status(text: str, done: float | None = None) -> str:
    """A line over the stage, with a bar while something is done; the last one is read out."""
    text = html.escape(text)
    if done is None:
        return f'<p class="ft-status" role="status">{text}</p>'
    return f'<p class="ft-status"><progress max="1" value="{done:.3f}" aria-label="Progress"></progress>{text}</p>'


def for_page(page: dict, run: str) -> dict:
    """A copy for the stage: gradio moves named files to its cache and adds their address."""
    takes = [
        take | {"files": {suffix: FileData(path=path).model_dump() for suffix, path in take["files"].items()}}
        for take in page["takes"]
    ]
    return page | {"run": run, "takes": takes}
