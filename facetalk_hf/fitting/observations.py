# SPDX-License-Identifier: MIT
"""What fitting is told, and what it returns."""

from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

from ..errors import FaceTalkError


@dataclass
class FittingConfig:
    r"""Weights of the objective; distances in mm, codes in blendshape weights.

    E = sdf * mean_i a_i rho(d_i) + temporal * Huber(w_t - w_(t-1)) + code * |w|^2 / 2 + box * |outside 0..1|^2 / 2
    + symmetry * |left - right|^2 / 2 + landmarks * mean rho(l - l'), with rho of Geman and McClure,
    d = sdf(x + F(x)), and a_i larger at the eyes. FaceTalk gives the first three terms and neither their weights nor
    the rest; those are ours.

    Args:
        window, overlap: frames that are optimised together, and how many of them again with the next window.
        points: points a frame that are looked at.
        iterations: steps of a window at most; it ends early when no weight moves by `tolerance`.
        outlier_scale: mm at which a point has lost three quarters of its pull.
        blink_inertia: the lids' share of `temporal` and `code`, for they are quick, where landmarks show them.
        blink_hold: factor of `code` for the lids where no landmarks show them: `find_blinks` finds them afterwards.
        blink_cost, blink_hold_cost: evidence (natural logarithm) that a blink has to bring, and more for each frame
            beyond 0.4 s. blink_contrast: how far a shut lid stands out from the sequence's usual, of what it should.
        blink_bias: mm around a point in which other frames tell what the head's surface is off by.
        fps: frames a second, for a blink takes its time.
        gaze_hold: factor of `code` for the shapes of gaze.
        ease: factor of `code` in the first step, a third of it in the next, down to 1.
        eye_gain, eye_reach: how much more a point within `eye_reach` mm of the lids' landmarks counts.
        still: points that no weight of one moves by this many mm are looked at once only.
        bad_frame: a frame with a larger share of points far from the fit is listed, and trusted a fifth.
    """

    window: int = 10
    overlap: int = 2
    points: int = 1600
    iterations: int = 9
    tolerance: float = 0.01
    sdf: float = 1.0
    temporal: float = 0.1
    huber: float = 0.1
    code: float = 0.015
    box: float = 1.0
    symmetry: float = 0.3
    blink_inertia: float = 0.2
    blink_hold: float = 100.0
    blink_cost: float = 6.0
    blink_hold_cost: float = 1.5
    blink_contrast: float = 0.4
    blink_bias: float = 3.0
    fps: float = 24.0
    gaze_hold: float = 10.0
    landmarks: float = 0.1
    outlier_scale: float = 4.0
    eye_gain: float = 4.0
    eye_reach: float = 9.0
    still: float = 0.3
    ease: float = 20.0
    bad_frame: float = 0.25

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise FaceTalkError(f"fitting: {name} must be a number of at least 0, not {value}")
        if not 0 <= self.overlap < self.window:
            raise FaceTalkError(f"fitting: overlap {self.overlap} must be smaller than the window of {self.window}")
        for name in ("outlier_scale", "points", "huber", "fps", "blink_bias"):
            if not getattr(self, name):
                raise FaceTalkError(f"fitting: {name} must be positive")


@dataclass
class FrameObservation:
    """What is known of a frame, in canonical units: `points` (P, 3), `landmarks` (68, 3) or `None`.

    `trust` (0 to 1) scales all that the frame says: 0 for a frame that is missing. `normals` (P, 3), outwards, of unit
    length or zero where unknown: a point whose normal is not that of the surface it is compared with counts less.
    """

    points: torch.Tensor
    landmarks: torch.Tensor | None = None
    trust: float = 1.0
    normals: torch.Tensor | None = None

    def take(self, rows: torch.Tensor) -> "FrameObservation":
        """The frame with some of its points: (P,) bool, or (n,) indices."""
        return replace(self, points=self.points[rows], normals=None if self.normals is None else self.normals[rows])


@dataclass
class WindowResult:
    """Weights (T, W), mean |distance| in mm (T,), share of far points (T,) and each term of the objective."""

    weights: torch.Tensor
    residual: np.ndarray
    far: np.ndarray
    terms: dict[str, float] = field(default_factory=dict)
