# SPDX-License-Identifier: MIT
"""Fields of several sequences evaluated together: what makes fitting fast on a GPU."""

import threading

import torch

from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from .posed_field import PosedField


class FieldBatcher:
    """Gathers what the fits of several sequences ask of the networks and answers all at once.

    Each fit runs in a thread of its own and stops at every question. When all that are still at work have asked, the
    questions of a kind become one batch, whose order is that of the fits: what is batched with what does not depend
    on how fast a thread is.

    Args:
        head (`NPHMModel`): evaluated on `device`; moved there.
        device (`torch.device`): where the networks run; the rest of a fit stays on the CPU.
        count (`int`): how many fits there are. Each calls `leave` when it ends, whatever way it does.
    """

    def __init__(self, head: NPHMModel, device: torch.device | str, count: int):
        self.head, self.device, self.working = head.to(device), torch.device(device), count
        self.asked: dict[int, tuple] = {}
        self.answers: dict[int, object] = {}
        self.lock = threading.Condition()

    def ask(self, number: int, kind: str, field: "SharedField", points: torch.Tensor, weights: torch.Tensor) -> tuple:
        """Wait for the answer to a question of fit `number`: "slopes" or "distance" of a field, as CPU tensors."""
        with self.lock:
            self.asked[number] = (kind, field, points, weights)
            self._answer_when_all_asked()
            self.lock.wait_for(lambda: number in self.answers)
            answer = self.answers.pop(number)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self) -> None:
        """A fit has ended: the others no longer wait for it."""
        with self.lock:
            self.working -= 1
            self._answer_when_all_asked()

    def _answer_when_all_asked(self) -> None:
        if not self.asked or len(self.asked) < self.working:
            return
        for kind in ("distance", "slopes"):
            numbers = sorted(number for number, question in self.asked.items() if question[0] == kind)
            try:
                answers = self.evaluate(kind, [self.asked[number][1:] for number in numbers]) if numbers else []
            except Exception as error:  # each of the fits has to hear of it, or it waits for ever
                answers = [error] * len(numbers)
            self.answers.update(zip(numbers, answers, strict=True))
        self.asked.clear()
        self.lock.notify_all()

    def evaluate(self, kind: str, questions: list[tuple]) -> list[tuple]:
        """Answers to (field, points (P_i, 3), weights (W,)): one batch; short clouds repeat their last point."""
        longest = max(len(points) for _, points, _ in questions)
        padded = torch.stack([points[torch.arange(longest).clamp_max(len(points) - 1)] for _, points, _ in questions])
        names = ("controls", "glob", "anchors", "members")
        inputs = {name: torch.cat([getattr(field, name) for field, _, _ in questions]) for name in names}
        inputs["fields"] = torch.stack([field.control_fields for field, _, _ in questions])
        inputs["coefficients"] = torch.stack([weights @ field.mix.T + field.rest for field, _, weights in questions])
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        points = padded.to(self.device)
        lengths = [len(part) for _, part, _ in questions]
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
            jacobian = -torch.einsum("bprk,bpk->bpr", fields, gradient) @ questions[0][0].mix.to(self.device)
        parts = values.detach().cpu(), gradient.cpu(), jacobian.cpu()
        return [tuple(part[i, :length] for part in parts) for i, length in enumerate(lengths)]

    def _canonical(self, points: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        coefficients = inputs["coefficients"]
        posed = inputs["controls"] + torch.einsum("bcrk,br->bck", inputs["fields"], coefficients)
        return points + self.head.backward_net(points, inputs["controls"], posed, inputs["glob"], coefficients)

    def _sdf(self, points: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head.ensemble(points, inputs["anchors"], inputs["members"])


class SharedField(PosedField):
    """A `PosedField` that asks a `FieldBatcher`.

    Args:
        head, identity: as for [`PosedField`]; the head here stays on the CPU.
        batcher (`FieldBatcher`), number (`int`): who answers, and which of its fits this is.

    Raises:
        FaceTalkError: the head does not deform both ways: its points cannot be carried back by networks alone.
    """

    def __init__(self, head: NPHMModel, identity: torch.Tensor, batcher: FieldBatcher, number: int):
        if head.config.deformation != "both" or head.config.forward_type != "bilinear":
            raise FaceTalkError(
                "fits on a GPU or in batches need a head that deforms both ways (deformation 'both', forward "
                "'bilinear'); for this one, leave --batch-size out and take --device cpu"
            )
        super().__init__(head, identity)
        self.batcher, self.number = batcher, number

    def distance(self, points: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """As [`PosedField.distance`]."""
        if not len(points):
            return super().distance(points, weights)
        return self.batcher.ask(self.number, "distance", self, points, weights)

    def slopes(self, points: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As [`PosedField.slopes`]."""
        if not len(points):
            return super().slopes(points, weights)
        return self.batcher.ask(self.number, "slopes", self, points, weights)
