# SPDX-License-Identifier: MIT
"""What the model would cost at the paper's size: wav2vec2-base and a denoiser of 35 M parameters, both untrained.

    python benchmarks/paper_size.py              # minutes on 2 cores

Compares the audio encoder with everything after it, for several numbers of steps, and asks how the denoiser's cost
grows with the clip. Weights are random, nothing is fetched. On a busy machine the seconds are too long; the ratios,
and processor seconds, which leave out what other programs take, hold better.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from facetalk_hf import FaceTalkDenoiser, FaceTalkPipeline
from facetalk_hf.audio.encoding import encode_speech
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import machine
from facetalk_hf.learning.objective import sampling_scheduler
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
RATE = 16000
LENGTHS = (10, 600)
Times = tuple[float, float]


def best(function: Callable[[], object], repeat: int) -> Times:
    """Seconds on the clock and of the processor, each of the fastest of `repeat` calls, after one that warms up."""
    function()
    times = []
    for _ in range(repeat):
        start = perf_counter(), process_time()
        function()
        times.append((perf_counter() - start[0], process_time() - start[1]))
    result = tuple(min(column) for column in zip(*times, strict=True))
    print(f"  {result[0]:.3f} s, {result[1]:.3f} CPU s", flush=True)
    return result


@torch.no_grad()
def sizes(seconds: float, repeat: int, steps: list[int], window: int) -> list[tuple[str, Times]]:
    """(what, times) of the encoder and of all after it at the paper's size."""
    torch.manual_seed(0)
    encoder, extractor = Wav2Vec2Model(Wav2Vec2Config()).eval(), Wav2Vec2FeatureExtractor()
    denoiser = FaceTalkDenoiser(**FaceTalkDenoiser.paper_config(window=window)).eval()
    parts = {"audio_encoder": encoder, "feature_extractor": extractor, "scheduler": sampling_scheduler()}
    pipe = FaceTalkPipeline(denoiser=denoiser, **parts)
    pipe.set_progress_bar_config(disable=True)
    clip = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)
    count = sum(item.numel() for item in denoiser.parameters()) / 1e6
    print(f"denoiser {count:.1f} M, encoder {sum(i.numel() for i in encoder.parameters()) / 1e6:.1f} M parameters")

    def plain() -> object:
        return encoder(extractor(clip, sampling_rate=RATE, return_tensors="pt")["input_values"])

    rows = [
        ("audio encoder, resampled before its transformer", best(
            lambda: encode_speech(encoder, extractor, [clip], pipe.config.fps, RATE), repeat
        )),
        ("audio encoder, plain", best(plain, repeat)),
    ]  # fmt: skip
    features = pipe.encode_audio(clip, sampling_rate=RATE)
    pipe.encode_audio = lambda *_, **__: features  # from here on the rest alone
    for number in steps:
        for scale in (1.25, 1.0):
            options = {"num_inference_steps": number, "guidance_scale": scale, "output_type": "expression"}
            times = best(lambda options=options: pipe(clip, sampling_rate=RATE, **options), repeat)
            rows.append((f"after it, {number} step(s)" + (" with guidance" if scale != 1 else ""), times))
    return rows


@torch.no_grad()
def growth(repeat: int, steps: int) -> list[tuple[str, Times]]:
    """(what, times) of the denoiser of facetalk-tiny's size for clips of 10 s and 10 min."""
    torch.manual_seed(0)
    denoiser = FaceTalkDenoiser(**FaceTalkDenoiser.tiny_config()).eval()
    rows = []
    for seconds in LENGTHS:
        frames = seconds * 24
        projected = denoiser.project_audio(torch.randn(1, frames, denoiser.config.audio_dim).repeat(2, 1, 1))
        sample = torch.randn(2, frames, denoiser.config.code_dim)

        def run(sample: torch.Tensor = sample, projected: list = projected) -> None:
            for step in range(steps):
                denoiser(sample, 999 - step, projected_audio=projected)

        rows.append((f"{steps} steps with guidance, {seconds} s", best(run, repeat)))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, help="of the clip at the paper's size")
    add("--steps", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8, 30])
    add("--window", type=int, default=32, help="reach of the denoiser's attention, frames; 0 for the paper's, none")
    add("--repeat", type=int, default=3)
    add("--threads", type=int, default=2)
    add("--page", type=Path, default=ROOT / "docs" / "sampling.md", help="page with the tables")
    add("--json", type=Path, help="also write the times to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = sizes(args.seconds, args.repeat, sorted(args.steps), args.window or None)
    encoder = rows[0][1]
    table = [[what, *times, *(time / base for time, base in zip(times, encoder, strict=True))] for what, times in rows]
    head = ["at the paper's size", "s", "CPU s", "/ encoder", "/ encoder, CPU"]
    parts = [
        f"A clip of {args.seconds:g} s, random weights, window {args.window or 'none'}; the fastest of {args.repeat} "
        f"runs. `{command()}`; {machine()}.",
        markdown_table(head, table),
    ]
    for guided, name in ((True, "with guidance"), (False, "without (few-step weights)")):
        met = [
            number
            for number in args.steps
            for what, times in rows
            if what == f"after it, {number} step(s)" + (" with guidance" if guided else "") and times[1] < encoder[1]
        ]
        tried = ", ".join(map(str, sorted(args.steps)))
        parts.append(
            f"Of {tried} steps, the most that take fewer CPU s than the encoder, {name}: {max(met, default=None)}."
        )
    short, long = growth(args.repeat, 4)
    ratio = [long[1][i] / short[1][i] for i in (0, 1)]
    parts.append(
        f"Length, at facetalk-tiny's size: {LENGTHS[1]} s cost {ratio[0]:.1f} times as much as {LENGTHS[0]} s "
        f"({ratio[1]:.1f} times in processor seconds), {LENGTHS[1] / LENGTHS[0]:.0f} times as long."
    )
    text = "\n\n".join(parts)
    print(text)
    write_between_markers(args.page, "paper-size", text)
    if args.json:
        args.json.write_text(json.dumps(dict([*rows, short, long]), indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
