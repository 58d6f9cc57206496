# SPDX-License-Identifier: MIT
"""ICT-FaceKit's morphable head: its shapes, where anchors, landmarks and teeth lie on it, its holes closed.

In ICT-FaceKit's own units and frame. Models are in units of 250 mm = 25 ICT units, with the origin at ICT's (0, 0, 6);
+x is the subject's left, +y up, +z front.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..blendshapes import EXPRESSIONS, INDEX
from ..errors import FaceTalkError


UNIT, ORIGIN = 25.0, np.array([0.0, 0.0, 6.0])
SKIN = 13294  # face, head and neck, mouth socket come first in ICT-FaceKit's vertex order
SOCKET = 11248
SCLERA = (slice(21451, 22221), slice(23021, 23791))  # the subject's left eye, then the right one
CANONICAL_JAW = 0.45
NECK_POINT, NECK_NORMAL = np.array([0.0, -12.6, 2.0]), np.array([0.0, -1.0, -0.4]) / np.hypot(1.0, 0.4)

# Where anchors sit on the neutral template, in ICT units: 20 pairs given by their left member, then 7 in the middle.
# Five of the pairs are on the ears, whose folds are the thinnest of all (helix, its rear, concha, tragus, lobe).
ANCHOR_PAIRS = [
    (1.84, 3.25, 9.2), (4.46, 3.43, 8.6), (3.1, 4.1, 9.6), (3.1, 2.9, 9.5), (3.4, 5.4, 10.0), (5.0, -0.5, 9.0),
    (2.3, -3.6, 10.2), (1.0, -2.6, 11.6), (1.0, -4.3, 11.4), (1.3, 0.0, 12.0), (6.5, -5.0, 3.0), (2.5, -7.4, 9.5),
    (8.8, 1.0, -0.5), (7.3, 7.0, 3.0), (6.0, 5.0, -6.0), (5.5, -9.5, 0.0),
    (8.6, 4.0, -0.4), (9.1, 2.0, -1.9), (7.5, 1.0, 1.2), (7.9, -1.9, 0.7),
]  # fmt: skip
EAR_PAIRS = (12, 16, 17, 18, 19)
ANCHOR_MIDDLE = [
    (0, 0.4, 13.1), (0, 5.0, 10.8), (0, 10.0, 9.5), (0, 14.5, 0), (0, 4.0, -8.8), (0, -7.6, 10.4), (0, -11.0, 4.5),
]  # fmt: skip
# Incisal points of five upper and five lower teeth (middle, left canine and molar, right canine and molar).
UPPER_TEETH = [(0, -3.5, 10.7), (1.6, -3.44, 9.8), (2.9, -3.1, 5.6), (-1.6, -3.44, 9.8), (-2.9, -3.1, 5.6)]
LOWER_TEETH = [(0, -3.41, 10.5), (1.5, -3.24, 9.6), (2.7, -2.97, 5.7), (-1.5, -3.24, 9.6), (-2.7, -2.97, 5.7)]


class Template:
    """ICT-FaceKit's shapes, in ICT units: `neutral` (V, 3), `expressions` (53, V, 3), `identities` (100, V, 3).

    Args:
        folder (`Path`): its FaceXModel.

    Raises:
        FaceTalkError: another folder, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "vertex_indices.json").is_file():
            raise FaceTalkError(
                f"{folder} is not a FaceXModel folder (no vertex_indices.json); clone ICT-VGL/ICT-FaceKit"
            )
        indices = json.loads((folder / "vertex_indices.json").read_text())
        if tuple(indices["expressions"]) != EXPRESSIONS:
            raise FaceTalkError(f"{folder}: the expression names are not those this package was written for")
        self.neutral, self.faces = _read_obj(folder / "generic_neutral_mesh.obj")

        def shapes(names: Sequence[str]) -> np.ndarray:
            return np.stack([_read_obj(folder / f"{name}.obj")[0] - self.neutral for name in names])

        self.expressions = shapes(EXPRESSIONS)
        self.identities = shapes([f"identity{i:03d}" for i in range(100)])
        self.landmarks = np.array(indices["idx_to_landmark_verts"])
        self.faces = self.faces[(self.faces < SKIN).all(1)]
        self.canonical = self.neutral + CANONICAL_JAW * self.expressions[INDEX["jawOpen"]]
        self.surface = close_holes(self.neutral[:SKIN], self.faces)

    def nearest(self, points: Sequence | np.ndarray, within: slice = slice(0, SKIN)) -> np.ndarray:
        """Find the neutral vertex nearest to each of (n, 3) points, (n,) int."""
        distance = np.linalg.norm(self.neutral[None, within] - np.asarray(points, float)[:, None], axis=2)
        return distance.argmin(1) + (within.start or 0)

    def anchor_vertices(self) -> np.ndarray:
        """Find the vertices of the 47 anchors, pairs first, (47,) int."""
        left = self.nearest(ANCHOR_PAIRS)
        right = self.nearest(self.neutral[left] * [-1, 1, 1])
        return np.concatenate([np.stack([left, right], 1).ravel(), self.nearest(ANCHOR_MIDDLE)])

    def teeth_vertices(self) -> np.ndarray:
        """Find crown vertices of the upper, then of the lower arch, (10,) int."""
        upper, lower = slice(17039, 19247), slice(19247, 21451)
        return np.concatenate([self.nearest(UPPER_TEETH, upper), self.nearest(LOWER_TEETH, lower)])


