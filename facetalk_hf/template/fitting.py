# SPDX-License-Identifier: MIT
"""Put the template on an extracted surface: first by landmarks, then by projection under a smoothness that fades."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..mesh.geometry import Surface, boundary_edges
from .closest import closest_on_faces
from .topology import Topology, split


if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


STIFFNESS = (300.0, 60.0, 12.0, 2.5, 0.5)
"""Of the template's bending against the distance to the surface, round by round."""
STEPS = (1.0, 1.7, 1.7, 1.4)
"""Lengths of the steps that bring the quads nearer: longer ones reach the same in half as many."""
ENOUGH = 0.2
"""Distance in mm of 99 in 100 vertices of the face at which the template is near enough."""


@dataclass
class Fit:
    """Where the template's W places lie on a surface of V vertices: `matrix @ quantity` carries a quantity over.

    Args:
        matrix ((W, V) sparse): shares, which sum to one in each row.
        open ((W, 3) float, mm): the template on the surface, as it was fitted.
        hidden ((W,) bool): places that loose hair covers, where the surface has no skin.
    """

    matrix: "csr_matrix"
    open: np.ndarray
    hidden: np.ndarray


class Target:
    """A surface to be projected on: vertices (V, 3) in mm, faces (F, 3)."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        from scipy.spatial import cKDTree  # 0.3 s of import that other formats do without

        self.vertices, self.faces = vertices.astype(np.float64), np.ascontiguousarray(faces, np.int32)
        self.normals = Surface(faces, len(vertices)).normals(self.vertices)[0]
        order = np.argsort(faces.ravel(), kind="stable")
        self._around = order // 3
        self._start = np.searchsorted(faces.ravel()[order], np.arange(len(vertices) + 1))
        self.used = np.unique(faces)
        # Six dimensions: a place 5 mm away counts as far as one whose normal looks 60 degrees elsewhere.
        self._tree = cKDTree(self._key(self.vertices[self.used], self.normals[self.used]))

    @staticmethod
    def _key(points: np.ndarray, normals: np.ndarray, weight: float = 5.0) -> np.ndarray:
        return np.concatenate([points, weight * normals], 1)

    def project(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find where points (n, 3) with normals (n, 3) lie on the surface: corners (n, 3) int and shares (n, 3).

        The nearest point of the faces around the vertex that is nearest in place and direction.
        """
        near = self.used[self._tree.query(self._key(points, normals))[1]]
        corners, shares = np.empty((len(points), 3), np.int64), np.empty((len(points), 3))
        closest_on_faces(
            np.ascontiguousarray(points, np.float64), near, self._start, self._around, self.faces, self.vertices,
            corners, shares,
        )  # fmt: skip
        return corners, shares

    def are_nearest(self, chosen: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Say of points (n, 3) whether what lies before them is among the chosen vertices (V,) bool; (n,) bool.

        Directions count for more than in [`project`]: from under a bun its top is further than the skin at its rim.
        """
        from scipy.spatial import cKDTree

        if not chosen.any():
            return np.zeros(len(points), bool)
        tree = cKDTree(self._key(self.vertices[self.used], self.normals[self.used], 30.0))
        return chosen[self.used[tree.query(self._key(points, normals, 30.0))[1]]]

    def matrix(self, corners: np.ndarray, shares: np.ndarray) -> "csr_matrix":
        """Make the sparse map (n, V) that projects quantities of the vertices."""
        from scipy.sparse import csr_matrix

        rows = np.arange(0, corners.size + 1, 3)
        return csr_matrix((shares.ravel(), corners.ravel(), rows), (len(corners), len(self.vertices)))


def fit_template(
    topology: Topology, vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, loose: np.ndarray | None = None
) -> Fit:
    """Put the template on a surface, by a thin-plate spline from its landmarks to the surface's at first.

    Args:
        topology (`Topology`): the template.
        vertices ((V, 3) float, mm), faces ((F, 3) int): the surface, the jaw open by `topology.OPENING`.
        landmarks ((68, 3) float, mm): on that surface.
        loose ((V,) bool, *optional*): vertices of hair that hangs or is tied, which draws no place to itself.

    Returns: `Fit`.
    """
    return fit_places(topology, Target(vertices, faces), place_by(topology, topology.landmarks, landmarks), loose)


def place_by(
    topology: Topology, marks: np.ndarray, points: np.ndarray, smoothing: float | np.ndarray = 1.0
) -> np.ndarray:
    """Bend the template (W, 3) by a thin-plate spline that takes its places `marks` (n,) to points (n, 3)."""
    from scipy.interpolate import RBFInterpolator

    shape = topology.shape
    return RBFInterpolator(shape[marks], points, kernel="thin_plate_spline", smoothing=smoothing)(shape)


def fit_places(
    topology: Topology, target: "Target", places: np.ndarray, loose: np.ndarray | None = None,
    rounds: tuple[float, ...] = STIFFNESS,
) -> Fit:  # fmt: skip
    """Put the template on a surface from where its places (W, 3) are nearly right.

    Round by round, every place is drawn to the point of the surface nearest to it in position and direction, against a
    stiffness (of the template's bending, relative to the last round) that gets weaker. In the end every place is
    projected, and moved off the surface again by as much as brings the quads between the places nearer to it.
    """
    from scipy.sparse import diags
    from scipy.sparse.linalg import splu

    hair = np.zeros(len(target.vertices), bool) if loose is None else loose
    surface = Surface(split(topology.quads), len(places))
    bend = topology.smoother()
    bend = (bend.T @ bend).tocsr()
    for stiffness in rounds:
        normals = surface.normals(places)[0]
        corners, shares = target.project(places, normals)
        found = np.einsum("nc,ncd->nd", shares, target.vertices[corners])
        # What lies far off or looks elsewhere has less of a say: hidden folds are drawn along by the rest.
        alike = np.einsum("ij,ij->i", normals, np.einsum("nc,ncd->nd", shares, target.normals[corners]))
        weight = np.clip(alike, 0, 1) ** 2 + 1e-3
        distance = np.linalg.norm(found - places, axis=1)
        weight = np.where(hair[corners].all(1), 1e-3, weight / (1 + (distance / 10) ** 2))
        system = (diags(weight) + stiffness * bend).tocsc()
        # Larger supernodes than the matrix has by itself cost twice the time here.
        system = splu(system, "MMD_AT_PLUS_A", diag_pivot_thresh=0, relax=1, options={"SymmetricMode": True})
        places = places + system.solve(weight[:, None] * (found - places))
    corners, shares = target.project(places, surface.normals(places)[0])
    end_on_rim(topology, target, places, corners, shares)
    matrix = nearer(target.matrix(corners, shares), target, topology, hair)
    return Fit(matrix, matrix @ target.vertices, target.are_nearest(hair, places, surface.normals(places)[0]))


def nearer(matrix: "csr_matrix", target: Target, topology: Topology, hair: np.ndarray) -> "csr_matrix":
    """Let the quads lie amid the surface, whose bulges they cut off: steps of least squares from places on it.

    Every vertex of the surface draws the places of the triangle below it by its distance to that, weighted by its
    shares; a place follows the mean. Vertices in folds, far off or looking elsewhere, have no say. A smooth face is
    near enough after the first step; beards, whose curls are smaller than the quads, take all.

    Args: hair ((V,) bool): vertices of loose hair, to which a face need not be near.
    """
    from scipy.sparse import csr_matrix, diags

    face, used = face_places(topology), target.used
    for number, share in enumerate(STEPS):
        flat = Target(matrix @ target.vertices, split(topology.quads))
        corners, shares = flat.project(target.vertices[used], target.normals[used])
        below, ways = (np.einsum("nc,ncd->nd", shares, values[corners]) for values in (flat.vertices, flat.normals))
        off = np.linalg.norm(below - target.vertices[used], axis=1)
        near = (off < 1.5) & (np.einsum("ij,ij->i", ways, target.normals[used]) > 0.5)
        seen = off[near & face[corners].all(1) & ~hair[used]]
        if number and (not len(seen) or np.quantile(seen, 0.99) < ENOUGH):
            break
        count = int(near.sum())
        rows = np.repeat(np.arange(count), 3)
        between = csr_matrix((shares[near].ravel(), (rows, corners[near].ravel())), (count, matrix.shape[0]))
        chosen = csr_matrix((np.ones(count), used[near], np.arange(count + 1)), (count, matrix.shape[1]))
        weight = np.maximum(np.asarray(between.sum(0)).ravel(), 1)
        change = diags(share / weight) @ (between.T @ (chosen - between @ matrix))
        matrix = (matrix + change).tocsr().astype(np.float32)
    return matrix


def face_places(topology: Topology) -> np.ndarray:
    """Say which places are the skin of the face, (W,) bool: between the jaw's outline and the forehead, in front."""
    marks, shape = topology.shape[topology.landmarks], topology.shape
    high = marks[17:27, 1].max() + np.linalg.norm(marks[27] - marks[33])
    jaw = np.interp(shape[:, 0], marks[:17, 0], marks[:17, 1], left=np.inf, right=np.inf)
    return ~topology.socket & (shape[:, 1] > jaw) & (shape[:, 1] < high) & (shape[:, 2] > marks[[0, 16], 2].mean())


def end_on_rim(
    topology: Topology, target: Target, places: np.ndarray, corners: np.ndarray, shares: np.ndarray
) -> None:
    """Let the template's neck end where the surface's does, in place: at the nearest vertex of that rim."""
    from scipy.spatial import cKDTree

    ends, rim = np.unique(boundary_edges(split(topology.quads))), np.unique(boundary_edges(target.faces))
    # The loops around the eyes lie in front; those of the neck below all landmarks.
    lowest = topology.shape[topology.landmarks, 1].min()
    ends = ends[topology.shape[ends, 1] < lowest]
    rim = rim[target.vertices[rim, 1] < places[topology.landmarks, 1].min()]
    if len(ends) and len(rim):
        corners[ends] = rim[cKDTree(target.vertices[rim]).query(places[ends])[1]][:, None]
        shares[ends] = [1, 0, 0]
