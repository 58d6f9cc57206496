# SPDX-License-Identifier: MIT
"""Make a blink close the eye to the last tenth of a millimetre. Pure geometry, lengths in mm."""

from collections.abc import Callable

import numpy as np

from ..mesh.geometry import smoothstep


def seal_blink(
    base: np.ndarray,
    blink: np.ndarray,
    edge: np.ndarray,
    center: np.ndarray,
    radius: float,
    overlap: float = 0.6,
    clearance: float = 1.0,
) -> np.ndarray:
    """Correct a blink so that the upper lid's edge reaches the lower one's, along the eyeball.

    A network's lids stop a millimetre short here and there, which is little in any average and plain to see. Around
    the eye's centre, the upper edge is turned further down by what is still open at its azimuth; the lid above follows
    in proportion, up to its crease, and nothing moves into the ball.

    Args:
        base ((V, 3) float): skin at rest, eye openings cut. blink ((V, 3) float): motion for a weight of one.
        edge ((n,) int): vertices on the rim of this eye's opening.
        center ((3,) float), radius (`float`): of the eyeball.
        overlap (`float`): how far the upper edge passes the lower one. clearance (`float`): least distance of lids
            from the ball.

    Returns: the corrected motion, (V, 3) float.
    """
    if len(edge) < 8:
        return blink
    azimuth, elevation = _angles(base[edge] - center)
    # The line through the corners tells the upper rim from the lower one.
    first, last = azimuth.argmin(), azimuth.argmax()
    corners = np.interp(azimuth, azimuth[[first, last]], elevation[[first, last]])
    upper, lower = elevation >= corners, elevation <= corners
    closed = base[edge] + blink[edge] - center
    closed_azimuth, closed_elevation = _angles(closed)
    upper_rim = _curve(closed_azimuth, closed_elevation, upper)
    lower_rim = _curve(closed_azimuth, closed_elevation, lower)
    rest_rim = _curve(azimuth, elevation, upper)
    rest_distance = _curve(azimuth, np.linalg.norm(base[edge] - center, axis=1), upper)

    start_distance = np.linalg.norm(base - center, axis=1)
    near = np.flatnonzero((start_distance < 1.9 * radius) & (base[:, 2] > center[2]))
    start_azimuth, start_elevation = _angles(base[near] - center)
    position = base[near] + blink[near] - center
    here, height = _angles(position)
    distance = np.linalg.norm(position, axis=1)
    width = azimuth[[first, last]]
    margin = 0.06 * (width[1] - width[0])
    inwards = np.minimum(here - width[0], width[1] - here)
    within = np.clip(0.5 + inwards / (2 * margin), 0, 1)
    open_angle = np.maximum(upper_rim(here) - lower_rim(here) + overlap / radius, 0.0) * within
    # All of it at the rim, none a crease (some 9 mm) above it, and nothing for the lower lid. The way there is that
    # along the skin, which leaves the ball for the brow: by angle alone, all of the socket would be near.
    above = (start_elevation - rest_rim(start_azimuth)) * radius
    way = np.hypot(above, start_distance[near] - rest_distance(start_azimuth))
    share = np.where(above < -0.8, 0.0, 1.0 - smoothstep(0.0, 9.0, way))
    height = height - open_angle * share
    floor = radius + clearance
    lid = smoothstep(9.0, 4.0, way) * (open_angle > 0)
    distance = np.maximum(distance, distance * (1 - lid) + np.maximum(distance, floor) * lid)
    moved = _points(here, height, distance)
    result = blink.copy()
    result[near] += (moved - position).astype(blink.dtype)
    return result


def _angles(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute azimuth (left of straight ahead) and elevation, radians, of offsets (n, 3) from an eye's centre."""
    return np.arctan2(offset[:, 0], offset[:, 2]), np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))


def _points(azimuth: np.ndarray, elevation: np.ndarray, distance: np.ndarray) -> np.ndarray:
    flat = np.cos(elevation)
    return distance[:, None] * np.stack([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], axis=1)


def _curve(azimuth: np.ndarray, elevation: np.ndarray, chosen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Interpolate the rim as a function elevation(azimuth)."""
    order = np.argsort(azimuth[chosen])
    knots, values = azimuth[chosen][order], elevation[chosen][order]
    return lambda x: np.interp(x, knots, values)
