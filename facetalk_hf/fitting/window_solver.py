# SPDX-License-Identifier: MIT
"""Expression codes of a few frames at a time: robust Gauss-Newton on FaceTalk's fitting objective."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from ..units import MILLIMETRES
from .config import FittingConfig
from .observations import FrameObservation
from .posed_field import PosedField


LIDS = slice(36, 48)  # iBUG order
COARSE_STEPS = 4  # with half of the points
FIXED_JACOBIAN_STEP = 6  # from this step on the Jacobian stays: what changes is less than what noise does
BLINKS = ("eyeBlink_R", "eyeBlink_L")


@dataclass
class WindowResult:
    """The solution of a window of T frames.

    Args:
        weights ((T, W) float64). residual ((T,) mm): mean |distance| of the points near the surface.
        outlier_share ((T,)): share of the other points. terms: value of each term of the objective.
    """

    weights: torch.Tensor
    residual: np.ndarray
    outlier_share: np.ndarray
    terms: dict[str, float] = field(default_factory=dict)


class FrameSystem(NamedTuple):
    """One frame's part of the normal equations, and the values of its terms."""

    hessian: torch.Tensor
    gradient: torch.Tensor
    terms: dict[str, float]
    residual: float
    outlier_share: float


class Priors(NamedTuple):
    """The terms of the objective that need no points: values, gradient (T W,) and Hessian (T W, T W)."""

    terms: dict[str, float]
    gradient: torch.Tensor
    hessian: torch.Tensor


class Iterate(NamedTuple):
    """The best step so far; `final` where its objective was the final one, which later steps may be compared with."""

    energy: float
    weights: torch.Tensor
    systems: list[FrameSystem]
    prior_terms: dict[str, float]
    final: bool


def solve_window(
    field: PosedField, frames: list[FrameObservation], start: torch.Tensor, previous: torch.Tensor | None,
    config: FittingConfig,
) -> WindowResult:  # fmt: skip
    """Optimise the weights of T frames together.

    Levenberg-Marquardt on iteratively reweighted least squares, over an active set of each frame's points.

    Args:
        field (`PosedField`): the person. frames: T observations. start (`torch.Tensor`): (T, W) first guess.
        previous (`torch.Tensor`, *optional*): (W,) weights of the frame before, which stay as they are.
    """
    weights, best = start.double().clone(), None
    systems: list[FrameSystem] = []
    frames = [frame.take(within_model(field, frame.points)) for frame in frames]
    active_sets = [ActiveSet(near_lids(field, frame.points, config)) for frame in frames]
    damping = 1e-3
    # Without landmarks of the lids no single frame tells a blink: find_blinks looks at all frames together.
    hold_lids = not any(lids_have_landmarks(frame) for frame in frames)
    for step in range(config.iterations + 1):
        # Far points may count at first, when the mouth is still in another place.
        scale = config.outlier_scale * max(1.0, 3.0 - step)
        if step == 4:
            frames = [
                replace(frame, trust=frame.trust * (0.2 if system.outlier_share > config.bad_frame else 1.0))
                for frame, system in zip(frames, systems, strict=True)
            ]
        systems = [
            frame_system(field, frame, active, row.float(), scale, config, step)
            for frame, active, row in zip(frames, active_sets, weights, strict=True)
        ]
        # Codes are held back at first, so that the jaw answers before the many small shapes do.
        eased = replace(config, code=config.code * max(1.0, config.ease / 3**step))
        prior = priors(weights, previous, field, eased, hold_lids)
        energy = sum(sum(system.terms.values()) for system in systems) + sum(prior.terms.values())
        final = scale == config.outlier_scale and eased.code == config.code
        if best is not None and final and best.final and energy > best.energy:
            damping *= 8
            weights, systems = best.weights, best.systems
            prior = priors(weights, previous, field, config, hold_lids)
        else:
            damping = max(damping / 3, 1e-4)
            best = Iterate(energy, weights, systems, prior.terms, final)
        if step == config.iterations:
            break
        gradient, hessian = prior.gradient, prior.hessian
        for index, system in enumerate(systems):
            at = slice(index * field.size, (index + 1) * field.size)
            hessian[at, at] += system.hessian
            gradient[at] += system.gradient
        move = torch.linalg.solve(hessian + damping * torch.eye(len(hessian), dtype=torch.float64), -gradient)
        move = move.view_as(weights).clamp(-0.4, 0.4)
        weights = weights + move
        if final and step > 2 and float(move.abs().max()) < config.tolerance:
            break
    assert best is not None  # there is at least one step
    terms = {name: sum(system.terms[name] for system in best.systems) for name in ("sdf", "landmarks")}
    return WindowResult(
        best.weights, np.array([system.residual for system in best.systems]),
        np.array([system.outlier_share for system in best.systems]), terms | best.prior_terms,
    )  # fmt: skip


