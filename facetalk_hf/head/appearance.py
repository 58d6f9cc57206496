# SPDX-License-Identifier: MIT
"""Skin, lips, brows, lashes and cropped hair as vertex colours, painted from 68 landmarks. Pure geometry."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

from ..mesh.geometry import smoothstep
from ..mesh.parts import MOUTH, SKIN
from .looks import Look


MOUTH_COLOR = (126, 46, 44)
# From pale to dark; those in the middle are the mean head's.
SKINS = ((232, 190, 166), (224, 178, 152), (214, 164, 138), (176, 124, 96), (126, 84, 64))
HAIRS = ((158, 122, 82), (112, 80, 56), (72, 54, 44), (40, 31, 28), (24, 21, 21))
IRISES = ((110, 134, 140), (104, 118, 96), (92, 118, 128), (98, 72, 48), (66, 46, 34))

Color = tuple[float, float, float]


def palette(identity: np.ndarray, look: Look | None = None) -> dict[str, Color]:
    """Choose the sRGB colours of skin, hair, lips and iris for an identity code (Z,) float, or by a look.

    No colour was learnt. Tones follow the components of the code along two fixed random directions, which have nothing
    to do with its shape: heads differ, and a head always has the same. The zero code has the default ones.
    """
    identity = np.asarray(identity, np.float64)
    norm = np.linalg.norm(identity)
    # Standard normal over random directions, whatever the size of the code.
    tone, dark = np.random.default_rng(11).normal(size=(2, len(identity))) @ identity / max(norm, 1e-6)
    skin_at = np.clip(2 + 1.1 * tone, 0, 4)
    hair_at = np.clip(max(2 + 1.1 * dark, skin_at), 0, 4)  # hair and eyes are no lighter than the skin they go with

    def pick(ramp: tuple[Color, ...], at: float) -> Color:
        return tuple(np.interp(at, range(len(ramp)), channel) for channel in np.transpose(ramp))

    look = look or Look()
    skin = look.skin or pick(SKINS, skin_at)
    lips = tuple(np.multiply(skin, (0.87, 0.62, 0.70)))
    hair, iris = look.hair_color or pick(HAIRS, hair_at), look.eyes or pick(IRISES, hair_at)
    return {"skin": skin, "hair": hair, "lips": lips, "iris": iris}


def paint_head(
    vertices: np.ndarray,
    landmarks: np.ndarray,
    eye_center: np.ndarray,
    eye_radius: np.ndarray,
    faces: np.ndarray | None = None,
    skin: Color = (214, 164, 138),
    hair: Color | None = (72, 54, 44),
    lips: Color = (186, 102, 96),
    hair_depth: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a head's surface in its neutral pose, mouth closed. Lengths in mm.

    Args:
        vertices ((V, 3) float): the surface with `cut_eye_openings` applied. landmarks ((68, 3) float): iBUG order.
        eye_center ((2, 3) float), eye_radius ((2,) float): the eyeballs.
        faces ((F, 3) int, *optional*): triangles, needed to tell the mouth's inside from the skin.
        skin, hair, lips: sRGB; `hair=None` leaves the scalp bald and the brows fair.
        hair_depth ((V,) float, *optional*): how far each vertex is off the bald skin; otherwise hair is painted on.

    Returns: colors (V, 3) uint8 and parts (V,) uint8 (0 skin, 3 the mouth's inside).
    """
    vertices, landmarks = np.asarray(vertices, np.float32), np.asarray(landmarks, np.float32)
    color = np.tile(_floats(skin), (len(vertices), 1))
    scale = float(np.linalg.norm(landmarks[45] - landmarks[36])) / 89.0

    # Blood shows where skin is thin: cheeks, nose, chin; sockets are a little darker; slow mottling everywhere.
    flush = _floats([skin[0] * 1.0, skin[1] * 0.80, skin[2] * 0.78])
    cheeks = [0.5 * landmarks[a] + 0.5 * landmarks[b] for a, b in ((41, 48), (46, 54))]
    for center, size, strength in (
        (cheeks[0] + [-9, 6, 0], 17, 0.50),
        (cheeks[1] + [9, 6, 0], 17, 0.50),
        (landmarks[30], 11, 0.50),
        (landmarks[8] + [0, 6, 2], 13, 0.22),
        (landmarks[0] + [-6, 0, -18], 24, 0.45),
        (landmarks[16] + [6, 0, -18], 24, 0.45),
    ):
        color = _mix(color, flush, strength * _blob(vertices, center, size * scale))
    shade = _floats([skin[0] * 0.84, skin[1] * 0.76, skin[2] * 0.78])
    for center, size in zip(eye_center, eye_radius, strict=True):
        color = _mix(color, shade, 0.55 * _blob(vertices, center + _floats([0, 2, 12]), 0.95 * size))
    color *= 1 + 0.022 * _mottle(vertices / scale)[:, None]

    if hair is not None:
        # Cropped hair: the skin shimmers through, a little differently at every vertex.
        grain = np.random.default_rng(5).normal(0, 0.035, len(vertices))
        grown = scalp(vertices, landmarks) if hair_depth is None else smoothstep(0.4, 1.6, hair_depth)
        shown = _floats(hair)
        if hair_depth is not None:  # stubble has no locks
            tall = smoothstep(1.5, 5.0, hair_depth)
            shown = shown * (1 + 0.15 * tall * _locks(vertices, landmarks, scale))[:, None]
        color = _mix(color, shown, ((0.82 if hair_depth is None else 0.93) + grain) * grown)
        for line in (landmarks[17:22], landmarks[26:21:-1]):
            color = _mix(color, _floats(hair) * 0.9, 0.82 * _brow(vertices, line, scale))

    polygon = spline(landmarks[48:60], closed=True)
    signed = polygon_distance(vertices[:, :2], polygon[:, :2])
    seam = (landmarks[62] + landmarks[66]) / 2
    near = vertices[:, 2] > landmarks[[48, 54], 2].mean() - 16 * scale
    edge = smoothstep(-0.9 * scale, 0.9 * scale, signed) * near
    # The lower lip catches more light and is paler than the upper one.
    lower = smoothstep(seam[1] + 1, seam[1] - 5, vertices[:, 1])[:, None]
    color = _mix(color, _floats(lips) * (0.93 + 0.09 * lower), 0.80 * edge)

    depth = np.full(len(vertices), -10.0) if faces is None else _mouth_depth(vertices, faces, landmarks, scale)
    color = _mix(color, _floats(lips) * [0.80, 0.62, 0.64], smoothstep(-1.5, 1.0, depth))
    # The light that reaches the throat is little, and has bounced off red walls: baked, so that it looks so anywhere.
    behind = np.maximum(landmarks[[62, 66], 2].mean() - 8 * scale - vertices[:, 2], 0)[:, None] / scale
    throat = _floats(MOUTH_COLOR) * np.exp(-behind / _floats([34, 22, 21]))
    share = smoothstep(0.0, 7.0, depth)[:, None]
    color = color * (1 - share) + throat * share

    for center, size in zip(eye_center, eye_radius, strict=True):
        offset = vertices - np.asarray(center, np.float32)
        gap = np.linalg.norm(offset, axis=1) - size
        rim = smoothstep(2.9, 0.7, gap) * (offset[:, 2] > 0)
        upper = smoothstep(-1.0, 3.0, offset[:, 1])
        color = _mix(color, _floats([52, 34, 30]), 0.92 * rim * upper)
        color = _mix(color, _floats([188, 118, 108]), 0.55 * rim * (1 - upper))
    parts = np.where(depth > 0, MOUTH, SKIN).astype(np.uint8)
    return np.clip(color + 0.5, 0, 255).astype(np.uint8), parts


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)


