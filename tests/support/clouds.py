# SPDX-License-Identifier: MIT
"""Fields of heads for point clouds."""

import torch
from components import CODE_DIM, make_head, randomize

from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.fitting.bidirectional_field import BidirectionalField


def random_field(seed: int = 0) -> BidirectionalField:
    torch.manual_seed(seed)
    head = make_head(
        deformation="both", backward_type="controls", backward_hidden_size=8, backward_layers=2,
        expression_names=list(EXPRESSIONS), rank=len(EXPRESSIONS),
    )  # fmt: skip
    with torch.no_grad():
        head.expression_basis.copy_(torch.linalg.qr(torch.randn(CODE_DIM, len(EXPRESSIONS)))[0])
        head.forward_net.coefficient_map.weight.copy_(head.expression_basis.T)
    randomize(head, 0.02)
    return BidirectionalField(head, 0.1 * torch.randn(head.identity_dim), chunk=64)
