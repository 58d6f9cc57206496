# SPDX-License-Identifier: MIT
"""Heads whose surface is a ball: everything about them is known."""

import pytest
import torch
from components import make_head

from facetalk_hf import NPHMModel
from facetalk_hf.head.decoder import LOWER_LIP, UPPER_LIP


NAMES = ["jawOpen", "eyeBlink_L", "mouthClose"]


@pytest.fixture(scope="module")
def head() -> NPHMModel:
    return make_ball_head()


def make_ball_head() -> NPHMModel:
    """A tiny head whose surface is a real one: its ensemble is trained to the distance from a ball, in seconds."""
    torch.manual_seed(0)
    model = make_head(hidden_size=16, expression_names=NAMES, rank=3, neck_plane=(0.0, -1.0, 0.0, 0.3))
    generator = torch.Generator().manual_seed(0)
    # Sizes of a face: eyes 30 mm from the middle, 12 mm balls that look out of the skin.
    with torch.no_grad():
        model.point_mean.copy_(0.05 * torch.randn(82, 3, generator=generator) + torch.tensor([0.0, -0.1, 0.3]))
        model.point_mean[list(UPPER_LIP)] = torch.tensor([0.0, -0.1, 0.34])
        model.point_mean[list(LOWER_LIP)] = torch.tensor([0.0, -0.14, 0.34])
        for side, x in enumerate((0.12, -0.12)):
            model.point_mean[68 + side] = torch.tensor([x, 0.08, 0.33])
            model.point_mean[70 + side] = torch.tensor([x, 0.08, 0.38])
        arch = torch.tensor([[0, 0, 0.04], [0.06, 0, 0.0], [0.1, 0, -0.1], [-0.06, 0, 0.0], [-0.1, 0, -0.1]])
        model.point_mean[72:77] = arch + torch.tensor([0.0, -0.1, 0.28])
        model.point_mean[77:82] = arch + torch.tensor([0.0, -0.13, 0.28])
        model.expression_basis.copy_(torch.linalg.qr(torch.randn(64, 3, generator=generator))[0])
        model.forward_net.coefficient_map.weight.copy_(model.expression_basis.T)
        model.forward_net.coefficient_map.bias.copy_(torch.tensor([-0.45, 0.0, 0.0]))
        model.forward_net.fields.weight.mul_(0.05)
        model.forward_net.fields.bias.mul_(0.05)
        model.identity_codes[1] = 0.1
    optimizer = torch.optim.Adam(model.ensemble.parameters(), lr=1e-2)
    for _ in range(150):
        points = torch.rand(1, 512, 3, generator=generator) * 1.4 - 0.7
        error = model.sdf(points, torch.zeros(1, model.identity_dim)) - (points.norm(dim=-1) - 0.4)
        optimizer.zero_grad()
        error.abs().mean().backward()
        optimizer.step()
    return model.eval()


def make_backward_head(**config) -> NPHMModel:
    """A head of ours with a small backward deformation, and a ball of 100 mm as its surface."""
    torch.manual_seed(0)
    head = make_head(deformation="backward", forward_type="concat", hidden_size=16, **config)
    with torch.no_grad():
        for parameter in head.backward_net.parameters():
            parameter.mul_(0.5)
    optimizer = torch.optim.Adam(head.ensemble.parameters(), lr=1e-2)
    for _ in range(80):
        points = torch.rand(1, 400, 3) * 1.2 - 0.6
        error = head.sdf(points, torch.zeros(1, head.identity_dim)) - (points.norm(dim=-1) - 0.4)
        optimizer.zero_grad()
        error.abs().mean().backward()
        optimizer.step()
    return head.eval()
