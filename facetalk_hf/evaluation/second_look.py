# SPDX-License-Identifier: MIT
"""A second look of a fitted head at its scan, by Gauss-Newton steps on distances in place of values of the field.

Where folds are thin, as on ears, the field of a head grows by a third of the true distance or less: a fit of its
values hardly sees them. |f| / |grad f| is the distance to first order, and a few second-order steps on many points
suffice. Nothing but points and their distances is used: where ears are is said by the head's own anchors.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..models.nphm import NPHMModel
from ..synthetic.ict_template import EAR_PAIRS
from ..units import MILLIMETRES


MM = 1 / MILLIMETRES
SHARES = (9, 5, 1.5, 4.5, 2)  # of a step's points: on the surface, near it, anywhere, on and near ears
LEAST_SLOPE = 0.1  # |f| is divided by no less
ON_EARS, NEAR_EARS = 0.7, 0.25  # weights, as against 1 for the whole surface and 1 for what is off it
EAR_REACH, NEAR = 22 * MM, 3 * MM
SOFT = 0.1 * MM  # errors count linearly beyond it, and landmarks are held to it
PRIOR, PRIOR_EARS = 1e-5, 1e-6
KEEP = 0.7  # of what earlier steps' points said


def ear_anchors(head: NPHMModel) -> list[int]:
    """List the anchors of a head of ours that sit on its ears, left and right in turn."""
    pairs = [pair for pair in EAR_PAIRS if pair < head.config.num_symmetric_pairs]
    return [member for pair in pairs for member in (2 * pair, 2 * pair + 1)]


def refine_identity(
    head: NPHMModel, scan: dict[str, np.ndarray], code: torch.Tensor, steps: int = 8, samples: int = 22_000,
    seed: int = 0, ears: Sequence[int] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Improve a fitted code (Z,) by Gauss-Newton steps on its scan's points and signed distances.

    Minimises the mean of smooth |e| over the surface, plus that of w |e| off it, w = 1 / (1 + |d| / 5 mm), plus 0.7
    and 0.25 of the same on and within 3 mm of ears, plus 1e-5 |z|^2 (1e-6 of the codes at ears). e = f - d, and at
    ears f / |grad f| - d; the slope is held in a step, and counted as at least 0.1. Not in hair: what no code can
    meet there would count for more. Landmarks, points of eyes and teeth and the other anchors, which the motion
    follows, are held to about 0.1 mm; the hair's numbers stay.

    Args:
        head ([`NPHMModel`]), scan (`dict`): of build_heads.py; "points", "distance" and "kind" are used.
        steps, samples: how many, and points of each. seed (`int`): draws them.
        ears: anchors there; [`ear_anchors`] unless given.
    """
    config = head.config
    ears = ear_anchors(head) if ears is None else list(ears)
    free = torch.ones(head.identity_dim, dtype=torch.bool)
    free[head.hair] = False
    points, truth = torch.from_numpy(scan["points"]), torch.from_numpy(scan["distance"])
    others = [anchor for anchor in range(config.num_anchors) if anchor not in ears]

    def held(code: torch.Tensor) -> torch.Tensor:
        return torch.cat([head.feature_points(code[None])[0], head.anchors(code[None])[0, others]]).flatten()

    prior = torch.full((head.identity_dim,), PRIOR)
    for anchor in ears:
        prior[config.glob_dim + anchor * config.loc_dim :][: config.loc_dim] = PRIOR_EARS
    generator = np.random.default_rng(seed)
    code, before = code.clone(), held(code).detach()
    matrix, vector, total = torch.zeros(1), torch.zeros(1), 0.0
    for _ in range(steps):
        rows, group = _draw(head, scan, code, ears, samples, generator)
        count = torch.bincount(group, minlength=5).float()
        field, slope, jacobian = linearize(head, points[rows], code)
        jacobian, distance = jacobian[:, free], truth[rows]
        at_ears = group >= 3
        slope = torch.where(at_ears, slope.clamp(LEAST_SLOPE, 1), 1.0)
        error = torch.where(at_ears, field / slope - distance, field.clamp(-0.2, 0.2) - distance.clamp(-0.15, 0.15))
        off = count[1] + count[2]
        share = torch.stack([1 / count[0], 1 / off, 1 / off, ON_EARS / count[3], NEAR_EARS / count[4]])
        weight = share[group] / (1 + distance.abs() / torch.where(at_ears, MM, 5 * MM))
        root = (weight / (error.square() + SOFT**2).sqrt()).sqrt()
        rows_of, target = jacobian * (root / slope)[:, None], error * root
        # The normal equations of earlier steps stay, less and less: a step's points are few for so many codes.
        now = code[free]
        matrix = KEEP * matrix + rows_of.T @ rows_of
        vector = KEEP * vector + rows_of.T @ (rows_of @ now - target)
        total = KEEP * total + 1
        ties = torch.autograd.functional.jacobian(held, code)[:, free]
        tie = 1 / (82 * SOFT)
        system = matrix / total + tie * ties.T @ ties
        system.diagonal().add_(2 * prior[free])
        right = vector / total + tie * ties.T @ (ties @ now - held(code).detach() + before)
        code[free] = torch.linalg.solve(system, right)
    return code


def linearize(
    head: NPHMModel, points: torch.Tensor, code: torch.Tensor, chunk: int = 500
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the field (n,) of a code (Z,) at points (n, 3), its slope (n,), its derivatives by the code (n, Z)."""
    parts = []
    for part in points.split(chunk):
        # As many heads as points, of a point each: one gradient of their sum has the derivatives of each.
        codes, where = code.expand(len(part), -1).clone().requires_grad_(), part[:, None].clone().requires_grad_()
        field = head.sdf(where, codes)[:, 0]
        by_code, by_place = torch.autograd.grad(field.sum(), (codes, where))
        parts.append((field.detach(), by_place[:, 0].norm(dim=-1), by_code))
    field, slope, jacobian = (torch.cat(part) for part in zip(*parts, strict=True))
    return field, slope, jacobian


@torch.no_grad()
def _draw(
    head: NPHMModel, scan: dict[str, np.ndarray], code: torch.Tensor, ears: list[int], samples: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, torch.Tensor]:  # fmt: skip
    """Draw rows (n,) of a scan's points for a step, and the numbers (n,) of `SHARES` that each stands for."""
    kind = scan["kind"]
    parts = [np.flatnonzero(kind == number) for number in range(3)]
    nearest = torch.cdist(torch.from_numpy(scan["points"]), head.anchors(code[None])[0]).min(1)
    there = np.isin(nearest.indices.numpy(), ears) & (nearest.values.numpy() < EAR_REACH)
    beside = there & (kind == 1) & (abs(scan["distance"]) < NEAR)
    parts += [np.flatnonzero(there & (kind == 0)), np.flatnonzero(beside)]
    drawn = [
        part[generator.integers(0, len(part), round(samples * share / sum(SHARES)))] if len(part) else part
        for part, share in zip(parts, SHARES, strict=True)
    ]
    return np.concatenate(drawn), torch.from_numpy(np.repeat(np.arange(5), [len(part) for part in drawn]))
