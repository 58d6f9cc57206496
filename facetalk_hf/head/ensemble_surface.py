# SPDX-License-Identifier: MIT
"""Isosurfaces of NPHM's ensemble of local fields, evaluated only where the surface can be.

NPHM's field is no distance: away from the head it fades to zero, so |sdf| says nothing about how far the surface is.
What a block of space can hold is decided by the members instead, from the distances to their anchors.
"""

from typing import cast

import numpy as np
import torch

from ..errors import FaceTalkError
from ..mesh.isosurface import ends_of_crossing_edges, triangulate
from ..models.nphm import NPHMModel
from ..models.official import BACKGROUND, KERNEL, OfficialEnsemble
from .field_values import CHUNK, evaluate


def uniform_axes(head: NPHMModel, resolution: int | tuple[int, int, int]) -> list[np.ndarray]:
    """Lay grid lines over the head's box, `resolution` of them an axis, as the official scripts do."""
    counts = (resolution,) * 3 if isinstance(resolution, int) else resolution
    low, high = np.asarray(head.config.bounds)
    return [np.linspace(a, b, n, dtype=np.float32) for a, b, n in zip(low, high, counts, strict=True)]


@torch.no_grad()
def canonical_surface(
    head: NPHMModel, identity: torch.Tensor, resolution: int | tuple[int, int, int] = 128, largest: bool = True,
    dtype: torch.dtype | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Extract the canonical surface of a converted NPHM head: a dense grid's triangles, from few of its points.

    Args:
        head (`NPHMModel`): converted NPHM weights.
        identity (`torch.Tensor`): (Z,).
        resolution (`int` or three): grid lines an axis over `config.bounds`.
        largest (`bool`): keep only the largest connected piece.
        dtype (`torch.dtype`, *optional*): bfloat16 or float16 for the search; see `sample_by_members`.

    Returns:
        (V, 3) float32 vertices in model units and (F, 3) int32 faces.
    """
    if (head.config.official_ensemble or {}).get("kind") != "nphm":
        raise FaceTalkError("this is for converted NPHM heads; SurfaceTracker follows a MonoNPHM head")
    axes = uniform_axes(head, resolution)
    return triangulate(sample_by_members(head, identity, axes, dtype=dtype), axes, largest)


@torch.no_grad()
def sample_by_members(
    head: NPHMModel, identity: torch.Tensor, axes: list[np.ndarray], steps: tuple[int, ...] = (16, 8, 4, 2),
    dtype: torch.dtype | None = None,
) -> np.ndarray:  # fmt: skip
    """Sample NPHM's field on a grid: exact at both ends of every edge that the surface cuts, elsewhere -1 or 1.

    A block of half-diagonal r around c can't hold it if one member j outweighs all members of the other sign:
    sum_k w_k / w_j |f_k| < |f_j| over the whole block. log(w_k / w_j) is linear in the point, so that it is at most
    its value at c + 2 r |a_k - a_j| / 0.01, and f_k is within L_k r of its value at c, L_k being the steepest slope of
    member k that `member_limits` finds. Of the blocks that are left, the nodes' signs come from the heaviest members.

    Those signs may be found in half precision, `dtype`, under autocast: its error is measured on some of the nodes,
    and nodes within four times the largest are left to float32, as are the values at the ends of cut edges. Where it
    decides less than half as many nodes as float32 does, everything is float32.

    Returns:
        (nx, ny, nz) float32.
    """
    device = head.anchor_mean.device
    identity = identity.reshape(1, -1).to(head.anchor_mean)
    anchors = head.anchors(identity)[0]
    codes = head.member_codes(identity)[0]
    slopes, largest = member_limits(head, anchors, codes)
    cells = np.array([len(axis) - 1 for axis in axes])
    values = np.ones(cells + 1, np.float32)
    blocks = np.stack(np.meshgrid(*[np.arange(0, n, steps[0]) for n in cells], indexing="ij"), -1).reshape(-1, 3)
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        if not len(blocks):
            return values
        low = np.stack([axis[blocks[:, i]] for i, axis in enumerate(axes)], 1)
        high = np.stack([axis[np.minimum(blocks[:, i] + step, cells[i])] for i, axis in enumerate(axes)], 1)
        center = torch.from_numpy(0.5 * (low + high)).to(device)
        radius = torch.from_numpy(0.5 * np.linalg.norm(high - low, axis=1)).to(device)
        parts = [
            _certain_sign(head, part, size, anchors, codes, slopes, largest)
            for part, size in zip(center.split(CHUNK), radius.split(CHUNK), strict=True)
        ]
        sign = torch.cat(parts).cpu().numpy()
        negative = _nodes(blocks[sign < 0], step, cells)
        values[tuple(negative.T)] = -1.0
        blocks = blocks[sign == 0]
        if following is not None:
            children = np.stack(np.meshgrid(*[np.arange(0, step, following)] * 3, indexing="ij"), -1).reshape(-1, 3)
            blocks = (blocks[:, None] + children).reshape(-1, 3)
            blocks = blocks[(blocks < cells).all(1)]
    if not len(blocks):
        return values
    wanted = np.zeros(cells + 1, bool)
    wanted[tuple(_nodes(blocks, steps[-1], cells).T)] = True

    def points(index: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([axis[i] for axis, i in zip(axes, index, strict=True)], 1)

    def rough(places: np.ndarray, kind: torch.dtype | None) -> np.ndarray:
        return evaluate(lambda part: _rough_blend(head, part[0], anchors, codes, largest, kind)[None], places, device)

    # First signs, from the few members that weigh most; then all that matter, at the ends of edges that change sign.
    index, slack = np.nonzero(wanted), 0.0
    places = points(index)
    if dtype is not None:
        some = places[:: max(1, len(places) // 2048)]
        found, right = rough(some, dtype), rough(some, None)
        slack = 4 * float(np.abs(found - right)[:, 0].max())
        decided = [np.abs(blend) > doubt + more for (blend, doubt), more in ((found.T, slack), (right.T, 0.0))]
        if not np.isfinite(slack) or 2 * decided[0].sum() <= decided[1].sum():
            dtype, slack = None, 0.0
    blend, doubt = rough(places, dtype).T
    values[index] = np.where(np.abs(blend) > doubt + slack, np.sign(blend), 0)
    known = np.zeros_like(wanted)
    for wave in ("doubtful", "crossing"):
        exact = values == 0 if wave == "doubtful" else ends_of_crossing_edges(values < 0) & ~known
        index = np.nonzero(exact)
        if len(index[0]):
            values[index] = evaluate(lambda part: head.sdf(part, identity), points(index), device)
        known |= exact
    return values


def member_limits(
    head: NPHMModel, anchors: torch.Tensor, codes: torch.Tensor, samples: int = 192
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate the steepest slope (K + 1,) of each member and the largest distance () that any gives.

    From points near the members' anchors; both are a third larger than what was found.
    """
    generator = torch.Generator().manual_seed(0)
    count = len(anchors) + 1
    offset = 0.2 * torch.randn(count, samples, 3, generator=generator).to(anchors)
    offset[-1] *= 2
    points = (torch.cat([anchors, anchors.new_zeros(1, 3)])[:, None] + offset).flatten(0, 1).detach()
    wanted = torch.eye(count, dtype=torch.bool, device=anchors.device).repeat_interleave(samples, 0)
    with torch.enable_grad():
        points.requires_grad_()
        values = _ensemble(head).member_values(points, wanted, anchors.detach(), codes.detach())
        slope = torch.autograd.grad(values.sum(), points)[0].norm(dim=-1)
    return 1.33 * slope.view(count, samples).amax(1), 1.33 * values.detach().abs().amax()


def _ensemble(head: NPHMModel) -> OfficialEnsemble:
    return cast(OfficialEnsemble, head.ensemble)  # other heads are refused by canonical_surface


def _rough_blend(
    head: NPHMModel, points: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor, largest: torch.Tensor,
    dtype: torch.dtype | None,
) -> torch.Tensor:  # fmt: skip
    """Blend the members with more than a hundredth of the weight; also bound the error by the others: (n, 2)."""
    share = _ensemble(head).log_weights(points[None], anchors[None])[0].softmax(-1)
    wanted = share > 0.01
    with torch.autocast(points.device.type, dtype=dtype, enabled=dtype is not None):
        values = _ensemble(head).member_values(points, wanted, anchors, codes).float()
    blend, rest = (share * values).sum(-1), (share * ~wanted).sum(-1)
    return torch.stack([blend, rest * torch.maximum(largest, values.abs().amax())], -1)


def _certain_sign(
    head: NPHMModel, center: torch.Tensor, radius: torch.Tensor, anchors: torch.Tensor, codes: torch.Tensor,
    slopes: torch.Tensor, largest: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Find the sign, -1 or 1, that the field has all over a block, or 0 where that is not certain: (n,)."""
    everything = torch.cat([anchors, anchors.new_zeros(1, 3)])
    square = (center[:, None] - anchors).square().sum(-1)
    logarithm = torch.cat([-square / KERNEL, square.new_full((len(center), 1), BACKGROUND)], 1)

    def bound(best: torch.Tensor) -> torch.Tensor:
        """Bound log w_k - log w_best (n, K + 1) over each block from above."""
        distance = (everything[best][:, None] - everything).norm(dim=-1)
        result = logarithm - logarithm.gather(1, best[:, None]) + 2 * radius[:, None] * distance / KERNEL
        # The anchor-less member's weight is the same everywhere: only the other one's varies over the block.
        root = square.gather(1, best.clamp_max(len(anchors) - 1)[:, None]).sqrt()[:, 0]
        result[:, -1] = (root + radius).square() / KERNEL + BACKGROUND
        alone = -(square.sqrt() - radius[:, None]).clamp_min(0).square() / KERNEL - BACKGROUND
        return torch.where((best == len(anchors))[:, None], torch.nn.functional.pad(alone, (0, 1)), result)

    wanted = bound(logarithm.argmax(1)) > -11.5  # 1e-5
    values = _ensemble(head).member_values(center, wanted, anchors, codes)
    strength = (logarithm + values.abs().clamp_min(1e-12).log()).masked_fill(~wanted, -torch.inf)
    best = strength.argmax(1)
    sign = values.gather(1, best[:, None]).sign()
    slack = slopes * radius[:, None]
    least = (sign * values).gather(1, best[:, None])[:, 0] - slopes[best] * radius
    against = (slack - sign * values).clamp_min(0)
    against = torch.where(wanted, against, torch.maximum(largest, values.abs().amax()) + slack)
    share = bound(best).clamp_max(60).exp()
    share.scatter_(1, best[:, None], 0.0)
    certain = (share * against).sum(1) < least
    return torch.where(certain, sign[:, 0], torch.zeros_like(sign[:, 0]))


def _nodes(blocks: np.ndarray, step: int, cells: np.ndarray) -> np.ndarray:
    """List the grid nodes (n, 3) of blocks (m, 3) of step^3 cells."""
    offset = np.stack(np.meshgrid(*[np.arange(step + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return np.minimum((blocks[:, None] + offset).reshape(-1, 3), cells)
