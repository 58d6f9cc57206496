# SPDX-License-Identifier: MIT
"""The template's topology: quads with loops around eyes and mouth, texture coordinates, the mean head's shape.

Derived from ICT-FaceKit's generic head (MIT, Copyright 2020 USC Institute for Creative Technologies; the licence lies
beside the file) by training/make_template.py.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..paths import LIBRARY


if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


OPENING = 0.6
"""Weight of jawOpen at which the template is put on a head: lips that touch could not be told apart."""


@dataclass(frozen=True)
class Topology:
    """The template, with W places and M vertices: a place on a seam of the texture has several.

    Args:
        shape ((W, 3) float, mm): the mean head, its jaw open by `OPENING`.
        quads ((Q, 4) int): places, counter-clockwise seen from outside.
        corners ((Q, 4) int): the same as vertices.
        owner ((M,) int): the place of a vertex. uv ((M, 2) float): its texture coordinates, v upwards.
        socket ((W,) bool): the mouth's inside. landmarks ((68,) int): places, in the order of iBUG 300-W.
    """

    shape: np.ndarray
    quads: np.ndarray
    corners: np.ndarray
    owner: np.ndarray
    uv: np.ndarray
    socket: np.ndarray
    landmarks: np.ndarray

    @property
    def triangles(self) -> np.ndarray:
        """The quads split, (2 Q, 3) int vertices."""
        return split(self.corners)

    def smoother(self) -> "csr_matrix":
        """Make the sparse map (W, W) from values to their mean over neighbours minus themselves."""
        from scipy.sparse import coo_matrix, diags, eye  # 0.3 s of import that other formats do without

        count = len(self.shape)
        ends = np.concatenate([self.quads, self.quads[:, [1, 2, 3, 0]]], 1).reshape(-1, 2, 4)
        a, b = ends[:, 0].ravel(), ends[:, 1].ravel()
        links = coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), (count, count)).tocsr()
        links.data[:] = 1
        degree = np.asarray(links.sum(1)).ravel()
        return (diags(1 / np.maximum(degree, 1)) @ links - eye(count)).tocsr()


@cache
def load_topology() -> Topology:
    """Read the template."""
    with np.load(LIBRARY / "assets" / "template.npz", allow_pickle=False) as file:
        return Topology(
            shape=file["shape"] / np.float64(50), quads=file["owner"][file["quads"]].astype(np.int32),
            corners=file["quads"].astype(np.int32), owner=file["owner"].astype(np.int32),
            uv=file["uv"] / np.float64(65535), socket=file["socket"], landmarks=file["landmarks"].astype(np.int32),
        )  # fmt: skip


def split(quads: np.ndarray) -> np.ndarray:
    """Split quads (Q, 4) into triangles (2 Q, 3), the two of a quad one after the other."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
