# SPDX-License-Identifier: MIT
"""Life of a face that says nothing: it blinks, looks about a little, and breathes."""

import numpy as np

from ..animation.arkit import ARKIT
from ..blendshapes import LOOK_DEGREES
from ..motion.blinks import FINE, LID_COMPANIONS, blink_course, seen_in_frames


LIDS = [ARKIT.index(f"eyeBlink{side}") for side in ("Left", "Right")]
LOOKS = [ARKIT.index(f"eyeLook{way}{side}") for side in ("Left", "Right") for way in ("Out", "In", "Up", "Down")]
BREATH = 3.9
"""Seconds of a breath at rest: 15 a minute."""
SACCADE = 300.0
"""Degrees a second at which eyes turn."""


class IdleLife:
    """Makes frames one after the other; how much of it is seen, the caller says for each.

    Args:
        fps (`float`): frames a second. seed (`int`): same seed, same life.
        sway (`bool`): whether the head turns a little, too, besides its breath: where nothing else moves it.
    """

    def __init__(self, fps: float, seed: int = 0, sway: bool = True) -> None:
        self.fps, self.rng, self._frame = fps, np.random.default_rng(seed), 0
        self._blink, self._lids = (self._after(1.0, 4.0), 0.08, 0.03, 0.16), 0.0
        self._gaze, self._target, self._look_at = np.zeros(2), np.zeros(2), self._after(0.5, 2.0)
        self._waves = self.rng.uniform(0.05, 0.3, (3, 4)), self.rng.uniform(0, 2 * np.pi, (3, 4))
        self._extent = np.array([0.9, 0.5, 0.5]) * sway

    def _after(self, low: float, high: float) -> float:
        return self._frame / self.fps + self.rng.uniform(low, high)

    def __call__(self, weights: np.ndarray, amount: float) -> tuple[np.ndarray, np.ndarray]:
        """Bring life into the next frame.

        Args:
            weights ((52,) float): of the frame. amount (`float`): 0 leaves them as they are, 1 is a face at rest.

        Returns:
            weights (52,) float32, and a pose (6,) float32 of breath and sway, to be added whatever the amount.
        """
        time, result = self._frame / self.fps, np.array(weights, np.float32)
        start, *course = self._blink
        if result[LIDS].max() > 0.5 and time < start:  # the motion blinks by itself
            self._blink = (self._after(2.0, 6.0), *self._draw_blink())
        elif time > start + sum(course):
            self._blink = (self._after(1.6, 5.6), *self._draw_blink())
        fine = (self._frame + np.arange(FINE) / FINE) / self.fps - start
        closed = amount * float(seen_in_frames(blink_course(fine, *course))[0])
        for name, share in LID_COMPANIONS:
            for side in ("Left", "Right"):
                column = ARKIT.index(f"{name}{side}")
                result[column] = max(result[column], share * closed)
        if time >= self._look_at:
            away = self.rng.random() < 0.6
            self._target = np.clip(self.rng.normal(0, (6.0, 3.0)), (-15, -8), (15, 8)) * away
            self._look_at = self._after(0.7, 3.0)
        step = self._target - self._gaze
        self._gaze = self._gaze + step * min(1.0, SACCADE / self.fps / max(float(np.linalg.norm(step)), 1e-9))
        result[LOOKS] += amount * (looks(*self._gaze) - result[LOOKS])
        self._frame += 1
        return result, self._pose(time)

    def _draw_blink(self) -> tuple[float, float, float]:
        return self.rng.uniform(0.07, 0.1), self.rng.uniform(0.02, 0.05), self.rng.uniform(0.13, 0.2)

    def _pose(self, time: float) -> np.ndarray:
        hertz, phase = self._waves
        turn = self._extent * np.sin(2 * np.pi * hertz * time + phase).sum(1) / 2
        breath = np.sin(2 * np.pi * time / BREATH)
        return np.array([turn[0], turn[1] + 0.3 * breath, turn[2], 0, 0.6 * breath, 0.3 * breath], np.float32)


def looks(yaw: float, pitch: float) -> np.ndarray:
    """Turn a direction in degrees, to the subject's left and up, into the weights (8,) of `LOOKS`."""
    sides = [np.array([side * yaw, -side * yaw, pitch, -pitch]) for side in (1, -1)]
    reach = np.array([LOOK_DEGREES[way] for way in ("Out", "In", "Up", "Down")])
    return np.concatenate([(angles / reach).clip(0, 1) for angles in sides])
