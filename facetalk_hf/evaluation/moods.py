# SPDX-License-Identifier: MIT
"""Measures of acting: which mood a motion shows, as a small classifier of the teacher's moods has it, and its nods.

The classifier tells the moods of our own rules apart. It says whether a model shows what it was asked to show, and
nothing of how people look or feel.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..conditions import EMOTIONS


MOODS = ("neutral", *EMOTIONS)


def mood_features(weights: np.ndarray) -> np.ndarray:
    """Describe a clip by the quartiles of its 53 blendshape weights (T, 53) over time: (159,) float32."""
    return np.percentile(weights, (25, 50, 75), axis=0).ravel().astype(np.float32)


class MoodClassifier:
    """Multinomial logistic regression of `mood_features`, p = softmax(W f + b) over `MOODS`.

    Args:
        clips: weights (T, 53) of each clip. moods (list of `int`): numbers in `MOODS`.
        penalty (`float`): of the squared weights W, of features in standard deviations.
    """

    def __init__(self, clips: Sequence[np.ndarray], moods: Sequence[int], penalty: float = 1e-3) -> None:
        features = torch.from_numpy(np.stack([mood_features(clip) for clip in clips]))
        self.mean, self.scale = features.mean(0), features.std(0).clamp_min(0.02)
        scaled, wanted = (features - self.mean) / self.scale, torch.as_tensor(moods)
        self.layer = torch.nn.Linear(scaled.shape[1], len(MOODS))
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        solver = torch.optim.LBFGS(self.layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            solver.zero_grad()
            value = torch.nn.functional.cross_entropy(self.layer(scaled), wanted)
            value = value + penalty * self.layer.weight.square().sum()
            value.backward()
            return value

        solver.step(loss)

    @torch.no_grad()
    def __call__(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Give the probability of each mood for clips of weights (T, 53): (C, 7) float."""
        features = torch.from_numpy(np.stack([mood_features(clip) for clip in clips]))
        return self.layer((features - self.mean) / self.scale).softmax(-1).numpy()


def accent_ratio(
    pose: np.ndarray, accents: Sequence[float], fps: float, shifts: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Compare how fast a head nods at accents of the voice with how fast it nods at other times of the same clip.

    Args:
        pose ((T, 6) float): yaw, pitch, roll in degrees, and a translation.
        accents: their times, s. fps (`float`): of the pose.
        shifts (`int`): circular shifts of the accents, which give what chance does. seed (`int`): of the shifts.

    Returns:
        The mean |speed of the pitch| within 0.15 s of accents over its mean elsewhere would be 1 by chance: here over
        its mean after shifts; and the share of shifts that do at least as well. NaN where there is nothing to compare.
    """
    speed = np.abs(np.gradient(np.asarray(pose, np.float64)[:, 1])) * fps
    near = np.zeros(len(speed), bool)
    for time in accents:
        near[max(0, round((time - 0.15) * fps)) : round((time + 0.15) * fps) + 1] = True
    if not near.any() or near.all() or speed.max() < 1e-9:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    chance = np.array([speed[np.roll(near, int(rng.integers(1, len(near))))].mean() for _ in range(shifts)])
    found = speed[near].mean()
    return float(found / chance.mean()), float((chance >= found).mean())
