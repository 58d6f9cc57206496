# SPDX-License-Identifier: MIT
"""How smoothly generated motion leads into keyframes: speed and acceleration there and elsewhere, in mm a frame.

`python benchmarks/keyframe_seams.py SPEECH.wav [--causal]`: poses of other moments of other samples are fixed at
random frames of the first six seconds, six times four of them.
"""

import argparse

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, Keyframes, load_audio
from facetalk_hf.pipeline import facetalk


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("speech")
parser.add_argument("--causal", action="store_true", help="let no frame see a later one")
arguments = parser.parse_args()

pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
pipe.set_progress_bar_config(disable=True)
if arguments.causal:
    pipe.denoiser.register_to_config(attention_mode="causal")
clip = load_audio(arguments.speech)[: 6 * 16000]
options = {"sampling_rate": 16000, "output_type": "expression"}
head = pipe.decode(torch.zeros(1, pipe.denoiser.config.code_dim))
metric = torch.tensor(head.motion_metric() / len(head.base), dtype=torch.float32)


def length(change: torch.Tensor) -> np.ndarray:
    """Root mean square over the vertices, mm, of changes of the weights (T, R)."""
    return torch.einsum("tr,rs,ts->t", change, metric, change).clamp(min=0).sqrt().numpy()


def sample(seed: int, keyframes: Keyframes | None = None) -> torch.Tensor:
    """Codes (N, D)."""
    return pipe(clip, generator=torch.Generator().manual_seed(seed), keyframes=keyframes, **options).expressions[0]


free = [sample(seed) for seed in range(3)]
count = len(free[0])
print("lead s | speed at keyframes, elsewhere | acceleration at keyframes, elsewhere (mean of mm a frame)")
for lead in (0.0, 0.25):
    facetalk.LEAD = lead
    generator = np.random.default_rng(0)
    speed, change = ([], []), ([], [])
    for seed in range(6):
        frames = np.sort(generator.choice(np.arange(8, count - 8), 4, replace=False))
        poses = free[(seed + 1) % 3][generator.integers(0, count, 4)]
        motion = pipe.head.weights_from_expression(sample(seed, Keyframes().fix_frames(frames, poses)))
        for lists, order, reach in ((speed, 1, (-1, 0)), (change, 2, (-2, -1, 0))):
            values = length(torch.diff(motion, order, dim=0))
            near = np.isin(np.arange(len(values)), np.add.outer(frames, reach))
            lists[0].extend(values[near])
            lists[1].extend(values[~near])
    print(f"{lead:.2f} | " + " | ".join(", ".join(f"{np.mean(v):.2f}" for v in lists) for lists in (speed, change)))
