# SPDX-License-Identifier: MIT
"""What the renderer asks of a moving head."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class Drawable(Protocol):
    """Head of V vertices over T frames that can be drawn, such as `facetalk_hf.HeadAnimation`.

    Args:
        base ((V, 3) float, mm): the head at rest: +x the subject's left, +y up, +z out of the face.
        faces ((F, 3) int): triangles, counter-clockwise seen from outside.
        colors ((V, 3) uint8): sRGB albedo.
        parts ((V,) uint8): what a vertex belongs to, see `facetalk_hf.mesh.parts`.
        weights ((T, R) float): the motion.
        fps (`float`): frames a second.
        audio ((S,) float in -1..1, *optional*), sampling_rate (`int`, Hz): the sound of a video.
    """

    base: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    parts: np.ndarray
    weights: np.ndarray
    fps: float
    audio: np.ndarray | None
    sampling_rate: int

    def vertices(self, index: int) -> np.ndarray:
        """Return the vertices of one frame without its pose, (V, 3) float, mm."""

    def iterate(self, indices: range | list[int] | None = None) -> Iterator[np.ndarray]:
        """Yield the vertices of some or all frames in order, without their poses."""

    def pose_matrices(self) -> np.ndarray | None:
        """Return the rigid motion of all frames, (T, 4, 4) float; `None` where there is none."""

    def motion_metric(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Return G, (R, R) float: `d G d` is the squared displacement in mm for weights that differ by `d`.

        Summed over the vertices in `mask` ((V,) bool), or all.
        """
