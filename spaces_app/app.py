# SPDX-License-Identifier: MIT
"""Web demo: a recording in, a talking head out. `python spaces_app/app.py` starts it on the embedded model."""

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

import gradio as gr
import torch

from facetalk_hf import TINY, FaceTalkError, FaceTalkPipeline, load_audio, read_keyframes


try:  # ZeroGPU lends a GPU for the length of a call; anywhere else the decorator does nothing
    import spaces

    on_gpu = spaces.GPU
except ImportError:

    def on_gpu(function):
        """Leave the function as it is."""
        return function


MODEL = os.environ.get("FACETALK_MODEL", TINY)
LONGEST = 60  # seconds of audio
KEEP = 3600  # seconds that results stay on the disk
FOLDER = Path(tempfile.gettempdir()) / "facetalk-demo"
INTRODUCTION = """# FaceTalk

Speech in, a moving 3D head out. The head belongs to nobody; do not use it to make anyone seem to say what they
did not.
"""

pipe = FaceTalkPipeline.from_pretrained(MODEL).to("cuda" if torch.cuda.is_available() else "cpu")


@on_gpu
def animate(
    audio: str | None,
    head: float = -1,
    seed: float = 0,
    guidance_scale: float = 1.25,
    intensity: float = 1.0,
    upper_face: float = -1,
    smoothing: float = 0.0,
    silence_gate: bool = False,
    blink_rate: float = -1,
    gaze_yaw: float = 0,
    gaze_pitch: float = 0,
    head_motion: float = 0.0,
    keyframes: str | None = None,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  gradio finds the bar by this default
) -> tuple[str, str, str]:
    """Turn one recording into the paths of a video, a GLB and an npz."""
    if not audio:
        raise gr.Error("Record or upload some speech first.")
    try:
        samples = load_audio(audio)
        if len(samples) > LONGEST * 16000:
            raise FaceTalkError(f"the recording is longer than {LONGEST} s, cut it or install facetalk_hf")
        output = pipe(
            samples,
            sampling_rate=16000,
            identity="zero" if head < 0 else int(head),
            guidance_scale=guidance_scale,
            intensity=intensity,
            upper_face_intensity=None if upper_face < 0 else upper_face,
            smoothing=smoothing,
            silence_gate=silence_gate,
            blink_rate=None if blink_rate < 0 else blink_rate,
            gaze=(gaze_yaw, gaze_pitch) if gaze_yaw or gaze_pitch else None,
            head_motion=head_motion,
            keyframes=read_keyframes(keyframes) if keyframes else None,
            generator=torch.Generator().manual_seed(int(seed)),
        )
        return tuple(str(output.animations[0].save(path)) for path in new_files("mp4", "glb", "npz"))
    except FaceTalkError as error:
        message = f"{error}".replace(audio, "the recording")
        raise gr.Error(message.replace(keyframes, "the file of keyframes") if keyframes else message) from error
    except Exception as error:
        # What went wrong is for the log; a visitor is shown no path and no traceback.
        logging.exception("animate failed")
        raise gr.Error("Something went wrong on our side; another recording may work.") from error


def new_files(*suffixes: str) -> list[Path]:
    """Paths in a folder that nobody can guess; what older calls left is removed."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        if time.time() - old.stat().st_mtime > KEEP:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    return [folder / f"facetalk.{suffix}" for suffix in suffixes]


with gr.Blocks(title="FaceTalk", delete_cache=(KEEP, KEEP)) as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column():
            audio = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Speech")
            heads = pipe.head.config.num_identities if pipe.head is not None else 0
            head = gr.Slider(-1, heads - 1, value=-1, step=1, label="Head (-1: the mean head)")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed")
            guidance = gr.Slider(0, 4, value=1.5, step=0.1, label="Weight of the audio")
            intensity = gr.Slider(0, 2, value=1.0, step=0.1, label="Intensity")
            with gr.Accordion("More", open=False):
                upper_face = gr.Slider(-0.1, 2, value=-0.1, step=0.1, label="Upper face (below 0: as the mouth)")
                smoothing = gr.Slider(0, 0.1, value=0.0, step=0.01, label="Smoothing, seconds")
                gate = gr.Checkbox(False, label="Rest the mouth in silence")
                blinks = gr.Slider(-1, 60, value=-1, step=1, label="Blinks a minute (-1: as generated)")
                yaw = gr.Slider(-30, 30, value=0, step=1, label="Gaze to its left, degrees")
                pitch = gr.Slider(-25, 25, value=0, step=1, label="Gaze up, degrees")
                motion = gr.Slider(0, 2, value=0.0, step=0.1, label="Head motion")
                keys = gr.File(label="Keyframes (csv, json, npz)", type="filepath")
            button = gr.Button("Animate", variant="primary")
        with gr.Column():
            video = gr.Video(label="Video", autoplay=True)
            model = gr.Model3D(label="Animated head (GLB)")
            numbers = gr.File(label="Codes, landmarks, lip aperture (npz)")
    button.click(
        animate,
        inputs=[
            *(audio, head, seed, guidance, intensity),
            *(upper_face, smoothing, gate, blinks, yaw, pitch, motion, keys),
        ],
        outputs=[video, model, numbers],
        api_name="animate",
        concurrency_limit=1,
    )

if __name__ == "__main__":
    demo.queue(max_size=16).launch(theme=gr.themes.Soft())
