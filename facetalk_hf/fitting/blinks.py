# SPDX-License-Identifier: MIT
"""Detection of the blinks of a sequence by the likelihood of the points near the eyes.

A blink moves a scanned surface by less than a millimetre, in some 35 of 1600 points with a millimetre of noise: no
single frame tells whether the lids are shut. The course of a blink in time is known, so evidence is summed over all
its frames; and the systematic error of the head's surface near the eyes is estimated from all other frames. Both lids
blink together. This method is our own; FaceTalk describes none.
"""

import numpy as np
import torch

from ..motion.blinks import FINE, blink_course, seen_in_frames
from ..units import MILLIMETRES
from .config import FittingConfig
from .observations import FrameObservation
from .posed_field import PosedField
from .window_solver import BLINKS, lids_have_landmarks, near_lids


LEVELS = np.linspace(0, 1, 5)
"""Lid closures, from open to shut, at which the evidence is computed."""
MOST_POINTS = 120
"""Points near the eyes of a frame that are used at most: the errors of more are correlated."""


def find_blinks(
    field: PosedField, frames: list[FrameObservation], weights: torch.Tensor, config: FittingConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """Detect blinks and write them into the weights.

    Frames whose lids have landmarks keep their weights and give no evidence, and so do heads without named blinks.

    Args:
        field (`PosedField`): the person. frames: T observations. weights ((T, W)): of all frames, from the windows.

    Returns:
        weights (T, W), and the terms `blinks` (minus the evidence gained) and `blink_prior` (its cost).
    """
    if not set(BLINKS) <= set(field.names):
        return weights, {}
    columns = [field.names.index(name) for name in BLINKS]
    weights = weights.clone()
    undecided = [not lids_have_landmarks(frame) for frame in frames]
    evidence = blink_evidence(field, frames, weights, config)
    evidence[~np.array(undecided)] = 0
    closure, gain, cost = best_blinks(evidence, config)
    for row, shut, writable in zip(weights, closure, undecided, strict=True):
        if writable:
            row[columns] = float(shut)
    return weights, {"blinks": -gain, "blink_prior": cost}


def blink_evidence(
    field: PosedField, frames: list[FrameObservation], weights: torch.Tensor, config: FittingConfig
) -> np.ndarray:
    """Compute the log-likelihood ratio (T, 5) of lids closed by each of `LEVELS` against open ones.

    Two systematic errors of the head are estimated from the sequence itself. The distance of nearby points of other
    frames from the surface of open eyes (a robust mean, Gaussian of `blink_bias` mm) is subtracted from every
    distance. And a baseline, the evidence of most frames as a share of what closed lids would give, plus
    `blink_contrast`, is subtracted from the evidence of every frame. Fewer than 12 frames give no baseline.
    """
    columns = [field.names.index(name) for name in BLINKS]
    tries = weights.float().repeat(len(LEVELS), 1, 1)
    tries[:, :, columns] = torch.from_numpy(LEVELS).float()[:, None, None]
    distances, places, owners = [np.zeros((0, len(LEVELS)))], [np.zeros((0, 3))], [np.zeros(0, int)]
    for index, frame in enumerate(frames):
        points = frame.points[near_lids(field, frame.points, config)]
        points = points[:: -(-len(points) // MOST_POINTS) or 1]
        if frame.trust and len(points):
            distances.append(field.distances(points, tries[:, index]).numpy().T * MILLIMETRES)
            places.append(points.numpy() * MILLIMETRES)
            owners.append(np.full(len(points), index))
    distance, place, owner = (np.concatenate(parts) for parts in (distances, places, owners))
    gain, strength = np.zeros((2, len(frames), len(LEVELS)))
    if len(owner) < 30:
        return gain
    error = distance - surface_bias(distance[:, 0], place, owner, config)[:, None]
    # Median absolute deviation about zero; scipy's is about the median, which a bias would move.
    noise = max(float(np.median(np.abs(error[:, 0]))) / 0.6745, 0.1)
    cost = geman_mcclure(error, config.outlier_scale) / (2 * noise**2)
    np.add.at(gain, owner, cost[:, :1] - cost)
    np.add.at(strength, owner, geman_mcclure(distance - distance[:, :1], config.outlier_scale) / (2 * noise**2))
    if len(np.unique(owner)) < 12:
        return gain
    for level in range(1, len(LEVELS)):
        ratio = gain[:, level] / np.maximum(strength[:, level], 1e-9)
        order = ratio.argsort()
        share = np.cumsum(strength[order, level])
        baseline = ratio[order][np.searchsorted(share, 0.4 * share[-1])]  # eyes are open in most frames
        gain[:, level] -= (baseline + config.blink_contrast) * strength[:, level]
    return gain


def geman_mcclure(distance: np.ndarray, scale: float) -> np.ndarray:
    """Compute Geman and McClure's robust loss d^2 / (1 + (d / scale)^2)."""
    return distance**2 / (1 + (distance / scale) ** 2)


def surface_bias(distance: np.ndarray, place: np.ndarray, owner: np.ndarray, config: FittingConfig) -> np.ndarray:
    """Estimate the mean distance (N,) in mm of other frames' points near each place (N, 3); 0 where there are few."""
    irls_weight = 1 / (1 + (distance / config.outlier_scale) ** 2) ** 2
    bias = np.zeros(len(distance))
    for index in np.unique(owner):  # a frame at a time, and not too many others: all pairs would fill the memory
        mine = owner == index
        others = ~mine & (np.abs(owner - index) <= 120)
        apart = ((place[mine][:, None] - place[others]) ** 2).sum(-1)
        near = np.exp(-0.5 * apart / config.blink_bias**2) * irls_weight[others]
        bias[mine] = near @ distance[others] / (near.sum(1) + 3)
    return bias


def blink_shapes(fps: float, phases: int = 3) -> list[np.ndarray]:
    """Make the courses of blinks, closure (n,) a frame: shut in 70 or 100 ms, held 30 to 640 ms, opened in 130 or 200.

    Each has `phases` variants that start at different times within the first frame.
    """
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
    """Choose blinks greedily by evidence (T, 5) minus cost; they do not overlap.

    A blink costs `blink_cost`, and `blink_hold_cost` for every frame beyond 0.4 s.

    Returns:
        closure (T,), evidence gained, and its cost.
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
