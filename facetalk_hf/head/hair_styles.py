# SPDX-License-Identifier: MIT
"""Hair as numbers: kinds of hair and beards, and the part of a code that says which a head has.

The last `HAIR_DIM` numbers of a head's global code are not learnt but given (`config.hair_dim`), so that a person
keeps the face when the hair changes. All zero: cropped, of middling size, no beard.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import FaceTalkError
from ..mesh.geometry import Surface, smoothstep


HAIR_KINDS = ("cropped", "short", "bob", "long", "curly", "bun", "receding", "none")
HAIR_DIM = len(HAIR_KINDS) - 1 + 4
RIM = 6.0  # mm over which hair becomes thin at its edge


@dataclass(frozen=True)
class HairStyle:
    """One head of hair.

    Args:
        kind (`str`): one of `HAIR_KINDS`; "long" is worn behind the ears, "none" is bald.
        volume, length, hairline (`float`): 0 to 1; a high hairline shows more forehead.
        beard (`float`): 0 none, 0.2 stubble, 1 a full one.

    Raises:
        FaceTalkError: another kind, or a number that is not between 0 and 1.
    """

    kind: str = "cropped"
    volume: float = 0.5
    length: float = 0.5
    hairline: float = 0.5
    beard: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in HAIR_KINDS:
            raise FaceTalkError(f"no hair of the kind {self.kind!r}; there are {', '.join(HAIR_KINDS)}")
        for name in ("volume", "length", "hairline", "beard"):
            if not 0 <= getattr(self, name) <= 1:
                raise FaceTalkError(f"{name} of hair is from 0 to 1, not {getattr(self, name)}")

    @classmethod
    def of_vector(cls, numbers: np.ndarray) -> "HairStyle":
        """Read a style from numbers (HAIR_DIM,) as [`vector`] writes them."""
        kinds, (volume, length, hairline, beard) = numbers[:-4], np.asarray(numbers[-4:], float) + [0.5, 0.5, 0.5, 0]
        kind = HAIR_KINDS[int(kinds.argmax()) + 1 if kinds.max() > 0.5 else 0]
        return cls(kind, *(float(np.clip(size, 0, 1)) for size in (volume, length, hairline, beard)))

    def vector(self) -> np.ndarray:
        """Write the style as numbers (HAIR_DIM,) float32: one of seven kinds is 1; sizes about their middle."""
        kinds = [float(self.kind == kind) for kind in HAIR_KINDS[1:]]
        return np.array([*kinds, self.volume - 0.5, self.length - 0.5, self.hairline - 0.5, self.beard], np.float32)


def hair_slice(glob_dim: int) -> slice:
    """Find the numbers of an identity code that say which hair: the last of its global code."""
    return slice(glob_dim - HAIR_DIM, glob_dim)


def loose_hair(depth: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Say which vertices are hair that is more than a coat on the skin, (V,) bool: none where all of it lies close.

    Args:
        depth ((V,) float, mm): how far each vertex is off the bald skin.
        faces ((F, 3) int): of the surface; a beard that does not touch the hair is not part of it.
    """
    grown = depth > 1.5
    if not grown.any() or np.quantile(depth[grown], 0.98) < 20:
        return np.zeros(len(depth), bool)
    piece = _pieces(grown, faces)
    return grown & (piece == piece[depth.argmax()])


def without_flecks(depth: np.ndarray, faces: np.ndarray, beard: np.ndarray) -> np.ndarray:
    """Take away what is no hair but the error of the network, which is up to 1 mm: pieces that are thin all over.

    Args: depth ((V,) float, mm), faces ((F, 3) int): as in [`loose_hair`]. beard ((V,) bool): where thin ones stay.
    """
    piece = _pieces(depth > 0.9, faces)
    thickest = np.zeros(piece.max() + 1)
    np.maximum.at(thickest, piece, depth)
    return np.where(beard | (thickest[piece] > 2.5), depth, 0)


def even_stubble(depth: np.ndarray, faces: np.ndarray, beard: np.ndarray) -> np.ndarray:
    """Spread what is thin of a beard (V,) bool evenly: stubble, as thin as the network's error, would be patches.

    Args: depth ((V,) float, mm), faces ((F, 3) int): as in [`loose_hair`].
    """
    if not beard.any():
        return depth
    # What is above a beard's end counts: bare cheeks, where it fades, or its own rest up to the temples; not the hair.
    counted = beard | (depth < 3)
    spread, near = Surface(faces, len(depth)).smooth(np.stack([counted * depth, counted], 1).astype(np.float32), 60).T
    even = spread / np.maximum(near, 1e-3)
    thin = beard * smoothstep(3.0, 1.5, even)
    return depth * (1 - thin) + even * thin


def without_patches(depth: np.ndarray, faces: np.ndarray, vertices: np.ndarray, crown: np.ndarray) -> np.ndarray:
    """Take away what is thin of the hair of a crown that has lost it, but for a rim around what is thick.

    Where hair recedes, the network leaves a relief of 1 to 2.5 mm in patches, as far as 6 cm from the hair.

    Args: depth ((V,) float, mm), faces ((F, 3) int): as in [`loose_hair`]. vertices ((V, 3) float, mm).
        crown ((V,) bool): where to look; all of the head above the eyes has thick hair, too.
    """
    from scipy.spatial import cKDTree

    grown = crown & (depth > 0.9)
    thick = grown & (depth > min(2.5, 0.5 * float(np.quantile(depth[grown], 0.75)))) if grown.any() else grown
    if not thick.any():
        return depth
    away = cKDTree(vertices[thick]).query(vertices[crown], distance_upper_bound=RIM)[0]
    left = depth.copy()
    left[crown] *= smoothstep(RIM, 0.5 * RIM, away)
    return left


def _pieces(chosen: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Count off the connected pieces of the chosen vertices (V,) bool; each of the others is one by itself."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    edges = edges[chosen[edges].all(1)]
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(chosen),) * 2)
    return connected_components(graph, directed=False)[1]


def random_style(rng: np.random.Generator, kind: str | None = None) -> HairStyle:
    """Draw sizes, and a kind unless it is given; two heads in five have a beard, women's cuts none."""
    kind = kind or str(rng.choice(HAIR_KINDS))
    bearded = kind not in ("bob", "bun") and rng.random() < 0.4
    volume, length, hairline, beard = rng.uniform(0, 1, 4)
    return HairStyle(kind, float(volume), float(length), float(hairline), float(0.15 + 0.85 * beard) * bearded)
