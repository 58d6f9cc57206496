# SPDX-License-Identifier: MIT
"""What a training step costs at paper size: cached audio features against re-encoding at every step, and the loader.

    python benchmarks/training.py                 # clips of 4 s, batch 1
    python benchmarks/training.py --threads 1 --json results.json

The networks have the sizes of the paper (wav2vec2-base, 35 M parameters) and random weights: nothing is downloaded,
and speed does not depend on what they say. The two kinds of step take turns, so a busy machine slows both alike.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from facetalk_hf import FaceTalkDenoiser
from facetalk_hf.feature_cache import OnlineAudio
from facetalk_hf.objective import DiffusionObjective
from facetalk_hf.segments import EncodedClips, SegmentDataset, take_batch


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


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of each part of a step: the fastest of all steps, the one least disturbed."""
    denoiser, clips, online = make_parts(args)
    objective = DiffusionObjective(denoiser)
    optimizer = torch.optim.AdamW(denoiser.parameters(), 1e-4, weight_decay=0.0, fused=True)
    frames = int(clips.starts[1])
    dataset = SegmentDataset(clips, frames, 10**9, augmentation=(0.8, 1.2))
    loader = iter(DataLoader(dataset, args.batch_size, collate_fn=take_batch))
    times = {"loader": [], "encoder": [], "update": []}

    def timed(name: str, function: Callable) -> object:
        start = perf_counter()
        result = function()
        times[name].append(perf_counter() - start)
        return result

    def update(batch: dict[str, torch.Tensor]) -> None:
        objective(denoiser, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for step in range(args.steps + 2):
        batch = timed("loader", lambda: next(loader))
        timed("encoder", lambda batch=batch: online(batch))
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            timed("update", lambda batch=batch: update(batch))
        if step == 1:  # warm
            times = {name: [] for name in times}
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip, which is one segment")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--preset", choices=("paper", "tiny"), default="paper", help="tiny tests the script itself")
    parser.add_argument("--bf16", action="store_true", help="autocast of the denoiser")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds = measure(args)
    cached = seconds["loader"] + seconds["update"]
    result = {
        "seconds": seconds,
        "steps_per_second": {"cached": 1 / cached, "online": 1 / (cached + seconds["encoder"])},
        "speedup": (cached + seconds["encoder"]) / cached,
        "loader_share": seconds["loader"] / cached,
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "bf16": args.bf16,
            "platform": f"{platform.system()} {platform.machine()}",
            "torch": version("torch"),
        },
    }
    for name, value in seconds.items():
        print(f"{name:10} {1000 * value:9.2f} ms")
    print(f"cached     {result['steps_per_second']['cached']:9.2f} steps/s, {result['speedup']:.2f} x online")
    print(f"loader     {100 * result['loader_share']:9.2f} % of a step with cached features")
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
