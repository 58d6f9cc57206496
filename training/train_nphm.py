# SPDX-License-Identifier: MIT
"""Train the small NPHM of facetalk-tiny on the scans of build_heads.py.

    python training/train_nphm.py --data data/heads --output-dir data/nphm

Three stages, one after the other: `identity`, `forward` and `backward` (facetalk_hf/learning/head.py). Started again
with --resume, it goes on from the last checkpoint of each and ends with the same head. One process.
"""

import numpy as np
import torch

from facetalk_hf.learning.head import (
    HeadOptions,
    Scans,
    make_codes,
    make_head,
    name_identities,
    train_backward,
    train_forward,
    train_identity,
)
from facetalk_hf.scripts import parse_config, run_script


def main(argv: list[str] | None = None) -> None:
    options = parse_config(HeadOptions, __doc__, argv)
    torch.set_num_threads(options.threads)
    scans = Scans(options.data)
    model = make_head(scans, options)
    codes = make_codes(model, scans)

    train_identity(model, codes, scans, options)
    codes.requires_grad_(False)
    pool = {name: torch.from_numpy(array) for name, array in np.load(options.data / "template.npz").items()}
    train_forward(model, codes, scans, pool, options)
    # A resumed forward network brings the E that it was trained with; a head with a backward network draws another.
    model.expression_basis.copy_(model.forward_net.coefficient_map.weight.T)
    if options.backward_steps:
        train_backward(model, codes, scans, pool, options)

    name_identities(model, codes, scans, options.named_identities)
    model.eval().half().save_pretrained(options.output_dir / "head")


if __name__ == "__main__":
    run_script(main)
