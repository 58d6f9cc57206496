# SPDX-License-Identifier: MIT
"""Where the time goes from a recording to a video, measured in one run and printed as ratios.

    python benchmarks/benchmark.py                       # the shipped clip, the embedded model
    python benchmarks/benchmark.py --seconds 60 --json results.json

Rows of codes and decoding are the best of several repeats: on a shared machine the fastest run is the one least
disturbed. The last column compares with encoding the same audio, a ratio that travels between machines better than
seconds do.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, load_audio


CLIP = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
RATE = 16000
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "trimesh", "embreex", "av")


def best(function: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of `repeat` calls, after one that warms up."""
    function()
    times = []
    for _ in range(repeat):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)


def machine() -> dict[str, str | int]:
    """What the numbers depend on."""
    versions = {name: version(name) for name in PACKAGES}
    return versions | {
        "facetalk_hf": facetalk_hf.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def measure(pipe: FaceTalkPipeline, clip: np.ndarray, args: argparse.Namespace) -> Iterator[tuple[str, float, str]]:
    """Yield (what, seconds, unit), unit being what the seconds are for: clip, step, head or frame."""

    def generate(steps: int) -> torch.Tensor:
        options = {} if steps is None else {"num_inference_steps": steps}
        generator = torch.Generator().manual_seed(0)
        output = pipe(clip, sampling_rate=RATE, output_type="expression", generator=generator, **options)
        return output.expressions[0]

    def step_time() -> float:
        # Many steps less few steps: what is done once a call cancels out.
        start = perf_counter()
        generate(4)
        middle = perf_counter()
        generate(24)
        return (perf_counter() - middle - (middle - start)) / 20

    yield "audio encoding", best(lambda: pipe.encode_audio(clip, sampling_rate=RATE), args.repeat), "clip"
    step_time()
    yield "denoising", min(step_time() for _ in range(args.repeat)), "step"
    yield "audio to codes", best(lambda: generate(args.steps), args.repeat), "clip"
    if pipe.head is None:
        return
    codes = generate(args.steps)
    start = perf_counter()
    animation = pipe.decode(codes, args.identity)
    yield "head extraction", perf_counter() - start, "head"

    def decode() -> None:
        for _ in pipe.decode(codes, args.identity):
            pass

    yield "decoding", best(decode, args.repeat) / len(codes), "frame"
    animation.audio, animation.sampling_rate = clip, RATE
    few = animation.replace(
        weights=animation.weights[: args.frames], expressions=None, landmarks=None, lip_aperture=None, audio=None
    )
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        few.save(Path(folder, "x.mp4"), size=args.size)
        yield f"video {args.size} x {args.size}", (perf_counter() - start) / len(few), "frame"
        for kind in ("glb", "npz", "csv"):
            start = perf_counter()
            animation.save(Path(folder, f"x.{kind}"))
            yield f"export {kind}", perf_counter() - start, "clip"


def main() -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, default=CLIP, help="recording (default: the shipped clip)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length; the recording is repeated to fill it")
    parser.add_argument("--model", default=facetalk_hf.TINY, help="model folder or Hub id")
    parser.add_argument("--identity", type=int, default=None, help="head of the model (default: the mean head)")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the pipeline's own)")
    parser.add_argument("--frames", type=int, default=48, help="frames of video to draw")
    parser.add_argument("--size", type=int, default=512, help="edge of the video in pixels")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's own)")
    parser.add_argument("--json", type=Path, default=None, help="also write the results to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = FaceTalkPipeline.from_pretrained(args.model).to(device)
    pipe.set_progress_bar_config(disable=True)
    clip = np.resize(load_audio(args.audio), round(args.seconds * RATE))
    seconds = len(clip) / RATE
    frames = seconds * pipe.config.fps

    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{seconds:g} s of audio, {frames:g} frames\n")
    print(f"{'':<18}{'time':>12}{'':<10}{'x real time':>12}{'x encoding':>12}")
    rows = []
    for what, time, unit in measure(pipe, clip, args):
        # What a whole clip of this length costs: a frame's work is done for every frame, a head's or a step's once.
        whole = time * frames if unit == "frame" else time
        rows.append({"what": what, "seconds": time, "unit": unit, "real_time": whole / seconds})
        ratio = whole / rows[0]["seconds"]
        print(f"{what:<18}{time * 1e3:>9.2f} ms / {unit:<8}{whole / seconds:>11.4f}{ratio:>12.2f}", flush=True)
    if args.json:
        args.json.write_text(
            json.dumps({"machine": machine(), "audio_seconds": seconds, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
