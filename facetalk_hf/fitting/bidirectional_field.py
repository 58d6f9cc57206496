# SPDX-License-Identifier: MIT
"""The posed distance field of heads that deform both ways, forward by a bilinear network: the fast one."""

import torch

from ..models.nphm import NPHMModel
from .posed_field import PosedField


class BidirectionalField(PosedField):
    r"""f(x, w) = sdf(x + F(x, w)) by the backward network F, with a Jacobian that needs no network of its own.

    A surface point y is carried to x = y + sum_r c_r(w) B_r(y), so with x held fixed df/dc_r = -grad_x f . B_r(y). The
    fields B come from the forward deformation, the point's canonical place y and the gradient from the backward one;
    both share one code.

    Args:
        head, identity, chunk: as for [`PosedField`]; `head.config.deformation` is "both", forward bilinear.
    """

    def __init__(self, head: NPHMModel, identity: torch.Tensor, chunk: int = 2048) -> None:
        super().__init__(head, identity, chunk)
        with torch.no_grad():
            self.controls = head.controls(self.identity)
            net, anchors = head.forward_net, head.config.num_anchors
            self.control_fields = net.basis(self.controls, self.controls, self.glob)[0]  # (C, R, 3)
            # c = W z + b, and z = E w for a head whose codes stand for named weights.
            basis = head.expression_basis if self.names else torch.eye(head.config.expression_dim).to(self.identity)
            self.basis, self.rest = basis.float(), net.coefficient_map.bias
            self.mix = net.coefficient_map.weight @ self.basis  # (R, W)
            moved = torch.einsum("crk,r->ck", self.control_fields, self.rest)
            self.landmarks = self.controls[0, anchors:] + moved[anchors:]
            self.landmark_fields = torch.einsum("crk,rw->cwk", self.control_fields[anchors:], self.mix)

    @staticmethod
    def supports(head: NPHMModel) -> bool:
        """Tell whether a head deforms both ways, forward by a bilinear network."""
        return head.config.deformation == "both" and head.config.forward_type == "bilinear"

    def posed_landmarks(self, weights: torch.Tensor) -> torch.Tensor:
        """Compute the landmarks (T, 68, 3) under weights (T, W)."""
        return self.landmarks + torch.einsum("cwk,tw->tck", self.landmark_fields, weights)

    def linearize_landmarks(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the landmarks (68, 3) under weights (W,) and their Jacobian (68, W, 3)."""
        return self.posed_landmarks(weights[None])[0], self.landmark_fields

    def signature(self) -> list[torch.Tensor]:
        """List the tensors of head and identity that tell whether a stored window belongs to this field."""
        return [self.identity, self.controls, self.mix, self.head.backward_net.output.weight]

    def canonical(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Carry posed points (P, 3) under weights (W,) to canonical space: (P, 3)."""
        return points + self._offset(points[None], (weights @ self.mix.T + self.rest)[None])[0]

    @torch.no_grad()
    def distances(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (K, P) of a few posed points (P, 3) under each of weights (K, W), in one batch."""
        points = points.expand(len(weights), -1, -1)
        places = points + self._offset(points, weights @ self.mix.T + self.rest)
        return self._sdf(places.flatten(0, 1)).view(len(weights), -1)

    def _offset(self, points: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Evaluate F at posed points (K, P, 3) under coefficients (K, R) of the forward fields."""
        count = len(coefficients)
        posed = self.controls + torch.einsum("crk,br->bck", self.control_fields, coefficients)
        controls, glob = self.controls.expand(count, -1, -1), self.glob.expand(count, -1)
        return self.head.backward_net(points, controls, posed, glob, coefficients)

    def _sdf(self, points: torch.Tensor) -> torch.Tensor:
        return self.head.ensemble(points[None], self.anchors, self.members)[0]

    def _distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self._sdf(self.canonical(points, weights))

    def _linearize(
        self, points: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            y = self.canonical(x, weights)
            value = self._sdf(y)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        with torch.no_grad():
            fields = self.head.forward_net.basis(y.detach()[None], self.controls, self.glob)[0]
            jacobian = -torch.einsum("prk,pk->pr", fields, gradient) @ self.mix
        return value.detach(), gradient, jacobian
