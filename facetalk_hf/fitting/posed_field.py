# SPDX-License-Identifier: MIT
"""One identity's posed signed distance with its slopes: what fitting evaluates thousands of times."""

import torch

from ..models.nphm import NPHMModel


class PosedField:
    r"""f(x, w) = sdf(x + F(x, w)) of one identity, with its gradient in x and its Jacobian in the weights w.

    The Jacobian needs no network of its own: a surface point y is carried to x = y + sum_r c_r(w) B_r(y), so with x
    held fixed df/dc_r = -grad_x f . B_r(y). The fields B come from the forward deformation, the point's canonical
    place y and the gradient from the backward one; both share one code. All that depends on the identity alone is
    computed once.

    Args:
        head (`NPHMModel`): `config.deformation` is "both", forward bilinear; any other makes a slower [`SearchField`].
        identity (`torch.Tensor`): (Z,).
        chunk (`int`): points that are evaluated at a time; small enough for the processor's cache.
    """

    def __new__(cls, head: NPHMModel, *inputs: object, **named: object) -> "PosedField":
        """A field of the class that the head needs."""
        if cls is PosedField and (head.config.deformation != "both" or head.config.forward_type != "bilinear"):
            from .search_field import SearchField

            cls = SearchField
        return super().__new__(cls)

    def __init__(self, head: NPHMModel, identity: torch.Tensor, chunk: int = 2048):
        self.head, self.chunk = head.requires_grad_(False), chunk
        self.names = tuple(head.config.expression_names or ())
        with torch.no_grad():
            self.identity = identity.reshape(1, -1).to(head.anchor_mean)
            self.glob = head.split_identity(self.identity)[0]
            self.anchors, self.members = head.anchors(self.identity), head.member_codes(self.identity)
            self.controls = head.controls(self.identity)
            net = head.forward_net
            fields = net.basis(self.controls, self.controls, self.glob)[0]  # (C, R, 3)
            # c = W z + b, and z = E w for a head whose codes stand for named weights.
            basis = head.expression_basis if self.names else torch.eye(head.config.expression_dim).to(self.identity)
            self.basis, self.rest = basis.float(), net.coefficient_map.bias
            self.mix = net.coefficient_map.weight @ self.basis  # (R, W)
            self.control_fields = fields
            self.landmarks = (
                self.controls[0, head.config.num_anchors :]
                + torch.einsum("crk,r->ck", fields, self.rest)[head.config.num_anchors :]
            )
            self.landmark_fields = torch.einsum("crk,rw->cwk", fields[head.config.num_anchors :], self.mix)

    @property
    def size(self) -> int:
        """W, numbers that are optimised a frame: the named weights, or the code itself where there are none."""
        return self.mix.shape[1]

    def codes(self, weights: torch.Tensor) -> torch.Tensor:
        """(..., W) -> expression codes (..., D)."""
        return weights.float() @ self.basis.T

    def posed_landmarks(self, weights: torch.Tensor) -> torch.Tensor:
        """(T, W) -> (T, 68, 3) model units."""
        return self.landmarks + torch.einsum("cwk,tw->tck", self.landmark_fields, weights)

    def landmark_slopes(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (68, 3) under weights (W,), and how each moves with them (68, W, 3)."""
        return self.posed_landmarks(weights[None])[0], self.landmark_fields

    def mouth(self, weights: torch.Tensor) -> torch.Tensor:
        """(T, W) -> posed places (T, M, 3) that tell the mouth's speed: its 20 landmarks."""
        return self.posed_landmarks(weights)[:, 48:]

    def signature(self) -> list[torch.Tensor]:
        """What a kept window depends on of the head."""
        return [self.identity, self.controls, self.mix, self.head.backward_net.output.weight]

    def _canonical(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        coefficients = (weights @ self.mix.T + self.rest)[None]
        posed = self.controls + torch.einsum("crk,br->bck", self.control_fields, coefficients)
        offset = self.head.backward_net(points[None], self.controls, posed, self.glob, coefficients)
        return points + offset[0]

    @torch.no_grad()
    def distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Signed distance (P,), model units, at posed points (P, 3) under weights (W,)."""
        parts = [self._sdf(self._canonical(part, weights)) for part in points.split(self.chunk)]
        return torch.cat(parts)

    @torch.no_grad()
    def distances(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Signed distances (K, P), model units, of a few posed points (P, 3) under each of weights (K, W)."""
        coefficients = weights @ self.mix.T + self.rest
        posed = self.controls + torch.einsum("crk,br->bck", self.control_fields, coefficients)
        count = len(weights)
        places = points.expand(count, -1, -1)
        offset = self.head.backward_net(
            places, self.controls.expand(count, -1, -1), posed, self.glob.expand(count, -1), coefficients
        )
        return self._sdf((places + offset).flatten(0, 1)).view(count, -1)

    def _sdf(self, points: torch.Tensor) -> torch.Tensor:
        return self.head.ensemble(points[None], self.anchors, self.members)[0]

    def slopes(self, points: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Distance (P,), gradient (P, 3) and Jacobian in the weights (P, W) at posed points (P, 3), weights (W,)."""
        results = []
        for part in points.split(self.chunk):
            with torch.enable_grad():
                x = part.detach().requires_grad_()
                y = self._canonical(x, weights)
                value = self._sdf(y)
                (gradient,) = torch.autograd.grad(value.sum(), x)
            with torch.no_grad():
                fields = self.head.forward_net.basis(y.detach()[None], self.controls, self.glob)[0]
                jacobian = -torch.einsum("prk,pk->pr", fields, gradient) @ self.mix
            results.append((value.detach(), gradient, jacobian))
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))
