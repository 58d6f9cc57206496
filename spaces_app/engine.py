# SPDX-License-Identifier: MIT
"""What the Space computes: a recording becomes codes and curves, then videos, then models and tables."""

try:  # ZeroGPU lends a GPU for the length of a call, and wants to be imported first
    import spaces
except ImportError:
    spaces = None

import base64
import contextlib
import copy
import ctypes
import io
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from curves import motion_curves, sound_curve
from PIL import Image

from facetalk_hf import (
    TINY,
    FaceTalkError,
    FaceTalkPipeline,
    HeadAnimation,
    LargeEar,
    MotionControls,
    read_keyframes,
)
from facetalk_hf.audio.io import read_audio
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.rendering.renderer import HeadRenderer, render_frames, write_mp4


MODEL = os.environ.get("FACETALK_MODEL", TINY)
EAR = os.environ.get("FACETALK_EAR")  # a Whisper encoder, such as openai/whisper-base, that hears the phones
PICTURE = int(os.environ.get("FACETALK_PICTURE", "384"))  # pixels of a video's edge
RESOLUTION = int(os.environ.get("FACETALK_RESOLUTION", "96"))  # cells along the head; the library takes 128
LONGEST = 60  # seconds of audio

if "OMP_NUM_THREADS" not in os.environ:
    # Small networks wait in every layer for their slowest thread.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
pipe = FaceTalkPipeline.from_pretrained(MODEL)
if pipe.head is None:
    raise FaceTalkError(f"the model {MODEL} has no head to show")
pipe.set_progress_bar_config(disable=True)
# Heads are decoded on the CPU, where a lent GPU is not needed any more.
decoder = pipe.decoder = make_decoder(copy.deepcopy(pipe.head), resolution=RESOLUTION, cache_size=8)
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
try:
    few_steps = pipe.few_steps()
except FaceTalkError:  # a model without weights for few steps
    few_steps = None
ear = LargeEar.from_pretrained(EAR, device=str(pipe.device)) if EAR else None
one_at_a_time = threading.Lock()
try:
    libc: ctypes.CDLL | None = ctypes.CDLL("libc.so.6")
    # Every thread of the server would keep a heap of its own with what its visitors' heads once needed.
    libc.mallopt(-8, 2)  # M_ARENA_MAX
except (OSError, AttributeError):  # not glibc
    libc = None


def give_back() -> None:
    """Hand memory that is free back to the system: glibc keeps it, and the server grows with every visitor."""
    if libc is not None:
        libc.malloc_trim(0)


@dataclass
class Settings:
    """What a visitor asked for: the head by its name, samples from a seed on, few steps or many, and controls."""

    head: str = "zero"
    samples: int = 1
    seed: int = 0
    fast: bool = True
    controls: MotionControls = field(default_factory=MotionControls)

    @property
    def identity(self) -> str | int:
        """The head as the library names it; FaceTalkError where there is none."""
        name = int(self.head) if self.head.isdecimal() and len(self.head) < 9 else self.head
        decoder.check(name, pipe.denoiser.config.code_dim)
        return name

    def generators(self) -> list[torch.Generator]:
        """One for each sample: sample i of a seed is the first of seed + i."""
        return [torch.Generator().manual_seed(self.seed + index) for index in range(self.samples)]


def sample(
    audio: np.ndarray, rate: int, settings: Settings, keyframes: str | None = None
) -> tuple[list[np.ndarray], list[np.ndarray] | None, list[np.ndarray | None] | None]:
    """Make codes (N, D), learnt poses (N, 6) and tongue (N, 5) of every sample of a clip (S,): what takes a GPU."""
    output = (few_steps if settings.fast and few_steps is not None else pipe)(
        audio,
        sampling_rate=rate,
        phones=ear(audio, rate) if ear is not None else None,
        controls=replace(settings.controls.for_codes(pipe.learnt_pose), num_samples=settings.samples),
        keyframes=read_keyframes(keyframes) if keyframes else None,
        generator=settings.generators(),
        output_type="expression",
    )
    return [codes.numpy() for codes in output.expressions], output.poses, output.tongue


if spaces is not None:  # outside of ZeroGPU it changes nothing
    sample = spaces.GPU(sample)


