# SPDX-License-Identifier: MIT
"""Make lips at rest touch all along the mouth. Pure geometry, lengths in mm."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..mesh.geometry import smoothstep


UPPER, LOWER, CORNERS = (61, 62, 63), (67, 66, 65), (60, 64)  # inner contour, iBUG order
REACH = 9.0  # of the correction above and below the line where lips meet


def seal_lips(
    base: np.ndarray,
    canonical: np.ndarray,
    landmarks: np.ndarray,
    canonical_landmarks: np.ndarray,
    overlap: float = 0.3,
    step: float = 0.5,
) -> np.ndarray:
    """Correct the rest pose so that the lips meet.

    A network closes the open mouth of the canonical pose to some half a millimetre, which is little in any average
    and shows teeth at the corners. Column by column, both lips go half of what is open between them; what is around
    follows in proportion, and where lips touch already nothing moves.

    Args:
        base ((V, 3) float): skin at rest. canonical ((V, 3) float): the same with the mouth open.
        landmarks, canonical_landmarks ((68, 3) float): in these two poses.
        overlap (`float`): how far the lips press into each other. step (`float`): width of a column.

    Returns: the corrected rest pose, (V, 3) float.
    """
    # In the open mouth, the line through the corners and half-way between the lips tells the upper from the lower one.
    upper = canonical[:, 1] > np.interp(canonical[:, 0], *_line(canonical_landmarks)[:, :2].T)
    line = _line(landmarks)
    height, depth = (np.interp(base[:, 0], line[:, 0], line[:, axis]) for axis in (1, 2))
    inside = np.maximum(depth - 4 - base[:, 2], 0)  # the mouth's inside, behind where lips meet
    near = (np.abs(base[:, 1] - height) < 2 * REACH) & (inside < REACH) & (base[:, 2] < depth + 2 * REACH)
    columns = np.arange(line[0, 0] - 2, line[-1, 0] + 2 + step, step)
    edges = []
    for side, extreme in ((upper, np.min), (~upper, np.max)):
        x, y = base[near & side & (inside == 0)][:, :2].T
        heights = [y[np.abs(x - column) < 1.2] for column in columns]
        edges.append(np.array([extreme(part) if len(part) else np.nan for part in heights]))
    known = np.isfinite(edges[0]) & np.isfinite(edges[1])
    if known.sum() < 8:
        return base
    edges = [np.interp(columns, columns[known], edge[known]) for edge in edges]
    gap = np.clip(edges[0] - edges[1] + overlap, 0, 4)
    corner = smoothstep(0, 2.5, np.minimum(columns - columns[0], columns[-1] - columns))
    gap = _smooth(gap * corner, 1.0 / step)
    result = base.copy()
    for side, edge, sign in ((upper, edges[0], -0.5), (~upper, edges[1], 0.5)):
        rows = np.flatnonzero(near & side)
        x, y, _ = base[rows].T
        distance = np.hypot(y - np.interp(x, columns, _smooth(edge, 1.0 / step)), inside[rows])
        shift = np.interp(x, columns, gap, left=0, right=0) * smoothstep(REACH, 0, distance)
        result[rows, 1] += sign * shift
    return result


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter1d(values, sigma, mode="mirror", truncate=3.0)


def _line(landmarks: np.ndarray) -> np.ndarray:
    """Find points (5, 3) of the line between the lips from corner to corner, by growing x."""
    first, last = (landmarks[[index]] for index in CORNERS)
    line = np.concatenate([first, (landmarks[list(UPPER)] + landmarks[list(LOWER)]) / 2, last])
    return line[line[:, 0].argsort()]
