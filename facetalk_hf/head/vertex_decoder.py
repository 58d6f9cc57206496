# SPDX-License-Identifier: MIT
"""Codes to a talking head where motion is not linear in the code: converted NPHM and MonoNPHM heads, backward heads.

One surface an identity, whose vertices are moved frame by frame; then morph targets for what they did in this clip.
"""

import copy

import numpy as np
import torch

from ..animation.head_animation import HeadAnimation
from ..errors import FaceTalkError
from ..mesh.geometry import cut_where_negative
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .blendshape_decoder import HeadDecoder
from .decoder import HeadGeometry, Identity, aperture
from .official_isosurface import canonical_surface, evaluate, uniform_axes
from .surface_tracking import SurfaceTracker, posed_vertices


LOST = 0.5  # mm: a vertex whose position maps back further away than this was not found


class VertexDecoder(HeadDecoder):
    """Decodes expression codes with any head but a bilinear one; `HeadDecoder(head)` makes it where it is needed.

    The canonical surface is extracted once an identity. A forward head moves its vertices by `deform`; of a backward
    one, the posed vertices are those that it maps onto them (Broyden), started from the last frame. The vertices of
    a clip are written as the rest pose and the fewest targets that keep every vertex of every frame within
    `tolerance`, so that all formats can hold them. Nothing is added to the surface: NPHM's holds eyes and teeth.

    Args:
        head (`NPHMModel`): a head of any kind.
        resolution (`int`, *optional*, defaults to 128): grid cells along the longest side of the head's box.
        facial_smoothing (`bool`, *optional*): taken and not used, converted heads don't say where the mouth is.
        cache_size (`int`, *optional*, defaults to 4): identities kept.
        tolerance (`float`, *optional*, defaults to 0.04): mm.
    """

    def __init__(
        self, head: NPHMModel, resolution: int = 128, facial_smoothing: bool = False, cache_size: int = 4,
        tolerance: float = 0.04,
    ):  # fmt: skip
        self._prepare(head, resolution, facial_smoothing, cache_size)
        self.tolerance = tolerance

    @torch.no_grad()
    def __call__(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> HeadAnimation:
        """Decode a sequence.

        Args:
            expressions ((T, D) float): expression codes.
            identity: `None` or `"zero"` for the zero code, the number of a named identity, or a code (Z,) float.

        Returns:
            `HeadAnimation` of T frames, targets `component_00` and so on, the zero code's pose as base. Landmarks and
            lip aperture where the head has them: converted heads don't. `metadata` of backward heads has the 99th
            percentile of how far vertices map back beside where they should, and how many took their neighbours' way.

        Raises:
            FaceTalkError: codes of another size than the head's, or an identity without a surface.
        """
        expressions, identity = self.check_codes(expressions), self.identity_code(identity)
        geometry = self.geometry(identity)
        head, count = self._float_head(), len(geometry.base)
        code = torch.from_numpy(identity)
        rest = np.concatenate([geometry.base, geometry.landmarks])
        canonical = geometry.targets[0] / MILLIMETRES  # what the rest pose is made of
        basis = MotionBasis(rest, 0.5 * self.tolerance)
        last, residuals, lost = rest / MILLIMETRES, [np.zeros(1)], 0
        for expression in expressions:
            last, residual, missed = self._pose(head, canonical, code, torch.from_numpy(expression), last)
            basis.add(last * MILLIMETRES)
            residuals.append(residual)
            lost = max(lost, missed)
        weights, targets = basis.weights, basis.targets
        landmarks = lips = None
        if len(geometry.landmarks):
            landmarks = (geometry.landmarks + np.tensordot(weights, targets[:, count:], 1)).astype(np.float32)
            lips = aperture(landmarks) - aperture(geometry.landmarks)
        metadata = {}
        if head.config.deformation == "backward":
            residual = np.quantile(np.concatenate(residuals), 0.99)
            metadata = {"inversion_residual_mm": f"{residual:.4f}", "vertices_not_found": str(lost)}
        animation = HeadAnimation(
            base=geometry.base, targets=targets[:, :count], weights=weights, faces=geometry.faces,
            target_names=[f"component_{i:02d}" for i in range(len(targets))], colors=geometry.colors,
            parts=geometry.parts, expressions=expressions, identity=identity, landmarks=landmarks, lip_aperture=lips,
            metadata=metadata,
        )  # fmt: skip
        return animation.compact(0.5 * self.tolerance) if len(targets) else animation

    @torch.no_grad()
    def _build(self, identity: np.ndarray) -> HeadGeometry:
        """Rest pose, colours, and in the place of targets the canonical points that the rest pose is made of."""
        head, code = self._float_head(), torch.from_numpy(identity)
        vertices, faces = self._canonical_surface(head, code)
        if not len(faces):
            raise FaceTalkError("this identity code has no surface; use one near the codes the head was trained on")
        if head.config.neck_plane is not None:
            vertices, faces, _, _ = cut_where_negative(vertices, faces, head.above_neck(vertices))
        landmarks = np.zeros((0, 3), np.float32)
        if head.config.official_ensemble is None:
            landmarks = head.landmarks(code[None].to(head.anchor_mean))[0].cpu().numpy()
        canonical = np.concatenate([vertices, landmarks])
        rest, _, _ = self._pose(head, canonical, code, torch.zeros(head.config.expression_dim), None)
        count = len(vertices)
        colors = np.tile(np.uint8([217, 167, 141]), (count, 1))
        if (head.config.official_ensemble or {}).get("appearance_dims"):
            row = code[None].to(head.anchor_mean)
            values = evaluate(lambda part: head.color(part, row), vertices, head.anchor_mean.device)
            colors = np.round(127.5 * (values + 1)).clip(0, 255).astype(np.uint8)
        return HeadGeometry(
            base=rest[:count] * MILLIMETRES, targets=canonical[None] * MILLIMETRES, names=(), faces=faces,
            colors=colors, parts=np.zeros(count, np.uint8), landmarks=rest[count:] * MILLIMETRES,
            landmark_targets=np.zeros((0, len(landmarks), 3), np.float32),
        )  # fmt: skip

    def _canonical_surface(self, head: NPHMModel, code: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.asarray(head.config.bounds)
        counts = np.round((high - low) / (high - low).max() * self.resolution).astype(int) + 1
        if (head.config.official_ensemble or {}).get("kind") == "nphm":
            return canonical_surface(head, code, tuple(counts.tolist()))
        row = code[None].to(head.anchor_mean)
        tracker = SurfaceTracker(uniform_axes(head, tuple(counts.tolist())))
        return tracker(lambda points: evaluate(lambda part: head.sdf(part, row), points, head.anchor_mean.device))

    @staticmethod
    def _pose(
        head: NPHMModel, points: np.ndarray, identity: torch.Tensor, expression: torch.Tensor, start: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Where canonical points (n, 3) go, model units; residuals (n,) in mm; how many were not found."""
        if head.config.deformation != "backward":
            codes = [code[None].to(head.anchor_mean) for code in (identity, expression)]
            device = head.anchor_mean.device
            return points + evaluate(lambda part: head.deform(part, *codes), points, device), np.zeros(1), 0
        posed, residual = posed_vertices(head, points, identity, expression, start)
        residual = residual * MILLIMETRES
        lost = residual > LOST
        if lost.any() and not lost.all():
            # Where the map folds, no point may lead there: such a vertex goes the way of the nearest that was found.
            from scipy.spatial import cKDTree

            near = cKDTree(points[~lost]).query(points[lost])[1]
            posed[lost] = points[lost] + (posed - points)[~lost][near]
        return posed, residual, int(lost.sum())

    def _float_head(self) -> NPHMModel:
        """The head in float32: half precision has steps of 0.1 mm."""
        return self.head if self.head.anchor_mean.dtype == torch.float32 else copy.deepcopy(self.head).float()


class MotionBasis:
    """Frames as weighted sums of few displacements, found while they come in.

    A frame that the displacements so far miss by more than `tolerance` anywhere adds its rest to them, so that no
    vertex of any frame is further off, and no more than the targets are held in memory.

    Args:
        rest ((V, 3) float): what displacements are relative to. tolerance (`float`): in its units.
    """

    def __init__(self, rest: np.ndarray, tolerance: float):
        self.rest, self.tolerance = rest, tolerance
        self._rows: list[np.ndarray] = []  # orthonormal, (3 V,)
        self._weights: list[np.ndarray] = []

    def add(self, vertices: np.ndarray) -> None:
        """Take the next frame, (V, 3)."""
        rest = (vertices - self.rest).astype(np.float32).ravel()
        weights = np.zeros(len(self._rows) + 1)
        for _ in range(2):  # the second time takes away what rounding left
            for index, row in enumerate(self._rows):
                share = float(row @ rest)
                weights[index] += share
                rest = rest - np.float32(share) * row
        if np.sqrt(np.square(rest.reshape(-1, 3)).sum(1).max(initial=0)) > self.tolerance:
            weights[-1] = np.linalg.norm(rest.astype(np.float64))
            self._rows.append(rest / np.float32(weights[-1]))
        self._weights.append(weights[: len(self._rows)])

    @property
    def targets(self) -> np.ndarray:
        """(R, V, 3) float32."""
        return np.array(self._rows, np.float32).reshape(len(self._rows), *self.rest.shape)

    @property
    def weights(self) -> np.ndarray:
        """(T, R) float32."""
        result = np.zeros((len(self._weights), len(self._rows)), np.float32)
        for row, weights in zip(result, self._weights, strict=True):
            row[: len(weights)] = weights
        return result