@dataclass
class Update:
    """How far it is, 0..1, and what is being done; `page` where there is something new to show."""

    done: float
    text: str
    page: dict | None = None


def animate(recording: str, settings: Settings, keyframes: str | None, folder: Path) -> Iterator[Update]:
    """Yield what happens, and a page of `sound`, `seconds` and `takes` whenever there is something new to show.

    A take has a `label` and `curves` at first, then `files`: paths in `folder` by suffix, the mp4 before the rest.

    Raises:
        FaceTalkError: a recording or settings that cannot be used.
    """
    yield Update(0.0, "Listening")
    identity = settings.identity
    settings.controls.check_ranges()
    audio, rate = read_audio(recording, longest=LONGEST)

    yield Update(0.02, "Denoising")
    codes, poses, tongue = sample(audio, rate, settings, keyframes)
    names = decoder.target_names if decoder.head.config.expression_names else ()
    takes = [
        {"label": f"Sample {index + 1}, seed {settings.seed + index}", "files": {}}
        | {"curves": motion_curves(decoder.weights(item), names) if names else {}}
        for index, item in enumerate(codes)
    ]
    page = {"seconds": len(codes[0]) / pipe.config.fps, "sound": sound_curve(audio), "takes": takes}
    yield Update(0.08, "Making the mean head" if identity == "zero" else f"Making head {identity}", page)

    with one_at_a_time:
        sound, seeds = [(audio, rate)], settings.generators()
        animations = pipe.animate(codes, sound, identity, seeds, settings.controls, poses, tongue)
    for take, animation in zip(takes, animations, strict=True):
        if animation.lip_aperture is not None:
            take["curves"]["aperture"] = [round(float(value), 2) for value in animation.lip_aperture]
    yield Update(0.2, "Lighting the head", page)

    for index, (take, animation) in enumerate(zip(takes, animations, strict=True)):
        path = folder / f"facetalk-{index + 1}.mp4"
        of = f" of sample {index + 1}" if len(takes) > 1 else ""
        for number in draw(animation, path):
            done = (index + number / animation.num_frames) / len(takes)
            yield Update(0.2 + 0.75 * done, f"Drawing frame {number} of {animation.num_frames}{of}")
        take["files"]["mp4"] = str(path)
        yield Update(0.2 + 0.75 * (index + 1) / len(takes), "Writing the 3D model and the tables", page)

    for index, (take, animation) in enumerate(zip(takes, animations, strict=True)):
        for suffix in ("glb", "npz", "csv") if names else ("glb", "npz"):
            take["files"][suffix] = str(animation.save(folder / f"facetalk-{index + 1}.{suffix}"))
    del animations, codes, poses
    give_back()
    yield Update(1.0, "Done", page)


def draw(animation: HeadAnimation, path: Path) -> Iterator[int]:
    """Write an animation as mp4 and yield the number of every frame; it is encoded while the next ones are drawn."""
    images: queue.Queue = queue.Queue(maxsize=8)

    def drawn() -> Iterator[np.ndarray]:
        while (image := images.get()) is not None:
            yield image

    with ThreadPoolExecutor(1) as pool:
        sound = (animation.audio, animation.sampling_rate)
        write = pool.submit(write_mp4, path, drawn(), animation.fps, *sound, crf=20)
        try:
            for number, image in enumerate(render_frames(animation, PICTURE, samples=2, progress=False), 1):
                while not write.done():
                    with contextlib.suppress(queue.Full):
                        images.put(image, timeout=1)
                        break
                yield number
        finally:
            # Also where nobody waits for the rest any more.
            while not write.done():
                with contextlib.suppress(queue.Full):
                    images.put(None, timeout=1)
                    break
        write.result()


def portrait(head: str) -> str:
    """A small picture of a head at rest as a data URI; its surface is then ready for `animate`."""
    identity = Settings(head=head).identity
    with one_at_a_time:
        still = decoder(np.zeros((1, decoder.head.config.expression_dim), np.float32), identity)
    file = io.BytesIO()
    Image.fromarray(HeadRenderer(still, 112, yaw=12, key_poses=1).render(0)).save(file, "jpeg", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
