# SPDX-License-Identifier: MIT
"""Posed distance fields of several sequences, evaluated in one batch: fast fitting on a GPU."""

import threading
from typing import Any

import torch

from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from .bidirectional_field import BidirectionalField


class FieldBatcher:
    """Collects the network evaluations that the fits of several sequences request and runs them as one batch.

    Each fit runs in a thread of its own and waits at every request. When all fits that have not ended wait, the
    requests of a kind become one batch, in the order of the fits: the composition of a batch does not depend on how
    fast a thread is.

    Args:
        head (`NPHMModel`): evaluated on `device`; moved there.
        device (`torch.device`): where the networks run; the rest of a fit stays on the CPU.
        count (`int`): how many fits there are. Each calls `leave` when it ends, whatever way it does.
    """

    def __init__(self, head: NPHMModel, device: torch.device | str, count: int) -> None:
        self.head, self.device, self.working = head.to(device), torch.device(device), count
        self.requests: dict[int, tuple[str, SharedField, torch.Tensor, torch.Tensor]] = {}
        self.answers: dict[int, Any] = {}
        self.lock = threading.Condition()

    def request(
        self, number: int, kind: str, field: "SharedField", points: torch.Tensor, weights: torch.Tensor
    ) -> Any:
        """Evaluate "linearize" or "distance" of a field for fit `number`, as CPU tensors; waits for the other fits."""
        with self.lock:
            self.requests[number] = (kind, field, points, weights)
            self._answer_when_all_wait()
            self.lock.wait_for(lambda: number in self.answers)
            answer = self.answers.pop(number)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self) -> None:
        """End a fit: the others no longer wait for it."""
        with self.lock:
            self.working -= 1
            self._answer_when_all_wait()

    def _answer_when_all_wait(self) -> None:
        if not self.requests or len(self.requests) < self.working:
            return
        for kind in ("distance", "linearize"):
            numbers = sorted(number for number, request in self.requests.items() if request[0] == kind)
            answers: list[Any]
            try:
                answers = self.evaluate(kind, [self.requests[number][1:] for number in numbers]) if numbers else []
            except Exception as error:  # it is raised in each of the fits, which would wait for ever
                answers = [error] * len(numbers)
            self.answers.update(zip(numbers, answers, strict=True))
        self.requests.clear()
        self.lock.notify_all()

    def evaluate(self, kind: str, requests: "list[tuple[SharedField, torch.Tensor, torch.Tensor]]") -> list[Any]:
        """Evaluate requests (field, points (P_i, 3), weights (W,)) as one batch; short clouds are padded."""
        longest = max(len(points) for _, points, _ in requests)
        padded = torch.stack([points[torch.arange(longest).clamp_max(len(points) - 1)] for _, points, _ in requests])
        names = ("controls", "glob", "anchors", "members")
        inputs = {name: torch.cat([getattr(field, name) for field, _, _ in requests]) for name in names}
        inputs["fields"] = torch.stack([field.control_fields for field, _, _ in requests])
        inputs["coefficients"] = torch.stack([weights @ field.mix.T + field.rest for field, _, weights in requests])
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        points = padded.to(self.device)
        lengths = [len(part) for _, part, _ in requests]
        if kind == "distance":
            with torch.no_grad():
                values = self._sdf(self._canonical(points, inputs), inputs).cpu()
            return [row[:length] for row, length in zip(values, lengths, strict=True)]
        with torch.enable_grad():
            points.requires_grad_()
            places = self._canonical(points, inputs)
            values = self._sdf(places, inputs)
            (gradient,) = torch.autograd.grad(values.sum(), points)
        with torch.no_grad():
            fields = self.head.forward_net.basis(places.detach(), inputs["controls"], inputs["glob"])
            jacobian = -torch.einsum("bprk,bpk->bpr", fields, gradient) @ requests[0][0].mix.to(self.device)
        parts = values.detach().cpu(), gradient.cpu(), jacobian.cpu()
        return [tuple(part[i, :length] for part in parts) for i, length in enumerate(lengths)]

    def _canonical(self, points: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        coefficients = inputs["coefficients"]
        posed = inputs["controls"] + torch.einsum("bcrk,br->bck", inputs["fields"], coefficients)
        return points + self.head.backward_net(points, inputs["controls"], posed, inputs["glob"], coefficients)

    def _sdf(self, points: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head.ensemble(points, inputs["anchors"], inputs["members"])


class SharedField(BidirectionalField):
    """A `BidirectionalField` whose networks a `FieldBatcher` evaluates.

    Args:
        head, identity: as for [`BidirectionalField`]; the head here stays on the CPU.
        batcher (`FieldBatcher`): evaluates. number (`int`): which of its fits this is.

    Raises:
        FaceTalkError: the head does not deform both ways: its points cannot be carried back by networks alone.
    """

    def __init__(self, head: NPHMModel, identity: torch.Tensor, batcher: FieldBatcher, number: int) -> None:
        if not self.supports(head):
            raise FaceTalkError(
                "fits on a GPU or in batches need a head that deforms both ways (deformation 'both', forward "
                "'bilinear'); for this one, leave --batch-size out and take --device cpu"
            )
        super().__init__(head, identity)
        self.batcher, self.number = batcher, number

    def distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (P,) at posed points (P, 3) under weights (W,)."""
        if not len(points):
            return super().distance(points, weights)
        return self.batcher.request(self.number, "distance", self, points, weights)

    def linearize(
        self, points: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute distance (P,), gradient (P, 3) and Jacobian in the weights (P, W) at posed points (P, 3)."""
        if not len(points):
            return super().linearize(points, weights)
        return self.batcher.request(self.number, "linearize", self, points, weights)
