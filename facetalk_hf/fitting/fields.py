# SPDX-License-Identifier: MIT
"""The choice of the posed distance field that a head needs."""

import torch

from ..models.nphm import NPHMModel
from .bidirectional_field import BidirectionalField
from .posed_field import PosedField
from .search_field import SearchField


def make_field(head: NPHMModel, identity: torch.Tensor, chunk: int = 2048) -> PosedField:
    """Make the posed distance field of an identity of any head.

    Args:
        head (`NPHMModel`): one that deforms both ways, forward bilinear, gets the fast [`BidirectionalField`]; any
            other [`SearchField`].
        identity (`torch.Tensor`): (Z,).
        chunk (`int`): points that are evaluated at a time.
    """
    kind = BidirectionalField if BidirectionalField.supports(head) else SearchField
    return kind(head, identity, chunk)
