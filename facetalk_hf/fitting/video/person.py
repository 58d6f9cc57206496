# SPDX-License-Identifier: MIT
"""Where a tracker's landmarks lie on a person's head, and how they move: linear shapes of an identity code."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from trimesh.triangles import closest_point, points_to_barycentric

from ...errors import FaceTalkError
from ...head.blendshape_decoder import BlendshapeDecoder
from ...head.decoder import HeadGeometry
from ...mesh.parts import EYES, SKIN
from ...models.nphm import NPHMModel
from ...paths import LIBRARY
from ...units import MILLIMETRES


IRISES = (468, 473)
"""Middles of the irises among the landmarks, of the subject's right eye and of the left; the rings are not used."""

LIPS = (
    *(0, 11, 12, 13, 14, 15, 16, 17, 37, 38, 39, 40, 41, 42, 61, 62, 72, 73, 74, 76, 77, 78, 80, 81, 82, 84, 85, 86),
    *(87, 88, 89, 90, 91, 95, 96, 146, 178, 179, 180, 181, 183, 184, 185, 191, 267, 268, 269, 270, 271, 272, 291),
    *(292, 302, 303, 304, 306, 307, 308, 310, 311, 312, 314, 315, 316, 317, 318, 319, 320, 321, 324, 325, 375, 402),
    *(403, 404, 405, 407, 408, 409, 415),
)
"""Landmarks of the lips: a constant gap between them is an open mouth, not a shape."""


@dataclass
class LandmarkMap:
    """What was measured of a tracker by letting it see heads whose codes are known (training/build_landmark_map.py).

    Args:
        places ((478, 3) mm): of the landmarks on the canonical surface of the identity code zero.
        offsets ((478, 3) mm): from there, at rest, to what the tracker takes for the landmark.
        noise ((478,) mm): how far off a landmark usually is; infinite for those that are not used.
        speech_mean ((53,)), speech ((53, 53)): mean and covariance of weights while somebody speaks.
        mirror ((478,) int): the landmark on the other side of the face.
        score_index ((53,) int): score that tells of each weight, -1 where none does.
        score_gain, score_bias, score_noise ((53,)): weight = gain * score + bias, and its standard error.
    """

    places: np.ndarray
    offsets: np.ndarray
    noise: np.ndarray
    speech_mean: np.ndarray
    speech: np.ndarray
    mirror: np.ndarray
    score_index: np.ndarray
    score_gain: np.ndarray
    score_bias: np.ndarray
    score_noise: np.ndarray


@cache
def landmark_map() -> LandmarkMap:
    """Read the map that comes with the library."""
    with np.load(LIBRARY / "assets" / "face_landmarks.npz", allow_pickle=False) as file:
        return LandmarkMap(**{name: file[name] for name in LandmarkMap.__dataclass_fields__})


@dataclass
class FacePoints:
    """N landmarks of a person: `base` (N, 3) at rest, `targets` (W, N, 3), in mm; outward `normals` (N, 3)."""

    base: np.ndarray
    targets: np.ndarray
    normals: np.ndarray


def controls(head: NPHMModel, code: torch.Tensor) -> np.ndarray:
    """Compute the points (C, 3) in mm that describe an identity (Z,): anchors, landmarks, eyes and teeth."""
    with torch.no_grad():
        points = torch.cat([head.anchors(code[None]), head.feature_points(code[None])], 1)
    return points[0].double().numpy() * MILLIMETRES


def carry_points(head: NPHMModel, places: np.ndarray, code: torch.Tensor) -> np.ndarray:
    """Carry canonical places (N, 3) in mm of the code zero to another identity by a thin-plate spline."""
    rest = controls(head, torch.zeros_like(code))
    # A trace of smoothing: controls of a mouth corner or a lid lie so close that noise would fold the space there.
    return RBFInterpolator(rest, controls(head, code), kernel="thin_plate_spline", smoothing=1e-3)(places)


def check_head(head: NPHMModel) -> None:
    """Refuse a head that videos cannot be fitted with: it needs landmarks, named weights and linear motion."""
    if head.config.official_ensemble is not None or not head.is_linear or not head.config.expression_names:
        raise FaceTalkError("videos are fitted with heads of named weights and linear motion, as facetalk-tiny's")


def canonical_vertices(head: NPHMModel, geometry: HeadGeometry) -> np.ndarray:
    """Take the vertices (V, 3) in mm of a head at rest back to the canonical pose, where lips are apart."""
    rest = head.forward_net.coefficient_map.bias.detach().float().numpy()
    return geometry.base - np.tensordot(rest, geometry.targets, 1)


