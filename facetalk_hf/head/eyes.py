# SPDX-License-Identifier: MIT
"""Eyeballs as procedural meshes, and the lids: the opening in the skin that the eyeballs look through.

All lengths are millimetres; +x is the subject's left, +y up, +z out of the face. Colours are sRGB, 0..255.
"""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, eye, vstack
from scipy.spatial.transform import Rotation

from ..blendshapes import LOOK_DEGREES
from ..mesh.geometry import Part, boundary_edges, cut_where_negative, grid_faces, join
from ..mesh.parts import EYES, PUPIL


def eyeballs(
    center: np.ndarray,
    radius: np.ndarray,
    iris_color: tuple[float, float, float] = (92, 118, 128),
    sink: float = 0.8,
    segments: int = 96,
) -> Part:
    """Make two eyeballs that look straight ahead (+z); sclera, limbal ring, iris fibres and pupil are vertex colours.

    Args:
        center ((2, 3) float): left eye (x > 0), then right eye. radius ((2,) float): of the balls.
        iris_color: sRGB in the middle of the iris.
        sink (`float`): how far eyeBlink_L/_R draw the ball back, so that it never pokes through a closed lid.
        segments (`int`): vertices around the axis.

    Returns: `Part` with the targets eyeBlink and eyeLookUp/Down/In/Out (a turn by `LOOK_DEGREES`), each _L and _R.
    """
    balls = []
    for side, middle, size in zip("LR", np.asarray(center, np.float32), np.asarray(radius, np.float32), strict=True):
        local, faces, colors = _eyeball(float(size), iris_color, segments)
        inwards = -1.0 if side == "L" else 1.0
        targets = {f"eyeBlink_{side}": np.tile(np.array([0, 0, -sink], np.float32), (len(local), 1))}
        axes = {"Up": (-1, 0, 0), "Down": (1, 0, 0), "In": (0, inwards, 0), "Out": (0, -inwards, 0)}
        for name, axis in axes.items():
            turned = local @ Rotation.from_rotvec(np.multiply(axis, LOOK_DEGREES[name]), degrees=True).as_matrix().T
            targets[f"eyeLook{name}_{side}"] = (turned - local).astype(np.float32)
        balls.append(Part(local + middle, faces, colors, np.full(len(local), EYES, np.uint8), targets))
    return join(balls)


def _eyeball(radius: float, iris_color: tuple[float, float, float], segments: int) -> tuple[np.ndarray, ...]:
    """Make a ball of rings about +z, denser where the iris is: vertices, faces, colours."""
    pupil, iris = np.arcsin(2.1 / radius), np.arcsin(6.3 / radius)
    edge = np.radians(1.6)
    rings = np.concatenate(
        [
            [pupil * 0.55, pupil - edge * 0.5, pupil + edge * 0.5],
            np.linspace(pupil + edge, iris - edge, 9)[1:],
            [iris - edge * 0.4, iris + edge * 0.4, iris + edge * 1.4],
            np.linspace(iris + edge * 1.4, np.radians(95), 14)[1:],
            np.radians([112, 132, 155]),
        ]
    )
    turn = np.arange(segments) * (2 * np.pi / segments)
    # The cornea stands 0.45 mm proud of the ball, in a smooth dome that ends at the limbus.
    dome = 0.45 * np.clip(1 - (rings / (iris * 1.12)) ** 2, 0, None) ** 1.5
    ring = np.stack([np.sin(rings), np.cos(rings)], 1) * (radius + dome)[:, None]
    body = np.stack(
        [np.outer(ring[:, 0], np.cos(turn)), np.outer(ring[:, 0], np.sin(turn)), np.repeat(ring[:, 1:], segments, 1)],
        -1,
    ).reshape(-1, 3)
    vertices = np.concatenate([body, [[0, 0, radius + 0.45], [0, 0, -radius]]])
    count, last = len(rings), len(body)
    here, after = np.arange(segments), (np.arange(segments) + 1) % segments
    faces = [
        grid_faces(count, segments, wrap=True),
        np.stack([np.full(segments, last), here, after], 1),
        np.stack([np.full(segments, last + 1), last - segments + after, last - segments + here], 1),
    ]

    base = np.array(iris_color, float)
    # Fibres: a fixed sum of waves around the axis, so the same eye is made every time.
    fibres = sum(np.sin(k * turn + p) / w for k, p, w in ((7, 0.3, 3), (13, 1.9, 2.5), (23, 4.1, 2), (41, 2.2, 2)))
    colors = np.empty((count, segments, 3))
    for index, angle in enumerate(rings):
        t = (angle - pupil) / (iris - pupil)
        if t < 0:
            colors[index] = PUPIL
        elif t < 1:
            bright = 1.0 + 0.13 * fibres * np.sin(np.pi * min(t * 1.1, 1.0))
            warm = np.exp(-(((t - 0.16) / 0.16) ** 2))
            dark = 1.0 - 0.72 * np.clip((t - 0.72) / 0.28, 0, 1) ** 1.6
            tone = base * (1.18 - 0.25 * t) * (1 - 0.45 * warm) + np.array([126, 92, 52]) * 0.5 * warm
            colors[index] = tone * (bright * dark)[:, None]
        else:
            back = np.clip((np.degrees(angle - iris) - 12) / 45, 0, 1)
            ring_shadow = np.exp(-np.degrees(angle - iris) / 2.2)
            colors[index] = (np.array([231, 226, 221]) * (1 - back) + np.array([214, 178, 168]) * back) * (
                1 - 0.42 * ring_shadow
            )
    colors = np.concatenate([colors.reshape(-1, 3), [PUPIL, [214, 178, 168]]])
    colors = np.clip(colors, 0, 255).astype(np.uint8)
    return vertices.astype(np.float32), np.concatenate(faces).astype(np.int32), colors


