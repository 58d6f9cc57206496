# SPDX-License-Identifier: MIT
"""Where a speaker looks: saccades and fixations after Lee, Badler and Badler, "Eyes alive" (2002).

The paper itself (ACM Transactions on Graphics 21, 637-644) was not at hand. Checked against what others quote of it:
times of looking at and away while talking (3.1 and 0.93 s), duration of saccades (20 to 30 ms and 2.2 to 2.7 ms a
degree), sizes (exponential, nine of ten below 15 degrees) and directions (straight ones twice as frequent as diagonal
ones). The single frequencies of `DIRECTIONS` and the spreads are as we remember them.
"""

import numpy as np


DIRECTIONS = (15.54, 6.46, 17.69, 7.44, 16.80, 7.89, 20.38, 7.79)
"""Per cent of saccades to the right, right and up, up, ... in steps of 45 degrees (their table 1)."""

MUTUAL, AWAY = (93.9 / 30, 94.9 / 30), (27.8 / 30, 24.0 / 30)
"""Mean and spread in s of looking at the other and of looking away, while talking (their frames are of 1/30 s)."""

LARGEST = 18.0
"""Degrees; theirs go to 27.5 with the head's help, which here turns for itself."""


def saccades(
    frames: int, fps: float, rng: np.random.Generator, restless: float = 1.0, averse: float = 1.0,
    lean: tuple[float, float] = (0.0, 0.0),
) -> tuple[np.ndarray, list[float]]:  # fmt: skip
    """Draw the direction of a speaker's gaze in the world: degrees to the subject's left and up.

    Mutual gaze and gaze away take turns. Looking at the other the eyes go between eyes and mouth, 1.2 degrees about
    the middle every 0.3 to 1.2 s; looking away they jump by A = -6.9 log(P / 15.7) degrees, P uniform in 0..15 (their
    equation 3), there and back. A saccade takes 25 ms and 2.4 ms more for every degree (their equation 1).

    Args:
        frames (`int`), fps (`float`): of the motion.
        rng (`np.random.Generator`): all chance comes from it.
        restless (`float`): how many times as often the gaze changes. averse (`float`): how many times as long it is
            away.
        lean ((`float`, `float`)): degrees to the left and up of where away is, on average.

    Returns:
        (frames, 2) float, and the seconds of saccades of more than 8 degrees, at which people often blink.
    """
    events: list[tuple[float, np.ndarray]] = []
    large, at, away = [], 0.0, bool(rng.random() < 0.2)
    here = np.zeros(2)
    while at < frames / fps:
        mean, spread = AWAY if away else MUTUAL
        length = rng.gamma((mean / spread) ** 2, spread**2 / mean) * (averse if away else 1) / restless
        end = at + max(length, 0.35)
        if away:
            reach = min(-6.9 * np.log(max(rng.uniform(0, 15), 1e-3) / 15.7), LARGEST)
            angle = np.radians(45 * rng.choice(8, p=np.array(DIRECTIONS) / sum(DIRECTIONS)) + rng.normal(0, 12))
            place = reach * np.array((-np.cos(angle), np.sin(angle))) + lean  # their right is the viewer's
        else:
            place = rng.normal(0, (0.8, 1.2))
        while at < end:
            if np.abs(place - here).max() > 8:
                large.append(at)
            events.append((at, place))
            here = place
            at += rng.uniform(0.3, 1.2) if not away else rng.uniform(0.5, 1.6)
            place = place + rng.normal(0, (0.5, 0.4)) if away else rng.normal(0, (0.8, 1.2))
        at, away = end, not away
    fine = 8
    times = np.arange(frames * fine) / (fps * fine)
    result = np.zeros((len(times), 2))
    result[:] = events[0][1] if events else 0
    for (_, before), (start, after) in zip(events[:-1], events[1:], strict=True):
        step = np.abs(after - before).max()
        ramp = ((times - start) / (0.025 + 0.0024 * step)).clip(0, 1)
        later = times >= start
        result[later] = before + (after - before) * (ramp**3 * (10 - 15 * ramp + 6 * ramp**2))[later, None]
    return result.reshape(frames, fine, 2).mean(1), large
