# SPDX-License-Identifier: MIT
"""Where the time goes from a recording to a video, measured in one run and printed as ratios.

    python benchmarks/benchmark.py                              # the shipped clip, the embedded model
    python benchmarks/benchmark.py --only stages --seconds 60
    python benchmarks/benchmark.py --long --json docs/results/performance.json --page docs/performance.md

Four sections: `stages` from the recording to files; `length`, time and peak memory against the length of the audio, a
process for each; `batch`, throughput against the number of clips in a call; `streaming`, what a live stream takes.
With --json a section is on disk as soon as it is measured; --only measures some of them again and keeps the others.

Times are the best of several repeats. Wall time is what one waits; CPU time, over all threads, is what the work
costs, and hardly changes when the machine has other work. "x encoding" compares CPU time with that of encoding the
same audio, a ratio that travels between machines better than seconds do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipeline, HeadAnimation, load_audio
from facetalk_hf.evaluation.performance_report import HOUR, QUANTILES, SECTIONS, report
from facetalk_hf.evaluation.studies import command, digest, write_between_markers
from facetalk_hf.evaluation.timing import (
    Duration,
    best,
    clocks,
    conditions,
    hop_durations,
    peak_memory,
    since,
    step_duration,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.rendering.renderer import HeadRenderer
from facetalk_hf.scripts import run_script


CLIP = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
RATE = 16000
HOUR_STEPS = 2
EXPORTS = ("glb", "usdc", "npz", "csv")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--audio", type=Path, default=CLIP, help="recording (default: the shipped clip)")
    add("--seconds", type=float, default=10.0, help="length of a clip; the recording is repeated to fill it")
    add("--model", default=facetalk_hf.TINY, help="model folder or Hub id")
    add("--identity", type=int, default=None, help="head of the model (default: the mean head)")
    add("--steps", type=int, default=None, help="denoising steps (default: the pipeline's own)")
    add("--frames", type=int, default=48, help="frames of video to draw")
    add("--size", type=int, default=512, help="edge of the video in pixels")
    add("--lengths", type=float, nargs="+", default=[1, 10, 60, 600], help="seconds of audio, for `length`")
    add("--long", action="store_true", help=f"an hour of audio, too, in {HOUR_STEPS} steps")
    add("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="clips in a call, for `batch`")
    add("--repeat", type=int, default=3, help="runs of what is short, of which the fastest counts")
    add("--threads", type=int, default=None, help="threads of torch (default: torch's own)")
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="measure these sections alone")
    add("--json", type=Path, default=None, help="also keep the results in this file")
    add("--page", type=Path, default=None, help="also write them into this Markdown page, between its markers")
    add("--one-length", type=float, default=None, help=argparse.SUPPRESS)  # how `length` starts its processes
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> FaceTalkPipeline:
    """The model, on the GPU where there is one."""
    pipe = FaceTalkPipeline.from_pretrained(args.model).to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sound(args: argparse.Namespace, seconds: float) -> np.ndarray:
    """So many seconds of the recording, (S,) float."""
    return np.resize(load_audio(args.audio), round(seconds * RATE))


def default_steps(pipe: FaceTalkPipeline, args: argparse.Namespace) -> int:
    """Denoising steps of the measured calls."""
    return args.steps or pipe.resolve_controls().num_inference_steps


def generate(pipe: FaceTalkPipeline, clips: np.ndarray | list[np.ndarray], steps: int) -> list[torch.Tensor]:
    """Expression codes of a call from seed 0."""
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": steps, "output_type": "expression", "generator": generator}
    return pipe(clips, sampling_rate=RATE, **options).expressions


def stages(pipe: FaceTalkPipeline, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """From a recording to files. A row's "unit" is what its time is for: clip, step, head or frame."""
    clip, steps = sound(args, args.seconds), default_steps(pipe, args)
    seconds = len(clip) / RATE
    frames, encoding = seconds * pipe.config.fps, None

    def row(what: str, took: Duration, unit: str) -> dict[str, Any]:
        nonlocal encoding
        # What a whole clip of this length costs: a frame's work is done for every frame, a head's or a step's once.
        times = frames if unit == "frame" else 1
        encoding = encoding or took
        ratios = {"real_time": took.wall * times / seconds, "encoding": took.cpu * times / encoding.cpu}
        return {"what": what, "seconds": took.wall, "cpu_seconds": took.cpu, "unit": unit} | ratios

    encode = partial(pipe.encode_audio, clip, sampling_rate=RATE)
    yield row("audio encoding", best(encode, args.repeat), "clip")
    durations = [step_duration(pipe, clip, RATE, max(steps, 6)) for _ in range(args.repeat)]
    yield row("denoising", Duration.fastest(durations), "step")
    yield row(f"audio to codes, {steps} steps", best(partial(generate, pipe, clip, steps), args.repeat), "clip")
    if pipe.head is None:
        return
    codes = generate(pipe, clip, steps)[0]
    decoder = make_decoder(pipe.head)
    code = decoder.identity_code(args.identity)
    if isinstance(decoder, BlendshapeDecoder):  # heads of another kind have another way to their surface
        surface = partial(decoder.canonical_surface, torch.from_numpy(code).to(pipe.head.anchor_mean)[None])
        yield row("meshing: the surface", best(torch.no_grad()(surface), 1, warm_up=False), "head")
    yield row("a whole head, then kept", best(partial(decoder.geometry, code), 1, warm_up=False), "head")
    animation = decoder(codes, code).replace(fps=pipe.config.fps, audio=clip, sampling_rate=RATE)

    def decode() -> None:
        for _ in decoder(codes, code):
            pass

    yield row("decoding: codes to vertices", best(decode, args.repeat) / len(codes), "frame")
    yield from (row(*item) for item in files(animation, args))