def _mix(color: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1).astype(np.float32)[:, None]
    return color * (1 - share) + other * share


def _blob(vertices: np.ndarray, center: np.ndarray, size: float) -> np.ndarray:
    offset = (vertices - np.asarray(center, np.float32)) / size
    return np.exp(-np.einsum("ij,ij->i", offset, offset))


def _mottle(vertices: np.ndarray) -> np.ndarray:
    """Make fixed smooth noise of unit size: waves in a few directions, periods of 5 to 20 mm."""
    rng = np.random.default_rng(3)
    total = np.zeros(len(vertices), np.float32)
    for period in (20, 14, 9, 6, 5):
        direction = rng.normal(size=(3, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        phase = rng.uniform(0, 2 * np.pi, 3)
        total += np.sin(vertices @ (direction.T * (2 * np.pi / period)) + phase).prod(1)
    return total


def _locks(vertices: np.ndarray, landmarks: np.ndarray, scale: float) -> np.ndarray:
    """Make locks of hair, lighter and darker by up to 1, that run from the crown down to all sides."""
    x, y, z = (vertices - landmarks[[0, 16]].mean(0) - [0, 0, -30 * scale]).T / scale
    around = np.arctan2(x, z) + 0.05 * np.sin(0.07 * y) + 0.04 * np.sin(0.09 * np.hypot(x, z))
    return (np.sin(31 * around) + 0.8 * np.sin(57 * around + 1.3) + 0.6 * np.sin(83 * around + 0.06 * y)) / 2.4


def scalp(vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Mark with 1 where cropped hair grows: above a hairline drawn in the side view, in the face's own size."""
    eyes = landmarks[[36, 45]].mean(0)
    tall = eyes[1] - landmarks[8, 1]
    deep = eyes[2] - landmarks[[0, 16], 2].mean()
    # (depth behind the eyes' corners, height above them) along forehead, temple, sideburn, ear, nape.
    line = np.array(
        [
            (-0.60, 0.74),
            (-0.28, 0.72),
            (0.02, 0.60),
            (0.35, 0.42),
            (0.70, 0.27),
            (0.95, 0.12),
            (1.12, -0.07),
            (1.26, -0.16),
            (1.38, -0.05),
            (1.48, 0.09),
            (2.15, 0.11),
            (2.36, -0.02),
            (2.55, -0.36),
            (2.9, -0.50),
            (4.5, -0.56),
        ]
    )
    z = (eyes[2] - vertices[:, 2]) / deep
    height = (vertices[:, 1] - eyes[1]) / tall
    # A hairline curves back at the sides of the forehead.
    wide = np.abs(vertices[:, 0] - eyes[0]) / np.abs(landmarks[45, 0] - landmarks[36, 0])
    edge = np.interp(z, *line.T) + 0.03 * np.cos(wide * 7.0) * (z < 0.4)
    return smoothstep(-0.05, 0.09, height - edge)


def _brow(vertices: np.ndarray, line: np.ndarray, scale: float) -> np.ndarray:
    """Compute the density of a brow along a polyline that runs from its outer to its inner end."""
    curve = spline(line, closed=False)
    density, reach = np.zeros(len(vertices)), 1.5 * 4.2 * scale  # beyond which there is none of the widest part
    close = np.flatnonzero(((vertices > curve.min(0) - reach) & (vertices < curve.max(0) + reach)).all(1))
    offset = vertices[close, None] - curve
    distance = np.sqrt(np.einsum("vci,vci->vc", offset, offset))
    nearest = distance.argmin(1)
    along = nearest / (len(curve) - 1)
    half = (1.6 + 2.6 * smoothstep(0.0, 0.75, along)) * scale
    body = smoothstep(1.5, 0.45, distance.min(1) / half)
    # Thin at both ends, not cut off.
    density[close] = body * (0.45 + 0.55 * smoothstep(0, 0.25, along)) * (1 - 0.35 * smoothstep(0.85, 1.0, along))
    return density


def spline(points: np.ndarray, closed: bool, fine: int = 8) -> np.ndarray:
    """Sample the Catmull-Rom curve through points, `fine` samples a stretch."""
    count = len(points)
    index = np.arange(count if closed else count - 1)
    wrap = (lambda i: i % count) if closed else (lambda i: np.clip(i, 0, count - 1))
    a, b, c, d = (points[wrap(index + k)][:, None] for k in (-1, 0, 1, 2))
    t = (np.arange(fine) / fine)[None, :, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])


def polygon_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Measure the distance of (V, 2) points to a closed (P, 2) polygon, positive inside."""
    low, high = polygon.min(0) - 4, polygon.max(0) + 4
    result = np.full(len(points), -4.0, np.float32)
    near = np.flatnonzero(((points > low) & (points < high)).all(1))
    p = points[near][:, None]
    a, b = polygon, np.roll(polygon, -1, 0)
    t = np.clip(((p - a) * (b - a)).sum(-1) / np.maximum(((b - a) ** 2).sum(-1), 1e-12), 0, 1)[..., None]
    distance = np.sqrt((((a + t * (b - a)) - p) ** 2).sum(-1).min(1))
    result[near] = np.where(points_in_poly(points[near], polygon), distance, -distance)
    return result


def _mouth_depth(vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, scale: float) -> np.ndarray:
    """Measure the distance (V,) in mm along the surface from the lips' seam into the mouth; negative on the skin.

    A tube around the inner contour of the lips parts the surface in two: the outer skin and the bag behind the lips.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    gap = cKDTree(spline(landmarks[60:68], closed=True)).query(vertices)[0].astype(np.float32)
    depth = np.full(len(vertices), -10.0, np.float32)
    graph = coo_matrix((length, edges.T), shape=(len(vertices),) * 2).tocsr()
    # The tube has to be as thick as the mesh is coarse, or the two sides stay joined.
    for radius in (2.0 * scale, 3.0 * scale, 4.5 * scale, 6.5 * scale):
        free = np.flatnonzero(gap > radius)
        number, label = connected_components(graph[free][:, free], directed=False)
        size = np.bincount(label, minlength=number)
        seam = landmarks[60:68].mean(0)
        inner = [
            k
            for k in range(number)
            if k != size.argmax()
            and size[k] > 30
            and np.linalg.norm(vertices[free[label == k]].mean(0) - seam) < 60 * scale
        ]
        if inner:
            break
    else:
        return depth
    bag = free[np.isin(label, inner)]
    tube = np.flatnonzero(gap <= radius)
    near = np.concatenate([bag, tube])
    way = dijkstra(graph[near][:, near], directed=False, indices=np.arange(len(bag), len(near)), min_only=True)
    depth[bag] = np.where(np.isfinite(way[: len(bag)]), way[: len(bag)], 30.0)
    # Within the tube: how much nearer to the bag than to the outside, as far as the mesh tells them apart.
    inside, outside = cKDTree(vertices[bag]), cKDTree(vertices[np.setdiff1d(free, bag)])
    depth[tube] = np.minimum(outside.query(vertices[tube])[0] - inside.query(vertices[tube])[0] - 1.0 * scale, 0)
    return depth
