# SPDX-License-Identifier: MIT
"""What the face does beside the mouth while it speaks: loudness, pitch, blinks, gaze, brows, small asymmetries.

Everything is seeded and made at the frame rate. The mouth itself comes from `phonemes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from .blendshapes import EXPRESSIONS, INDEX
from .geometry import smootherstep


LID_REST, LID_DECISION, LID_SOFTNESS = 0.2, 0.6, 0.1
"""Weights of eyeBlink: lids are lowered no further without a blink; from where on one shuts; width of the decision."""

FINE = 10
"""Moments of a frame at which a blink's course is computed."""

LID_COMPANIONS = (("eyeBlink", 1.0), ("eyeSquint", 0.15), ("cheekSquint", 0.1))
"""What moves with a lid, and by how much of its weight."""


def loudness(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Smoothed level in decibels, 0 at 32 dB below the clip's loud parts, 1 at them, (frames,) float.

    Args:
        audio (`(S,)` float): the clip.
    """
    edges = np.round(np.arange(frames + 1) / fps * sampling_rate).astype(int).clip(0, len(audio))
    total = np.concatenate([[0.0], np.cumsum(np.asarray(audio, float) ** 2)])
    power = (total[edges[1:]] - total[edges[:-1]]) / np.maximum(edges[1:] - edges[:-1], 1)
    level = 10 * np.log10(power + 1e-9)
    top = np.percentile(level, 95)
    value = np.clip((level - top + 32) / 32, 0, 1) if top > -60 else np.zeros(frames)
    return _smooth(value, 1.5)


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of `sigma` frames along the first axis, edges held."""
    reach = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, (reach, reach), mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def pitch(audio: np.ndarray, sampling_rate: int, frames: int, fps: float = 24) -> np.ndarray:
    """Fundamental frequency by the autocorrelation of 50 ms windows, (frames,) Hz, 0 where unvoiced."""
    step = max(1, sampling_rate // 8000)
    signal = np.asarray(audio, float)[::step]
    rate = sampling_rate / step
    width = int(0.05 * rate)
    centre = ((np.arange(frames) + 0.5) / fps * rate).astype(int)
    padded = np.pad(signal, (width, width + int(rate / fps)))
    windows = padded[(centre + width // 2)[:, None].clip(0, len(padded) - width) + np.arange(width)]
    windows = (windows - windows.mean(1, keepdims=True)) * np.hanning(width)
    size = 1 << (2 * width - 1).bit_length()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(windows, size)) ** 2, size)[:, :width]
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(width), size)) ** 2, size)[:width]
    correlation = correlation / (correlation[:, :1] + 1e-9) / (taper / taper[0] + 1e-3)
    low, high = int(rate / 400), int(rate / 65)
    best = correlation[:, low:high].argmax(1) + low
    voiced = (correlation[np.arange(frames), best] > 0.5) & (windows.std(1) > 0.1 * windows.std())
    return np.where(voiced, rate / best, 0.0)


def blinks(frames: int, fps: float, rng: np.random.Generator, rate: float = 15.0) -> np.ndarray:
    """Lid closure (frames, 2) in 0..1 for left and right: a renewal process of `rate` blinks a minute.

    From one blink to the next it takes between half and one and a half times the mean: 2 to 6 s at the default rate.
    """
    if rate <= 0:
        return np.zeros((frames, 2))
    wait = 15.0 / rate
    times = np.arange(frames * FINE) / (fps * FINE)
    result = np.zeros((len(times), 2))
    at = rng.uniform(0.3, 4.0) * wait
    while at < frames / fps:
        close, hold, reopen = rng.uniform(0.07, 0.10), rng.uniform(0.02, 0.05), rng.uniform(0.13, 0.20)
        depth = rng.uniform(0.94, 1.0)
        for side in range(2):
            time = times - at - (rng.uniform(0, 0.008) if side else 0)
            result[:, side] = np.maximum(result[:, side], blink_course(time, close, hold, reopen, depth))
        at += rng.uniform(2, 6) * wait
    return seen_in_frames(result)


def blink_course(time: np.ndarray, close: float, hold: float, reopen: float, depth: float = 1.0) -> np.ndarray:
    """Closure 0..depth at times (T,) in s after a blink's start: smooth steps shut and open, all durations in s."""
    ramp = np.minimum(time / close, 1 - (time - close - hold) / reopen).clip(0, 1)
    return depth * ramp * ramp * (3 - 2 * ramp)


def seen_in_frames(closure: np.ndarray) -> np.ndarray:
    """Closures (T * `FINE`, ...) within frames to those of T frames.

    The mean over a frame, drawn towards its maximum: at 24 fps a lid would otherwise hardly ever be seen shut.
    """
    parts = closure.reshape(-1, FINE, *closure.shape[1:])
    return 0.3 * parts.mean(1) + 0.7 * parts.max(1)


@dataclass
class LidMemory:
    """What lids were like in the last frame that `sharpen_blinks` saw: a live motion comes in pieces.

    Args:
        mean ((...) float): of both. shut, reopening ((...) bool): on their way up, or about to be.
    """

    mean: np.ndarray | float = 0.0
    shut: np.ndarray | bool = False
    reopening: np.ndarray | bool = False


