# SPDX-License-Identifier: MIT
"""Rule-based motion of the face beside the mouth in speech: blinks, gaze, brows, cheeks, small asymmetries.

All of it is seeded and made at the frame rate. The mouth itself comes from `visemes`, expressions from `emotions`.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..audio.analysis import gaussian
from ..blendshapes import EXPRESSIONS, INDEX, LOOK_DEGREES
from ..conditions import CONDITIONS
from ..mesh.geometry import smootherstep
from ..motion.blinks import FINE, blink_course, seen_in_frames
from ..phones.visemes import Expression
from .prosody import Prosody


BLINKS = 13.0
"""A minute, apart from those that go with the ends of phrases and with large saccades."""

AT_PHRASE_END, AT_SACCADE, APART = 0.55, 0.4, 0.8
"""Chance of a blink at either, and seconds between two; ours. docs/training.md has the rate beside that of people."""


def wander(frames: int, fps: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Slow noise of unit spread (Ornstein-Uhlenbeck, smoothed), (frames,)."""
    keep = np.exp(-1 / (fps * seconds))
    noise = rng.standard_normal(frames) * np.sqrt(1 - keep * keep)
    value, result = rng.standard_normal(), np.empty(frames)
    for index in range(frames):
        value = keep * value + noise[index]
        result[index] = value
    return gaussian(result, 2)


def blink_times(
    seconds: float, occasions: Sequence[float], rng: np.random.Generator, hurry: float = 1.0
) -> list[float]:
    """Draw when lids begin to shut: on occasions, in s and sorted, and after a wait of 2 to 6 s at a `hurry` of 1."""
    result: list[float] = []
    at = rng.uniform(0.3, 4.0) / hurry
    waiting = list(occasions)
    while at < seconds:
        if waiting and waiting[0] < at:
            occasion = waiting.pop(0)
            if occasion >= 0.1 and (not result or occasion - result[-1] > APART):
                result.append(occasion)
                at = occasion + rng.uniform(2, 6) * (15 / BLINKS) / hurry
            continue
        if not result or at - result[-1] > APART:
            result.append(at)
        at += rng.uniform(2, 6) * (15 / BLINKS) / hurry
    return result


def _lids(frames: int, fps: float, starts: list[float], rng: np.random.Generator) -> np.ndarray:
    """Closure (frames, 2) in 0..1 of blinks that begin at these seconds, as `motion.blinks.blinks` shapes them."""
    times = np.arange(frames * FINE) / (fps * FINE)
    result = np.zeros((len(times), 2))
    for start in starts:
        close, hold, reopen = rng.uniform(0.07, 0.10), rng.uniform(0.02, 0.05), rng.uniform(0.13, 0.20)
        depth = rng.uniform(0.94, 1.0)
        for side in range(2):
            time = times - start - (rng.uniform(0, 0.008) if side else 0)
            result[:, side] = np.maximum(result[:, side], blink_course(time, close, hold, reopen, depth))
    return seen_in_frames(result)


