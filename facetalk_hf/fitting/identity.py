# SPDX-License-Identifier: MIT
"""A person's identity code from a few frames of a sequence whose expressions are unknown."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .config import FittingConfig
from .fields import make_field
from .observations import FrameObservation
from .window_solver import solve_window, start_weights, within_model


@dataclass
class IdentityConfig:
    """Settings of `fit_identity`.

    Args:
        frames: how many frames are used. rounds: alternations of expressions and identity.
        steps: Adam steps of the identity in a round. points: points of one step. rate: Adam's learning rate.
        prior: weight of the squared distance from the mean of the named identities, in their standard deviations.
        landmarks: weight of the landmarks, where there are any.
    """

    frames: int = 8
    rounds: int = 3
    steps: int = 60
    points: int = 1500
    rate: float = 0.04
    prior: float = 3e-5
    landmarks: float = 0.05


def select_frames(observations: list[FrameObservation], count: int) -> list[int]:
    """Select the frames whose points cover most of the head, one from each of `count` equal parts of the sequence."""
    cover = [0 if not frame.trust else len(torch.unique((frame.points * 20).floor(), dim=0)) for frame in observations]
    parts = np.array_split(np.arange(len(observations)), min(count, len(observations)))
    return [int(max(part, key=lambda index: cover[index])) for part in parts if max(cover[i] for i in part)]


def fit_identity(
    head: NPHMModel, observations: list[FrameObservation], config: IdentityConfig | None = None,
    fitting: FittingConfig | None = None,
) -> torch.Tensor:  # fmt: skip
    """Estimate the identity code (Z,) of the person in T frames in canonical space.

    Two steps alternate: the frames' expressions with the identity fixed; then the identity, from the canonical places
    of all points under these expressions, by Adam on Geman-McClure of the distance. The code starts at the mean of
    the head's named identities, with a Gaussian prior of their spread.

    Raises:
        FaceTalkError: no frame has points.
    """
    config, fitting = config or IdentityConfig(), fitting or FittingConfig()
    chosen = select_frames(observations, config.frames)
    if not chosen:
        raise FaceTalkError("there is no frame with points to find the person from")
    frames = [observations[index].subsample(fitting.points, index) for index in chosen]
    code, spread = identity_prior(head)
    generator = torch.Generator().manual_seed(0)
    for turn in range(config.rounds):
        field = make_field(head, code)
        active = [frame.take(within_model(field, frame.points)) for frame in frames]
        # Wrong shape must not be explained by an expression: the codes are held back until the shape is known.
        held = replace(fitting, code=fitting.code * 10 ** (1 - min(turn, 1)), iterations=6, temporal=0.0)
        weights = solve_window(field, active, start_weights(field, len(frames)), None, held).weights.float()
        with torch.no_grad():
            pairs = zip(active, weights, strict=True)
            places = torch.cat([field.canonical(frame.points, row) for frame, row in pairs])
            known = [(f.landmarks, row) for f, row in zip(frames, weights, strict=True) if f.landmarks is not None]
            offsets = [
                marks - (field.posed_landmarks(row[None])[0] - field.controls[0, head.config.num_anchors :])
                for marks, row in known
            ]
        code = update_identity(head, code, spread, places, offsets, config, 12.0 / 2**turn, generator)
    return code


def identity_prior(head: NPHMModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean (Z,) and spread (Z,) of the named identities; zero and 0.1 for a head with fewer than 8."""
    codes = head.identity_codes.float()
    if len(codes) < 8:
        return torch.zeros(head.identity_dim), torch.full((head.identity_dim,), 0.1)
    spread = codes.std(0)
    return codes.mean(0), spread.clamp_min(0.3 * float(spread.mean()))


def update_identity(
    head: NPHMModel, code: torch.Tensor, spread: torch.Tensor, places: torch.Tensor, marks: list[torch.Tensor],
    config: IdentityConfig, scale: float, generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Improve a code (Z,) so that its surface fits canonical places (P, 3), robustly: outliers are beyond `scale` mm.

    Args:
        head, config: as for [`fit_identity`]. code, spread ((Z,)): where to start, and the prior's spread.
        places ((P, 3)): canonical points. marks: canonical landmarks (68, 3) of some frames, NaN where unknown.
        generator (`torch.Generator`): draws the points of a step.
    """
    mean, _ = identity_prior(head)
    free = ((code - mean) / spread).clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=config.rate * 5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, config.rate / 10)
    for _ in range(config.steps):
        rows = torch.randint(len(places), (config.points,), generator=generator)
        identity = (mean + free * spread)[None]
        distance = head.sdf(places[rows][None], identity)[0] * MILLIMETRES
        loss = (distance.square() / (1 + (distance / scale).square())).mean() / 2
        loss = loss + config.prior * free.square().sum()
        if marks:
            error = (head.landmarks(identity)[0] - torch.stack(marks)) * MILLIMETRES
            error = error[torch.isfinite(error).all(-1)]
            loss = loss + config.landmarks * (error.square() / (1 + (error / 10).square())).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return (mean + free * spread).detach()
