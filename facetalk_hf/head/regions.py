# SPDX-License-Identifier: MIT
"""Which vertices are lips, face and upper face: found from the 68 landmarks, for any identity and mesh resolution.

Published numbers of LVE and FDD depend on vertex masks that are rarely published. These need no list of indices: they
are regions of space around the landmarks of a head at rest (code zero), so they hold for every mesh of every identity.
"""

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

from ..errors import FaceTalkError
from ..mesh.parts import SKIN


LIP_LANDMARKS: tuple[int, ...] = tuple(range(48, 68))
UPPER_LANDMARKS: tuple[int, ...] = (*range(17, 28), *range(36, 48))
"""Brows, the bridge of the nose, eyes: the landmarks that FDD is taken over."""
REGIONS: tuple[str, ...] = ("skin", "face", "upper_face", "lips")


def region_masks(vertices: np.ndarray, landmarks: np.ndarray, parts: np.ndarray) -> dict[str, np.ndarray]:
    """Find the vertices of the regions in `REGIONS`, on a head at rest.

    skin: all but eyeballs, teeth and the mouth's inside. face: skin within the frontal outline of the jaw (landmarks 0
    to 16) and of a forehead as high above the brows as the nose is long, in front of the ears' landmarks. upper_face:
    the face above the middle of the nose's bridge (landmark 28), and the lids. lips: skin around the strips between
    the outer (48-59) and the inner contour (60-67): within 1.5 mm, for a face of mean size, and within 8 mm inside the
    outer contour, because lips bulge.

    Args:
        vertices ((V, 3) float, mm): `HeadGeometry.base`, code zero. landmarks ((68, 3) float, mm): at rest as well.
        parts ((V,) uint8): as in `HeadAnimation.parts`.

    Returns:
        dict of (V,) bool.

    Raises:
        FaceTalkError: a region has no vertex, because the mesh is too coarse or the landmarks are not its own.
    """
    vertices, landmarks = np.asarray(vertices, np.float64), np.asarray(landmarks, np.float64)
    skin = np.asarray(parts) == SKIN
    scale = np.linalg.norm(landmarks[45] - landmarks[36]) / 89.0
    nose = np.linalg.norm(landmarks[27] - landmarks[33])
    forehead = landmarks[17:27][::-1, :2] + [0, nose]
    outline = np.concatenate([landmarks[:17, :2], [landmarks[26, :2] + [0, nose / 2]], forehead])
    face = skin & points_in_poly(vertices[:, :2], outline) & (vertices[:, 2] > landmarks[[0, 16], 2].mean())
    lids = np.abs(cKDTree(landmarks[36:48]).query(vertices)[0]) < 6 * scale
    upper = face & ((vertices[:, 1] > landmarks[28, 1]) | lids)
    distance, _ = cKDTree(_lip_strips(landmarks)).query(vertices)
    reach = np.where(points_in_poly(vertices[:, :2], landmarks[48:60, :2]), 8.0, 1.5) * scale
    masks = {"skin": skin, "face": face, "upper_face": upper, "lips": skin & (distance < reach)}
    for name, mask in masks.items():
        if not mask.any():
            raise FaceTalkError(f"no vertex of this mesh lies in the region {name}; decode it at a higher resolution")
    return masks


def _lip_strips(landmarks: np.ndarray, steps: int = 7) -> np.ndarray:
    """Sample points (n, 3) on the strips between outer and inner lip contours, closer to each other than 1 mm."""
    outer, inner = landmarks[48:60], landmarks[60:68]
    # The contours' corners and middles correspond: 48-60, 51-62, 54-64, 57-66.
    upper = _resampled(outer[:7]), _resampled(inner[:5])
    lower = _resampled(np.concatenate([outer[6:], outer[:1]])), _resampled(np.concatenate([inner[4:], inner[:1]]))
    shares = np.linspace(0, 1, steps)[:, None, None]
    return np.concatenate([((1 - shares) * a + shares * b).reshape(-1, 3) for a, b in (upper, lower)])


def _resampled(curve: np.ndarray, count: int = 81) -> np.ndarray:
    """Sample `count` points at equal steps of a polyline's parameter, of which every edge takes the same share."""
    at = np.linspace(0, 1, count)
    return np.stack([np.interp(at, np.linspace(0, 1, len(curve)), axis) for axis in curve.T], 1)
