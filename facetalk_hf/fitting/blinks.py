# SPDX-License-Identifier: MIT
"""Blinks of a sequence: what the few points at the eyes say about each frame, and the blinks that explain it best.

A blink moves what a scan sees by less than a millimetre, in some 35 of 1600 points with a millimetre of noise: no
frame says for itself whether the lids are shut. A blink's course in time is known, so that all its frames are asked
together, and so is where the points lie while the eyes are open, from all other frames: what the head's surface is
off there by, is no blink. Both lids blink as one. Our own; FaceTalk says nothing about blinks.
"""

import numpy as np
import torch

from ..motion.blinks import FINE, blink_course, seen_in_frames
from ..units import MILLIMETRES
from .observations import FittingConfig, FrameObservation
from .posed_field import PosedField
from .window_solver import BLINKS, knows_lids, near_lids


LEVELS = np.linspace(0, 1, 5)
"""Closures that the evidence is computed at."""
MOST = 120
"""Points at the eyes of a frame that are asked: more of them share their errors."""


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
    evidence = blink_evidence(field, frames, weights, config)
    evidence[~np.array(open_eyes)] = 0
    closure, gain, cost = best_blinks(evidence, config)
    for row, shut, ours in zip(weights, closure, open_eyes, strict=True):
        if ours:
            row[columns] = float(shut)
    return weights, {"blinks": -gain, "blink_prior": cost}


def blink_evidence(
    field: PosedField, frames: list[FrameObservation], weights: torch.Tensor, config: FittingConfig
) -> np.ndarray:
    """How much better lids shut by `LEVELS` explain each frame than open ones: (T, 5), logarithm of a likelihood.

    Two things that a head is off by are no blinks, and are learnt from the sequence itself. What points nearby in
    other frames lie off the surface of open eyes by (a robust mean, Gaussian of `blink_bias` mm) is taken from every
    distance. And `typical` evidence for shut lids, as a share of what truly shut ones would add, is what frames have
    whose eyes are open; a blink has to stand out from it. A sequence too short to say what is typical is taken as is.
    """
    columns = [field.names.index(name) for name in BLINKS]
    tries = weights.float().repeat(len(LEVELS), 1, 1)
    tries[:, :, columns] = torch.from_numpy(LEVELS).float()[:, None, None]
    distances, places, owners = [np.zeros((0, len(LEVELS)))], [np.zeros((0, 3))], [np.zeros(0, int)]
    for index, frame in enumerate(frames):
        points = frame.points[near_lids(field, frame.points, config)]
        points = points[:: -(-len(points) // MOST) or 1]
        if frame.trust and len(points):
            distances.append(field.distances(points, tries[:, index]).numpy().T * MILLIMETRES)
            places.append(points.numpy() * MILLIMETRES)
            owners.append(np.full(len(points), index))
    distance, place, owner = (np.concatenate(parts) for parts in (distances, places, owners))
    gain, strength = np.zeros((2, len(frames), len(LEVELS)))
    if len(owner) < 30:
        return gain
    error = distance - surface_bias(distance[:, 0], place, owner, config)[:, None]
    noise = max(float(np.median(np.abs(error[:, 0]))) / 0.6745, 0.1)
    cost = robust(error, config.outlier_scale) / (2 * noise**2)
    np.add.at(gain, owner, cost[:, :1] - cost)
    np.add.at(strength, owner, robust(distance - distance[:, :1], config.outlier_scale) / (2 * noise**2))
    if len(np.unique(owner)) < 12:
        return gain
    for level in range(1, len(LEVELS)):
        ratio = gain[:, level] / np.maximum(strength[:, level], 1e-9)
        order = ratio.argsort()
        share = np.cumsum(strength[order, level])
        typical = ratio[order][np.searchsorted(share, 0.4 * share[-1])]  # eyes are open in most frames
        gain[:, level] -= (typical + config.blink_contrast) * strength[:, level]
    return gain


def robust(distance: np.ndarray, scale: float) -> np.ndarray:
    """Geman and McClure's d^2 / (1 + (d / scale)^2)."""
    return distance**2 / (1 + (distance / scale) ** 2)


def surface_bias(distance: np.ndarray, place: np.ndarray, owner: np.ndarray, config: FittingConfig) -> np.ndarray:
    """(N,) mm: what points of other frames near each place (N, 3) are off by; none where few are known."""
    pull = 1 / (1 + (distance / config.outlier_scale) ** 2) ** 2
    bias = np.zeros(len(distance))
    for index in np.unique(owner):  # a frame at a time, and not too many others: all pairs would fill the memory
        mine = owner == index
        others = ~mine & (np.abs(owner - index) <= 120)
        apart = ((place[mine][:, None] - place[others]) ** 2).sum(-1)
        near = np.exp(-0.5 * apart / config.blink_bias**2) * pull[others]
        bias[mine] = near @ distance[others] / (near.sum(1) + 3)
    return bias


def blink_shapes(fps: float, phases: int = 3) -> list[np.ndarray]:
    """Closures a frame of blinks that shut within 70 or 100 ms, stay for 30 to 640 ms and open in 130 or 200 ms."""
    shapes = []
    for close in (0.07, 0.1):
        for hold in (0.03, 0.08, 0.16, 0.32, 0.64):
            for reopen in (0.13, 0.2):
                count = int(np.ceil((close + hold + reopen) * fps)) + 1
                for phase in range(phases):
                    time = (np.arange(count * FINE) + 0.5) / (fps * FINE) - phase / phases / fps
                    shapes.append(seen_in_frames(blink_course(time, close, hold, reopen)))
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
