# SPDX-License-Identifier: MIT
"""Expression codes of a few frames at a time: robust Gauss-Newton on FaceTalk's fitting objective."""

from dataclasses import replace

import numpy as np
import torch

from ..units import MILLIMETRES
from .observations import FittingConfig, FrameObservation, WindowResult
from .posed_field import PosedField


LIDS = slice(36, 48)  # iBUG order
COARSE_STEPS = 4  # with half of the points
KEPT_FROM = 6  # from this step on the Jacobian stays: what changes is less than what noise does
BLINKS = ("eyeBlink_R", "eyeBlink_L")


def solve_window(
    field: PosedField, frames: list[FrameObservation], start: torch.Tensor, previous: torch.Tensor | None,
    config: FittingConfig,
) -> WindowResult:  # fmt: skip
    """Weights of T frames together.

    Args:
        field (`PosedField`): the person. frames: T observations. start (`torch.Tensor`): (T, W) first guess.
        previous (`torch.Tensor`, *optional*): (W,) weights of the frame before, which stay as they are.
    """
    weights, best, parts = start.double().clone(), None, []
    frames = [frame.take(within_model(field, frame.points)) for frame in frames]
    masks = [Lookout(near_lids(field, frame.points, config)) for frame in frames]
    damping = 1e-3
    # Without landmarks of the lids no frame alone tells a blink: find_blinks asks them together.
    held = not any(knows_lids(frame) for frame in frames)
    for step in range(config.iterations + 1):
        # Far points may pull at first, when the mouth is still in another place.
        scale = config.outlier_scale * max(1.0, 3.0 - step)
        if step == 4:
            frames = [
                replace(frame, trust=frame.trust * (0.2 if part["far"] > config.bad_frame else 1.0))
                for frame, part in zip(frames, parts, strict=True)
            ]
        parts = [
            frame_system(field, frame, mask, row.float(), scale, config, step)
            for frame, mask, row in zip(frames, masks, weights, strict=True)
        ]
        # Codes are held back at first, so that the jaw answers before the many small shapes do.
        eased = replace(config, code=config.code * max(1.0, config.ease / 3**step))
        prior, slope, curve = priors(weights, previous, field, eased, held)
        energy = sum(part["energy"] for part in parts) + sum(prior.values())
        final_scale = scale == config.outlier_scale and eased.code == config.code
        if best is not None and final_scale and best[3] and energy > best[0]:
            damping *= 8
            weights, parts, prior = best[1], best[2], best[4]
            _, slope, curve = priors(weights, previous, field, config, held)
        else:
            damping = max(damping / 3, 1e-4)
            best = (energy, weights, parts, final_scale, prior)
        if step == config.iterations:
            break
        for index, part in enumerate(parts):
            at = slice(index * field.size, (index + 1) * field.size)
            curve[at, at] += part["curve"]
            slope[at] += part["slope"]
        move = torch.linalg.solve(curve + damping * torch.eye(len(curve), dtype=torch.float64), -slope)
        move = move.view_as(weights).clamp(-0.4, 0.4)
        weights = weights + move
        if final_scale and step > 2 and float(move.abs().max()) < config.tolerance:
            break
    _, weights, parts, _, prior = best
    terms = {name: sum(part[name] for part in parts) for name in ("sdf", "landmarks")} | prior
    return WindowResult(
        weights, np.array([part["residual"] for part in parts]), np.array([part["far"] for part in parts]), terms
    )