def locate(places: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest points of a mesh: corners (N, 3) int of their triangles, and barycentric shares (N, 3)."""
    used = np.unique(faces)
    near = used[cKDTree(vertices[used]).query(places, k=3)[1]]
    order = np.argsort(faces, axis=None, kind="stable")
    begin = np.searchsorted(faces.ravel()[order], np.arange(len(vertices) + 1))
    owner, triangle = [], []
    for index, vertex in ((i, v) for i, row in enumerate(near) for v in row):
        around = order[begin[vertex] : begin[vertex + 1]] // 3
        owner.append(np.full(len(around), index))
        triangle.append(around)
    who, which = np.concatenate(owner), np.concatenate(triangle)
    corners = vertices[faces[which]].astype(np.float64)
    found = closest_point(corners, places[who])
    best = np.lexsort((np.linalg.norm(found - places[who], axis=1), who))
    best = best[np.unique(who[best], return_index=True)[1]]
    return faces[which[best]], points_to_barycentric(corners[best], found[best])


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit normals (V, 3) of a mesh's vertices."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normal, result = np.cross(b - a, c - a), np.zeros(vertices.shape)
    for corner in range(3):
        np.add.at(result, faces[:, corner], normal)
    return result / np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-9)


def mesh_points(decoder: BlendshapeDecoder, code: np.ndarray, places: np.ndarray, offsets: np.ndarray) -> FacePoints:
    """Place points on the decoded head of an identity code (Z,), with the lips and lids that its decoder shuts.

    Args:
        places ((N, 3) mm): as in `LandmarkMap`; where N is 478, those of the irises are the middles of the pupils.
        offsets ((N, 3) mm): what is added at rest.
    """
    head, geometry = decoder.head, decoder.geometry(code)
    skin = geometry.faces[(geometry.parts[geometry.faces] == SKIN).all(1)]
    there = carry_points(head, places, torch.from_numpy(code))
    corners, share = locate(there, canonical_vertices(head, geometry), skin)
    base = np.einsum("nk,nkc->nc", share, geometry.base[corners])
    targets = np.einsum("nk,rnkc->rnc", share, geometry.targets[:, corners])
    normals = np.einsum("nk,nkc->nc", share, vertex_normals(geometry.base, skin)[corners])
    if len(places) > max(IRISES):
        eyes = np.flatnonzero(geometry.parts == EYES)
        for index, side in zip(IRISES, (-1, 1), strict=True):
            ball = eyes[geometry.base[eyes, 0] * side > 0]
            pupil = ball[geometry.base[ball, 2].argmax()]
            base[index], targets[:, index], normals[index] = (
                geometry.base[pupil],
                geometry.targets[:, pupil],
                (0, 0, 1),
            )
    return FacePoints(base + offsets, targets, normals)


def identity_shapes(
    head: NPHMModel, codes: np.ndarray, places: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute landmarks of K identities at rest, by the networks alone: faster than `mesh_points`, lips not sealed.

    Args:
        codes ((K, Z) float32), places, offsets ((N, 3) mm).

    Returns: base (K, N, 3) in mm, and targets (W, N, 3) of the first identity.
    """
    bases, targets = [], np.zeros(0)
    rest = head.forward_net.coefficient_map.bias.detach()
    for number, row in enumerate(codes):
        code = torch.from_numpy(row)
        points = torch.from_numpy((carry_points(head, places, code) / MILLIMETRES).astype(np.float32))
        with torch.no_grad():
            fields = head.deformation_basis(points[None], code[None])[0]
            base = points + torch.einsum("prc,r->pc", fields, rest)
        bases.append(base.double().numpy() * MILLIMETRES + offsets)
        if not number:
            targets = fields.permute(1, 0, 2).double().numpy() * MILLIMETRES
    return np.stack(bases), targets


def identity_axes(head: NPHMModel, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the mean (Z,) of the named identities and the axes (K, Z) in which they differ most, one deviation long."""
    codes = head.identity_codes.detach().float().numpy().copy()
    codes[:, head.hair] = 0  # landmarks do not say which hair, and half a bob is none
    if len(codes) < 8:
        raise FaceTalkError("videos are fitted with heads that have named identities to know people by")
    mean = codes.mean(0)
    _, scale, axes = np.linalg.svd((codes - mean) / np.sqrt(len(codes) - 1), full_matrices=False)
    return mean, (scale[:, None] * axes)[: min(count, len(codes) - 1)]
