# SPDX-License-Identifier: MIT
"""Expression codes as weights of a head's named shapes, and back."""

from collections.abc import Callable
from functools import cached_property

import torch

from ..blendshapes import MOUTH
from ..models.nphm import NPHMModel
from .controls import needs_names


class Channels:
    """Expression codes by the names of a head's shapes: z = E w has the inverse w = E^T z.

    Columns of E are orthonormal up to the rounding of a stored checkpoint. With D = E (E^T E)^-1, `z + D_k d` changes
    the weight k by d, and no other by anything.

    Args:
        head ([`NPHMModel`], *optional*): the head.
        purpose (`str`): what the names are needed for, for the error.

    Raises:
        FaceTalkError: no head, or one whose shapes have no names.
    """

    def __init__(self, head: NPHMModel | None, purpose: str) -> None:
        names = shape_names(head)
        if head is None or names is None:
            raise needs_names(purpose)
        self.names = names
        self.basis = head.expression_basis.detach().double().cpu()
        self.mouth = torch.tensor([name in MOUTH for name in self.names])
        self._kept: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    @cached_property
    def dual(self) -> torch.Tensor:
        """D (D, W) float64; only who changes weights pays for the inverse, a stream does not for every few frames."""
        return self.basis @ torch.linalg.inv(self.basis.T @ self.basis)

    def weights(self, codes: torch.Tensor) -> torch.Tensor:
        """Convert codes (..., D) to weights (..., W)."""
        return codes @ self._as(codes, "basis", lambda: self.basis)

    def _as(self, like: torch.Tensor, name: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Keep a matrix in the type of codes: a stream needs it several times for every few frames."""
        key = name, like.dtype, like.device
        if key not in self._kept:
            self._kept[key] = make().to(like)
        return self._kept[key]

    def change(
        self, codes: torch.Tensor, difference: torch.Tensor, columns: torch.Tensor | list[int] | slice = slice(None)
    ) -> torch.Tensor:
        """Change codes (..., D) so that the weights of `columns` are larger by `difference` (..., n)."""
        if columns is self.mouth or isinstance(columns, slice) and columns == slice(None):
            name = "mouth" if columns is self.mouth else "all"
            return codes + difference @ self._as(codes, name, lambda: self.dual[:, columns].T)
        return codes + difference @ self.dual[:, columns].to(codes).T


def shape_names(head: NPHMModel | None) -> tuple[str, ...] | None:
    """Return the names of a head's shapes; `None` where there is no head, or its shapes have no names."""
    names = None if head is None else head.config["expression_names"]
    return None if names is None else tuple(names)
