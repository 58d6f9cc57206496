# SPDX-License-Identifier: MIT
"""The contract of all decoders of heads: from expression codes and an identity to an animation."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..animation.head_animation import HeadAnimation
from ..errors import FaceTalkError
from ..mesh.geometry import cut_where_negative
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .looks import Look


NECK = 5.0 / MILLIMETRES  # above the cut of the training heads: nearer to it the edge of some necks is ragged
UPPER_LIP, LOWER_LIP = (61, 62, 63), (67, 66, 65)  # inner contour, iBUG order


Identity = str | int | np.ndarray | torch.Tensor | None


@dataclass
class HeadGeometry:
    """What all frames of an identity share, in mm: surface, motion fields of surface and landmarks, paint.

    A head whose motion is not linear in the code has no motion fields (R = 0), and the points of the canonical pose
    instead; a head without landmarks has L = 0 of them, any other 68.
    """

    base: np.ndarray  # (V, 3) at expression code zero
    targets: np.ndarray  # (R, V, 3)
    names: tuple[str, ...]
    faces: np.ndarray  # (F, 3)
    colors: np.ndarray  # (V, 3) uint8
    parts: np.ndarray  # (V,) uint8
    landmarks: np.ndarray  # (L, 3) at expression code zero
    landmark_targets: np.ndarray  # (R, L, 3)
    canonical: np.ndarray | None = None  # (V + L, 3), surface and landmarks before they are deformed
    tongue: np.ndarray | None = None  # (R + 5, V, 3), the targets and after them those of `blendshapes.TONGUE`
    landmark_vertices: np.ndarray | None = None  # (68,), of the skin, where there are landmarks
    anchor_vertices: np.ndarray | None = None  # (K,), where there are none


class HeadDecoder(ABC):
    """Decodes expression codes with a head; the geometry of the last identities stays in memory.

    `facetalk_hf.head.decoding.make_decoder` chooses the decoder that a head needs.

    Args:
        head (`NPHMModel`): any head.
        resolution (`int`, *optional*, defaults to 128): grid cells along the longest side of the surface's box.
        cache_size (`int`, *optional*, defaults to 4): identities kept.

    Attributes:
        look ([`Look`]): hair and colours in place of those that identities bring.
        tolerance (`float`): mm that a vertex or landmark of a decoded animation may be off where the head puts it.
    """

    tolerance: float = 0.0

    def __init__(self, head: NPHMModel, resolution: int = 128, cache_size: int = 4) -> None:
        self.head, self.resolution, self.cache_size = head, resolution, cache_size
        self.look = Look()
        self._cache: OrderedDict[bytes, HeadGeometry] = OrderedDict()

    @abstractmethod
    def __call__(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> HeadAnimation:
        """Decode expression codes into an animation.

        Args:
            expressions ((T, D) float): expression codes.
            identity: `None` or `"zero"` for the zero code (the mean head), the number of a named identity,
                `"random:SEED"` for a new one, or a code (Z,) float.

        Returns:
            `HeadAnimation` of T frames without audio, with the pose of the zero code as base. It has landmarks and
            lip aperture where the head has landmarks.

        Raises:
            FaceTalkError: codes of another size than the head's, or an identity without a surface.
        """

    @property
    @abstractmethod
    def target_names(self) -> tuple[str, ...]:
        """Names of the R shapes that `weights` are of.

        Raises:
            FaceTalkError: the head has no shapes.
        """

    @abstractmethod
    def weights(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Compute the weights (T, R) float32 of the shapes in expression codes (T, D), the same for every identity.

        Raises:
            FaceTalkError: the head has no shapes, or codes of another size.
        """

    @abstractmethod
    def landmarks(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> np.ndarray:
        """Compute the landmarks (T, 68, 3) float32 in mm, in the order of iBUG 300-W, of expression codes (T, D).

        Raises:
            FaceTalkError: the head has no landmarks, or codes of another size.
        """

    @abstractmethod
    def _build(self, identity: np.ndarray) -> HeadGeometry:
        """Compute the geometry of an identity code (Z,) float32; FaceTalkError where it has no surface."""

    def lip_aperture(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> np.ndarray:
        """Compute how much wider than at rest the lips are open, (T,) float32 in mm, for expression codes (T, D).

        Raises:
            FaceTalkError: the head has no landmarks, or codes of another size.
        """
        landmarks = self.landmarks(expressions, identity)
        return opening(landmarks, self.geometry(self.identity_code(identity)).landmarks)

    def check(self, identity: Identity, code_dim: int) -> None:
        """Raise FaceTalkError for an identity that the head has not, or expression codes of another size than its."""
        size = self.head.config.expression_dim
        if code_dim != size:
            raise FaceTalkError(
                f"this head takes expression codes of {size} numbers, but the denoiser gives {code_dim}: "
                "it has to be trained on codes of this head"
            )
        self.identity_code(identity)

    def check_codes(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Convert expression codes to (T, D) float32; FaceTalkError for any other shape."""
        expressions, size = to_array(expressions), self.head.config.expression_dim
        if expressions.ndim != 2 or expressions.shape[1] != size:
            raise FaceTalkError(f"expressions must have shape (frames, {size}), not {expressions.shape}")
        return expressions

    def identity_code(self, identity: Identity = None) -> np.ndarray:
        """Find the code (Z,) float32 that a name, number or code stands for, with the hair of the look.

        Raises:
            FaceTalkError: there is none.
        """
        config = self.head.config
        return self.look.dress(self._own_code(identity), config.glob_dim, config.hair_dim)

    def _own_code(self, identity: Identity) -> np.ndarray:
        if identity is None or isinstance(identity, str) and identity == "zero":
            return np.zeros(self.head.identity_dim, np.float32)
        if isinstance(identity, (int, np.integer)):
            count = len(self.head.identity_codes)
            if not 0 <= identity < count:
                raise FaceTalkError(f"identity must be 0 to {count - 1}, not {identity}")
            return to_array(self.head.identity_codes[int(identity)])
        if isinstance(identity, str):
            name, _, seed = identity.partition(":")
            if name != "random" or not (seed.isdecimal() and len(seed) < 19):
                raise FaceTalkError(f'identity must be "zero", a number, "random:SEED" or a code, not {identity!r}')
            return to_array(self.head.sample_identity(torch.Generator().manual_seed(int(seed))))
        code = to_array(identity)
        if code.shape != (self.head.identity_dim,):
            raise FaceTalkError(f"identity must hold {self.head.identity_dim} numbers for this head, not {code.shape}")
        if not np.isfinite(code).all():
            raise FaceTalkError("identity holds numbers that are not finite")
        return code

    def geometry(self, identity: np.ndarray) -> HeadGeometry:
        """Build the geometry of an identity code (Z,) float32, or find it in memory.

        Raises:
            FaceTalkError: the identity has no surface.
        """
        key = identity.tobytes() + repr(self.look).encode()
        if key not in self._cache:
            self._cache[key] = self._build(identity)
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def end_at_neck(head: NPHMModel, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """End a canonical surface, (V, 3) in model units and (F, 3), along a clean line, where its head has a neck plane.

    The field rounds off the edge of the cap under the neck.

    Raises:
        FaceTalkError: there is no surface.
    """
    if not len(faces):
        raise FaceTalkError("this identity code has no surface; use one near the codes the head was trained on")
    if head.config.neck_plane is None:
        return vertices, faces
    return cut_where_negative(vertices, faces, head.above_neck(vertices) - NECK)[:2]


def aperture(landmarks: np.ndarray) -> np.ndarray:
    """Measure the vertical distance between the inner lips, mm: (..., 68, 3) -> (...), the mean of three pairs."""
    return (landmarks[..., UPPER_LIP, 1] - landmarks[..., LOWER_LIP, 1]).mean(-1).astype(np.float32)


def opening(landmarks: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Measure how much wider than at rest the lips are open, mm, never below 0: (T, 68, 3) and (68, 3) -> (T,)."""
    return np.maximum(aperture(landmarks) - aperture(rest), 0)


def nearest_vertices(vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    """Find the vertices (L,) nearest to landmarks where the mouth is open, (V, 3) and (L, 3); `None` without any."""
    return cKDTree(vertices).query(landmarks)[1] if len(landmarks) else None


def to_array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    """Convert numbers, on any device, to a contiguous float32 array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    return np.ascontiguousarray(values, np.float32)