def _beats(sounds: Prosody, frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Rises of the brows on some of the accents, (frames,) 0..1: up in 0.16 s, held a little, down in 0.3 s."""
    times, result = (np.arange(frames) + 0.5) / fps, np.zeros(frames)
    for accent in sounds.accents:
        if rng.random() > 0.45:
            continue
        up, down = (times - accent.time + 0.2) / 0.16, 1 - (times - accent.time - 0.08) / 0.3
        course = smootherstep(np.minimum(up, down).clip(0, 1))
        result = np.maximum(result, accent.strength * rng.uniform(0.15, 0.55) * course)
    return result


def accompany(
    weights: np.ndarray,
    sounds: Prosody,
    gaze: tuple[np.ndarray, list[float]],
    fps: float,
    rng: np.random.Generator,
    conditions: np.ndarray,
    expression: Expression | None = None,
) -> np.ndarray:
    """Add to a mouth track what goes with it: blinks, gaze, brows that follow the pitch, a lived-in asymmetry.

    Args:
        weights (`(T, 53)` float): mouth from `visemes.mouth_weights`, with its part of the expression.
        sounds ([`Prosody`]): of the clip.
        gaze ((T, 2) float and list): degrees to the subject's left and up in the head, seconds of large saccades.
        fps (`float`): frames a second. rng (`np.random.Generator`): everything random comes from it.
        conditions (`(T, C)` float): what is told, in the order of `CONDITIONS`.
        expression ([`Expression`], *optional*): of the face beneath.

    Returns:
        (T, 53) float32.
    """
    frames = len(weights)
    told = dict(zip(CONDITIONS, conditions.T, strict=True))
    shown = np.zeros((frames, len(EXPRESSIONS))) if expression is None else expression.target
    result = weights.astype(np.float64).copy()
    speech = gaussian((sounds.level > 0.3).astype(float), 2)
    liveliness = np.exp(0.5 * told["energy"] + 0.3 * told["arousal"])

    def put(name: str, left: np.ndarray, right: np.ndarray) -> None:
        result[:, INDEX[f"{name}_L"]], result[:, INDEX[f"{name}_R"]] = left, right

    def sides(name: str) -> np.ndarray:
        return shown[:, [INDEX[f"{name}_L"], INDEX[f"{name}_R"]]].T

    tilt = rng.normal(0, 0.06) + 0.3 * told["asymmetry"]
    for name in ("mouthSmile", "mouthStretch", "mouthLowerDown", "mouthUpperUp"):
        # The expression has its own asymmetry already; this is that of the phones.
        both = result[:, [INDEX[f"{name}_L"], INDEX[f"{name}_R"]]]
        spoken = np.maximum(both - sides(name).T, 0)
        put(name, both[:, 0] + spoken[:, 0] * tilt, both[:, 1] - spoken[:, 1] * tilt)
    for side in "LR":
        column = INDEX[f"mouthDimple_{side}"]
        result[:, column] = np.maximum(result[:, column], 0.15 * result[:, INDEX[f"mouthSmile_{side}"]])
    sideways = 0.12 * result[:, INDEX["jawOpen"]] * (wander(frames, fps, 1.5, rng) + 1.5 * told["asymmetry"])
    result[:, INDEX["jawLeft"]], result[:, INDEX["jawRight"]] = np.maximum(sideways, 0), np.maximum(-sideways, 0)

    angles, large = gaze
    ends = [end + rng.uniform(-0.05, 0.25) for _, end in sounds.phrases if rng.random() < AT_PHRASE_END]
    turns = [time for time in large if rng.random() < AT_SACCADE]
    hurry = float(np.exp(0.4 * told["arousal"].mean()))
    lids = _lids(frames, fps, blink_times(frames / fps, sorted(ends + turns), rng, hurry), rng)
    left = angles[:, 0].clip(-LOOK_DEGREES["Out"], LOOK_DEGREES["Out"]) / LOOK_DEGREES["Out"]
    up = angles[:, 1].clip(-LOOK_DEGREES["Down"], LOOK_DEGREES["Up"]) / LOOK_DEGREES["Up"]
    droop = 0.3 * np.maximum(-told["arousal"], 0) + 0.2 * told["sad"] + 0.12 * np.maximum(-told["energy"], 0)
    resting = np.maximum(0.4 * np.maximum(-up, 0), droop)
    put("eyeBlink", *np.maximum(lids, resting[:, None]).T)
    put("eyeLookDown", np.maximum(-up, 0), np.maximum(-up, 0))
    put("eyeLookUp", np.maximum(up, 0), np.maximum(up, 0))
    put("eyeLookOut", np.maximum(left, 0), np.maximum(-left, 0))
    put("eyeLookIn", np.maximum(-left, 0), np.maximum(left, 0))
    put("eyeSquint", *np.maximum(0.15 * lids.T, sides("eyeSquint")))

    # Brows: beats on accents, a slower part that follows the pitch, idle motion; what is shown leaves them less room.
    raised = gaussian(sounds.octaves.clip(0, 0.6), 3) * 0.7
    beats = (raised + _beats(sounds, frames, fps, rng)) * liveliness
    idle, lean = wander(frames, fps, 2.0, rng), rng.normal(0, 0.1)
    down = sides("browDown")
    room = 1 - 0.8 * down
    for name, share, drift in (("browInnerUp", 1.0, idle), ("browOuterUp", 0.7, wander(frames, fps, 2.0, rng))):
        own = (share * beats + 0.05 * drift + 0.03).clip(0, 0.6)
        lean_of = np.array([[1 + lean], [1 - lean]])
        put(name, *(sides(name) + (1 - sides(name)) * room * own * lean_of))
    frown = (0.06 * wander(frames, fps, 3.0, rng)).clip(0, 0.2) * speech
    put("browDown", *(down + (1 - down) * (frown + 0.3 * down * beats)))
    wide = sides("eyeWide")
    put("eyeWide", *((wide + (1 - wide) * 0.25 * beats) * (1 - lids.T)))
    breath = _nostrils(sounds, frames, fps)
    for index, side in enumerate("LR"):
        lifted = np.maximum(sides("cheekSquint")[index], 0.35 * result[:, INDEX[f"mouthSmile_{side}"]])
        result[:, INDEX[f"cheekSquint_{side}"]] = lifted + 0.1 * lids[:, index] * (1 - lifted)
        sneer = np.maximum(result[:, INDEX[f"noseSneer_{side}"]], 0.15 * result[:, INDEX[f"mouthUpperUp_{side}"]])
        result[:, INDEX[f"noseSneer_{side}"]] = np.maximum(sneer, breath)
    return result.clip(0, 1).astype(np.float32)


def _nostrils(sounds: Prosody, frames: int, fps: float) -> np.ndarray:
    """Widen the nose a trace while breath is drawn in pauses of 0.3 s and more, (frames,)."""
    times, result = (np.arange(frames) + 0.5) / fps, np.zeros(frames)
    for (_, end), (begin, _) in pairwise(sounds.phrases):
        if begin - end >= 0.3:
            course = np.minimum((times - begin + 0.45) / 0.2, (begin - times) / 0.15).clip(0, 1)
            result = np.maximum(result, 0.05 * smootherstep(course))
    return result
