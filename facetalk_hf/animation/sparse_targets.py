# SPDX-License-Identifier: MIT
"""Which displacements of morph targets a file must store."""

import numpy as np


def needed_displacements(targets: np.ndarray, peak: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """Choose the displacements that a file must store for its vertices to be within a tolerance.

    For every vertex its smallest displacements are left out, as many as together stay within `tolerance` mm. So no
    motion whose weights stay within `peak` moves a vertex by more than that from where it should be.

    Args:
        targets ((R, V, 3) float, mm), peak ((R,) float): the targets and the largest weight of each, at least 0.
        tolerance (`float`, mm): see above.

    Returns: what is kept, (R, V) bool, and the largest error in mm of leaving out the rest.
    """
    reach = np.linalg.norm(targets, axis=2) * peak[:, None]
    order = np.argsort(reach, axis=0)
    total = np.cumsum(np.take_along_axis(reach, order, 0), axis=0, dtype=np.float64)
    kept = np.empty(reach.shape, bool)
    np.put_along_axis(kept, order, total > tolerance, 0)
    return kept, float(np.where(kept, 0, reach).sum(0, dtype=np.float64).max(initial=0.0))
