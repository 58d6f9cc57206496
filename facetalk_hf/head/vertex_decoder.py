# SPDX-License-Identifier: MIT
"""Decode heads whose motion is not linear in the expression code: converted NPHM and MonoNPHM, backward heads.

One surface an identity, whose vertices are moved frame by frame; then morph targets for what they did in this clip.
"""

import copy

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..animation.head_animation import HeadAnimation
from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .decoder import HeadDecoder, HeadGeometry, Identity, end_at_neck, nearest_vertices, opening
from .ensemble_surface import canonical_surface, uniform_axes
from .field_values import evaluate
from .surface_tracking import SurfaceTracker, posed_vertices


LOST = 0.5  # mm: a vertex whose position maps back further away than this was not found


class VertexDecoder(HeadDecoder):
    """Decodes expression codes with any head by moving the vertices of its surface.

    The canonical surface is extracted once an identity. A forward head moves its vertices by `deform`; of a backward
    one, the posed vertices are those that it maps onto them (Broyden), started from the last frame. The vertices of
    a clip are written as the rest pose and the fewest targets that keep every vertex of every frame within
    `tolerance`, so that all formats can hold them. Nothing is added to the surface: NPHM's holds eyes and teeth.
    Facial smoothing is not applied: converted heads don't say where the mouth is.

    Args:
        head (`NPHMModel`): a head of any kind.
        resolution, cache_size: see [`HeadDecoder`].
        tolerance (`float`, *optional*, defaults to 0.04): mm.
    """

    def __init__(self, head: NPHMModel, resolution: int = 128, cache_size: int = 4, tolerance: float = 0.04) -> None:
        super().__init__(head, resolution, cache_size)
        self.tolerance = tolerance

    @torch.no_grad()
    def __call__(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> HeadAnimation:
        """Decode expression codes (T, D) into an animation of T frames; see [`HeadDecoder.__call__`].

        The targets are called `component_00` and so on. `metadata` of backward heads has the 99th percentile of how
        far vertices map back beside where they should, and how many took their neighbours' way.
        """
        expressions, identity = self.check_codes(expressions), self.identity_code(identity)
        geometry = self.geometry(identity)
        head, count = self._float_head(), len(geometry.base)
        code = torch.from_numpy(identity)
        rest = np.concatenate([geometry.base, geometry.landmarks])
        assert geometry.canonical is not None
        canonical = geometry.canonical / MILLIMETRES
        basis = GramSchmidtBasis(rest, 0.5 * self.tolerance)
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
            lips = opening(landmarks, geometry.landmarks)
        metadata = {}
        if head.config.deformation == "backward":
            worst = np.quantile(np.concatenate(residuals), 0.99)
            metadata = {"inversion_residual_mm": f"{worst:.4f}", "vertices_not_found": str(lost)}
        animation = HeadAnimation(
            base=geometry.base, targets=targets[:, :count], weights=weights, faces=geometry.faces,
            target_names=tuple(f"component_{i:02d}" for i in range(len(targets))), colors=geometry.colors,
            parts=geometry.parts, expressions=expressions, identity=identity, landmarks=landmarks, lip_aperture=lips,
            metadata=metadata, landmark_vertices=geometry.landmark_vertices, anchor_vertices=geometry.anchor_vertices,
        )  # fmt: skip
        return animation.compact(0.5 * self.tolerance) if len(targets) else animation

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the blendshapes whose weights a code stands for, `config.expression_names`.

        Raises:
            FaceTalkError: the head has no named shapes, as converted ones.
        """
        if not self.head.config.expression_names:
            raise FaceTalkError(
                "this head has no named shapes, so its codes have no ARKit weights: decode them into an animation"
            )
        return tuple(self.head.config.expression_names)

    def weights(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Compute the weights (T, R) float32 of the named blendshapes in expression codes (T, D).

        Raises:
            FaceTalkError: the head has no named shapes, as converted ones, or codes of another size.
        """
        _ = self.target_names  # raises where there are none
        codes = torch.from_numpy(self.check_codes(expressions)).to(self.head.expression_basis.device)
        return self.head.weights_from_expression(codes).cpu().numpy()

    @torch.no_grad()
    def landmarks(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> np.ndarray:
        """Compute the landmarks (T, 68, 3) float32 in mm of expression codes (T, D).

        Raises:
            FaceTalkError: the head has no landmarks, as converted ones, or codes of another size.
        """
        expressions, code = self.check_codes(expressions), torch.from_numpy(self.identity_code(identity))
        head = self._float_head()
        canonical = self._canonical_landmarks(head, code)
        if not len(canonical):
            raise FaceTalkError(
                "this head has no landmarks, so there is no lip aperture either: it is a converted one"
            )
        last, result = self._pose(head, canonical, code, torch.zeros(head.config.expression_dim), None)[0], []
        for expression in expressions:
            last, _, _ = self._pose(head, canonical, code, torch.from_numpy(expression), last)
            result.append(last * MILLIMETRES)
        return np.array(result, np.float32).reshape(-1, *canonical.shape)

    @torch.no_grad()
    def _build(self, identity: np.ndarray) -> HeadGeometry:
        """Compute surface, rest pose and colours of an identity code (Z,)."""
        head, code = self._float_head(), torch.from_numpy(identity)
        vertices, faces = end_at_neck(head, *self._canonical_surface(head, code))
        landmarks = self._canonical_landmarks(head, code)
        canonical = np.concatenate([vertices, landmarks])
        rest, _, _ = self._pose(head, canonical, code, torch.zeros(head.config.expression_dim), None)
        count = len(vertices)
        colors = np.tile(np.array([217, 167, 141], np.uint8), (count, 1))
        if (head.config.official_ensemble or {}).get("appearance_dims"):
            row = code[None].to(head.anchor_mean)
            values = evaluate(lambda part: head.color(part, row), vertices, head.anchor_mean.device)
            colors = np.round(127.5 * (values + 1)).clip(0, 255).astype(np.uint8)
        return HeadGeometry(
            base=rest[:count] * MILLIMETRES, targets=np.zeros((0, count, 3), np.float32), names=(), faces=faces,
            colors=colors, parts=np.zeros(count, np.uint8), landmarks=rest[count:] * MILLIMETRES,
            landmark_targets=np.zeros((0, len(landmarks), 3), np.float32), canonical=canonical * MILLIMETRES,
            landmark_vertices=nearest_vertices(vertices, landmarks),
            anchor_vertices=None if len(landmarks) else nearest_vertices(vertices, self._anchors(head, code)),
        )  # fmt: skip

    @staticmethod
    def _canonical_landmarks(head: NPHMModel, code: torch.Tensor) -> np.ndarray:
        """Predict the landmarks (68, 3) in model units, or (0, 3) of a converted head, which has none."""
        if head.config.official_ensemble is not None:
            return np.zeros((0, 3), np.float32)
        return head.landmarks(code[None].to(head.anchor_mean))[0].cpu().numpy()

    @staticmethod
    def _anchors(head: NPHMModel, code: torch.Tensor) -> np.ndarray:
        """Predict the anchors (K, 3) in model units, in the canonical pose."""
        return head.anchors(code[None].to(head.anchor_mean))[0].cpu().numpy()

    def _canonical_surface(self, head: NPHMModel, code: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Extract the surface: (V, 3) vertices in model units and (F, 3) faces."""
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
        """Move canonical points (n, 3) to the pose: points in model units, residuals (n,) in mm, how many are lost."""
        if head.config.deformation != "backward":
            codes = [code[None].to(head.anchor_mean) for code in (identity, expression)]
            device = head.anchor_mean.device
            return points + evaluate(lambda part: head.deform(part, *codes), points, device), np.zeros(1), 0
        posed, residual = posed_vertices(head, points, identity, expression, start)
        residual = residual * MILLIMETRES
        lost = residual > LOST
        if lost.any() and not lost.all():
            # Where the map folds, no point may lead there: such a vertex goes the way of the nearest that was found.
            near = cKDTree(points[~lost]).query(points[lost])[1]
            posed[lost] = points[lost] + (posed - points)[~lost][near]
        return posed, residual, int(lost.sum())

    def _float_head(self) -> NPHMModel:
        """Copy a head of half precision, which has steps of 0.1 mm, to float32."""
        return self.head if self.head.anchor_mean.dtype == torch.float32 else copy.deepcopy(self.head).float()


class GramSchmidtBasis:
    """Orthonormal displacements of which the frames of a clip are weighted sums, found as the frames come.

    A frame that the displacements so far miss by more than `tolerance` anywhere adds its residual to them (modified
    Gram-Schmidt), so that no vertex of any frame is further off, and no more than the targets are held in memory.

    Args:
        rest ((V, 3) float): what displacements are relative to. tolerance (`float`): in its units.
    """

    def __init__(self, rest: np.ndarray, tolerance: float) -> None:
        self.rest, self.tolerance = rest, tolerance
        self._rows: list[np.ndarray] = []  # orthonormal, (3 V,)
        self._weights: list[np.ndarray] = []

    def add(self, vertices: np.ndarray) -> None:
        """Take the next frame, (V, 3)."""
        residual = (vertices - self.rest).astype(np.float32).ravel()
        weights = np.zeros(len(self._rows) + 1)
        for _ in range(2):  # the second time takes away what rounding left
            for index, row in enumerate(self._rows):
                share = float(row @ residual)
                weights[index] += share
                residual = residual - np.float32(share) * row
        if np.sqrt(np.square(residual.reshape(-1, 3)).sum(1).max(initial=0)) > self.tolerance:
            weights[-1] = np.linalg.norm(residual.astype(np.float64))
            self._rows.append(residual / np.float32(weights[-1]))
        self._weights.append(weights[: len(self._rows)])

    @property
    def targets(self) -> np.ndarray:
        """The displacements, (R, V, 3) float32."""
        return np.array(self._rows, np.float32).reshape(len(self._rows), *self.rest.shape)

    @property
    def weights(self) -> np.ndarray:
        """The weights of the frames, (T, R) float32."""
        result = np.zeros((len(self._weights), len(self._rows)), np.float32)
        for row, weights in zip(result, self._weights, strict=True):
            row[: len(weights)] = weights
        return result
