# SPDX-License-Identifier: MIT
"""Expression codes of a corpus of blendshape weights, z = E w, and the lips of the head that they belong to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import FaceTalkError
from ..files import atomic_path
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .building import write_splits
from .corpus import read_shard


@torch.no_grad()
def write_lip_matrix(head: NPHMModel, folder: Path) -> None:
    """Write lips.npy, (D, 60) float32: how the 20 lip landmarks of the code 0 move, in mm for a unit of each number.

    It is the `--loss-matrix` of train_denoiser.py.

    Args:
        head (`NPHMModel`): in float32, with landmarks.
        folder (`Path`): of the corpus.
    """
    lips = head.landmark_jacobian(torch.zeros(1, head.identity_dim))[0, :, 48:]
    with atomic_path(folder / "lips.npy") as temporary:
        np.save(temporary, MILLIMETRES * lips.flatten(1).numpy())


def check_basis(head: NPHMModel, name: object = "this head") -> None:
    """Refuse a head whose codes are not made from blendshape weights.

    Args:
        head (`NPHMModel`): to be looked at.
        name: what errors call it.

    Raises:
        FaceTalkError: no expression basis, or one that is not orthonormal.
    """
    if head.config.expression_names is None:
        raise FaceTalkError(f"{name} has no expression basis, so weights cannot become codes")
    basis = head.expression_basis.float()
    drift = (basis.T @ basis - torch.eye(basis.shape[1])).abs().max().item()
    if drift > 1e-2:
        raise FaceTalkError(f"{name}: the expression basis is not orthonormal (off by {drift:.2g})")


def write_codes(
    paths: Iterable[Path],
    folder: Path,
    head: NPHMModel,
    work: Path,
    splits: Mapping[str, str] | None = None,
    source: str = "training/build_speech.py",
    prefix: str = "",
) -> None:
    """Write the shards of a corpus of weights again, with codes; those that are there already are kept.

    Args:
        paths: the shards. folder (`Path`): of the corpus that they are in.
        head (`NPHMModel`): says how weights become codes.
        work (`Path`): folder of the new corpus, in work.
        splits (`dict`, *optional*): speaker -> split; by default as it is in the rows.
        source (`str`): where rows are from that do not say it. prefix (`str`): of the names of the shards.
    """
    for path in paths:
        name = "-".join(path.relative_to(folder).with_suffix("").parts)
        stamp = work / f".{prefix}{name}.done"
        if stamp.exists():
            continue
        rows = list(read_shard(path))
        for row in rows:
            row["expression"] = head.expression_from_weights(torch.from_numpy(row["weights"])).numpy()
            row["split"] = splits[row["speaker"]] if splits else row["split"]
            row["source"] = row.get("source") or source
        write_splits(rows, work, prefix + (name if splits else path.stem), code_dim=len(head.expression_basis))
        stamp.touch()
    for stamp in work.glob(".*.done"):
        stamp.unlink()
