# SPDX-License-Identifier: MIT
"""What a training step costs at paper size: cached audio features against re-encoding at every step, and the loader.

    python benchmarks/training.py                 # clips of 4 s, batch 1, segments of 48 frames and of the whole clip
    python benchmarks/training.py --threads 1 --bf16 --json results.json

The networks have the sizes of the paper (wav2vec2-base, 35 M parameters) and random weights: nothing is downloaded,
and speed does not depend on what they say. Both kinds of step and all lengths of a segment take turns, so a busy
machine slows all of them alike; processor time, the second number, leaves out most of what other programs take.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from facetalk_hf import FaceTalkDenoiser
from facetalk_hf.data.feature_cache import OnlineAudio
from facetalk_hf.data.segments import EncodedClips, SegmentDataset, take_batch
from facetalk_hf.evaluation.timing import Duration, clocks, machine, since
from facetalk_hf.learning.objective import DiffusionObjective
from facetalk_hf.scripts import run_script


FPS, RATE = 24, 16000


def make_parts(args: argparse.Namespace) -> tuple[FaceTalkDenoiser, EncodedClips, OnlineAudio]:
    """Denoiser, cached clips and their online twin, made of noise at the right sizes."""
    torch.manual_seed(0)
    size = {"tiny": {"hidden_size": 32, "num_layers": 3, "num_heads": 2}}.get(args.preset, {})
    denoiser = FaceTalkDenoiser(**FaceTalkDenoiser.paper_config(**size))
    small = {"num_hidden_layers": 1, "intermediate_size": 64, "conv_dim": (32,) * 7} if size else {}
    encoder = Wav2Vec2Model(Wav2Vec2Config(**small)).eval().requires_grad_(False)
    rng, frames = np.random.default_rng(0), round(args.seconds * FPS)
    made = [(rng.standard_normal((frames, 200)), rng.standard_normal((frames, 768))) for _ in range(args.clips)]
    clips = EncodedClips.collect(made)
    samples = [(3000 * rng.standard_normal(frames * RATE // FPS)).astype(np.int16) for _ in made]
    return denoiser, clips, OnlineAudio(samples, clips.starts, encoder, Wav2Vec2FeatureExtractor(), FPS, RATE)


def measure(args: argparse.Namespace) -> dict[int, dict[str, Duration]]:
    """Frames of a segment -> time of each part of a step: the fastest of all steps, the one least disturbed."""
    denoiser, clips, online = make_parts(args)
    objective = DiffusionObjective(denoiser)
    optimizer = torch.optim.AdamW(denoiser.parameters(), 1e-4, weight_decay=0.0, fused=True)
    whole = int(clips.starts[1])
    datasets = {n: SegmentDataset(clips, n, 10**9, augmentation=(0.8, 1.2)) for n in {*args.segment_frames, whole}}
    loaders = {
        n: iter(DataLoader(dataset, args.batch_size, collate_fn=take_batch)) for n, dataset in sorted(datasets.items())
    }
    times: dict[int, dict[str, list[Duration]]] = {n: {"loader": [], "encoder": [], "update": []} for n in loaders}

    def timed(frames: int, name: str, function: Callable) -> object:
        start = clocks()
        result = function()
        times[frames][name].append(since(start))
        return result

    def update(batch: dict[str, torch.Tensor]) -> None:
        objective(denoiser, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for step in range(args.steps + 2):
        for frames, loader in loaders.items():
            batch = timed(frames, "loader", lambda loader=loader: next(loader))
            timed(frames, "encoder", lambda batch=batch: online(batch))
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                timed(frames, "update", lambda batch=batch: update(batch))
        if step == 1:  # warm
            times = {frames: {name: [] for name in parts} for frames, parts in times.items()}
    return {n: {name: Duration.fastest(values) for name, values in parts.items()} for n, parts in times.items()}


def main() -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip")
    parser.add_argument("--segment-frames", type=int, nargs="*", default=[48], help="besides the whole clip")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--preset", choices=("paper", "tiny"), default="paper", help="tiny tests the script itself")
    parser.add_argument("--bf16", action="store_true", help="autocast of the denoiser, as --mixed-precision bf16")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    for frames, parts in measure(args).items():
        cached = Duration(*(parts["loader"][i] + parts["update"][i] for i in (0, 1)))
        online = Duration(*(cached[i] + parts["encoder"][i] for i in (0, 1)))
        rows.append(
            {"segment_frames": frames}
            | {name: value._asdict() for name, value in parts.items()}
            | {"speedup": {"wall": online.wall / cached.wall, "cpu": online.cpu / cached.cpu}}
            | {"loader_share": parts["loader"].wall / cached.wall}
        )
        print(f"segments of {frames} frames, ms on the wall clock and of the processor:")
        for name, value in (*parts.items(), ("cached step", cached), ("online step", online)):
            print(f"  {name:12}{1000 * value.wall:9.2f}{1000 * value.cpu:9.2f}")
        speedup = rows[-1]["speedup"]
        print(f"  cached is {speedup['wall']:.2f} x online, {speedup['cpu']:.2f} x by processor time")
        print(f"  loader: {100 * rows[-1]['loader_share']:.2f} % of a step with cached features")
    print(f"{'bf16' if args.bf16 else 'fp32'}, {machine()}")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "bf16": args.bf16, "machine": machine()}, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
