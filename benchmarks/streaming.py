# SPDX-License-Identifier: MIT
"""What live use costs and how far it is from the whole clip at once.

    python benchmarks/streaming.py                               # cost of a frame, random causal weights
    python benchmarks/streaming.py a.wav b.wav                   # and the difference from the whole clip
    python benchmarks/streaming.py --fast --long 3600            # an hour, end to end: memory as it goes

A stream is fed 20 ms at a time. The cost of a frame is processor time of one thread: on a machine that does nothing
else it is the time on the clock. Each recording is also animated in one call, from the same noise.
"""

import argparse
from pathlib import Path
from time import process_time

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkDenoiser, FaceTalkPipeline, load_audio
from facetalk_hf.animation.arkit import ARKIT
from facetalk_hf.evaluation.metrics import correlation, lip_aperture
from facetalk_hf.evaluation.timing import hop_durations, memory, peak_memory
from facetalk_hf.scripts import run_script


RATE = 16000
CHUNK = RATE // 50


def causal_pipeline(model: str, denoiser: str | None) -> FaceTalkPipeline:
    """The model, with another denoiser where it has none that can work live."""
    pipe = FaceTalkPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    if denoiser is not None:
        pipe.denoiser = FaceTalkDenoiser.from_pretrained(denoiser).eval()
    elif pipe.denoiser.config.attention_mode != "causal":
        torch.manual_seed(0)
        config = {**pipe.denoiser.config, "attention_mode": "causal", "window": 32}
        pipe.denoiser = FaceTalkDenoiser(**{name: value for name, value in config.items() if name[0] != "_"}).eval()
        print("the model's denoiser is not causal: random weights of its size")
    return pipe


def cost(pipe: FaceTalkPipeline, clip: np.ndarray, options: dict) -> None:
    """Print delay and processor time a frame."""
    found = hop_durations(pipe, clip, RATE, **options)
    low, middle, high, worst = 1e3 * np.quantile(found.cpu, (0.05, 0.5, 0.95, 1))
    hop = found.hop
    frame = middle / hop
    share = frame * pipe.config.fps / 1e3
    print(f"hop {hop}: delay {found.delay:.4f} s of sound; {frame:.1f} ms a frame, {share:.2f} of real time")
    print(f"  processor time of a hop, ms: p5 {low:.1f}, median {middle:.1f}, p95 {high:.1f}, worst {worst:.1f}")


def compare(pipe: FaceTalkPipeline, path: Path, options: dict) -> None:
    """Print how far the stream of a recording is from its call."""
    clip = load_audio(path)
    chunks = [clip[start : start + CHUNK] for start in range(0, len(clip), CHUNK)]
    steps = {key: options[key] for key in ("num_inference_steps", "guidance_scale") if options.get(key) is not None}
    generator = torch.Generator().manual_seed(0)
    whole = pipe(clip, sampling_rate=RATE, generator=generator, output_type="expression", **steps).expressions[0]
    outputs = list(pipe.stream(chunks, RATE, generator=generator.manual_seed(0), output_type="expression", **options))
    live = torch.cat([output.expressions for output in outputs])
    names = pipe.decoder.target_names
    jaw, close = names.index(ARKIT[17]), names.index(ARKIT[18])
    apertures = []
    for codes in (whole, live):
        weights = pipe.decoder.weights(codes)
        apertures.append(lip_aperture(weights[:, jaw], weights[:, close]))
    border = np.zeros(len(live) - 1, bool)
    border[[output.index - 1 for output in outputs[1:]]] = True
    # The motion itself may be faster at some frames than at others: the call says how much.
    fast, slow = (speed[border].mean() / speed[~border].mean() for speed in map(speeds, (live, whole)))
    whole_clip, first = correlation(*apertures), correlation(*(track[:48] for track in apertures))
    difference = np.abs(apertures[0] - apertures[1]).mean()
    print(f"{path.name}: {len(live)} frames, lip aperture: correlation {whole_clip:.4f} (first 2 s {first:.4f})")
    print(
        f"  mean difference {difference:.4f} of a weight; speed at borders / inside {fast:.3f}, in the call {slow:.3f}"
    )


def long_run(pipe: FaceTalkPipeline, clip: np.ndarray, seconds: float, options: dict) -> None:
    """Print frames, processor time and memory of one stream that goes on and on, at ten moments of it."""
    stream = pipe.open_stream(RATE, generator=torch.Generator().manual_seed(0), **options)
    total, frames, start = round(seconds * RATE), 0, process_time()
    marks = [round(total * tenth / 10) for tenth in range(1, 11)]
    for position in range(0, total, CHUNK):
        codes = stream.push(np.take(clip, range(position, min(position + CHUNK, total)), mode="wrap"))
        if len(codes) and not torch.isfinite(codes).all():
            raise SystemExit(f"a code is not finite after {position / RATE:g} s")
        frames += len(codes)
        if position + CHUNK >= marks[0]:
            share = (process_time() - start) / (marks.pop(0) / RATE)
            print(
                f"{position / RATE:8.0f} s: {frames} frames, {share:.3f} of real time, {memory():.3f} GB", flush=True
            )
    frames += len(stream.finish())
    print(f"ended after {frames} frames; peak memory {peak_memory():.3f} GB")


def speeds(codes: torch.Tensor) -> np.ndarray:
    """Length of the step from each frame to the next."""
    return codes.diff(dim=0).norm(dim=1).numpy()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", nargs="*", type=Path, help="recordings to compare with the call")
    parser.add_argument("--model", default=facetalk_hf.TINY)
    parser.add_argument("--denoiser", help="folder of a causal denoiser, in place of the model's")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the clip that the cost is measured on")
    parser.add_argument("--fast", action="store_true", help="the model's few-step weights")
    parser.add_argument("--long", type=float, help="instead: one stream of so many seconds, and its memory")
    parser.add_argument("--whole", type=float, help="instead: peak memory of one call with so many seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = causal_pipeline(args.model, args.denoiser)
    pipe = pipe.few_steps() if args.fast else pipe
    options = {"num_inference_steps": args.steps, "guidance_scale": args.guidance_scale}
    clip = load_audio(Path(facetalk_hf.__file__).parent / "assets" / "demo.wav")
    if args.whole is not None:
        long = np.resize(clip, round(args.whole * RATE))
        steps = {} if args.steps is None else {"num_inference_steps": args.steps}
        FaceTalkPipeline.from_pretrained(args.model)(long, sampling_rate=RATE, output_type="expression", **steps)
        print(f"{args.whole:g} s at once: peak memory {peak_memory():.2f} GB")
        return
    if args.long is not None:
        return long_run(pipe, clip, args.long, options)
    print(f"torch {torch.__version__}, 1 thread, {torch.backends.cpu.get_cpu_capability()}")
    for hop in (1, 2):
        cost(pipe, np.resize(clip, round(args.seconds * RATE)), options | {"hop": hop})
    for path in args.audio:
        compare(pipe, path, options | {"hop": 2})
    print(f"peak memory {peak_memory():.2f} GB")


if __name__ == "__main__":
    run_script(main)
