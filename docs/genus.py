# SPDX-License-Identifier: MIT
"""Count the handles (pierced ears, joined nostrils) of the embedded model's heads before and after their repair.

python docs/genus.py [NUMBER ...]
"""

import sys
import time

import torch

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.mesh.isosurface import triangulate
from facetalk_hf.mesh.topology import genus, remove_handles


def main() -> None:
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    decoder = BlendshapeDecoder(head, resolution=128)
    for identity in map(int, sys.argv[1:] or range(len(head.identity_codes))):
        values, axes = decoder.sample_grid(torch.from_numpy(decoder.identity_code(identity))[None])
        start = time.process_time()
        repaired = remove_handles(values)
        seconds = time.process_time() - start
        before, after = (genus(*triangulate(grid, axes)) for grid in (values, repaired))
        points = int(((values < 0) != (repaired < 0)).sum())
        print(
            f"identity {identity}: genus {before} -> {after}, {points} points of the grid, {seconds:.2f} s", flush=True
        )


if __name__ == "__main__":
    main()