def files(animation: HeadAnimation, args: argparse.Namespace) -> Iterator[tuple[str, Duration, str]]:
    """(what, time, unit) of pictures and exports."""
    nothing = dict.fromkeys(("expressions", "landmarks", "lip_aperture", "audio"))
    few = animation.replace(weights=animation.weights[: args.frames], **nothing)
    start = clocks()
    renderer = HeadRenderer(few, args.size)
    yield "rendering: light, baked once", since(start), "clip"
    some = range(0, len(few), max(1, len(few) // 8))

    def draw() -> None:
        for index in some:
            renderer.render(index)

    yield f"rendering: {args.size} x {args.size}", best(draw, 1) / len(some), "frame"
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        few.save(Path(folder, "x.mp4"), size=args.size, progress=False)
        yield f"mp4 of {len(few)} frames, with light", since(start) / len(few), "frame"
        for kind in EXPORTS:
            save = partial(animation.save, Path(folder, f"x.{kind}"))
            try:
                yield f"export: {kind}", best(save, 1, warm_up=kind == "usdc"), "clip"
            except FaceTalkError as error:  # an extra that is not installed
                print(f"export: {kind}: not measured: {error}")


def length(pipe: FaceTalkPipeline, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time and peak memory of a call, each in a process of its own: memory that was had once is in the peak."""
    plan = [(seconds, default_steps(pipe, args)) for seconds in args.lengths]
    for seconds, steps in plan + ([(HOUR, HOUR_STEPS)] if args.long else []):
        line = [sys.executable, __file__, "--one-length", seconds, "--steps", steps, "--repeat", args.repeat]
        line += ["--model", args.model, "--audio", args.audio, "--threads", torch.get_num_threads()]
        done = subprocess.run([str(word) for word in line], stdout=subprocess.PIPE, text=True)
        if done.returncode:  # killed for its memory, say: the shorter ones still count
            yield {"audio_seconds": seconds, "steps": steps, "failed": done.returncode}
        else:
            yield json.loads(done.stdout.splitlines()[-1])


def one_length(args: argparse.Namespace) -> dict[str, Any]:
    """Row of one length, measured in this process."""
    pipe, clip = load(args), sound(args, args.one_length)
    steps = default_steps(pipe, args)
    generate(pipe, clip[:RATE], steps)
    loaded = peak_memory()
    took = best(partial(generate, pipe, clip, steps), 1 if args.one_length > 30 else args.repeat, warm_up=False)
    row = {"audio_seconds": args.one_length, "steps": steps, "seconds": took.wall, "cpu_seconds": took.cpu}
    row |= {"loaded_gb": loaded, "peak_gb": peak_memory()}
    if pipe.head is not None:
        codes = generate(pipe, clip, 1)[0]
        row |= {"frames": len(pipe.decode(codes)), "peak_decoded_gb": peak_memory()}
    return row


def batch(pipe: FaceTalkPipeline, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds of audio a second, from audio to codes, by the number of clips in a call."""
    clip, steps = sound(args, args.seconds), default_steps(pipe, args)
    generate(pipe, clip, steps)
    for count in args.batches:
        took = best(partial(generate, pipe, [clip] * count, steps), max(1, args.repeat - 1), warm_up=False)
        row = {"clips": count, "seconds": took.wall, "cpu_seconds": took.cpu}
        yield row | {"throughput": count * args.seconds / took.wall, "cpu_throughput": count * args.seconds / took.cpu}


def streaming(pipe: FaceTalkPipeline, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Percentiles of the time of a portion of frames on one thread: more only wait for each other here."""
    if pipe.denoiser.config.attention_mode != "causal":
        raise FaceTalkError("this model's denoiser is not causal")
    clip, threads = sound(args, args.seconds), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for hop in (1, 2):
            found = hop_durations(pipe, clip, RATE, hop, num_inference_steps=args.steps)
            for clock in ("wall", "cpu"):
                times = 1e3 * getattr(found, clock)
                row = {"hop": hop, "clock": clock.replace("cpu", "CPU"), "delay": found.delay, "hops": len(times)}
                row |= {name: float(np.quantile(times, part)) for name, part in QUANTILES.items()}
                yield row | {"real_time": float(times.mean()) * pipe.config.fps / hop / 1e3}
    finally:
        torch.set_num_threads(threads)


def measure(name: str, pipe: FaceTalkPipeline, args: argparse.Namespace) -> dict[str, Any]:
    """One section. What goes wrong in it is told and kept, and does not end the run."""
    folder = Path(args.model)
    settings = {"model": folder.name, "digest": digest(folder) if folder.is_dir() else ""}
    what = (
        f"the fastest of {args.repeat} calls up to 30 s, else one call"
        if name == "length"
        else f"clips of {args.seconds:g} s"
    )
    section: dict[str, Any] = {"command": command(), "conditions": conditions(), "settings": settings, "what": what}
    section["rows"] = []
    try:
        for row in globals()[name](pipe, args):
            section["rows"].append(row)
            print(f"  {name}: {row.get('what') or row.get('audio_seconds') or row.get('clips') or row.get('hop')}")
            sys.stdout.flush()
    except FaceTalkError as error:
        section["problem"] = str(error)
    except Exception as error:  # whatever it is, the other sections are worth having
        traceback.print_exc()
        section["problem"] = f"{type(error).__name__}: {error}"
    return section | {"load_after": conditions()["load"]}


def kept(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Sections of an earlier run with the same model."""
    if args.json is None or not args.json.exists():
        return {}
    try:
        sections = json.loads(args.json.read_text())["sections"]
    except (ValueError, KeyError, TypeError) as error:
        raise FaceTalkError(f"{args.json} is no results file of this script; name another one") from error
    same = digest(args.model) if Path(args.model).is_dir() else ""
    return {name: section for name, section in sections.items() if section["settings"]["digest"] == same}


def main(argv: list[str] | None = None) -> None:
    """Measure, print tables, and write them where asked to."""
    os.environ["FACETALK_CACHE"] = "off"  # surfaces are timed, not found
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.one_length is not None:
        print(json.dumps(one_length(args)))
        return
    sections, pipe = kept(args), load(args)
    for name in args.only:
        section = sections[name] = measure(name, pipe, args)
        print(f"\n{report({name: section})}\n", flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(args.json) as temporary:
                temporary.write_text(json.dumps({"sections": sections}, indent=1) + "\n")
        if args.page:
            write_between_markers(args.page, "performance", report(sections))


if __name__ == "__main__":
    run_script(main)
