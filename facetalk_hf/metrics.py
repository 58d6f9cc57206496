# SPDX-License-Identifier: MIT
"""Measures of facial motion, pure functions of numpy arrays. The formula of each is in its docstring.

Names follow the literature: LVE from MeshTalk (Richard et al. 2021), FDD from CodeTalker (Xing et al. 2023). T is a
number of frames, V of vertices; the unit of a result is that of the input unless it says otherwise.
"""

import numpy as np


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r = cov(a, b) / (std(a) std(b)) of two (T,) tracks; 0 where one of them is constant."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 1e-12 else 0.0


def lag(track: np.ndarray, reference: np.ndarray, max_lag: int = 6) -> int:
    """Frames by which `track` (T,) follows `reference` (T,): argmax over k of r(track[k:], reference[:-k]).

    Positive means late. Ties go to the smallest shift.
    """
    track, reference = np.asarray(track), np.asarray(reference)
    best, best_value = 0, -np.inf
    for shift in sorted(range(-max_lag, max_lag + 1), key=abs):
        a = track[max(shift, 0) : len(track) + min(shift, 0)]
        b = reference[max(-shift, 0) : len(reference) + min(-shift, 0)]
        if len(a) > 2 and (value := correlation(a, b)) > best_value + 1e-9:
            best, best_value = shift, value
    return best


def lip_aperture(jaw_open: np.ndarray, mouth_close: np.ndarray, seal: float = 0.93) -> np.ndarray:
    """jawOpen - mouthClose / seal, (T,): 0 where the lips meet, in units of the jawOpen weight."""
    return np.maximum(np.asarray(jaw_open) - np.asarray(mouth_close) / seal, 0)


def closure_score(predicted: np.ndarray, target: np.ndarray, tolerance: int = 0) -> dict[str, float]:
    """Precision, recall and F1 = 2 P R / (P + R) of closed frames.

    Args:
        predicted (`(T,)` bool), target (`(T,)` bool): lips closed in this frame.
        tolerance (`int`): a predicted frame counts as right if the target is closed within so many frames of it, and a
            target frame as found if the prediction is.

    Returns:
        dict of "precision", "recall", "f1"; all 1 where neither has a closed frame.
    """
    predicted, target = np.asarray(predicted, bool), np.asarray(target, bool)
    if not predicted.any() and not target.any():
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    precision = float((predicted & _widen(target, tolerance)).sum() / max(predicted.sum(), 1))
    recall = float((target & _widen(predicted, tolerance)).sum() / max(target.sum(), 1))
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-12)}


def _widen(flags: np.ndarray, reach: int) -> np.ndarray:
    result = flags.copy()
    for shift in range(1, reach + 1):
        result[shift:] |= flags[:-shift]
        result[:-shift] |= flags[shift:]
    return result


def silence_aperture(aperture: np.ndarray, silent: np.ndarray, settle: int = 6) -> float:
    """Largest |aperture| (T,) over frames that are silent and at least `settle` frames away from sound; 0 if none."""
    silent = np.asarray(silent, bool)
    inner = ~_widen(~silent, settle)
    return float(np.abs(np.asarray(aperture)[inner]).max()) if inner.any() else 0.0


def lip_vertex_error(predicted: np.ndarray, target: np.ndarray, lips: np.ndarray, rooted: bool = False) -> float:
    """LVE = mean over t of max over lip vertices v of |p_tv - q_tv|^2; with `rooted` of the distance itself.

    Args:
        predicted, target (`(T, V, 3)` float): vertices.
        lips (`(L,)` int or `(V,)` bool): the lip vertices.
    """
    squared = ((predicted[:, lips] - target[:, lips]) ** 2).sum(-1)
    return float((np.sqrt(squared) if rooted else squared).max(1).mean())


def mean_vertex_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """MVE = mean over t and v of |p_tv - q_tv|, (T, V, 3) arrays."""
    return float(np.linalg.norm(predicted - target, axis=-1).mean())


def face_dynamics_deviation(
    predicted: np.ndarray, target: np.ndarray, neutral: np.ndarray, upper: np.ndarray, absolute: bool = False
) -> float:
    """FDD = mean over upper-face v of dyn(target, v) - dyn(predicted, v), dyn = std over t of |x_tv - neutral_v|^2.

    Args:
        predicted, target (`(T, V, 3)` float), neutral (`(V, 3)` float): vertices.
        upper (`(U,)` int or `(V,)` bool): the upper face.
        absolute (`bool`): mean of the absolute differences, so that too much and too little do not cancel.
    """

    def dynamics(vertices: np.ndarray) -> np.ndarray:
        return ((vertices[:, upper] - neutral[upper]) ** 2).sum(-1).std(0)

    difference = dynamics(target) - dynamics(predicted)
    return float((np.abs(difference) if absolute else difference).mean())


def diversity(samples: np.ndarray) -> float:
    """Mean over pairs of samples i < j of the mean over frames of |x_i - x_j|; samples (K, T, ...), K > 1."""
    flat = np.asarray(samples, np.float64).reshape(len(samples), samples.shape[1], -1)
    pairs = [np.linalg.norm(flat[i] - flat[j], axis=-1).mean() for i in range(len(flat)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else 0.0


def speed(motion: np.ndarray, fps: float) -> float:
    """Mean over frames of |x_t+1 - x_t| fps, (T, ...) float; units a second."""
    flat = np.asarray(motion, np.float64).reshape(len(motion), -1)
    return float(np.linalg.norm(np.diff(flat, axis=0), axis=1).mean() * fps) if len(flat) > 1 else 0.0


def jerk(motion: np.ndarray, fps: float) -> float:
    """Mean over frames of |third difference| fps^3, (T, ...) float; units a second cubed."""
    flat = np.asarray(motion, np.float64).reshape(len(motion), -1)
    return float(np.linalg.norm(np.diff(flat, n=3, axis=0), axis=1).mean() * fps**3) if len(flat) > 3 else 0.0
