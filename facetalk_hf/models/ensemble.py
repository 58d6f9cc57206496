# SPDX-License-Identifier: MIT
"""The identity field of NPHM: an ensemble of small MLPs, each in charge of the neighbourhood of one anchor."""

import math

import torch
import torch.nn.functional as F
from torch import nn


ROWS_ALONE = 100  # rows a member, on average, from which each has matrix products of its own
ACTIVATIONS = {"silu": F.silu, "softplus": lambda x: F.softplus(x, beta=100.0)}


def encode(points: torch.Tensor, num_octaves: int) -> torch.Tensor:
    """Encode coordinates (..., 3) as (..., 3 + 6 * num_octaves): themselves, then sines, cosines of each octave."""
    if num_octaves == 0:
        return points
    angles = points.unsqueeze(-2) * (0.5 * math.pi * 2.0 ** torch.arange(num_octaves, device=points.device))[:, None]
    return torch.cat([points, angles.sin().flatten(-2), angles.cos().flatten(-2)], dim=-1)


def blending_weights(
    points: torch.Tensor, anchors: torch.Tensor, num_neighbors: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight the `num_neighbors` nearest anchors: (1 - (d_k / d_last)^2)^2 with d_last the next anchor's distance.

    The support ends exactly where an anchor drops out of the neighbourhood, so the field is continuous although only
    few members are evaluated; it scales with the spacing of the anchors, so it never fades away from the head.

    Args:
        points (`torch.Tensor`): (B, P, 3).
        anchors (`torch.Tensor`): (B, K, 3), K > num_neighbors.

    Returns:
        (B, P, k) weights (not normalised) and (B, P, k) indices of the anchors.
    """
    distance = (points.unsqueeze(2) - anchors.unsqueeze(1)).square().sum(-1)
    nearest, index = distance.topk(num_neighbors + 1, dim=-1, largest=False)
    ratio = nearest[..., :-1] / nearest[..., -1:].clamp_min(1e-12)
    return (1.0 - ratio).square(), index[..., :-1]


class LocalEnsemble(nn.Module):
    r"""Signed distance as a blend of local MLPs (NPHM, section 3.2).

    Member k sees the point relative to its anchor; the members of a mirrored pair share their weights, and the odd one
    sees the mirror image. One more member without an anchor covers the rest. The latent codes are constant over all
    points of an identity, so their part of a layer is computed once as that member's bias.

    Args:
        num_anchors (`int`): K; members are the K anchors and the global one.
        num_symmetric_pairs (`int`): the first 2 * pairs anchors are left and right in turn.
        glob_dim, loc_dim (`int`): sizes of the global code and of each member's own code.
        hidden_size, num_layers (`int`): of each MLP; layer 2 sees coordinates and codes again.
        num_octaves, coordinate_scale: positional encoding of the local coordinates.
    """

    network: torch.Tensor
    mirror: torch.Tensor

    def __init__(
        self,
        num_anchors: int = 39,
        num_symmetric_pairs: int = 16,
        glob_dim: int = 48,
        loc_dim: int = 24,
        hidden_size: int = 96,
        num_layers: int = 3,
        num_octaves: int = 5,
        coordinate_scale: float = 4.0,
        num_neighbors: int = 6,
        global_weight: float = 0.05,
        activation: str = "silu",
    ):
        super().__init__()
        self.num_anchors, self.num_symmetric_pairs = num_anchors, num_symmetric_pairs
        self.num_octaves, self.coordinate_scale = num_octaves, coordinate_scale
        self.num_neighbors, self.global_weight = num_neighbors, global_weight
        self.activation = ACTIVATIONS[activation]
        members = torch.arange(num_anchors + 1)
        paired = members < 2 * num_symmetric_pairs
        network = torch.where(paired, members // 2, members - num_symmetric_pairs)
        mirror = torch.ones(num_anchors + 1, 3)
        mirror[paired & (members % 2 == 1), 0] = -1.0
        self.register_buffer("network", network, persistent=False)
        self.register_buffer("mirror", mirror, persistent=False)

        num_networks = num_anchors + 1 - num_symmetric_pairs
        inputs, codes = 3 + 6 * num_octaves, glob_dim + loc_dim
        self.skip_layer = 2 if num_layers > 2 else None

        def weights(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(num_networks, rows, columns) / math.sqrt(rows))

        self.input_weight = weights(inputs, hidden_size)
        self.hidden_weights = nn.ParameterList(weights(hidden_size, hidden_size) for _ in range(num_layers - 1))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(num_networks, hidden_size)) for _ in range(num_layers))
        self.code_weight = weights(codes, hidden_size)
        if self.skip_layer is not None:
            self.skip_weight = weights(inputs, hidden_size)
            self.skip_code_weight = weights(codes, hidden_size)
        self.output_weight = weights(hidden_size, 1)
        self.output_bias = nn.Parameter(torch.zeros(num_networks, 1))

    def code_biases(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """Compute the biases (B * (K + 1), hidden) of all members, layer by layer, of codes (B, K + 1, glob + loc)."""
        result = []
        for layer, bias in enumerate(self.biases):
            rows = bias[self.network].expand(codes.shape[0], -1, -1)
            if layer == 0:
                rows = rows + torch.einsum("bkl,klh->bkh", codes, self.code_weight[self.network])
            elif layer == self.skip_layer:
                rows = rows + torch.einsum("bkl,klh->bkh", codes, self.skip_code_weight[self.network])
            result.append(rows.flatten(0, 1))
        return result

    def forward(self, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (B, P) of points (B, P, 3), anchors (B, K, 3), codes (B, K + 1, glob + loc)."""
        batch, count, _ = points.shape
        weight, index = blending_weights(points, anchors, self.num_neighbors)
        # The anchor-less member sits at the origin and takes part everywhere with a small weight.
        index = F.pad(index, (0, 1), value=self.num_anchors)
        weight = F.pad(weight, (0, 1), value=self.global_weight)
        centres = F.pad(anchors, (0, 0, 0, 1))
        key = index + torch.arange(batch, device=points.device)[:, None, None] * (self.num_anchors + 1)
        local = points.unsqueeze(2) - centres.flatten(0, 1)[key]
        local = local * self.mirror[index] * self.coordinate_scale

        # Rows that share a network are put next to each other, so that each layer is one matrix product a network.
        # Where there are many, those of one member are: its codes are then one bias, not one gathered for each row.
        members = batch * (self.num_anchors + 1)
        alone = key.numel() >= ROWS_ALONE * members
        group = key.flatten() if alone else self.network[index].flatten()
        order = group.argsort()
        sizes = torch.bincount(group, minlength=members if alone else len(self.input_weight)).tolist()
        inputs = encode(local.reshape(-1, 3)[order], self.num_octaves).split(sizes)
        biases, networks = self.code_biases(codes), self._networks()
        which = self.network.repeat(batch).tolist() if alone else range(len(sizes))
        keys = range(members) if alone else key.flatten()[order].split(sizes)
        results = [
            self._member(networks[which[i]], inputs[i], [bias[keys[i]] for bias in biases])
            for i, n in enumerate(sizes)
            if n
        ]
        values = torch.cat(results).squeeze(-1)
        values = torch.empty_like(values).index_copy(0, order, values).view_as(weight)
        return (weight * values).sum(-1) / weight.sum(-1)

    def _networks(self) -> list[dict]:
        # One unbind a tensor instead of one index a network: the gradient is then stacked once, not padded 24 times.
        names = ["input_weight", "output_weight", "output_bias"] + (["skip_weight"] if self.skip_layer else [])
        columns = {name: getattr(self, name).unbind(0) for name in names}
        hidden = [weight.unbind(0) for weight in self.hidden_weights]
        return [
            {name: column[i] for name, column in columns.items()} | {"hidden": [weight[i] for weight in hidden]}
            for i in range(len(self.input_weight))
        ]

    def _member(self, net: dict, inputs: torch.Tensor, biases: list[torch.Tensor]) -> torch.Tensor:
        hidden = self.activation(torch.addmm(biases[0], inputs, net["input_weight"]))
        for layer, weight in enumerate(net["hidden"], start=1):
            bias = biases[layer]
            if layer == self.skip_layer:
                bias = torch.addmm(bias, inputs, net["skip_weight"])
            hidden = self.activation(torch.addmm(bias, hidden, weight))
        return torch.addmm(net["output_bias"], hidden, net["output_weight"])
