# SPDX-License-Identifier: MIT
"""Deformation fields: how an expression code moves the points of a head."""

import torch
import torch.nn.functional as F
from torch import nn

from .ensemble import ACTIVATIONS, encode


class BilinearDeformation(nn.Module):
    r"""offset(x, z) = sum_r c_r(z) B_r(x) with c(z) = W z + b.

    The fields B depend on the point and the identity, never on the expression: they are computed once for an identity,
    and a frame costs one small matrix product. b makes z = 0 the neutral face although the canonical pose is another
    one. Our own variant; NPHM concatenates instead, see `ConcatDeformation`.

    Args:
        num_controls (`int`): control points (anchors and landmarks) that the point is described by. The reach of their
            Gaussians, model units, is the buffer `control_scales`.
        code_dim (`int`): size of the global identity code.
        expression_dim (`int`): size of z.
        rank (`int`): number of fields R.
        hidden_size, num_layers (`int`): of the MLP behind the fields.
    """

    control_scales: torch.Tensor

    def __init__(
        self, num_controls: int, code_dim: int, expression_dim: int, rank: int, hidden_size: int, num_layers: int
    ):
        super().__init__()
        self.rank = rank
        self.register_buffer("control_scales", torch.full((num_controls,), 0.1))
        sizes = [3 + 4 * num_controls] + [hidden_size] * num_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.code = nn.Linear(code_dim, hidden_size, bias=False)
        self.fields = nn.Linear(hidden_size, 3 * rank)
        self.coefficient_map = nn.Linear(expression_dim, rank)

    def coefficients(self, expression: torch.Tensor) -> torch.Tensor:
        """Map expression codes (..., D) to the coefficients (..., R) of the fields."""
        return self.coefficient_map(expression)

    def trunk(self, points: torch.Tensor, controls: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Compute hidden features (B, P, hidden) of points (B, P, 3), controls (B, C, 3), code (B, code_dim)."""
        features = describe(points, controls, self.control_scales)[0]
        hidden = F.silu(self.layers[0](features) + self.code(code).unsqueeze(1))
        for layer in self.layers[1:]:
            hidden = F.silu(layer(hidden))
        return hidden

    def basis(self, points: torch.Tensor, controls: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Compute the fields B at points: (B, P, R, 3)."""
        return self.fields(self.trunk(points, controls, code)).unflatten(-1, (self.rank, 3))

    def forward(
        self, points: torch.Tensor, controls: torch.Tensor, code: torch.Tensor, expression: torch.Tensor
    ) -> torch.Tensor:
        """Compute offsets (B, P, 3) of points (B, P, 3) under expression (B, D)."""
        return torch.einsum("bprc,br->bpc", self.basis(points, controls, code), self.coefficients(expression))


class ControlDeformation(nn.Module):
    r"""Backward deformation that reads where the control points are in the posed head.

    offset(x) = sum_k g_k(x) (c_k - p_k) / (sum_k g_k(x) + 0.05) + MLP(x relative to p, expression, identity), with
    controls c_k, their posed places p_k = c_k + F(c_k) by the forward deformation, and Gaussians g_k about p_k. What
    the controls say is known beforehand, so the network learns only what lies between them. Our own variant.

    Args:
        num_controls, code_dim, hidden_size, num_layers (`int`): as for [`BilinearDeformation`].
        expression_dim (`int`): coefficients of the forward deformation that stand for the expression.
    """

    control_scales: torch.Tensor

    def __init__(self, num_controls: int, code_dim: int, expression_dim: int, hidden_size: int, num_layers: int):
        super().__init__()
        self.register_buffer("control_scales", torch.full((num_controls,), 0.1))
        sizes = [3 + 4 * num_controls] + [hidden_size] * num_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.condition = nn.Linear(code_dim + expression_dim, num_layers * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, 3)
        nn.init.normal_(self.output.weight, std=1e-3)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, points: torch.Tensor, controls: torch.Tensor, posed: torch.Tensor, code: torch.Tensor,
        coefficients: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Compute offsets (B, P, 3) of points (B, P, 3).

        Controls and posed controls (B, C, 3), code (B, code_dim), coefficients (B, R).
        """
        hidden, near = describe(points, posed, self.control_scales)
        known = near @ (controls - posed) / (near.sum(-1, keepdim=True) + 0.05)
        # Every layer is given the expression; it is the same for all points, so it costs one bias.
        biases = self.condition(torch.cat([code, coefficients], dim=-1)).unsqueeze(1).chunk(len(self.layers), dim=-1)
        for layer, bias in zip(self.layers, biases, strict=True):
            hidden = F.silu(layer(hidden) + bias)
        return known + self.output(hidden)


def describe(points: torch.Tensor, controls: torch.Tensor, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Describe points by the control points around them.

    Args: points (B, P, 3), controls (B, C, 3), scales (C,): reach of each control's Gaussian, same unit.
    Returns: features (B, P, 3 + 4 C), and the Gaussians alone (B, P, C).
    """
    relative = (points.unsqueeze(2) - controls.unsqueeze(1)) / scales[:, None]
    near = torch.exp(-0.5 * relative.square().sum(-1, keepdim=True))
    return torch.cat([points, near.flatten(2), (near * relative).flatten(2)], dim=-1), near.squeeze(-1)


class ConcatDeformation(nn.Module):
    """NPHM's deformation MLP (section 3.3): offset = MLP([x, compressed identity, z_exp]), input joined again mid-way.

    Args:
        identity_dim (`int`): size of what the compressor sees (identity code and flattened anchors).
        expression_dim (`int`): size of z_exp.
        compressed_dim (`int`): size of the compressed identity.
        num_octaves (`int`): positional encoding of x; 0 as in the paper.
    """

    def __init__(
        self,
        identity_dim: int,
        expression_dim: int,
        hidden_size: int,
        num_layers: int,
        compressed_dim: int = 32,
        num_octaves: int = 0,
        activation: str = "softplus",
    ):
        super().__init__()
        self.num_octaves, self.skip_layer = num_octaves, num_layers // 2
        self.activation = ACTIVATIONS[activation]
        self.compressor = nn.Linear(identity_dim, compressed_dim)
        inputs = 3 + 6 * num_octaves + compressed_dim + expression_dim
        sizes = [inputs] + [hidden_size] * num_layers
        sizes_in = [size + (inputs if i == self.skip_layer else 0) for i, size in enumerate(sizes[:-1])]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes_in, sizes[1:], strict=True))
        self.output = nn.Linear(hidden_size, 3)
        nn.init.normal_(self.output.weight, std=1e-3)
        nn.init.zeros_(self.output.bias)

    def forward(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Compute offsets (B, P, 3) of points (B, P, 3), identity (B, identity_dim), expression (B, D)."""
        condition = torch.cat([self.compressor(identity), expression], dim=-1)
        inputs = torch.cat(
            [encode(4.0 * points if self.num_octaves else points, self.num_octaves),
             condition.unsqueeze(1).expand(-1, points.shape[1], -1)], dim=-1
        )  # fmt: skip
        hidden = inputs
        for i, layer in enumerate(self.layers):
            if i == self.skip_layer:
                hidden = torch.cat([hidden, inputs], dim=-1) / 2**0.5
            hidden = self.activation(layer(hidden))
        return self.output(hidden)
