# SPDX-License-Identifier: MIT
"""A head and scans of it whose every number is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from components import make_head

from facetalk_hf import NPHMModel
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.evaluation import head_metrics


RADIUS = 0.3


@pytest.fixture(scope="module")
def head() -> NPHMModel:
    """A ball of 75 mm; one number of the code makes it larger or smaller."""
    model = make_head(
        hidden_size=16, glob_dim=1, expression_names=list(EXPRESSIONS), rank=53, deformation="both",
        backward_type="controls", backward_layers=2,
    )  # fmt: skip
    with torch.no_grad():
        model.expression_basis.copy_(torch.linalg.qr(torch.randn(64, 53))[0])
        model.forward_net.coefficient_map.weight.copy_(model.expression_basis.T)
        model.forward_net.coefficient_map.bias.zero_()
        model.forward_net.coefficient_map.bias[INDEX["jawOpen"]] = -0.45
        model.identity_codes[1, 0] = 0.3
        model.ensemble.code_weight[:, 1:] = 0
        model.ensemble.skip_code_weight[:, 1:] = 0
        for parameter in (model.forward_net.fields.weight, model.forward_net.fields.bias):
            parameter.mul_(0.2)
    optimizer = torch.optim.Adam(model.ensemble.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300, 1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        points = torch.rand(8, 64, 3, generator=generator) * 1.4 - 0.7
        code = torch.zeros(8, model.identity_dim)
        code[:, 0] = 0.4 * torch.rand(8, generator=generator) - 0.05
        error = model.sdf(points, code) - (points.norm(dim=-1) - RADIUS - 0.1 * code[:, :1])
        optimizer.zero_grad()
        error.abs().mean().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def write_scans(head: NPHMModel, folder: Path, size: float = 1.0) -> None:
    """Two balls, of codes 0 and 0.3 in their first number, that move by `size` times what the head itself predicts."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(2000, 3))
    mean *= RADIUS / np.linalg.norm(mean, axis=1, keepdims=True)
    region = np.select([mean[:, 2] < 0, mean[:, 1] > 0.2, mean[:, 1] < -0.1], [0, 3, 2], 1).astype(np.uint8)
    zero = torch.zeros(1, head.identity_dim)
    fields = head_metrics.predicted_fields(head, mean, zero) / 250
    canonical = -head.forward_net.coefficient_map.bias.numpy()
    np.savez(folder / "template.npz", mean=mean.astype(np.float32), identities=np.zeros((2000, 1, 3), np.float16),
             expressions=(size * fields), region=region, canonical_weights=canonical,
             control_expressions=np.zeros((53, head.config.num_anchors + 78, 3), np.float32))  # fmt: skip
    for i, radius in enumerate((RADIUS, RADIUS + 0.03)):
        normals = rng.normal(size=(20_000, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        points = np.concatenate([radius * normals[:3000], rng.uniform(-0.6, 0.6, (4000, 3))]).astype(np.float32)
        controls = torch.cat([head.anchors(zero), head.feature_points(zero)], 1)[0].numpy()
        scan = {"points": points, "distance": np.linalg.norm(points, axis=1) - radius, "controls": controls,
                "kind": np.repeat([0, 1, 2], [3000, 2000, 2000]), "coefficients": np.zeros(1, np.float32),
                "surface": radius * normals, "normals": normals}  # fmt: skip
        np.savez(folder / f"test_{i:04d}.npz", **scan)