def ear_mask(neutral: np.ndarray) -> np.ndarray:
    """Mark points (n, 3) of the neutral template that are on its ears: what stands off the side of the head, (n,)."""
    x, y, z = np.abs(neutral[:, 0]), neutral[:, 1], neutral[:, 2]
    return (x > 7.1 + 0.2 * y) & (y > -2.7) & (y < 4.6) & (z > -2.9) & (z < 1.7)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read vertices (V, 3) float64 and triangles (F, 3) of an obj; quads are split along their first diagonal.

    Not by trimesh, which makes a scene of several meshes of a file with materials, each with vertices of its own.
    """
    vertices, faces = [], []
    with open(path) as file:
        for line in file:
            if line.startswith("v "):
                vertices.append(line.split()[1:4])
            elif line.startswith("f "):
                corners = [int(token.split("/")[0]) - 1 for token in line.split()[1:]]
                faces += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return np.array(vertices, np.float64), np.array(faces)


@dataclass
class ClosedSurface:
    """A surface welded by position whose boundary loops are closed by fans.

    Args:
        first ((W,) int): an old vertex of each new one.
        faces ((F, 3) int): over the new vertices followed by one centre a loop.
        loops: the new vertices of each loop.
    """

    first: np.ndarray
    faces: np.ndarray
    loops: list[np.ndarray]

    def vertices(self, shape: np.ndarray) -> np.ndarray:
        """Give the vertices of the closed surface for any shape (V, 3) of the template."""
        vertices = shape[self.first]
        return np.concatenate([vertices, [vertices[loop].mean(0) for loop in self.loops]])


def close_holes(vertices: np.ndarray, faces: np.ndarray) -> ClosedSurface:
    """Weld the neutral template (V, 3), (F, 3) by position and close its boundary loops (eyes, neck) with fans."""
    _, first, weld = np.unique(vertices.round(5), axis=0, return_index=True, return_inverse=True)
    weld = weld.ravel()
    faces = weld[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(a, b) for a, b in half.tolist()}
    following = {a: b for a, b in known if (b, a) not in known}
    loops: list[np.ndarray] = []
    fans: list[tuple[int, int, int]] = []
    centre = len(first)
    while following:
        start = current = next(iter(following))
        loop: list[int] = []
        while current in following:
            loop.append(current)
            current = following.pop(current)
        if current != start:
            raise FaceTalkError("the template's boundary is not made of closed loops")
        fans += [(loop[(i + 1) % len(loop)], loop[i], centre + len(loops)) for i in range(len(loop))]
        loops.append(np.array(loop))
    return ClosedSurface(first, np.concatenate([faces, fans]), loops)
