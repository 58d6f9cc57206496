# SPDX-License-Identifier: MIT
"""The head of an animation on the template: fewer vertices, the same for every head, and pictures for the rest."""

import hashlib
import io
import warnings
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ..errors import FaceTalkError, FaceTalkWarning
from ..files import kept_arrays
from ..mesh.geometry import Surface, unit
from ..mesh.parts import EYES, HAIR, MOUTH, PUPIL, SKIN, TEETH
from ..rendering.ambient import ambient_occlusion
from ..template.baking import bake, enlarged, shaded
from ..template.fitting import Fit, Target, fit_template
from ..template.starts import face_error, fit_unmarked, in_openings
from ..template.thinning import thin
from ..template.topology import OPENING, load_topology
from .gaze import find_eyeballs
from .head_animation import HeadAnimation


LIPS = {68: ((61, 67), (62, 66), (63, 65)), 39: ((35, 34),), 65: ((18, 20), (19, 21))}
"""Marks on the upper and lower lip, by how many marks a head has: landmarks, or anchors of NPHM and MonoNPHM."""


@dataclass(frozen=True)
class TemplateHead:
    """An animation on the template's M vertices, which come first, and those of its eyes, teeth and loose hair.

    Args:
        animation (`HeadAnimation`): the same motion.
        normals ((V, 3) float, *optional*): at rest, from the fine surface where it was thinned.
        uv ((V, 2) float, *optional*): texture coordinates, v upwards; 0 where there is no texture.
        pictures: "color", "normal" and "occlusion", what the texture coordinates point into; none in full detail.
        owner ((V,) int): the first vertex at the same place: seams of the texture have several.
        error (`float`, *optional*, mm): how far the face of a head without landmarks is from the template, the 99th
            percentile over its vertices.
    """

    animation: HeadAnimation
    normals: np.ndarray | None
    uv: np.ndarray | None
    pictures: dict[str, np.ndarray]
    owner: np.ndarray
    error: float | None = None


@dataclass(frozen=True)
class _Kept:
    fit: Fit
    pictures: dict[str, np.ndarray]
    error: float | None


_FITS: OrderedDict[bytes, _Kept] = OrderedDict()
"""The last heads, because a clip is often saved in several formats."""


def can_take_template(animation: HeadAnimation) -> bool:
    """Say whether the head's landmarks or anchors are known, by which the template is put on it."""
    return marks_of(animation) is not None and len(animation.faces) > 0


def marks_of(animation: HeadAnimation) -> np.ndarray | None:
    """Give the vertices of the head's landmarks, (68,), or else of its anchors, (K,)."""
    return animation.anchor_vertices if animation.landmark_vertices is None else animation.landmark_vertices


def try_template(animation: HeadAnimation) -> TemplateHead | None:
    """Put an animation on the template; `None` where that cannot be, with a warning if the head should take it."""
    if not can_take_template(animation):
        return None
    try:
        return on_template(animation)
    except FaceTalkError as error:
        warnings.warn(f"the head keeps the surface that was extracted: {error}", FaceTalkWarning, stacklevel=2)
        return None


