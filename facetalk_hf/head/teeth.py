# SPDX-License-Identifier: MIT
"""Teeth and gums as procedural meshes. Millimetres; +x the subject's left, +y up, +z out of the face."""

import numpy as np
from scipy.interpolate import CubicSpline

from ..mesh.geometry import Part, grid_faces, join, make_part, signed_power, smoothstep
from ..mesh.parts import TEETH
from .tongue import throat_shade, tongue


JAW_MAPS: dict[str, np.ndarray] = {
    # Displacement of a point p of the lower jaw for a weight of one: M[:, :3] @ p + M[:, 3]. jawOpen turns the jaw by
    # 25 degrees about the line y = -8, z = -42 (the chord of a rotation, as a morph target has it).
    "jawOpen": np.array([[0, 0, 0, 0], [0, -0.103, -0.425, -18.75], [0, 0.428, -0.1, -1.6]], np.float32),
    "jawForward": np.array([[0, 0, 0, 0], [0, 0, 0, -1.7], [0, 0, 0, 8.88]], np.float32),
    "jawLeft": np.array([[0, 0, 0.033, 5.78], [0.001, 0, 0, -0.59], [-0.033, 0, 0, 0.6]], np.float32),
    "jawRight": np.array([[0, 0, -0.033, -5.78], [-0.001, 0, 0, -0.59], [0.033, 0, 0, 0.6]], np.float32),
}
"""How the ARKit jaw shapes move the lower teeth of a head of average size with its origin between the ears."""

# Width, height and depth of a crown in mm from the midline outwards: incisors, canine, premolars, molars.
UPPER_CROWNS = ((8.6, 10.2, 6.5), (6.7, 9.0, 6.0), (7.6, 9.8, 7.5), (7.0, 8.4, 8.5), (6.8, 7.8, 8.5), (10.2, 7.2, 10))
LOWER_CROWNS = ((5.4, 8.6, 5.5), (5.9, 8.8, 6.0), (6.8, 9.6, 7.0), (7.0, 8.2, 7.5), (7.1, 7.8, 8.0), (10.8, 7.2, 10))
UPPER_SUNK, LOWER_SUNK = (2.8, 1.6, 0.3), (0.9, 2.0, 2.0)  # mm at incisors, canines, molars


def teeth(upper: np.ndarray, lower: np.ndarray, jaw_maps: dict[str, np.ndarray] | None = None) -> Part:
    """Make two rows of twelve teeth on gums and a tongue; lower row and tongue follow the jaw.

    Args:
        upper ((5, 3) float), lower ((5, 3) float): points on the outer side of the biting edge, at the middle (between
            the two front teeth), the left canine, the left first molar, the right canine, the right first molar.
        jaw_maps (`dict[str, (3, 4) float]`, *optional*, defaults to `JAW_MAPS`): displacement maps of the lower jaw.

    Returns: `Part` with one target for each jaw map and each of `blendshapes.TONGUE`; colours hold the shade that
    grows towards the throat.
    """
    upper, lower = (np.array(points, float) for points in (upper, lower))
    # The points come from where lips let a fitted head show teeth: too high for people's, who show them as they speak.
    for row, sunk in ((upper, UPPER_SUNK), (lower, LOWER_SUNK)):
        row[:, 1] -= np.array(sunk)[[0, 1, 2, 1, 2]]
    jaw_maps = JAW_MAPS if jaw_maps is None else jaw_maps
    maps = {name: np.asarray(matrix, np.float32) for name, matrix in jaw_maps.items()}
    jaw = _row(lower, LOWER_CROWNS, -1.0)
    for name, matrix in maps.items():
        jaw.targets[name] = (jaw.vertices @ matrix[:, :3].T + matrix[:, 3]).astype(np.float32)
    rows = join([_row(upper, UPPER_CROWNS, 1.0), jaw])
    shade = throat_shade(max(upper[0, 2], lower[0, 2]) - 4 - rows.vertices[:, 2])
    # Cheeks shade what lies behind the canines: lit, these teeth look like fangs in the corners of the mouth.
    shade = shade * (1 - 0.55 * smoothstep(10, 24, np.abs(rows.vertices[:, 0])))
    rows.colors = np.round(rows.colors * shade[:, None] ** [0.8, 1.0, 1.05]).astype(np.uint8)
    return join([rows, tongue(lower, maps)])


def _arch(points: np.ndarray) -> tuple[CubicSpline, tuple[float, float]]:
    """Lay the curve of a row, by arc length from its middle; also give the lengths at which its canines stand."""
    middle, left_canine, left_molar, right_canine, right_molar = points
    # Straight on beyond the molars, where a spline left alone would swing out.
    ends = [
        molar + 0.8 * (molar - canine) * [0.45, 1, 1.2]
        for molar, canine in ((right_molar, right_canine), (left_molar, left_canine))
    ]
    knots = np.stack([ends[0], right_molar, right_canine, middle, left_canine, left_molar, ends[1]])
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return CubicSpline(steps - steps[3], knots, bc_type="natural"), (steps[4] - steps[3], steps[3] - steps[2])


