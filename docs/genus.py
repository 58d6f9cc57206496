# SPDX-License-Identifier: MIT
"""Count the handles (pierced ears, joined nostrils) of the embedded model's heads before and after their repair.

python docs/genus.py [IDENTITY ...]    # such as 3 or random:7; all that have a name unless given
"""

import sys
import time

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head.blendshape_decoder import DEEPEST_REPAIR, BlendshapeDecoder
from facetalk_hf.mesh.isosurface import triangulate
from facetalk_hf.mesh.topology import genus, remove_handles
from facetalk_hf.units import MILLIMETRES


def main() -> None:
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    decoder = BlendshapeDecoder(head, resolution=128)
    before = after = 0
    for identity in sys.argv[1:] or map(str, range(len(head.identity_codes))):
        code = decoder.identity_code(int(identity) if identity.isdigit() else identity)
        values, axes = decoder.sample_grid(torch.from_numpy(code)[None])
        start = time.process_time()
        repaired = remove_handles(values, DEEPEST_REPAIR)
        seconds = time.process_time() - start
        raw, left = (genus(*triangulate(grid, axes)) for grid in (values, repaired))
        before, after = before + raw, after + left
        changed = (values < 0) != (repaired < 0)
        deepest = float(np.abs(values[changed]).max(initial=0)) * MILLIMETRES
        print(
            f"identity {identity}: genus {raw} -> {left}, {changed.sum()} points of the grid, "
            f"at most {deepest:.2f} mm, {seconds:.2f} s",
            flush=True,
        )
    print(f"together {before} -> {after}")


if __name__ == "__main__":
    main()