def sharpen_blinks(
    weights: np.ndarray, names: Sequence[str], amount: float = 1.0, memory: LidMemory | None = None
) -> np.ndarray:
    """Lids that shut or stay open: what a generated blink leaves undecided is decided.

    A network that draws blinks at random also draws half ones. What the mean m of both lids is in a frame decides:
    lids are lowered to `LID_REST` at most while m is below `LID_DECISION` - `LID_SOFTNESS` / 2, shut when it is as
    much above, and on a smooth path between. Lids that were shut go up as they were drawn, for as long as m falls. No
    frame needs a later one, so this works live, and the same motion gives the same lids. Squints and cheeks follow the
    lids as in `accompany`.

    Args:
        weights ((..., T, W) float), names (W `str`): with eyeBlink_L and eyeBlink_R among them.
        amount (`float`, *optional*, defaults to 1.0): 0 leaves the lids as they are.
        memory (`LidMemory`, *optional*): of the frame before the first one; that of the last one afterwards.

    Returns:
        (..., T, W) float of the same type.
    """
    result, column = np.array(weights), {name: index for index, name in enumerate(names)}
    memory = memory or LidMemory()
    mean = (weights[..., column["eyeBlink_L"]] + weights[..., column["eyeBlink_R"]]) / 2
    rise = smootherstep(((mean - LID_DECISION) / LID_SOFTNESS + 0.5).clip(0, 1))
    reopening = np.zeros(mean.shape, bool)
    for frame in range(mean.shape[-1]):
        now = mean[..., frame]
        reopening[..., frame] = (memory.shut | memory.reopening) & (now < memory.mean)
        memory.mean, memory.shut, memory.reopening = now, rise[..., frame] > 0.5, reopening[..., frame]
    for side in "LR":
        old = weights[..., column[f"eyeBlink_{side}"]]
        rest = np.where(reopening, old, np.minimum(old, LID_REST))
        change = amount * (rest + (np.maximum(old, 1.0) - rest) * rise - old)
        for name, share in LID_COMPANIONS:
            if f"{name}_{side}" in column:
                result[..., column[f"{name}_{side}"]] += share * change
    return result


def replace_blinks(
    weights: np.ndarray, names: Sequence[str], fps: float, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """A motion with blinks of its own taken out and `rate` blinks a minute put in.

    What stays below a lid's fall and rise within 0.6 s (a morphological opening of the track) is no blink but a lid
    that is lowered with the gaze, or shut on purpose: it stays. Squints and cheeks follow the lids as in `accompany`.

    Args:
        weights ((T, W) float), names (W `str`): with eyeBlink_L and eyeBlink_R among them.
        fps (`float`): frame rate. rate (`float`): blinks a minute, 0 for none.
        rng (`np.random.Generator`): everything random comes from it.

    Returns:
        (T, W) float of the same type.
    """
    result, column = np.array(weights), {name: index for index, name in enumerate(names)}
    width = 2 * round(0.3 * fps) + 1
    new = blinks(len(weights), fps, rng, rate)
    for side, closed in zip("LR", new.T, strict=True):
        old = weights[:, column[f"eyeBlink_{side}"]]
        resting = maximum_filter1d(minimum_filter1d(old, width, mode="nearest"), width, mode="nearest")
        # Below a tenth it is tremor, not a blink: leave the track as lively as it was.
        kept = np.where(gaussian_filter1d(1.0 * (old - resting > 0.1), 0.04 * fps) > 0.05, resting, old)
        change = np.maximum(kept, closed) - old
        for name, share in LID_COMPANIONS:
            if f"{name}_{side}" in column:
                result[:, column[f"{name}_{side}"]] += share * change
    return result


def _wander(frames: int, fps: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Slow noise of unit spread (Ornstein-Uhlenbeck, smoothed), (frames,)."""
    keep = np.exp(-1 / (fps * seconds))
    noise = rng.standard_normal(frames) * np.sqrt(1 - keep * keep)
    value, result = rng.standard_normal(), np.empty(frames)
    for index in range(frames):
        value = keep * value + noise[index]
        result[index] = value
    return _smooth(result, 2)


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
        weights (`(T, 53)` float): mouth from `phonemes.mouth_weights`; where it is at rest it stays exactly so.
        audio (`(S,)` float): the clip, for its pitch.
        rng (`np.random.Generator`): everything random comes from it.

    Returns:
        (T, 53) float32.
    """
    frames = len(weights)
    result = weights.astype(np.float64).copy()
    speech = _smooth((weights[:, INDEX["jawOpen"]] > 0.02).astype(float), 2)

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

    f0 = pitch(audio, sampling_rate, frames, fps)
    voiced = f0 > 0
    raised = np.zeros(frames)
    if voiced.sum() > 5:
        octaves = np.log2(np.maximum(f0, 1) / np.median(f0[voiced]))
        raised = _smooth(np.where(voiced, octaves.clip(0, 0.6), 0), 3) * 1.3
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
