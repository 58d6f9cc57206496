# SPDX-License-Identifier: MIT
"""The interface of one identity's posed signed distance field, as fitting evaluates it thousands of times."""

from abc import ABC, abstractmethod

import torch

from ..models.nphm import NPHMModel


class PosedField(ABC):
    r"""Signed distance f(x, w) of one identity, with its gradient in x and its Jacobian in the weights w.

    [`make_field`] chooses the class that a head needs. All that depends on the identity alone is computed once.
    Distances and places are in model units.

    Args:
        head (`NPHMModel`): its parameters no longer require gradients.
        identity (`torch.Tensor`): (Z,).
        chunk (`int`): points that are evaluated at a time; small enough for the processor's cache.

    Attributes:
        names: of the W weights; empty for a head whose codes stand for no named shapes.
        controls ((1, C, 3)): anchors and, where the head has them, landmarks, canonical. landmarks ((L, 3)): under
            weights of zero; L is 68, or 0 for a head without.
        basis ((D, W)): expression code = basis @ weights.
    """

    controls: torch.Tensor
    landmarks: torch.Tensor
    basis: torch.Tensor

    def __init__(self, head: NPHMModel, identity: torch.Tensor, chunk: int = 2048) -> None:
        self.head, self.chunk = head.requires_grad_(False), chunk
        self.names: tuple[str, ...] = tuple(head.config.expression_names or ())
        with torch.no_grad():
            self.identity = identity.reshape(1, -1).to(head.anchor_mean)
            self.glob = head.split_identity(self.identity)[0]
            self.anchors, self.members = head.anchors(self.identity), head.member_codes(self.identity)

    @property
    def size(self) -> int:
        """Number W of weights that are optimised a frame: the named ones, or the code itself where there are none."""
        return self.basis.shape[1]

    def codes(self, weights: torch.Tensor) -> torch.Tensor:
        """Convert weights (..., W) to expression codes (..., D)."""
        return weights.float() @ self.basis.T

    @torch.no_grad()
    def distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (P,) at posed points (P, 3) under weights (W,)."""
        return torch.cat([self._distance(part, weights) for part in points.split(self.chunk)])

    def distances(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (K, P) of posed points (P, 3) under each of weights (K, W)."""
        return torch.stack([self.distance(points, row) for row in weights])

    def linearize(
        self, points: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute distance (P,), gradient (P, 3) and Jacobian in the weights (P, W) at posed points (P, 3)."""
        parts = [self._linearize(part, weights) for part in points.split(self.chunk)]
        distance, gradient, jacobian = (torch.cat(column) for column in zip(*parts, strict=True))
        return distance, gradient, jacobian

    @abstractmethod
    def canonical(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Carry posed points (P, 3) under weights (W,) to canonical space: (P, 3), or more with hyper-coordinates."""

    @abstractmethod
    def posed_landmarks(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute the landmarks (T, L, 3) under weights (T, W)."""

    @abstractmethod
    def linearize_landmarks(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the landmarks (L, 3) under weights (W,) and their Jacobian (L, W, 3)."""

    def mouth(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute posed points (T, M, 3) that move with the mouth under weights (T, W): its 20 landmarks."""
        return self.posed_landmarks(weights)[:, 48:]

    @abstractmethod
    def signature(self) -> list[torch.Tensor]:
        """List the tensors of head and identity that tell whether a stored window belongs to this field."""

    @abstractmethod
    def _distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def _linearize(
        self, points: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]: ...
