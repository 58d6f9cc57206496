# SPDX-License-Identifier: MIT
"""Put the template on a head without landmarks: by the anchors of NPHM and MonoNPHM, or by the shape alone."""

from collections.abc import Callable

import numpy as np

from ..errors import FaceTalkError
from ..mesh.geometry import Surface, boundary_edges, similarity
from .fitting import STIFFNESS, Fit, Target, face_places, fit_places, place_by
from .topology import Topology, split


WORST = 1.0
"""Of the face's distances from the template, mm, the 99th percentile: more is no head, or one that was missed."""
ASTRAY = 25.0
"""Distance in mm of an anchor from where the mean head, turned and scaled, has it: beyond, it is not used."""
STRANGEST = 6.0
"""Mean distance in mm of the landmarks from those of the mean head, turned and scaled; heads have 2 to 4."""
STIFF = (3000.0, 1000.0)
"""Rounds before those of a fit by landmarks, for starts that are some mm off."""
FEATURES: dict[int, tuple[tuple[int, int], ...]] = {
    39: (
        (0, 5708), (1, 6213), (4, 391), (5, 2632), (10, 1528), (11, 3742), (12, 1507), (13, 3721), (14, 64),
        (15, 2305), (33, 4857), (34, 5518), (35, 0), (36, 4511), (38, 966),
    ),
    65: (
        (10, 69), (11, 2310), (12, 1507), (13, 3721), (14, 1528), (15, 3742), (16, 5708), (17, 6213), (18, 2069),
        (19, 4263), (20, 6005), (21, 6509), (44, 5662), (45, 6167), (46, 5862), (47, 6367), (48, 1537), (49, 3751),
        (50, 578), (51, 2819), (54, 1440), (55, 3654), (60, 966), (61, 978), (62, 4857), (64, 4948),
    ),
}  # fmt: skip
"""Anchors that lie at features (corners of eyes and mouth, nose, lips, chin), by their number: anchor, place."""
EXPANSES: dict[int, tuple[tuple[int, int], ...]] = {
    39: (
        (2, 442), (3, 2683), (6, 1208), (7, 3426), (8, 1034), (9, 3254), (16, 755), (17, 2996), (18, 1713), (19, 3918),
        (20, 8074), (21, 7347), (22, 8244), (23, 8519), (24, 9779), (25, 9801), (26, 9569), (27, 9358), (32, 1611),
        (37, 972),
    ),
    65: (
        (0, 1223), (1, 3441), (2, 747), (3, 2988), (4, 1674), (5, 3881), (6, 232), (7, 2473), (8, 1915), (9, 4115),
        (22, 8074), (23, 7347), (24, 8244), (25, 8519), (26, 9779), (27, 9801), (28, 9569), (29, 9358), (34, 938),
        (35, 3178), (36, 19), (37, 2260), (38, 442), (39, 2683), (40, 1208), (41, 3426), (42, 1080), (43, 3300),
        (52, 2004), (53, 4204), (56, 768), (57, 3009), (58, 210), (59, 2451), (63, 1819),
    ),
}  # fmt: skip
"""The others: cheeks, jaw, skull. Anchors of the neck are left out, which the template's neck does not reach."""
# Both were found from the mean anchors of the two repositories, put on the template by nose and corners of the eyes.


def fit_unmarked(topology: Topology, target: Target, anchors: np.ndarray) -> Fit:
    """Put the template on a surface without landmarks: by its anchors (K, 3) mm where they can be used, else by shape.

    Raises:
        FaceTalkError: the surface is not one of a head that the template can take on, with how far it is off.
    """
    places = by_anchors(topology, anchors)
    if places is None:
        places = by_shape(topology, target)
    fit = fit_places(topology, target, places, rounds=STIFF + STIFFNESS)
    error = face_error(topology, fit, target)
    strange = unlike(topology.shape[topology.landmarks], fit.open[topology.landmarks]).mean()
    if strange > STRANGEST:  # the template wraps a ball, too
        raise FaceTalkError(f"its landmarks would be {strange:.2g} mm from a mean head's, {STRANGEST:g} is the most")
    if not error < WORST:
        raise FaceTalkError(f"its face is {error:.2g} mm off the template, {WORST:g} is the most")
    return fit


