# SPDX-License-Identifier: MIT
"""Web demo: a recording in, a talking head out. `python spaces_app/app.py` starts it on the embedded model."""

import logging
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import controls as panel
import engine  # imports spaces, which has to come before anything touches CUDA
import gradio as gr
import shield
import widgets
from line import Line
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import facetalk_hf
from facetalk_hf import FaceTalkError, MotionControls


FOLDER = Path(__file__).parent
CLIPS = {
    "Hello there! (4 s)": FOLDER / "clips" / "hello.mp3",
    "Peter Piper (3 s)": FOLDER / "clips" / "peter.mp3",
    "The demo (6 s)": Path(facetalk_hf.__file__).parent / "assets" / "demo.wav",
}
KEEP = 3600  # seconds that uploads and results stay on the disk
HEAVIEST = "25mb"
LONGEST_LINE = 64  # visitors who may wait: of a clip of 4 s, the last one for a quarter of an hour
line = Line()
INTRODUCTION = """# FaceTalk
Speech in, a moving 3D head out. The heads belong to nobody: all that you see is made up by a small diffusion model."""
RULES = """**Do not use this** to make a real person seem to say what they did not, to deceive, to harass, or to get
past a check of who somebody is. Use voices that you may use. Results are **synthetic and marked so in their files**;
say so where you show them. Recordings (at most 60 s and 25 MB) and results are deleted after an hour or two; nobody
else can list them."""


def results(
    recording: str | None, settings: engine.Settings, keyframes: str | None, folder: str
) -> Iterator[engine.Update]:
    """`engine.animate`, with errors in plain words."""
    if not recording:
        raise gr.Error("Record or upload some speech first.", print_exception=False)
    try:
        yield from engine.animate(recording, settings, keyframes, Path(folder))
    except FaceTalkError as error:
        message = f"{error}".replace(recording, "the recording")
        message = message.replace(keyframes, "the file of keyframes") if keyframes else message
        raise gr.Error(message[:1].upper() + message[1:] + ".", print_exception=False) from None
    except Exception as error:
        # What went wrong is for the log; a visitor is shown no path and no traceback.
        logging.exception("animate failed")
        raise gr.Error("Something went wrong on our side; another recording may work.") from error


@panel.from_widgets
def show(
    recording: str | None,
    chosen: dict,
    samples: int,
    seed: int,
    fast: bool,
    controls: MotionControls,
    keyframes: str | None = None,
) -> Iterator[tuple[dict, str]]:
    """Fill the stage, step by step, when the button is pressed."""
    settings = engine.Settings(chosen["head"], samples, seed, fast, controls)
    run, start, said, last = secrets.token_hex(4), time.monotonic(), "", 0.0
    try:
        # Gradio copies what is yielded before it asks for more, so the folder may go at the end.
        with line.turn(), tempfile.TemporaryDirectory(prefix="facetalk-") as folder:
            for update in results(recording, settings, keyframes, folder):
                now = time.monotonic()
                if update.page and not said and update.page["takes"][0]["files"]:
                    said = f"First video after {now - start:.1f} s"
                if update.page or now > last + 0.3:
                    page = widgets.for_page(update.page, run) if update.page else gr.skip()
                    last = now
                    yield page, widgets.status(update.text, update.done)
    except gr.Error as error:
        yield None, widgets.status(error.message)  # the message itself comes and goes
        raise
    yield gr.skip(), widgets.status(f"{said}, everything after {time.monotonic() - start:.1f} s.")


