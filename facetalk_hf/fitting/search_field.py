# SPDX-License-Identifier: MIT
"""The posed distance field of heads without our fast pair of deformations: forward-only ones, converted ones."""

from collections.abc import Callable

import torch

from ..head.surface_tracking import invert
from ..models.nphm import NPHMModel
from .posed_field import PosedField


FOUND = 4e-5  # model units, 0.01 mm: a point whose search ends closer is done
LOST = 4e-3  # 1 mm: beyond, its canonical place is not known
OUTSIDE = 0.1  # what is then taken for its distance, 25 mm: it counts as an outlier


class SearchField(PosedField):
    r"""The posed distance field of any head, ours or converted, whichever way it deforms.

    Forward heads: the canonical place y of a posed point x solves y + F(y, w) = x. It is searched by Broyden's method
    for each point by itself, as NPHM's fitting does (Giebenhain et al., CVPR 2023, section 4), from where the anchors
    and landmarks around x come from, and where that fails, from x. By the implicit function theorem the gradient in x
    is v = (I + dF/dy)^-T grad sdf(y), and the Jacobian in w is -v . dF/dw. Backward heads: y = x + F(x, w).

    Converted heads have no landmarks, and numbers of a code in place of named weights, in units of their spread in
    the checkpoint where it says one.

    Args:
        head, identity, chunk: as for [`PosedField`].
    """

    def __init__(self, head: NPHMModel, identity: torch.Tensor, chunk: int = 2048) -> None:
        super().__init__(head, identity, chunk)
        config = head.config
        self.backward = config.deformation != "forward"
        self.bilinear = not self.backward and config.forward_type == "bilinear"
        with torch.no_grad():
            self.condition = head._identity_condition(self.identity)
            has_landmarks = config.official_ensemble is None and config.deformation != "backward"
            self.controls = head.controls(self.identity) if has_landmarks else self.anchors
            if self.names:
                self.basis = head.expression_basis.float()
            elif getattr(head, "expression_codes", None) is not None and len(head.expression_codes) > 1:
                self.basis = torch.diag(head.expression_codes.float().std(0).clamp_min(1e-4))
            else:
                self.basis = torch.eye(config.expression_dim)
            if self.bilinear:
                self.mix = head.forward_net.coefficient_map.weight @ self.basis
                self.rest = head.forward_net.coefficient_map.bias
            self.landmarks = self._posed_controls(torch.zeros(self.size))[config.num_anchors :]

    def signature(self) -> list[torch.Tensor]:
        """List the tensors of head and identity that tell whether a stored window belongs to this field."""
        net = self.head.backward_net if self.backward else self.head.forward_net
        return [self.identity, self.controls, self.basis, *(p.flatten()[:1000] for p in net.parameters())]

    @torch.no_grad()
    def posed_landmarks(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute the landmarks (T, 68, 3) under weights (T, W); (T, 0, 3) of heads without landmarks."""
        return torch.stack([self._posed_controls(row)[self.head.config.num_anchors :] for row in weights])

    def linearize_landmarks(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the landmarks (L, 3) under weights (W,) and their Jacobian (L, W, 3)."""
        marks = self.controls[0, self.head.config.num_anchors :]
        axes = [self._directional_jacobian(marks, weights, axis.expand(len(marks), 3)) for axis in torch.eye(3)]
        return self.posed_landmarks(weights[None])[0], torch.stack(axes, -1)

    @torch.no_grad()
    def mouth(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute posed points (T, M, 3) that move with the mouth under weights (T, W): landmarks, else anchors."""
        if len(self.landmarks):
            return super().mouth(weights)
        return torch.stack([self._posed_controls(row) for row in weights])

    @torch.no_grad()
    def canonical(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Carry posed points (P, 3) under weights (W,) to canonical space: (P, 3), or more with hyper-coordinates."""
        return self._places(points, weights)[0]

    def _distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        places, lost = self._places(points, weights)
        return torch.where(lost, OUTSIDE, self._sdf(places))

    def _linearize(
        self, points: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        places, lost = self._places(points, weights)
        with torch.enable_grad():
            y = places.detach().requires_grad_()
            value = self._sdf(y)
            (normal,) = torch.autograd.grad(value.sum(), y)
            x = (points if self.backward else y).detach().requires_grad_()
            offset = self._offset(x, weights)
            rows = [
                torch.autograd.grad((offset * normal).sum() if self.backward else offset[:, axis].sum(), x,
                                    retain_graph=axis < 2)[0]
                for axis in range(1 if self.backward else 3)
            ]  # fmt: skip
        if self.backward:
            gradient = normal[:, :3] + rows[0]
            jacobian = self._directional_jacobian(points, weights, normal)
        else:
            stretch = torch.eye(3) + torch.stack(rows, 1)  # d posed / d canonical
            # lstsq rounds in one of several ways from call to call: fits could not be repeated.
            gradient = (torch.linalg.pinv(stretch.transpose(1, 2)) @ normal[..., None])[..., 0]
            # Where the map folds, a step of the weights would be boundless.
            size = gradient.norm(dim=-1, keepdim=True) / normal[:, :3].norm(dim=-1, keepdim=True).clamp_min(1e-6)
            gradient = gradient / (size / 4).clamp_min(1)
            jacobian = -self._directional_jacobian(places, weights, gradient)
        value = torch.where(lost, OUTSIDE, value.detach())
        return value, gradient, torch.where(lost[:, None], 0.0, jacobian)

    @torch.no_grad()
    def _places(self, points: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the canonical places (P, 3 or more) of posed points (P, 3), and which (P,) of them were not found."""
        if self.backward:
            offset = self._offset(points, weights)
            padded = torch.nn.functional.pad(points, (0, offset.shape[1] - 3))
            return padded + offset, torch.zeros(len(points), dtype=torch.bool)
        displacement = self._displacement(weights)
        posed = self._posed_controls(weights)
        near = torch.exp(-0.5 * (torch.cdist(points, posed) / 0.06).square())
        start = points + near @ (self.controls[0] - posed) / (near.sum(-1, keepdim=True) + 0.05)
        places, residual = invert(displacement, points, start, FOUND, 15)
        again = residual > LOST
        if again.any():
            other, error = invert(displacement, points[again], points[again], FOUND, 15)
            better = error < residual[again]
            index = torch.nonzero(again)[:, 0][better]
            places[index], residual[index] = other[better], error[better]
        return places, residual > LOST

    def _displacement(self, weights: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda points: self._offset(points, weights)[:, :3]

    def _posed_controls(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute anchors, and landmarks if there are any, in the posed head: (C, 3)."""
        controls = self.controls[0]
        if not self.backward:
            return controls + self._offset(controls, weights)
        if self.head.config.deformation == "both":
            code = self.codes(weights)[None]
            net = self.head.forward_net
            return controls + net(self.controls, self.condition, code)[0]
        return invert(self._displacement(weights), controls, controls, FOUND, 15)[0]

    def _offset(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Evaluate F at points (P, 3): (P, 3), with hyper-coordinates where the head has them."""
        if self.bilinear:
            fields = self.head.forward_net.basis(points[None], self.controls, self.glob)[0]
            return torch.einsum("prk,r->pk", fields, weights @ self.mix.T + self.rest)
        net = self.head.backward_net if self.backward else self.head.forward_net
        return net(points[None], self.condition, self.codes(weights)[None])[0]

    def _directional_jacobian(
        self, points: torch.Tensor, weights: torch.Tensor, directions: torch.Tensor
    ) -> torch.Tensor:
        """Compute d(F . direction)/dw at points (P, 3) for directions (P, 3 or more): (P, W)."""
        if not len(points):
            return points.new_zeros(0, self.size)
        if self.bilinear:
            with torch.no_grad():
                fields = self.head.forward_net.basis(points.detach()[None], self.controls, self.glob)[0]
                return torch.einsum("prk,pk->pr", fields, directions) @ self.mix
        net = self.head.backward_net if self.backward else self.head.forward_net

        def along(code: torch.Tensor, point: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
            return (net(point[None, None], self.condition, code[None])[0, 0] * direction).sum()

        gradient = torch.func.vmap(torch.func.grad(along), in_dims=(None, 0, 0))
        code = self.codes(weights)
        parts = zip(points.detach().split(256), directions.detach().split(256), strict=True)
        return torch.cat([gradient(code, *part) for part in parts]) @ self.basis

    def _sdf(self, points: torch.Tensor) -> torch.Tensor:
        return self.head.ensemble(self.head._with_hyper(points[None]), self.anchors, self.members)[0]