def on_template(animation: HeadAnimation) -> TemplateHead:
    """Put an animation's skin and mouth on the template, thin its eyes, teeth and hair, and bake its pictures.

    The animation must have `landmark_vertices` or `anchor_vertices` ([`can_take_template`]). Where the eyes are one
    surface with the skin, what the template leaves bare between the lids stays as it was extracted.

    Raises:
        FaceTalkError: the surface of a head without landmarks is none that the template can take on.
    """
    kept = _kept(animation)
    eyed = animation.landmark_vertices is not None
    if not eyed:
        bare = in_openings(load_topology(), kept.fit.open, open_pose(animation))
        animation = animation.replace(parts=np.where(bare, EYES, animation.parts))
    topology, matrix = load_topology(), kept.fit.matrix
    spread = matrix[topology.owner]
    count = len(topology.owner)
    kinds = animation.parts[animation.faces].max(1)
    exact = Surface(animation.faces, len(animation.base)).normals(animation.base)[0]
    index: list[np.ndarray] = []
    faces = [topology.triangles[~kept.fit.hidden[topology.owner[topology.triangles]].all(1)]]
    # How far apart vertices are left, mm: the white of an eye is smooth, gums, tongue and rear teeth lie in the dark.
    white = animation.colors.min(1) > 160
    inside = np.einsum("vc,vc->v", exact, animation.base - animation.base.mean(0)) < 0  # of hair: nobody looks there
    eyes = np.where(white, 2.6, np.where(_pupil_edges(animation), 0.6, 0.9))  # coarser, a pupil would be a star
    spacing = {EYES: eyes, TEETH: np.where(white, 1.3, 2.6), HAIR: np.where(inside, 10.0, 6.5)}
    for kind, apart in spacing.items():
        part = animation.faces[kinds == kind]
        if kind == EYES and eyed:
            part = part[_front(animation)[part].all(1)]
        # Strands differ in colour from vertex to vertex: told apart, they would fold the hair.
        colors = np.zeros_like(animation.colors) if kind == HAIR else animation.colors
        chosen, thinned = thin(animation.base, part, colors, apart)
        thinned = facing(animation.base[chosen], thinned, exact[chosen])
        faces.append(thinned + count + sum(map(len, index)))
        index.append(chosen)
    rest = np.concatenate(index)
    # By the faces, as the rim of the hair is skin by itself.
    rest_parts = np.repeat(list(spacing), [len(chosen) for chosen in index])

    def carried(values: np.ndarray) -> np.ndarray:
        return np.concatenate([spread @ values.astype(np.float32), values[rest]])

    result = animation.replace(
        base=carried(animation.base),
        targets=np.stack([carried(target) for target in animation.targets])
        if len(animation.targets)
        else np.zeros((0, count + len(rest), 3)),
        faces=np.concatenate(faces),
        colors=np.round(carried(animation.colors)).clip(0, 255).astype(np.uint8),
        parts=np.concatenate([np.where(topology.socket, MOUTH, SKIN)[topology.owner], rest_parts]),
        landmark_vertices=np.searchsorted(topology.owner, topology.landmarks),
        anchor_vertices=None,
    )
    first = np.searchsorted(topology.owner, topology.owner)
    owner = np.concatenate([first, np.arange(count, count + len(rest))])
    normals = rest_normals(result.base, result.faces, owner)
    # Where the last rows of the neck fall together on its rim, the fine surface says the direction.
    flat = np.linalg.norm(normals, axis=1) < 0.5
    normals = np.where(flat[:, None], unit(carried(exact)), normals)
    normals[count:] = exact[rest]
    uv = np.concatenate([topology.uv, np.zeros((len(rest), 2))])
    return TemplateHead(result, normals, uv, kept.pictures, owner, kept.error)


def _front(animation: HeadAnimation) -> np.ndarray:
    """Say which vertices are not the rear half of an eyeball, which no gaze brings to the front, (V,) bool."""
    front = np.ones(len(animation.base), bool)
    for ball, center in find_eyeballs(animation.base, animation.parts):
        front[ball] = animation.base[ball, 2] > center[2]
    return front


def _pupil_edges(animation: HeadAnimation) -> np.ndarray:
    """Say which vertices are on either side of a pupil's edge, (V,) bool."""
    inside = (animation.colors == PUPIL).all(1) & (animation.parts == EYES)
    corners = inside[animation.faces]
    edge = np.zeros(len(inside), bool)
    edge[animation.faces[corners.any(1) & ~corners.all(1)]] = True
    return edge


def _in_nostrils(animation: HeadAnimation, opened: np.ndarray) -> np.ndarray:
    """Say which vertices are near the nostrils and not of the lips, (V,) bool: none without landmarks."""
    if animation.landmark_vertices is None:
        return np.zeros(len(opened), bool)
    from scipy.spatial import cKDTree

    marks = opened[animation.landmark_vertices]
    nose, lips = (cKDTree(marks[rows]).query(opened)[0] for rows in (slice(31, 36), slice(48, 68)))
    return (nose < 16) & (lips > 7) & (animation.parts == SKIN)