@panel.from_widgets
def serve(
    recording: str | None,
    head: str = "zero",
    samples: int = 1,
    seed: int = 0,
    fast: bool = True,
    controls: MotionControls = MotionControls(),  # noqa: B008  its fields are the arguments
    keyframes: str | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[tuple[list[str], ...]]:
    """Animate a recording: lists of mp4, glb, npz and csv files, one of each for every sample.

    Args:
        recording: any sound file, at most 60 s and 25 MB. head: "zero", the number of a head, or "random:SEED".
        samples: how many motions, 1 to 4. seed: of the first; the next ones follow.
        fast: few steps, with guidance and mouth temperature built in.
        controls: of the pipeline, by the names of the command's options; left out, the model decides.
        keyframes: csv, json or npz.
    """
    settings = engine.Settings(head, samples, seed, fast, controls)
    with line.turn(), tempfile.TemporaryDirectory(prefix="facetalk-") as folder:
        for update in results(recording, settings, keyframes, folder):
            progress(update.done, desc=update.text)
        takes = [take["files"] for take in update.page["takes"]]
        yield tuple([take[suffix] for take in takes if suffix in take] for suffix in ("mp4", "glb", "npz", "csv"))


def tell() -> object:
    """Say at once to who comes when it will be their turn; programs hear it of the queue itself."""
    words = line.words(len(demo._queue))
    return widgets.status(words) if words else gr.skip()


def new_head() -> dict:
    """A head that nobody has seen, with its picture."""
    head = f"random:{random.randrange(10**6)}"
    return {"head": head, "picture": engine.portrait(head)}


with gr.Blocks(title="FaceTalk", delete_cache=(KEEP, KEEP), analytics_enabled=False) as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Tab("Recording"):
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                recording = gr.Audio(
                    CLIPS["Hello there! (4 s)"],
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="Speech, up to 60 s",
                    elem_id="speech",
                    buttons=[],
                )
                gr.Examples(
                    [[str(path)] for path in CLIPS.values()], recording, label="Clips", example_labels=list(CLIPS)
                )
                chosen = widgets.head_gallery(
                    len(engine.decoder.head.identity_codes), engine.MODEL == facetalk_hf.TINY
                )
                with gr.Row():
                    surprise = gr.Button("Random head", size="md", elem_id="random", min_width=140)
                    go = gr.Button("Animate", variant="primary", size="md", elem_id="go", min_width=140, scale=2)
                with gr.Row():
                    samples = gr.Slider(
                        1, 4, value=1, step=1, label="Samples", info="motions side by side", min_width=140
                    )
                    seed = gr.Number(0, precision=0, minimum=0, maximum=2**31, label="Seed", min_width=110)
                inputs = panel.make_widgets(acting=bool(engine.pipe.denoiser.config.condition_names))
                inputs["intensity"].render()
                with gr.Accordion("More", open=False):
                    has_fast = engine.few_steps is not None
                    fast = gr.Checkbox(has_fast, label="Fast: 4 steps, guidance built in", interactive=has_fast)
                    for name, widget in inputs.items():
                        if name != "intensity":
                            widget.render()
                    keys = gr.File(label="Keyframes (csv, json, npz)", type="filepath", height=120)
            with gr.Column(scale=7, min_width=320):
                status = gr.HTML(widgets.status(""), elem_id="status", apply_default_css=False)
                stage = widgets.stage()
    with gr.Tab("Live", elem_id="live"):
        gr.HTML(widgets.live(), apply_default_css=False)
    gr.Markdown(RULES, elem_id="rules")

    options = [samples, seed, fast, *inputs.values(), keys]
    once = {"concurrency_limit": 1, "concurrency_id": "model"}
    go.click(tell, None, status, queue=False, show_progress="hidden", api_visibility="private").then(
        show,
        [recording, chosen, *options],
        [stage, status],
        show_progress="hidden",  # the line over the stage tells more
        api_visibility="private",
        **once,
    )
    surprise.click(new_head, None, chosen, api_visibility="private", concurrency_limit=1, concurrency_id="portrait")
    # For programs: the same, without a page.
    head = gr.Textbox("zero", visible=False, label="Head")
    files = [gr.File(visible=False, label=suffix, file_count="multiple") for suffix in ("mp4", "glb", "npz", "csv")]
    gr.Button(visible=False).click(serve, [recording, head, *options], files, api_name="animate", **once)

demo.queue(max_size=LONGEST_LINE)

if __name__ == "__main__":
    # The first visitor should not wait for the surface of the head that is chosen at the start.
    threading.Thread(target=engine.portrait, args=("zero",), daemon=True).start()
    demo.launch(
        theme=gr.themes.Soft(font=["system-ui", "sans-serif"]),  # fonts that need no other server
        css_paths=FOLDER / "page" / "style.css",
        max_file_size=HEAVIEST,
        ssr_mode=False,
        run_history=False,  # gradio would keep runs in the browser
        footer_links=["api", "settings"],
        app_kwargs={
            "middleware": [Middleware(shield.Headers)],
            "routes": [Mount("/live", StaticFiles(directory=widgets.LIVE))],  # plain files, no queue
        },
    )
