# SPDX-License-Identifier: MIT
"""Rule-based motion of the face beside the mouth in speech: blinks, gaze, brows, cheeks, small asymmetries.

All of it is seeded and made at the frame rate. The mouth itself comes from `visemes`.
"""

import numpy as np

from ..audio.analysis import gaussian, pitch_rise
from ..blendshapes import EXPRESSIONS, INDEX
from ..motion.blinks import blinks


def _wander(frames: int, fps: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Slow noise of unit spread (Ornstein-Uhlenbeck, smoothed), (frames,)."""
    keep = np.exp(-1 / (fps * seconds))
    noise = rng.standard_normal(frames) * np.sqrt(1 - keep * keep)
    value, result = rng.standard_normal(), np.empty(frames)
    for index in range(frames):
        value = keep * value + noise[index]
        result[index] = value
    return gaussian(result, 2)


def _gaze(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Fixations of 0.6 to 2.5 s around straight ahead, (frames, 2): to the subject's left, up; about -0.25..0.25."""
    result = np.zeros((frames, 2))
    at = 0
    while at < frames:
        length = max(2, int(rng.uniform(0.6, 2.5) * fps))
        result[at : at + length] = rng.normal(0, (0.09, 0.05)) * (rng.random() > 0.4)
        at += length
    # A saccade lasts 30 to 60 ms: one frame in between is what a camera would see.
    result[1:] = 0.5 * (result[1:] + result[:-1])
    return result.clip(-0.25, 0.25)


def accompany(
    weights: np.ndarray, audio: np.ndarray, sampling_rate: int, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """Add to a mouth track what goes with it: blinks, gaze, brows that follow the pitch, a lived-in asymmetry.

    Args:
        weights (`(T, 53)` float): mouth from `visemes.mouth_weights`; where it is at rest it stays exactly so.
        audio (`(S,)` float): the clip, for its pitch.
        rng (`np.random.Generator`): everything random comes from it.

    Returns:
        (T, 53) float32.
    """
    frames = len(weights)
    result = weights.astype(np.float64).copy()
    speech = gaussian((weights[:, INDEX["jawOpen"]] > 0.02).astype(float), 2)

    def put(name: str, left: np.ndarray, right: np.ndarray) -> None:
        result[:, INDEX[f"{name}_L"]], result[:, INDEX[f"{name}_R"]] = left, right

    tilt = rng.normal(0, 0.06)
    for name in ("mouthSmile", "mouthStretch", "mouthLowerDown", "mouthUpperUp"):
        value = result[:, INDEX[f"{name}_L"]]
        put(name, value * (1 + tilt), value * (1 - tilt))
    result[:, INDEX["mouthDimple_L"]] = 0.15 * result[:, INDEX["mouthSmile_L"]]
    result[:, INDEX["mouthDimple_R"]] = 0.15 * result[:, INDEX["mouthSmile_R"]]
    sideways = 0.12 * result[:, INDEX["jawOpen"]] * _wander(frames, fps, 1.5, rng)
    result[:, INDEX["jawLeft"]], result[:, INDEX["jawRight"]] = np.maximum(sideways, 0), np.maximum(-sideways, 0)

    lids = blinks(frames, fps, rng)
    gaze = _gaze(frames, fps, rng)
    down, up = np.maximum(-gaze[:, 1], 0), np.maximum(gaze[:, 1], 0)
    left, right = np.maximum(gaze[:, 0], 0), np.maximum(-gaze[:, 0], 0)
    put("eyeBlink", *(np.maximum(lids, 0.4 * down[:, None])).T)
    put("eyeSquint", 0.15 * lids[:, 0], 0.15 * lids[:, 1])
    put("eyeLookDown", down, down)
    put("eyeLookUp", up, up)
    put("eyeLookOut", left, right)
    put("eyeLookIn", right, left)

    raised = pitch_rise(audio, sampling_rate, frames, fps)
    idle, lean = _wander(frames, fps, 2.0, rng), rng.normal(0, 0.1)
    inner = (raised + 0.05 * idle + 0.03).clip(0, 0.6)
    outer = (0.7 * raised + 0.05 * _wander(frames, fps, 2.0, rng)).clip(0, 0.5)
    put("browInnerUp", inner * (1 + lean), inner * (1 - lean))
    put("browOuterUp", outer * (1 + lean), outer * (1 - lean))
    frown = (0.06 * _wander(frames, fps, 3.0, rng)).clip(0, 0.2) * speech
    put("browDown", frown, frown)
    put("eyeWide", 0.25 * raised, 0.25 * raised)
    for side in "LR":
        cheek = 0.35 * result[:, INDEX[f"mouthSmile_{side}"]] + 0.1 * lids[:, "LR".index(side)]
        result[:, INDEX[f"cheekSquint_{side}"]] = cheek
        result[:, INDEX[f"noseSneer_{side}"]] = 0.15 * result[:, INDEX[f"mouthUpperUp_{side}"]]
    assert result.shape[1] == len(EXPRESSIONS)
    return result.clip(0, 1).astype(np.float32)