def face_error(topology: Topology, fit: Fit, target: Target) -> float:
    """Measure how far vertices of a surface's face are from the template on it, mm: the 99th percentile.

    What lies in the openings of the eyes is left out: the template has none there.
    """
    flat = Target(fit.open, split(topology.quads))
    used = target.used
    corners, shares = flat.project(target.vertices[used], target.normals[used])
    off = np.linalg.norm(np.einsum("nc,ncd->nd", shares, flat.vertices[corners]) - target.vertices[used], axis=1)
    chosen = face_places(topology)[corners].all(1) & ~in_openings(topology, fit.open, target.vertices[used])
    return float(np.quantile(off[chosen], 0.99)) if chosen.any() else np.inf


def in_openings(topology: Topology, places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Say which points (n, 3) the template, its places (W, 3) on a head, leaves bare between the lids, (n,) bool."""
    shape, inside = topology.shape, np.zeros(len(points), bool)
    edges = boundary_edges(split(topology.quads))
    edges = edges[shape[edges[:, 0], 1] >= shape[topology.landmarks, 1].min()]
    for side in (-1, 1):
        loop = places[edges[side * shape[edges[:, 0], 0] > 0]]
        middle = loop[:, 0].mean(0)
        axes = np.linalg.svd(loop[:, 0] - middle, full_matrices=False)[2]
        reach = np.linalg.norm(loop[:, 0] - middle, axis=1).max()
        near = np.flatnonzero(np.linalg.norm(points - middle, axis=1) < reach)
        # Around a point inside, the edges of the rim turn once.
        seen = (loop[None] - points[near][:, None, None]) @ axes[:2].T
        (ax, ay), (bx, by) = seen[:, :, 0].T, seen[:, :, 1].T
        turn = np.arctan2(ax * by - ay * bx, ax * bx + ay * by).sum(0)
        inside[near] = np.abs(turn) > np.pi
    return inside


def by_anchors(topology: Topology, anchors: np.ndarray) -> np.ndarray | None:
    """Put the template where 39 or 65 anchors (K, 3) mm say, (W, 3): those on smooth skin have less of a say.

    Returns `None` for anchors of another number, or that do not lie like those of a head.
    """
    if len(anchors) not in FEATURES:
        return None
    pairs = np.array(FEATURES[len(anchors)] + EXPANSES[len(anchors)])
    points = anchors[pairs[:, 0]]
    near = unlike(topology.shape[pairs[:, 1]], points) < ASTRAY
    if near.mean() < 0.7:
        return None
    smoothing = np.where(np.arange(len(pairs)) < len(FEATURES[len(anchors)]), 20.0, 400.0)
    return place_by(topology, pairs[near, 1], points[near], smoothing[near])


def by_shape(topology: Topology, target: Target, rounds: int = 40) -> np.ndarray:
    """Move, turn and scale the template onto a surface that looks along +z, its top at +y, (W, 3).

    The tip of the nose first, then the nearest points of the face, without the worst third (iterated closest points,
    similarities). Hair, whatever its volume, has no say.
    """
    points, shape = target.vertices[target.used], topology.shape
    middle = np.abs(points[:, 0] - np.median(points[:, 0])) < 15
    high = points[:, 1].max()
    face = middle & (points[:, 1] < high - 90) & (points[:, 1] > high - 220)
    nose = points[face][points[face, 2].argmax()] if face.any() else points[points[:, 2].argmax()]
    places = shape + nose - shape[topology.landmarks[30]]
    surface = Surface(split(topology.quads), len(shape))
    front = np.flatnonzero(face_places(topology))[::3]
    for _ in range(rounds):
        normals = surface.normals(places)[0]
        corners, shares = target.project(places[front], normals[front])
        found = np.einsum("nc,ncd->nd", shares, target.vertices[corners])
        far = np.linalg.norm(found - places[front], axis=1)
        near = far <= np.quantile(far, 0.67)
        places = likeness(shape[front[near]], found[near])(shape)
    return places


def unlike(shape: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Measure how far points (n, 3) are from those of a shape (n, 3) that is turned, scaled and shifted, (n,) mm."""
    return np.linalg.norm(likeness(shape, points)(shape) - points, axis=1)


def likeness(source: np.ndarray, goal: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Find the turn, scale within a fifth, and shift that bring points (n, 3) nearest to others."""
    scale = float(np.clip(similarity(source, goal)[0], 0.8, 1.25))
    _, turn, shift = similarity(source, goal, scale=scale)
    return lambda points: scale * points @ turn.T + shift