def facing(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Turn over the faces (F, 3) that look away from the normals (V, 3) of all corners: folds are dark specks."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    away = (np.einsum("fc,fkc->fk", np.cross(b - a, c - a), normals[faces]) < 0).all(1)
    return np.where(away[:, None], faces[:, ::-1], faces)


def rest_normals(vertices: np.ndarray, faces: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Compute unit normals (V, 3) that are the same for all vertices of a place."""
    return Surface(owner[faces], len(vertices)).normals(vertices.astype(np.float64))[0][owner]


def _kept(animation: HeadAnimation) -> _Kept:
    """Fit and bake a head, or find it among the last ones, or among those of earlier processes."""
    from scipy.sparse import csr_matrix

    marks, opened = marks_of(animation), open_pose(animation)
    assert marks is not None
    digest = hashlib.sha256()
    for values in (animation.base, opened, animation.faces, animation.colors, animation.parts, marks):
        digest.update(repr((values.shape, values.dtype)).encode() + np.ascontiguousarray(values).tobytes())
    key = digest.digest()
    if key not in _FITS:
        found = kept_arrays("template", key, lambda: _fit(animation, opened))
        rows, corners, shares, hidden = (found.pop(name) for name in ("rows", "corners", "shares", "hidden"))
        error = float(found.pop("error")) if "error" in found else None
        matrix = csr_matrix((shares, corners, rows), (len(rows) - 1, len(opened)))
        pictures = {name: enlarged(_picture(value)) for name, value in found.items()}
        _FITS[key] = _Kept(Fit(matrix, matrix @ opened, hidden), pictures, error)
        while len(_FITS) > 4:
            _FITS.popitem(last=False)
    _FITS.move_to_end(key)
    return _FITS[key]


def _fit(animation: HeadAnimation, opened: np.ndarray) -> dict[str, np.ndarray]:
    """Fit and bake a head: its matrix in parts, what is hidden, and pictures as PNG, by their names."""
    topology, marks = load_topology(), marks_of(animation)
    assert marks is not None
    more = {}
    kinds = animation.parts[animation.faces].max(1)
    faces = animation.faces[(kinds != EYES) & (kinds != TEETH)]
    if animation.landmark_vertices is None:
        target = Target(opened, faces)
        fit = fit_unmarked(topology, target, opened[marks])
        more["error"] = np.array(face_error(topology, fit, target))
    else:
        fit = fit_template(topology, opened, faces, opened[marks], animation.parts == HAIR)
    places = {"open": fit.open, "rest": fit.matrix @ animation.base}
    surface = {"open": opened, "rest": animation.base}
    light = ambient_occlusion(opened, animation.faces)
    colors = shaded(animation.colors, np.where(_in_nostrils(animation, opened), light, 1))
    pictures = bake(topology, places, surface, faces, colors, light)
    matrix = {"rows": fit.matrix.indptr, "corners": fit.matrix.indices, "shares": fit.matrix.data}
    return {**matrix, **more, "hidden": fit.hidden, **{name: _png(value) for name, value in pictures.items()}}


def _png(picture: np.ndarray) -> np.ndarray:
    """Encode a picture as the bytes of a PNG, quickly."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    return np.frombuffer(stream.getvalue(), np.uint8)


def _picture(data: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data.tobytes())))


def open_pose(animation: HeadAnimation) -> np.ndarray:
    """Give the pose in which the template is fitted, (V, 3) mm: jawOpen, or the clip's frame with the widest mouth."""
    if "jawOpen" in animation.target_names:
        return animation.base + OPENING * animation.targets[animation.target_names.index("jawOpen")]
    marks, widest, best = marks_of(animation), -np.inf, animation.base
    assert marks is not None
    pairs = LIPS.get(len(marks), ())
    for vertices in animation.iterate():
        gap = sum(vertices[marks[top], 1] - vertices[marks[below], 1] for top, below in pairs)
        if not pairs:  # nobody knows where the lips are: what moves a talking head most is its jaw
            gap = float(np.linalg.norm(vertices - animation.base))
        if gap > widest:
            widest, best = gap, vertices
    return best
