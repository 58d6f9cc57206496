# SPDX-License-Identifier: MIT
"""The networks of NPHM and MonoNPHM as they were published, for converted weights: see docs/nphm.md."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from .mlp_bank import MLPBank


KERNEL = 0.01  # NPHM: weight exp(-d^2 / KERNEL)
BACKGROUND = -20.0  # NPHM: logarithm of the anchor-less member's weight, exp(-0.2 / KERNEL)
FLOOR = 1e-6  # NPHM: added to the sum of weights, so that the field fades to zero away from the head
RANK, SHARPNESS = 8, 3.75  # MonoNPHM: its kernel is as wide as the distance to the 8th nearest anchor / 3.75
REACH = 0.75  # MonoNPHM: what counts as the anchor-less member's distance


class _Call(nn.Module):
    """A method as a module's forward, which `functional_call` needs."""

    def __init__(self, owner: nn.Module, method: Callable):
        super().__init__()
        self.owner, self.method = owner, method

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.method(self.owner, *inputs)


def precise_gradients(method: Callable) -> Callable:
    """Make a method of a converted head compute in double precision what gradients by its inputs are asked of.

    The Softplus of these networks is as steep as 100: a rounding of 1e-7 before it is one of 1e-5 in a gradient. The
    published code's gradients are no better; ours in float32 would be up to twice as far from them. On the CPU only,
    many GPUs have next to no float64; `head.double_gradients = False` saves the time.
    """

    @functools.wraps(method)
    def wrapper(self: Any, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        values = [value for value in (*inputs, *named.values()) if value is not None]
        if (
            not (self.config.official_ensemble and self.double_gradients and torch.is_grad_enabled())
            or not any(value.requires_grad for value in values)
            or any(value.dtype != torch.float32 or value.device.type != "cpu" for value in values)
        ):
            return method(self, *inputs, **named)
        tensors = dict(self.named_parameters(prefix="owner")) | dict(self.named_buffers(prefix="owner"))
        tensors = {name: value.double() for name, value in tensors.items() if value.is_floating_point()}
        inputs = tuple(None if value is None else value.double() for value in inputs)
        named = {name: None if value is None else value.double() for name, value in named.items()}
        bound = functools.partial(method, **named)
        return functional_call(_Call(self, bound), tensors, inputs).float()

    return wrapper


def anchor_network(glob_dim: int, hidden_size: int, num_anchors: int) -> nn.Sequential:
    """Make the network that predicts offsets (.., 3 K) of the anchors from their mean of a code (.., glob_dim)."""
    return nn.Sequential(
        nn.Linear(glob_dim, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size), nn.ReLU(),
        nn.Linear(hidden_size, 3 * num_anchors),
    )  # fmt: skip


class OfficialEnsemble(nn.Module):
    r"""Identity field of NPHM (`kind="nphm"`) or MonoNPHM (`kind="mononphm"`).

    NPHM (CVPR 2023, section 3.2): f = sum_k w_k f_k / (sum_k w_k + 1e-6) over all members, w_k = exp(-d_k^2 / 0.01).
    MonoNPHM (CVPR 2024): the 12 nearest anchors and the anchor-less member, a kernel as wide as their spacing, members
    that see hyper-coordinates too, and a second bank for colour, fed by the first one's features.
    Members that can't change the result are not evaluated, see `skip_below`.

    Args:
        num_anchors, num_symmetric_pairs: K; the first 2 * pairs anchors are left and right in turn.
        code_dim (`int`): global and local code of a member together.
        kind (`str`): "nphm" or "mononphm".
        sizes (`list[int]`), skip_layer (`int`, *optional*): of each member's MLP, as for `MLPBank`.
        hyper_dim (`int`): coordinates besides x, y, z.
        num_neighbors (`int`): anchors that MonoNPHM blends.
        appearance_dims (`list[int]`, *optional*): global and local size of the appearance code.
        color_sizes, bottleneck_sizes (`list[int]`, *optional*): layers of the colour members and of what feeds them.
    """

    skip_below = 1e-8
    """Members with a smaller share of the blend are skipped; with gradients, which grow faster, a hundredth of it.

    1e-6 keeps distances to 1e-6, but an edge along which the field hardly changes turns that into a vertex moved by
    1e-4; 1e-8 keeps vertices to 1e-6 for a fifth more time.
    """
    network: torch.Tensor
    mirror: torch.Tensor
    members: MLPBank
    colors: MLPBank

    def __init__(
        self, num_anchors: int, num_symmetric_pairs: int, code_dim: int, kind: str, sizes: list[int],
        skip_layer: int | None = None, hyper_dim: int = 0, num_neighbors: int = 12,
        appearance_dims: list[int] | None = None, color_sizes: list[int] | None = None,
        bottleneck_sizes: list[int] | None = None,
    ):  # fmt: skip
        super().__init__()
        if kind not in ("nphm", "mononphm"):
            raise ValueError(f'kind is "nphm" or "mononphm", not {kind!r}')
        self.num_anchors, self.kind, self.num_neighbors = num_anchors, kind, num_neighbors
        members = torch.arange(num_anchors + 1)
        paired = members < 2 * num_symmetric_pairs
        network = torch.where(paired, members // 2, members - num_symmetric_pairs)
        mirror = torch.ones(num_anchors + 1, 3 + hyper_dim)
        mirror[paired & (members % 2 == 1), 0] = -1.0
        self.register_buffer("network", network, persistent=False)
        self.register_buffer("mirror", mirror, persistent=False)
        count = num_anchors + 1 - num_symmetric_pairs
        self.members = MLPBank(count, 3 + hyper_dim, code_dim, sizes, skip_layer)
        if color_sizes is not None and bottleneck_sizes is not None and appearance_dims is not None:
            narrow, wide = bottleneck_sizes
            self.bottleneck = nn.Sequential(nn.Linear(sizes[-2], narrow), nn.ReLU(), nn.Linear(narrow, wide))
            self.colors = MLPBank(count, wide, sum(appearance_dims), color_sizes, activation="relu")

    def log_weights(self, points: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Compute logarithms of the members' weights, not normalised: (B, P, K + 1), the anchor-less member last."""
        offset = points.unsqueeze(2) - anchors.unsqueeze(1)
        distance = (offset.square().sum(-1) + 1e-20).sqrt()  # the norm with a gradient at the anchor itself
        if self.kind == "nphm":
            return F.pad(-(distance + 1e-5).square() / KERNEL, (0, 1), value=BACKGROUND)
        nearest = distance.topk(self.num_neighbors, dim=-1, largest=False).values
        spacing = (nearest[..., RANK - 1 : RANK] / SHARPNESS).clamp_min(1e-9)
        logarithm = -0.5 * (F.pad(distance, (0, 1), value=REACH) / spacing).square()
        return logarithm.masked_fill(F.pad(distance > nearest[..., -1:], (0, 1)), -torch.inf)

    def forward(self, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (B, P) of points (B, P, 3 + H), anchors (B, K, 3), codes (B, K + 1, code_dim)."""
        weights, _, place, inputs, counts = self._select(points, anchors)
        values = self.members(inputs, counts, codes.flatten(0, 1), self.network.repeat(len(points)))
        return self._blend(values, weights, place, points)[..., 0]

    def member_values(
        self, points: torch.Tensor, wanted: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor
    ) -> torch.Tensor:
        """Compute distances (P, K + 1) by single members where `wanted` (P, K + 1) bool says so, 0 elsewhere.

        All of one identity: points (P, 3 + H), anchors (K, 3), codes (K + 1, code_dim).
        """
        member, point = wanted.T.nonzero(as_tuple=True)
        counts = wanted.sum(0).tolist()
        centres = F.pad(anchors, (0, points.shape[-1] - 3, 0, 1))
        inputs = (points[point] - centres[member]) * self.mirror[member]
        values = self.members(inputs, counts, codes, self.network)
        return values.new_zeros(wanted.shape).index_put((point, member), values[:, 0])

    def color(
        self, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor, appearance: torch.Tensor
    ) -> torch.Tensor:
        """Compute colours (B, P, 3), -1 to 1, with appearance codes (B, K + 1, size); the rest as for `forward`."""
        weights, _, place, inputs, counts = self._select(points, anchors)
        network = self.network.repeat(len(points))
        _, features = self.members(inputs, counts, codes.flatten(0, 1), network, with_features=True)
        values = self.colors(self.bottleneck(features), counts, appearance.flatten(0, 1), network)
        return self._blend(values, weights, place, points)

    def _select(self, points: torch.Tensor, anchors: torch.Tensor) -> tuple:
        """Select the pairs of point and member that matter, by member: weights, fading, points, inputs, counts."""
        batch, count, _ = points.shape
        logarithm = self.log_weights(points[..., :3], anchors)
        share = logarithm.softmax(-1)
        total = logarithm.logsumexp(-1)
        fading = torch.sigmoid(total - math.log(FLOOR if self.kind == "nphm" else 1e-8))
        threshold = self.skip_below * (0.01 if torch.is_grad_enabled() and points.requires_grad else 1.0)
        with torch.no_grad():
            wanted = (share > threshold).transpose(1, 2)
            row, member, point = wanted.nonzero(as_tuple=True)
            counts = wanted.sum(-1).flatten().tolist()
            place = row * count + point
        weights = (share * fading.unsqueeze(-1)).flatten(0, 1)[place, member]
        centres = F.pad(anchors, (0, points.shape[-1] - 3, 0, 1))
        inputs = (points.flatten(0, 1)[place] - centres[row, member]) * self.mirror[member]
        return weights, fading, place, inputs, counts

    @staticmethod
    def _blend(values: torch.Tensor, weights: torch.Tensor, place: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        batch, count, _ = points.shape
        result = values.new_zeros(batch * count, values.shape[-1])
        return result.index_add(0, place, values * weights.unsqueeze(-1)).unflatten(0, (batch, count))


class OfficialDeformation(nn.Module):
    r"""Deformation of NPHM (section 3.3) and MonoNPHM: MLP([x, condition(identity), z_exp]).

    Args:
        identity_dim (`int`): size of identity code and flattened anchors together.
        glob_dim, expression_dim (`int`): sizes of the global identity code, with which the identity starts, and z_exp.
        sizes (`list[int]`), skip_layer (`int`, *optional*): layers, as for `MLPBank`; the last gives 3 + H numbers.
        condition (`str`): what is seen of the identity. "compress": a linear map of everything; "glob_only": the
            global code; "expr_only": nothing.
        compressed_dim (`int`): size of the linear map's result.
    """

    def __init__(
        self, identity_dim: int, glob_dim: int, expression_dim: int, sizes: list[int], skip_layer: int | None = None,
        condition: str = "compress", compressed_dim: int = 32,
    ):  # fmt: skip
        super().__init__()
        if condition not in ("compress", "glob_only", "expr_only"):
            raise ValueError(f'condition is "compress", "glob_only" or "expr_only", not {condition!r}')
        self.condition, self.glob_dim = condition, glob_dim
        if condition == "compress":
            self.compressor = nn.Linear(identity_dim, compressed_dim)
        extra = {"compress": compressed_dim, "glob_only": glob_dim, "expr_only": 0}[condition]
        self.net = MLPBank(1, 3, extra + expression_dim, sizes, skip_layer)

    def forward(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Compute offsets (B, P, 3 + H) of points (B, P, 3), identity (B, identity_dim), expression (B, D)."""
        batch, count, _ = points.shape
        if self.condition == "compress":
            expression = torch.cat([self.compressor(identity), expression], dim=-1)
        elif self.condition == "glob_only":
            expression = torch.cat([identity[:, : self.glob_dim], expression], dim=-1)
        network = torch.zeros(batch, dtype=torch.long, device=points.device)
        return self.net(points.flatten(0, 1), [count] * batch, expression, network).unflatten(0, (batch, count))
