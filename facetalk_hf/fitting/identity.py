# SPDX-License-Identifier: MIT
"""A person's identity code from a few frames of a sequence, with their expressions unknown."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import FaceTalkError
from ..models.nphm import NPHMModel
from ..units import MILLIMETRES
from .expressions import start_weights, thin
from .observations import FittingConfig, FrameObservation
from .posed_field import PosedField
from .window_solver import solve_window, within_model


@dataclass
class IdentityConfig:
    """How the identity is found.

    Args:
        frames: how many frames it is found from. rounds: times that expressions and identity take turns.
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


def telling_frames(observations: list[FrameObservation], count: int) -> list[int]:
    """The frames that cover most of the head, one from each of `count` equal stretches of the sequence."""
    cover = [0 if not frame.trust else len(torch.unique((frame.points * 20).floor(), dim=0)) for frame in observations]
    parts = np.array_split(np.arange(len(observations)), min(count, len(observations)))
    return [int(max(part, key=lambda index: cover[index])) for part in parts if max(cover[i] for i in part)]


def fit_identity(
    head: NPHMModel, observations: list[FrameObservation], config: IdentityConfig | None = None,
    fitting: FittingConfig | None = None,
) -> torch.Tensor:  # fmt: skip
    """Identity code (Z,) of the person in T frames in canonical units.

    In turns: the frames' expressions with the identity held, frame by frame; then the identity, from the canonical
    places of all points under these expressions, by Adam on Geman-McClure of the distance. The code starts at the
    mean of the head's named identities and is held to their spread.

    Raises:
        FaceTalkError: no frame has points.
    """
    config, fitting = config or IdentityConfig(), fitting or FittingConfig()
    chosen = telling_frames(observations, config.frames)
    if not chosen:
        raise FaceTalkError("there is no frame with points to find the person from")
    frames = [thin(observations[index], fitting.points, index) for index in chosen]
    code, spread = typical(head)
    generator = torch.Generator().manual_seed(0)
    for turn in range(config.rounds):
        field = PosedField(head, code)
        frames_now = [frame.take(within_model(field, frame.points)) for frame in frames]
        # Wrong shape must not be explained by an expression: the codes are held back until the shape is known.
        held = replace(fitting, code=fitting.code * 10 ** (1 - min(turn, 1)), iterations=6, temporal=0.0)
        weights = solve_window(field, frames_now, start_weights(field, len(frames)), None, held).weights.float()
        with torch.no_grad():
            places = torch.cat(
                [field._canonical(frame.points, row) for frame, row in zip(frames_now, weights, strict=True)]
            )
            known = [(f.landmarks, row) for f, row in zip(frames, weights, strict=True) if f.landmarks is not None]
            offsets = [
                marks - (field.posed_landmarks(row[None])[0] - field.controls[0, head.config.num_anchors :])
                for marks, row in known
            ]
        code = improve(head, code, spread, places, offsets, config, 12.0 / 2**turn, generator)
    return code


def typical(head: NPHMModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (Z,) and spread (Z,) of the named identities; zero and 0.1 for a head without."""
    codes = head.identity_codes.float()
    if len(codes) < 8:
        return torch.zeros(head.identity_dim), torch.full((head.identity_dim,), 0.1)
    spread = codes.std(0)
    return codes.mean(0), spread.clamp_min(0.3 * float(spread.mean()))


def improve(
    head: NPHMModel, code: torch.Tensor, spread: torch.Tensor, places: torch.Tensor, marks: list[torch.Tensor],
    config: IdentityConfig, scale: float, generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """The code (Z,) whose surface is nearest to canonical places (P, 3); beyond `scale` mm a place loses its pull."""
    mean, _ = typical(head)
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
