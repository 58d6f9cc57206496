# SPDX-License-Identifier: MIT
"""The measurements of a frame in canonical space, as the solvers take them."""

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass
class FrameObservation:
    """The measurements of one frame, in canonical space and model units.

    Args:
        points ((P, 3)): on the surface. landmarks ((68, 3), *optional*): NaN where unknown.
        trust (`float`): factor from 0 to 1 of all terms of the frame: 0 for a frame that is missing.
        normals ((P, 3), *optional*): outwards, of unit length or zero where unknown: a point whose normal is not that
            of the surface it is compared with counts less.
    """

    points: torch.Tensor
    landmarks: torch.Tensor | None = None
    trust: float = 1.0
    normals: torch.Tensor | None = None

    def take(self, rows: torch.Tensor) -> "FrameObservation":
        """Select some of the points: (P,) bool, or (n,) indices."""
        return replace(self, points=self.points[rows], normals=None if self.normals is None else self.normals[rows])

    def subsample(self, count: int, seed: int) -> "FrameObservation":
        """Select at most `count` points at random, the same ones for a seed."""
        if len(self.points) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.points), count, replace=False))
        return self.take(torch.from_numpy(rows))
