# SPDX-License-Identifier: MIT
"""A tongue as a procedural mesh with targets of its own. Millimetres; axes as in `facetalk_hf.head.teeth`."""

import numpy as np

from ..blendshapes import TONGUE
from ..mesh.geometry import Part, grid_faces, make_part, signed_power
from ..mesh.parts import TEETH


RINGS, AROUND = 26, 32
LENGTH = 58.0  # from the tip to where the throat hides it
TIP = np.array([0.0, -4.2, -6.8])  # of the tongue at rest, from the middle of the lower incisors' edge
SIDEWAYS = 0.75
"""Share of the jaw's way to a side that the tongue goes with: its root stays in the throat, and its edges would
otherwise run into the upper molars, .9 mm deep in one of our heads."""
DORSUM, BELOW = np.array([203.0, 116, 110]), np.array([168.0, 78, 80])


def tongue(lower: np.ndarray, jaw_maps: dict[str, np.ndarray]) -> Part:
    """Make a tongue that rests behind the lower teeth, rides on the jaw and has the targets of `blendshapes.TONGUE`.

    The jaw is opened under the tongue by its maps, while the tongue's own targets are displacements at a closed jaw;
    all add up. At a weight of one the tip reaches 11 mm up or 4 mm down, or 23 mm out of the mouth, the back 9 mm up.

    Args:
        lower ((5, 3) float): points of the lower row at rest, as `facetalk_hf.head.teeth.teeth` takes them.
        jaw_maps (`dict[str, (3, 4) float]`): displacement maps of the lower jaw.
    """
    lower = np.asarray(lower, float)
    half = max(abs(lower[2, 0] - lower[4, 0]) / 2 - 13.0, 6.0)  # between the molars
    size = abs(lower[0, 2] - lower[[2, 4], 2].mean()) / 51.0  # of the jaw, to that of the head it was drawn for
    middle = np.array([(lower[1, 0] + lower[3, 0]) / 2, *lower[0, 1:]])

    def made(**pose: float) -> np.ndarray:
        return _shape(half, **pose) * [1, 1, size] + middle

    rest = made()
    behind = np.repeat(LENGTH * _rings(), AROUND)
    turn = np.tile(np.arange(AROUND) * (2 * np.pi / AROUND), RINGS)
    up = np.clip(0.5 + 0.9 * np.sin(turn), 0, 1)[:, None]
    groove = np.exp(-((np.cos(turn) / 0.16) ** 2))[:, None] * up * (1 - np.exp(-behind / 8))[:, None]
    color = (DORSUM * up + BELOW * (1 - up)) * (1 - 0.16 * groove) * throat_shade(behind)[:, None]
    faces = grid_faces(RINGS, AROUND, wrap=True)
    part = make_part(rest, faces, color, TEETH)
    part.targets |= {name: (made(**{name: 1.0}) - rest).astype(np.float32) for name in TONGUE}
    for name, matrix in jaw_maps.items():
        moved = part.vertices @ matrix[:, :3].T + matrix[:, 3]
        part.targets[name] = (moved * [SIDEWAYS, 1, 1]).astype(np.float32)
    return part


def throat_shade(behind: np.ndarray) -> np.ndarray:
    """Compute what share of the light reaches `behind` mm behind the front teeth, 0..1: baked into vertex colours.

    No renderer of ours or others has to find out by rays that a mouth is darker towards the throat.
    """
    return 0.10 + 0.90 * np.exp(-((np.maximum(behind, 0) / 31) ** 1.4))


def _rings() -> np.ndarray:
    """Place the rings as shares of the length from the tip, closer together towards it."""
    return np.linspace(0, 1, RINGS) ** 1.7


def _shape(
    half: float,
    tongueOut: float = 0.0,
    tongueTipUp: float = 0.0,
    tongueTipDown: float = 0.0,
    tongueBackUp: float = 0.0,
    tongueWide: float = 0.0,
) -> np.ndarray:
    """Lay rings (RINGS * AROUND, 3) along the middle line of a tongue in a pose, from the tip to the root."""
    behind = LENGTH * _rings()
    front, blade = np.exp(-((behind / 26) ** 2)), np.exp(-((behind / 12.5) ** 2))
    back = np.exp(-(((behind - 38) / 14) ** 2))
    width = half * np.sqrt(1 - np.exp(-behind / 15)) * (1 + 0.1 * tongueWide * (1 - blade)) * (1 + 0.15 * tongueOut)
    thick = 8.2 * (1 - np.exp(-behind / 17)) ** 0.8 * (1 - 0.1 * tongueWide) * (1 - 0.35 * tongueOut * front)
    y = TIP[1] + 4.5 * (1 - np.exp(-((behind / 27) ** 2))) + 11.0 * tongueTipUp * blade - 4.0 * tongueTipDown * blade
    y += 9.0 * tongueBackUp * back - 1.5 * tongueBackUp * blade + (6.0 * front - 1.5 * blade) * tongueOut
    y -= 13.0 * (np.clip(behind - 34, 0, None) / 24) ** 2  # down into the throat
    z = TIP[2] - behind - (1.2 * tongueTipUp + 1.0 * tongueTipDown) * blade - 2.5 * tongueBackUp * front
    z += 23.0 * tongueOut * front
    turn = np.arange(AROUND) * (2 * np.pi / AROUND)
    across, upwards = signed_power(np.cos(turn), 0.85), signed_power(np.sin(turn), 0.9)
    x = np.outer(width, across)
    # A groove along the middle of the upper side, deeper towards the back.
    sunk = 1.3 * np.outer(1 - np.exp(-behind / 14), np.exp(-((across / 0.17) ** 2)) * (upwards > 0))
    height = y[:, None] + np.outer(thick, upwards) - sunk
    return np.stack([x, height, np.repeat(z[:, None], AROUND, 1)], -1).reshape(-1, 3)