def start_weights(field: PosedField, frames: int) -> torch.Tensor:
    """Make the first guess (T, W), a slightly open mouth: from closed lips Gauss-Newton seldom finds open ones."""
    weights = torch.zeros(frames, field.size, dtype=torch.float64)
    if "jawOpen" in field.names:
        weights[:, field.names.index("jawOpen")] = 0.2
    return weights


class ActiveSet:
    """The points of a frame that a step uses, and their Jacobian for as long as it is kept.

    Args:
        lids ((P,) bool): points at the eyes.
    """

    def __init__(self, lids: torch.Tensor) -> None:
        self.lids, self.moving = lids, torch.ones(len(lids), dtype=torch.bool)
        self.seen = torch.zeros_like(self.moving)
        # The first steps are long: half of the points are enough for them.
        self.coarse = lids | (torch.arange(len(lids)) % 2 == 0)
        self.kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def rows(self, step: int) -> torch.Tensor:
        """Select the points of a step: (P,) bool."""
        return self.moving & self.coarse if step < COARSE_STEPS else self.moving.clone()

    def linearize(
        self, field: PosedField, frame: FrameObservation, weights: torch.Tensor, step: int, still: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Linearise the distances of the active points.

        Returns:
            rows (P,) bool, their distances (n,) in mm, Jacobian (n, W) in mm, and weights by their normals (n,).
        """
        rows = self.rows(step)
        if step >= FIXED_JACOBIAN_STEP and self.kept is not None:
            return rows, field.distance(frame.points[rows], weights) * MILLIMETRES, *self.kept
        distance, gradient, jacobian = field.linearize(frame.points[rows], weights)
        distance, jacobian = distance * MILLIMETRES, jacobian * MILLIMETRES
        normal_weight = normal_weights(None if frame.normals is None else frame.normals[rows], gradient)
        # Points that no expression moves carry no information: from the next step on they are left out.
        new = ~self.seen[rows]
        moves = jacobian.abs().amax(-1) > still
        index = torch.nonzero(rows)[:, 0]
        self.moving[index[new & ~moves]] = False
        self.seen |= rows
        if step >= COARSE_STEPS:
            kept = self.moving[index]
            self.kept = jacobian[kept], normal_weight[kept]
        return rows, distance, jacobian, normal_weight


def normal_weights(normals: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    """Weigh points (n,): 1 where the normal (n, 3) is within 60 degrees of the gradient or unknown, 0 from 90 on."""
    if normals is None:
        return torch.ones(len(gradient))
    cosine = (normals * torch.nn.functional.normalize(gradient, dim=-1)).sum(-1)
    return torch.where(normals.square().sum(-1) > 0.25, (2 * cosine).clamp(0, 1), torch.ones_like(cosine))


def frame_system(
    field: PosedField, frame: FrameObservation, active: ActiveSet, weights: torch.Tensor, scale: float,
    config: FittingConfig, step: int,
) -> FrameSystem:  # fmt: skip
    """Build one frame's part of the normal equations: Hessian (W, W), gradient (W,), terms `sdf` and `landmarks`."""
    terms, residual, outlier_share = {"sdf": 0.0, "landmarks": 0.0}, 0.0, 0.0
    hessian = torch.zeros(field.size, field.size, dtype=torch.float64)
    gradient = torch.zeros(field.size, dtype=torch.float64)
    if len(frame.points) and frame.trust:
        gain = 1 + config.eye_gain * active.lids
        total = gain.sum() if step >= COARSE_STEPS else gain[active.coarse].sum()
        rows, distance, jacobian, normal_weight = active.linearize(field, frame, weights, step, config.still)
        gain = gain[rows] * normal_weight
        # Geman and McClure: rho(d) = d^2 shrink / 2, whose IRLS weight is shrink^2.
        shrink = 1 / (1 + (distance / scale).square())
        share = gain * (config.sdf * frame.trust / total)
        weighted = jacobian * (share * shrink.square())[:, None]
        hessian += (weighted.T @ jacobian).double()
        gradient += (weighted.T @ distance).double()
        terms["sdf"] = float(0.5 * (share * distance.square() * shrink).sum())
        near = distance.abs() < 2 * config.outlier_scale
        residual = float(distance[near].abs().mean()) if near.any() else float("inf")
        outlier_share = float(1 - near.float().mean())
    if frame.landmarks is not None and config.landmarks:
        places, fields = field.linearize_landmarks(weights)
        error = (places - frame.landmarks) * MILLIMETRES
        known = torch.isfinite(error).all(-1)
        error, fields = error[known].flatten(), fields[known] * MILLIMETRES
        jacobian = fields.transpose(1, 2).flatten(0, 1)  # (3 L, W)
        shrink = 1 / (1 + (error / (2.5 * scale)).square())
        each = config.landmarks / max(len(error) / 3, 1)
        irls_weight = each * shrink.square()
        hessian += ((jacobian * irls_weight[:, None]).T @ jacobian).double()
        gradient += (jacobian.T @ (irls_weight * error)).double()
        terms["landmarks"] = float(0.5 * each * (shrink * error.square()).sum())
    return FrameSystem(hessian, gradient, terms, residual, outlier_share)


def priors(
    weights: torch.Tensor, previous: torch.Tensor | None, field: PosedField, config: FittingConfig,
    hold_lids: bool = False,
) -> Priors:  # fmt: skip
    """Compute the terms of the objective that need no points: temporal, code, box and symmetry."""
    count, size = weights.shape
    hessian = torch.zeros(count, size, count, size, dtype=torch.float64)
    t, n = torch.arange(count), torch.arange(size)
    outside = weights - weights.clamp(0, 1) if field.names else torch.zeros_like(weights)
    left, right = mirrored_pairs(field.names)
    uneven = weights[:, left] - weights[:, right]
    lids = [field.names.index(name) for name in BLINKS if name in field.names]
    code = torch.full((size,), config.code, dtype=torch.float64)
    code[lids] *= config.blink_hold if hold_lids else config.blink_inertia
    # The direction of an eye is not seen in its shape; what it does to the lids would be taken for a blink.
    code[[i for i, name in enumerate(field.names) if name.startswith("eyeLook")]] *= config.gaze_hold
    gradient = code * weights + config.box * outside
    gradient[:, left] += config.symmetry * uneven
    gradient[:, right] -= config.symmetry * uneven
    hessian[t[:, None], n, t[:, None], n] = code + config.box * (outside != 0).double()
    hessian[t[:, None], left, t[:, None], left] += config.symmetry
    hessian[t[:, None], right, t[:, None], right] += config.symmetry
    hessian[t[:, None], left, t[:, None], right] -= config.symmetry
    hessian[t[:, None], right, t[:, None], left] -= config.symmetry
    before = torch.cat([(weights[:1] if previous is None else previous.double()[None]), weights[:-1]])
    change = weights - before
    temporal = torch.full((size,), config.temporal, dtype=torch.float64)
    temporal[lids] *= config.blink_inertia
    irls_weight = temporal * (config.huber / change.abs().clamp_min(1e-12)).clamp_max(1.0)
    huber = torch.nn.functional.huber_loss(weights, before, reduction="none", delta=config.huber)
    gradient = gradient + irls_weight * change
    gradient[:-1] -= (irls_weight * change)[1:]
    hessian[t[:, None], n, t[:, None], n] += irls_weight
    hessian[t[:-1, None], n, t[:-1, None], n] += irls_weight[1:]
    hessian[t[1:, None], n, t[:-1, None], n] -= irls_weight[1:]
    hessian[t[:-1, None], n, t[1:, None], n] -= irls_weight[1:]
    terms = {
        "temporal": float((temporal * huber).sum()), "code": float(0.5 * (code * weights.square()).sum()),
        "box": float(0.5 * config.box * outside.square().sum()),
        "symmetry": float(0.5 * config.symmetry * uneven.square().sum()),
    }  # fmt: skip
    return Priors(terms, gradient.flatten(), hessian.view(count * size, count * size))


def lids_have_landmarks(frame: FrameObservation) -> bool:
    """Tell whether a frame's landmarks show how far the lids are open: six of the twelve are known."""
    return frame.landmarks is not None and int(torch.isfinite(frame.landmarks[LIDS]).all(-1).sum()) >= 6


def mirrored_pairs(names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """List the indices of the left shapes that have a right counterpart, and of these counterparts."""
    pairs = [
        (names.index(name), names.index(name[:-1] + "R"))
        for name in names
        if name.endswith("_L") and name[:-1] + "R" in names
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def near_lids(field: PosedField, points: torch.Tensor, config: FittingConfig) -> torch.Tensor:
    """Select the points (P,) bool within `eye_reach` of the landmarks of the lids."""
    lids = field.posed_landmarks(torch.zeros(1, field.size))[0, LIDS]
    if not len(lids):  # a head without landmarks
        return torch.zeros(len(points), dtype=torch.bool)
    return torch.cdist(points, lids).amin(-1) * MILLIMETRES < config.eye_reach


def within_model(field: PosedField, points: torch.Tensor) -> torch.Tensor:
    """Select the points (P,) bool on the model's side of the cut through the neck, a centimetre above it."""
    return field.head.above_neck(points) > 10 / MILLIMETRES