def cut_eye_openings(
    vertices: np.ndarray, faces: np.ndarray, center: np.ndarray, radius: np.ndarray, margin: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Remove the part of a head's surface that is eyeball, leaving lids with a smooth edge.

    The extracted surface covers the eyes, since the heads are trained as one closed body. What lies within
    `radius + margin` of an eye's centre, in front of it, goes; triangles across that iso-line are cut along it.

    Args:
        vertices ((V, 3) float), faces ((F, 3) int): the extracted surface.
        center ((2, 3) float), radius ((2,) float): the eyeballs. margin (`float`): same unit.

    Returns: vertices (W, 3), faces (G, 3) and the origin of every new vertex: pairs (W, 2) int and shares (W,) float,
    so that any per-vertex quantity q carries over as `q[pairs[:, 0]] * (1 - share) + q[pairs[:, 1]] * share`.
    """
    vertices = np.asarray(vertices)
    faces = np.asarray(faces)
    value = np.full(len(vertices), np.inf)
    for middle, size in zip(np.asarray(center), np.asarray(radius), strict=True):
        offset = vertices - middle
        # Behind the ball's middle lies the inside of the head, never the opening.
        ball = np.maximum(np.linalg.norm(offset, axis=1) - (size + margin), -offset[:, 2])
        value = np.minimum(value, ball)
    return cut_where_negative(vertices, faces, value)


def finish_lids(
    part: Part, center: np.ndarray, radius: np.ndarray, width: float = 1.8, thickness: float = 1.4, reach: float = 6.0
) -> Part:
    """Smooth the lid edges that `cut_eye_openings` left and fold them inwards, so that lids have a thickness.

    Every open edge within `reach` of an eyeball is averaged along its loop, in the rest pose and all targets alike
    (one linear map for all), and gets a narrow rim towards the eyeball that moves with it and closes the slit
    between lid and ball.

    Args: part (skin with its targets), center ((2, 3)), radius ((2,)); width (of the average along the edge),
    thickness (of the lid) and reach in mm.
    """
    center, radius = np.asarray(center, np.float32), np.asarray(radius, np.float32)
    edges = boundary_edges(part.faces)
    gap = np.linalg.norm(part.vertices[edges[:, 0], None] - center, axis=2) - radius
    edges = edges[np.abs(gap).min(1) < reach]
    # Along a clean loop every vertex has one edge in and one out; anything else stays as it is.
    count = len(part.vertices)
    before, after = np.full(count, -1), np.full(count, -1)
    after[edges[:, 0]], before[edges[:, 1]] = edges[:, 1], edges[:, 0]
    rim = np.flatnonzero((before >= 0) & (after >= 0))
    if not len(rim):
        return part
    rows, shift = _edge_smoother(part, rim, before[rim], after[rim], width)

    def smoothed(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[rows] += (shift @ values).astype(values.dtype)
        return values

    vertices = smoothed(part.vertices)
    targets = {name: smoothed(delta) for name, delta in part.targets.items()}
    lookup = np.full(count, -1)
    lookup[rim] = count + np.arange(len(rim))
    nearest = np.linalg.norm(vertices[rim, None] - center, axis=2).argmin(1)
    inwards = center[nearest] - vertices[rim]
    folded = vertices[rim] + inwards * (thickness / np.linalg.norm(inwards, axis=1, keepdims=True))
    a, b = edges[(lookup[edges] >= 0).all(1)].T
    faces = np.concatenate([part.faces, np.stack([b, a, lookup[a]], 1), np.stack([b, lookup[a], lookup[b]], 1)])
    pink = np.array([176, 108, 100]) * 0.6 + part.colors[rim] * 0.4
    return Part(
        np.concatenate([vertices, folded]).astype(np.float32),
        faces.astype(np.int32),
        np.concatenate([part.colors, pink.astype(np.uint8)]),
        np.concatenate([part.parts, part.parts[rim]]),
        {name: np.concatenate([delta, delta[rim]]) for name, delta in targets.items()},
    )


def _edge_smoother(
    part: Part, rim: np.ndarray, before: np.ndarray, after: np.ndarray, width: float
) -> tuple[np.ndarray, csr_matrix]:
    """Choose the vertices that move, and make a sparse map from all vertices to their shifts.

    A Gaussian along the loop, fading out over the next rings of the surface so that no triangle there folds over.
    """
    count = len(part.vertices)
    place = np.full(count, -1)
    place[rim] = np.arange(len(rim))
    closed = (place[before] >= 0) & (place[after] >= 0)
    length = np.linalg.norm(part.vertices[after] - part.vertices[rim], axis=1).mean()
    near = np.flatnonzero(closed)
    step = coo_matrix(
        (
            np.full(2 * len(near), 0.5),
            (np.tile(near, 2), np.concatenate([place[before], place[after]])[np.concatenate([near, near + len(rim)])]),
        ),
        shape=(len(rim), len(rim)),
    ).tocsr()
    half = 0.5 * (step + eye(len(rim))) + 0.5 * eye(len(rim)).multiply((~closed)[:, None])
    # n rounds of the kernel (1/4, 1/2, 1/4) have a variance of n / 2 steps.
    rounds = int(np.clip(2 * (width / length) ** 2, 1, 60))
    smooth = eye(len(rim), format="csr")
    for _ in range(rounds):
        smooth = half @ smooth
    pick = coo_matrix((np.ones(len(rim)), (np.arange(len(rim)), rim)), shape=(len(rim), count)).tocsr()
    shifts, rows, ring, last = [(smooth - eye(len(rim))) @ pick], [rim], rim, None
    known = np.zeros(count, bool)
    known[rim] = True
    sides = np.concatenate([part.faces[:, [0, 1]], part.faces[:, [1, 2]], part.faces[:, [2, 0]]])
    sides = np.concatenate([sides, sides[:, ::-1]])
    for fade in (0.7, 0.6, 0.5):
        place = np.full(count, -1)
        place[ring] = np.arange(len(ring))
        links = sides[(place[sides[:, 1]] >= 0) & ~known[sides[:, 0]]]
        last, row = np.unique(links[:, 0], return_inverse=True)
        if not len(last):
            break
        mean = coo_matrix((np.ones(len(links)), (row.reshape(-1), place[links[:, 1]])), (len(last), len(ring))).tocsr()
        mean = mean.multiply(fade / np.maximum(mean.sum(1), 1)).tocsr()
        shifts.append(mean @ shifts[-1])
        rows.append(last)
        known[last], ring = True, last
    return np.concatenate(rows), vstack(shifts).tocsr()