def _frame(curve: CubicSpline, at: np.ndarray, up: float) -> np.ndarray:
    """Compute axes (n, 3, 3) at points of the arch, as columns: along the arch, towards the root, out of the mouth."""
    along = curve(at, 1)
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    outwards = np.cross(along, [0.0, 1.0, 0.0])
    outwards /= np.linalg.norm(outwards, axis=-1, keepdims=True)
    return np.stack([along, np.broadcast_to([0.0, up, 0.0], along.shape), outwards], -1)


def _row(points: np.ndarray, crowns: tuple[tuple[float, float, float], ...], up: float) -> Part:
    """Make twelve crowns along the arch through `points`; `up` is +1 for the upper row (roots above), else -1."""
    curve, canines = _arch(points)
    # The widths are scaled so that the canines' middles fall on their points.
    scale = sum(canines) / 2 / (crowns[0][0] + crowns[1][0] + crowns[2][0] / 2)
    borders = np.cumsum([0.0] + [width * scale for width, _, _ in crowns])
    meshes = [_gum(curve, borders, crowns, up)]
    for side in (1.0, -1.0):
        for kind, (width, height, depth) in enumerate(crowns):
            at = side * (borders[kind] + borders[kind + 1]) / 2
            meshes.append(_crown(curve(at), _frame(curve, at, up), width * scale, height, depth, kind))
    return join(meshes)


def _crown(edge: np.ndarray, frame: np.ndarray, width: float, height: float, depth: float, kind: int) -> Part:
    """Make one tooth: a rounded block that narrows towards its neck, thin-edged in front, broad behind."""
    around, levels, front = 20, 12, kind < 3
    u = np.arange(around) * (2 * np.pi / around)
    v = np.linspace(0, 1, levels) ** 1.25
    # A blade starts as wide as its edge, rounded at the corners; the flat top is closed by a shrunken first ring.
    corner = 1 - 0.30 * np.exp(-v / 0.035) - (0.18 * np.clip(1 - v / 0.32, 0, 1) ** 1.5 if kind == 2 else 0)
    neck = 1 - (0.26 if front else 0.16) * np.clip((v - 0.3) / 0.7, 0, 1) ** 1.6
    thick = 0.36 + 0.64 * np.clip(v / 0.8, 0, 1) ** 0.8 if front else 0.82 + 0.18 * np.clip(v / 0.3, 0, 1)
    closed = np.where(np.arange(levels) == 0, 0.0, 1.0)
    x = np.outer(corner * neck * closed, signed_power(np.cos(u), 0.62)) * width * 0.497
    z = np.outer(thick * closed, signed_power(np.sin(u), 0.8)) * depth / 2
    z += (0.75 * np.sin(np.pi * v) - 0.8 * np.clip(0.4 - v, 0, 1) - depth / 2 * thick)[:, None]
    y = np.repeat((v * height * 1.15 + np.where(closed == 0, 0.12, 0))[:, None], around, 1)
    local = np.stack([x, y, z], -1).reshape(-1, 3)
    faces = grid_faces(levels, around, wrap=True)
    if np.linalg.det(frame) < 0:
        faces = faces[:, ::-1]
    root = np.repeat(np.clip((v - 0.45) / 0.5, 0, 1), around)[:, None]
    color = (np.array([222, 215, 200]) * (1 - root) + np.array([208, 190, 162]) * root) * (1 - 0.03 * max(0, kind - 1))
    return make_part(local @ frame.T + edge, faces, color, TEETH)


def _gum(curve: CubicSpline, borders: np.ndarray, crowns: tuple[tuple[float, float, float], ...], up: float) -> Part:
    """Make a pink ridge over the roots, scalloped between the teeth."""
    at = np.linspace(-borders[-1] - 1, borders[-1] + 1, 161)
    kind = np.clip(np.searchsorted(borders, np.abs(at), side="right") - 1, 0, len(crowns) - 1)
    within = (np.abs(at) - borders[kind]) / (borders[kind + 1] - borders[kind])
    middles = (borders[1:] + borders[:-1]) / 2
    height, depth = (np.interp(np.abs(at), middles, [crown[i] for crown in crowns]) for i in (1, 2))
    around = np.linspace(0, 1, 13)
    bend = np.pi * around
    rim = (height * 0.86 - 1.7 * np.clip(np.abs(2 * within - 1), 0, 1) ** 2.4)[:, None]
    y = rim + 8.0 * np.sin(bend) ** 0.8
    z = 0.15 + 0.8 * np.sin(2 * bend).clip(0) - (1 - np.cos(bend)) / 2 * (depth[:, None] + 1.4)
    frames = _frame(curve, at, up)
    vertices = curve(at)[:, None] + y[..., None] * frames[:, None, :, 1] + z[..., None] * frames[:, None, :, 2]
    faces = grid_faces(len(at), len(around), wrap=False)
    if up < 0:
        faces = faces[:, ::-1]
    deep = np.tile(np.clip(1.6 * around - 0.3, 0, 1), len(at))[:, None]
    color = np.array([192, 112, 110]) * (1 - deep) + np.array([130, 62, 64]) * deep
    return make_part(vertices.reshape(-1, 3), faces, color, TEETH)
