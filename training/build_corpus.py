# SPDX-License-Identifier: MIT
"""Add the head's expression codes z = E w to a corpus of blendshape weights.

    python training/build_corpus.py --speech DIR --head DIR --output DIR

Shards that exist already are kept. Beside them goes `lips.npy`, the motion in mm of the mean head's lip landmarks for
a unit of each number of the code, (64, 60): the matrix of train_denoiser.py's lip loss. `--head` is a folder of
NPHMModel with an expression basis (training/train_nphm.py).
"""

import argparse
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import FaceTalkError
from facetalk_hf.corpus import read_shard, shards, write_shard
from facetalk_hf.files import atomic_path
from facetalk_hf.models.nphm import NPHMModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", type=Path, required=True, help="corpus of training/build_speech.py")
    parser.add_argument("--head", type=Path, required=True, help="folder of the head")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    head = NPHMModel.from_pretrained(options.head)
    if head.config.expression_names is None:
        raise SystemExit(f"{options.head}: this head has no expression basis, so weights cannot become codes")
    basis = head.expression_basis.float()
    drift = (basis.T @ basis - torch.eye(basis.shape[1])).abs().max().item()
    if drift > 1e-2:
        raise SystemExit(f"{options.head}: the expression basis is not orthonormal (off by {drift:.2g})")
    with torch.no_grad():
        lips = head.float().landmark_jacobian(torch.zeros(1, head.identity_dim))[0, :, 48:]
    with atomic_path(options.output / "lips.npy") as temporary:
        np.save(temporary, 250 * lips.flatten(1).numpy())
    for path in tqdm(shards(options.speech), desc="codes", unit=" shards"):
        target = options.output / path.name
        if target.exists():
            continue
        rows = list(read_shard(path))
        for row in rows:
            row["expression"] = head.expression_from_weights(torch.from_numpy(row["weights"])).numpy()
        write_shard(rows, target, code_dim=len(basis))


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(str(error)) from None