class Lookout:
    """Which of a frame's points are looked at in a step, and their Jacobian for as long as it is kept.

    Args:
        lids ((P,) bool): points at the eyes.
    """

    def __init__(self, lids: torch.Tensor):
        self.lids, self.moving = lids, torch.ones(len(lids), dtype=torch.bool)
        self.seen = torch.zeros_like(self.moving)
        # The first steps are long: half of the points show them the way.
        self.first = lids | (torch.arange(len(lids)) % 2 == 0)
        self.jacobian: torch.Tensor | None = None
        self.match: torch.Tensor | None = None

    def rows(self, step: int) -> torch.Tensor:
        """(P,) bool: points of this step."""
        return self.moving & self.first if step < COARSE_STEPS else self.moving.clone()

    def slopes(
        self, field: PosedField, frame: FrameObservation, weights: torch.Tensor, step: int, still: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows (P,) of this step, their distances (n,) and Jacobian (n, W) in mm, and how well normals fit (n,)."""
        rows = self.rows(step)
        if step >= KEPT_FROM and self.jacobian is not None:
            return rows, field.distance(frame.points[rows], weights) * MILLIMETRES, self.jacobian, self.match
        distance, gradient, jacobian = field.slopes(frame.points[rows], weights)
        distance, jacobian = distance * MILLIMETRES, jacobian * MILLIMETRES
        match = normal_match(None if frame.normals is None else frame.normals[rows], gradient)
        # Points that no expression moves say nothing: from the next step on they are left out.
        new = ~self.seen[rows]
        moves = jacobian.abs().amax(-1) > still
        index = torch.nonzero(rows)[:, 0]
        self.moving[index[new & ~moves]] = False
        self.seen |= rows
        if step >= COARSE_STEPS:
            kept = self.moving[index]
            self.jacobian, self.match = jacobian[kept], match[kept]
        return rows, distance, jacobian, match


def normal_match(normals: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    """(n,) from 1 where a normal (n, 3) is within 60 degrees of the gradient (n, 3) to 0 at 90; 1 if unknown."""
    if normals is None:
        return torch.ones(len(gradient))
    cosine = (normals * torch.nn.functional.normalize(gradient, dim=-1)).sum(-1)
    return torch.where(normals.square().sum(-1) > 0.25, (2 * cosine).clamp(0, 1), torch.ones_like(cosine))


def frame_system(
    field: PosedField, frame: FrameObservation, mask: Lookout, weights: torch.Tensor, scale: float,
    config: FittingConfig, step: int,
) -> dict:  # fmt: skip
    """A frame's share of the normal equations: `curve` (W, W), `slope` (W,), `energy` and its parts."""
    result = {"sdf": 0.0, "landmarks": 0.0, "residual": 0.0, "far": 0.0}
    curve = torch.zeros(field.size, field.size, dtype=torch.float64)
    slope = torch.zeros(field.size, dtype=torch.float64)
    if len(frame.points) and frame.trust:
        gain = 1 + config.eye_gain * mask.lids
        total = gain.sum() if step >= COARSE_STEPS else gain[mask.first].sum()
        rows, distance, jacobian, match = mask.slopes(field, frame, weights, step, config.still)
        gain = gain[rows] * match
        shrink = 1 / (1 + (distance / scale).square())
        share = gain * (config.sdf * frame.trust / total)
        pull = jacobian * (share * shrink.square())[:, None]
        curve += (pull.T @ jacobian).double()
        slope += (pull.T @ distance).double()
        result["sdf"] = float(0.5 * (share * distance.square() * shrink).sum())
        near = distance.abs() < 2 * config.outlier_scale
        result["residual"] = float(distance[near].abs().mean()) if near.any() else float("inf")
        result["far"] = float(1 - near.float().mean())
    if frame.landmarks is not None and config.landmarks:
        places, fields = field.landmark_slopes(weights)
        error = (places - frame.landmarks) * MILLIMETRES
        known = torch.isfinite(error).all(-1)
        error, fields = error[known].flatten(), fields[known] * MILLIMETRES
        fields = fields.transpose(1, 2).flatten(0, 1)  # (3 L, W)
        shrink = 1 / (1 + (error / (2.5 * scale)).square())
        each = config.landmarks / max(len(error) / 3, 1)
        share = each * shrink.square()
        curve += ((fields * share[:, None]).T @ fields).double()
        slope += (fields.T @ (share * error)).double()
        result["landmarks"] = float(0.5 * each * (shrink * error.square()).sum())
    return result | {"curve": curve, "slope": slope, "energy": result["sdf"] + result["landmarks"]}


def priors(
    weights: torch.Tensor, previous: torch.Tensor | None, field: PosedField, config: FittingConfig,
    held: bool = False,
) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:  # fmt: skip
    """What is expected of the codes before a point is seen: terms, slope (T W,) and curvature (T W, T W)."""
    count, size = weights.shape
    curve = torch.zeros(count, size, count, size, dtype=torch.float64)
    t, n = torch.arange(count), torch.arange(size)
    outside = weights - weights.clamp(0, 1) if field.names else torch.zeros_like(weights)
    left, right = twins(field.names)
    uneven = weights[:, left] - weights[:, right]
    lids = [field.names.index(name) for name in BLINKS if name in field.names]
    shrink = torch.full((size,), config.code, dtype=torch.float64)
    shrink[lids] *= config.blink_hold if held else config.blink_inertia
    # Where an eye looks is not seen in its shape; what it does to the lids would be taken for a blink.
    shrink[[i for i, name in enumerate(field.names) if name.startswith("eyeLook")]] *= config.gaze_hold
    slope = shrink * weights + config.box * outside
    slope[:, left] += config.symmetry * uneven
    slope[:, right] -= config.symmetry * uneven
    curve[t[:, None], n, t[:, None], n] = shrink + config.box * (outside != 0).double()
    curve[t[:, None], left, t[:, None], left] += config.symmetry
    curve[t[:, None], right, t[:, None], right] += config.symmetry
    curve[t[:, None], left, t[:, None], right] -= config.symmetry
    curve[t[:, None], right, t[:, None], left] -= config.symmetry
    before = torch.cat([(weights[:1] if previous is None else previous.double()[None]), weights[:-1]])
    change = weights - before
    inertia = torch.full((size,), config.temporal, dtype=torch.float64)
    inertia[lids] *= config.blink_inertia
    pull = inertia * (config.huber / change.abs().clamp_min(1e-12)).clamp_max(1.0)  # Huber as weights
    size_of = torch.where(
        change.abs() < config.huber, change.square() / 2, config.huber * (change.abs() - config.huber / 2)
    )
    slope = slope + pull * change
    slope[:-1] -= (pull * change)[1:]
    curve[t[:, None], n, t[:, None], n] += pull
    curve[t[:-1, None], n, t[:-1, None], n] += pull[1:]
    curve[t[1:, None], n, t[:-1, None], n] -= pull[1:]
    curve[t[:-1, None], n, t[1:, None], n] -= pull[1:]
    terms = {
        "temporal": float((inertia * size_of).sum()), "code": float(0.5 * (shrink * weights.square()).sum()),
        "box": float(0.5 * config.box * outside.square().sum()),
        "symmetry": float(0.5 * config.symmetry * uneven.square().sum()),
    }  # fmt: skip
    return terms, slope.flatten(), curve.view(count * size, count * size)


def knows_lids(frame: FrameObservation) -> bool:
    """Whether a frame's landmarks say how far the lids are open: six of the twelve are known."""
    return frame.landmarks is not None and int(torch.isfinite(frame.landmarks[LIDS]).all(-1).sum()) >= 6


def twins(names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Indices of the left shapes that have a right twin, and of these twins."""
    pairs = [
        (names.index(name), names.index(name[:-1] + "R"))
        for name in names
        if name.endswith("_L") and name[:-1] + "R" in names
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def near_lids(field: PosedField, points: torch.Tensor, config: FittingConfig) -> torch.Tensor:
    """(P,) bool: points within `eye_reach` of the landmarks of the lids."""
    lids = field.posed_landmarks(torch.zeros(1, field.size))[0, LIDS]
    if not len(lids):  # a head without landmarks
        return torch.zeros(len(points), dtype=torch.bool)
    return torch.cdist(points, lids).amin(-1) * MILLIMETRES < config.eye_reach


def within_model(field: PosedField, points: torch.Tensor) -> torch.Tensor:
    """(P,) bool: points on the model's side of the cut through the neck, a centimetre above it."""
    return field.head.above_neck(points) > 10 / MILLIMETRES
