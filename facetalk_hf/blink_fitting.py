# SPDX-License-Identifier: MIT
"""Blinks of a sequence: what the few points at the eyes say about each frame, and the blinks that explain it best.

A blink moves what a scan sees by less than a millimetre, in some 35 of 1600 points with a millimetre of noise: no
frame says for itself whether the lids are shut. A blink's course in time is known, so that all its frames are asked
together, and so is where the points lie while the eyes are open, from all other frames: what the head's surface is
off there by, is no blink. Both lids blink as one. Our own; FaceTalk says nothing about blinks.
"""

import numpy as np
import torch

from .models.nphm import MILLIMETRES
from .posed_field import PosedField
from .window_solver import BLINKS, FittingConfig, FrameObservation, knows_lids, near_lids


LEVELS = np.linspace(0, 1, 5)
"""Closures that the evidence is computed at."""


def find_blinks(
    field: PosedField, frames: list[FrameObservation], weights: torch.Tensor, config: FittingConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """Weights (T, W) with the blinks that their points speak for, and the terms `blinks` and `blink_prior`.

    Frames whose lids have landmarks keep what they have, and say nothing. A head without named blinks keeps all.
    """
    if not set(BLINKS) <= set(field.names):
        return weights, {}
    columns = [field.names.index(name) for name in BLINKS]
    weights = weights.clone()
    open_eyes = [not knows_lids(frame) for frame in frames]
    evidence, _ = blink_evidence(field, frames, weights, config)
    evidence[~np.array(open_eyes)] = 0
    closure, gain, cost = best_blinks(evidence, config)
    for row, shut, ours in zip(weights, closure, open_eyes, strict=True):
        if ours:
            row[columns] = float(shut)
    return weights, {"blinks": -gain, "blink_prior": cost}


def blink_evidence(
    field: PosedField, frames: list[FrameObservation], weights: torch.Tensor, config: FittingConfig
) -> tuple[np.ndarray, float]:
    """Logarithm of how much likelier each frame is with lids shut by `LEVELS` than open: (T, 5), and the noise in mm.

    Points' distances are compared after what other frames' points nearby are off by with open eyes, a robust mean
    with a Gaussian of `blink_bias` mm, was taken from them.
    """
    columns = [field.names.index(name) for name in BLINKS]
    tries = weights.float().repeat(len(LEVELS), 1, 1)
    tries[:, :, columns] = torch.from_numpy(LEVELS).float()[:, None, None]
    distances, places, owner = [], [], []
    for index, frame in enumerate(frames):
        if not frame.trust or not len(frame.points):
            continue
        points = frame.points[near_lids(field, frame.points, config)]
        distances.append(field.distances(points, tries[:, index]).numpy().T * MILLIMETRES)
        places.append(points.numpy() * MILLIMETRES)
        owner.append(np.full(len(points), index))
    result = np.zeros((len(frames), len(LEVELS)))
    if not owner or sum(map(len, owner)) < 30:
        return result, float("nan")
    distance, place, owner = np.concatenate(distances), np.concatenate(places), np.concatenate(owner)
    pull = 1 / (1 + (distance[:, 0] / config.outlier_scale) ** 2) ** 2
    bias = np.zeros(len(place))
    for index in np.unique(owner):  # frame by frame: all pairs of a long sequence would fill the memory
        mine = owner == index
        others = np.flatnonzero(~mine & (np.abs(owner - index) <= config.blink_memory))
        apart = ((place[mine][:, None] - place[others]) ** 2).sum(-1)
        near = np.exp(-0.5 * apart / config.blink_bias**2) * pull[others]
        bias[mine] = near @ distance[others, 0] / (near.sum(1) + 3)
    error = distance - bias[:, None]
    noise = float(np.median(np.abs(error[:, 0]))) / 0.6745
    cost = error**2 / (1 + (error / config.outlier_scale) ** 2)
    np.add.at(result, owner, (cost[:, :1] - cost) / (2 * max(noise, 0.1) ** 2))
    return result, noise


def blink_shapes(fps: float, phases: int = 3) -> list[np.ndarray]:
    """Closures frame by frame of blinks that shut within 70 or 100 ms, stay for 30 to 640 ms, open in 130 or 200 ms."""
    fine, shapes = 10, []
    for close in (0.07, 0.1):
        for hold in (0.03, 0.08, 0.16, 0.32, 0.64):
            for reopen in (0.13, 0.2):
                count = int(np.ceil((close + hold + reopen) * fps)) + 1
                for phase in range(phases):
                    time = (np.arange(count * fine) + 0.5) / (fps * fine) - phase / phases / fps
                    ramp = np.minimum(time / close, 1 - (time - close - hold) / reopen).clip(0, 1)
                    ramp = (ramp**2 * (3 - 2 * ramp)).reshape(count, fine)
                    shapes.append(0.3 * ramp.mean(1) + 0.7 * ramp.max(1))  # a scan takes the time of a frame
    return shapes


def best_blinks(evidence: np.ndarray, config: FittingConfig) -> tuple[np.ndarray, float, float]:
    """Closure (T,), evidence gained and its cost: the best blink first, then the best of those beside it.

    A blink has to gain `blink_cost`, and `blink_hold_cost` for every frame beyond 0.4 s.
    """
    frames = len(evidence)
    found = []
    for shape in blink_shapes(config.fps):
        low = np.minimum(shape * (len(LEVELS) - 1), len(LEVELS) - 1 - 1e-9).astype(int)
        part = shape * (len(LEVELS) - 1) - low
        cost = config.blink_cost + config.blink_hold_cost * max(len(shape) - 0.4 * config.fps, 0)
        for first in range(1 - len(shape), frames):
            inside = slice(max(-first, 0), frames - first)
            rows = np.arange(max(first, 0), min(first + len(shape), frames))
            a, b = low[inside], part[inside]
            gain = float((evidence[rows, a] * (1 - b) + evidence[rows, a + 1] * b).sum())
            if gain > cost:
                found.append((cost - gain, first, gain, cost, rows, shape[inside]))
    closure, free, gained, paid = np.zeros(frames), np.ones(frames, bool), 0.0, 0.0
    for _, _, gain, cost, rows, shape in sorted(found, key=lambda blink: blink[:2]):
        if free[rows].all():
            closure[rows], free[rows] = shape, False
            gained, paid = gained + gain, paid + cost
    return closure, gained, paid
