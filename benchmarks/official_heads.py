# SPDX-License-Identifier: MIT
"""How much faster the sparse surface of an NPHM head is than a dense grid, with random weights of the official size.

    python benchmarks/official_heads.py --resolution 128
    python benchmarks/official_heads.py --head nphm-head
    python benchmarks/official_heads.py --ours --resolution 192    # the embedded head, with eyes, teeth and paint

The dense grid evaluates all 40 members at every point; it is measured on some of its points and extrapolated.
"""

import argparse
import os
from time import process_time

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.ensemble_surface import sample_by_members, uniform_axes
from facetalk_hf.head.field_values import evaluate
from facetalk_hf.mesh.isosurface import triangulate
from facetalk_hf.scripts import run_script


def random_head() -> NPHMModel:
    """Official sizes, random weights; anchors on an ellipsoid of a head's size, mirrored pairs first."""
    torch.manual_seed(0)
    head = NPHMModel(
        num_anchors=39, num_symmetric_pairs=16, glob_dim=64, loc_dim=32, expression_dim=200, forward_type="concat",
        num_identities=0, bounds=((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4)),
        official_ensemble={
            "kind": "nphm", "sizes": [200, 101, 200, 200, 1], "skip_layer": 2, "anchor_hidden_size": 256,
        },
        official_deformation={"sizes": [512, 512, 277, 512, 512, 512, 3], "skip_layer": 3},
    )  # fmt: skip
    with torch.no_grad():
        for parameter in head.ensemble.parameters():
            bound = parameter.shape[-1] ** -0.5 if parameter.ndim == 3 else 0.07
            parameter.uniform_(-bound, bound)
        direction = torch.nn.functional.normalize(torch.randn(39, 3), dim=1)
        direction[1:32:2] = direction[0:32:2] * torch.tensor([-1.0, 1, 1])
        head.anchor_mean.copy_(direction * torch.tensor([0.3, 0.45, 0.35]))
    return head.eval()


def measure_ours(resolution: int) -> None:
    """Time the embedded head from its code to everything that its frames share, and again from memory."""
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head", torch_dtype=torch.float32).eval()
    decoder = make_decoder(head, resolution=resolution)
    code = decoder.identity_code("zero")
    for what in ("first", "again"):
        start = process_time()
        geometry = decoder.geometry(code)
        print(f"{what:<8}{process_time() - start:10.4f} s of processor time, {len(geometry.base)} vertices")


def main() -> None:
    """Measure and print."""
    os.environ["FACETALK_CACHE"] = "off"  # surfaces are timed, not found
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", help="folder of a converted NPHM head (default: random weights)")
    parser.add_argument("--resolution", type=int, default=128, help="grid lines an axis")
    parser.add_argument("--points", type=int, default=8192, help="points of the dense grid that are measured")
    parser.add_argument("--ours", action="store_true", help="time the embedded head instead")
    args = parser.parse_args()
    if args.ours:
        return measure_ours(args.resolution)
    head = random_head() if args.head is None else NPHMModel.from_pretrained(args.head).eval()
    identity = head.identity_codes[0] if len(head.identity_codes) else 0.3 * torch.randn(head.identity_dim)
    axes = uniform_axes(head, args.resolution)
    start = process_time()
    values = sample_by_members(head, identity, axes)
    sparse = process_time() - start
    vertices, _ = triangulate(values, axes, largest=False)

    index = np.random.default_rng(0).integers(0, args.resolution, (args.points, 3))
    points = np.stack([axis[index[:, i]] for i, axis in enumerate(axes)], 1)
    head.ensemble.skip_below = -1.0
    start = process_time()
    exact = evaluate(lambda part: head.sdf(part, identity[None]), points)
    dense = (process_time() - start) / args.points * args.resolution**3
    wrong = int(((exact < 0) != (values[tuple(index.T)] < 0)).sum())
    print(f"{args.resolution}^3 points, {torch.get_num_threads()} thread(s), seconds of processor time")
    print(f"dense, all members    {dense:10.1f}       1.0  (extrapolated from {args.points} points)")
    print(
        f"sparse                {sparse:10.1f}  {dense / sparse:8.1f}  {len(vertices)} vertices, {wrong} wrong signs"
    )


if __name__ == "__main__":
    run_script(main)
