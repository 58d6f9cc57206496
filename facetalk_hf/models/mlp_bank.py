# SPDX-License-Identifier: MIT
"""Many small MLPs of one shape, evaluated on rows that are sorted by the member that they belong to."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .ensemble import ACTIVATIONS


JOIN = 2**-0.5  # where x and z join again, the row [hidden, x, z] keeps its variance


class MLPBank(nn.Module):
    r"""MLPs y = W_n(.. act(W_0 x + V_0 z + b_0) ..) + b_n, whose inputs x and codes z may join again at one layer.

    A code z is the same for all rows of a member (a local field of one identity, or a whole deformation under one
    expression), so its share of a layer is that member's bias and costs nothing a row.

    Args:
        num_networks (`int`): N, sets of weights; several members may share one.
        input_dim, code_dim (`int`): sizes of x and z.
        sizes (`list[int]`): outputs of each layer, the last one is the result.
        skip_layer (`int`, *optional*): layer that sees [hidden, x, z] / sqrt 2 instead of the hidden row.
        activation (`str`): "softplus" (beta 100), "relu" or "silu", after all layers but the last.
    """

    def __init__(
        self, num_networks: int, input_dim: int, code_dim: int, sizes: list[int], skip_layer: int | None = None,
        activation: str = "softplus",
    ):  # fmt: skip
        super().__init__()
        self.skip_layer, self.sizes = skip_layer, tuple(sizes)
        self.activation = (ACTIVATIONS | {"relu": F.relu})[activation]

        def weights(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(num_networks, rows, columns) / math.sqrt(max(columns, 1)))

        self.weights = nn.ParameterList(weights(a, b) for a, b in zip(sizes, [input_dim, *sizes[:-1]], strict=True))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(num_networks, size)) for size in sizes)
        self.code_weight = weights(sizes[0], code_dim)
        if skip_layer is not None:
            self.skip_weight = weights(sizes[skip_layer], input_dim)
            self.skip_code_weight = weights(sizes[skip_layer], code_dim)

    def member_biases(self, codes: torch.Tensor, network: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Compute for each layer M biases (size,) from codes (M, code_dim) and networks (M,) of M members."""
        result = []
        for layer, bias in enumerate(self.biases):
            rows = bias[network]
            if layer == 0:
                rows = rows + torch.einsum("mc,mhc->mh", codes, self.code_weight[network])
            elif layer == self.skip_layer:
                rows = rows + torch.einsum("mc,mhc->mh", JOIN * codes, self.skip_code_weight[network])
            result.append(rows.unbind(0))
        return result

    def forward(
        self, inputs: torch.Tensor, counts: list[int], codes: torch.Tensor, network: torch.Tensor,
        with_features: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Evaluate rows that are sorted by member.

        Args:
            inputs (`torch.Tensor`): (R, input_dim), first the rows of member 0, then those of member 1 ...
            counts (`list[int]`): rows of each of the M members, R in all.
            codes (`torch.Tensor`): (M, code_dim).
            network (`torch.Tensor`): (M,) weights that each member uses.
            with_features (`bool`): give the last hidden rows too.

        Returns:
            (R, sizes[-1]) results; with features also the (R, sizes[-2]) rows before the last activation.
        """
        biases = self.member_biases(codes, network)
        columns = [weight.unbind(0) for weight in self.weights]  # once: an index a member would pad each gradient
        skips = () if self.skip_layer is None else self.skip_weight.unbind(0)
        results, features = [], []
        for member, (rows, index) in enumerate(zip(inputs.split(counts), network.tolist(), strict=True)):
            if not len(rows) and len(inputs):
                continue
            hidden = F.linear(rows, columns[0][index], biases[0][member])
            for layer in range(1, len(columns)):
                before = hidden
                active = self.activation(hidden)
                if layer == self.skip_layer:
                    bias = F.linear(JOIN * rows, skips[index], biases[layer][member])
                    hidden = torch.addmm(bias, JOIN * active, columns[layer][index].T)
                else:
                    hidden = F.linear(active, columns[layer][index], biases[layer][member])
            results.append(hidden)
            if with_features:
                features.append(before)
        return (torch.cat(results), torch.cat(features)) if with_features else torch.cat(results)
