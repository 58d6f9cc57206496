# SPDX-License-Identifier: MIT
"""Measures of facial motion, pure functions of numpy arrays. The formula of each is in its docstring.

Names follow the literature: LVE from MeshTalk (Richard et al. 2021), FDD from CodeTalker (Xing et al. 2023). T is a
number of frames, V of vertices; the unit of a result is that of the input unless it says otherwise. How a motion
moves, whatever it should have been, is measured by `motion_metrics`.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import binary_dilation


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Pearson's r = cov(a, b) / (std(a) std(b)) of tracks (T,); 0, not NumPy's NaN, where one is constant."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 1e-12 else 0.0


def lag(track: np.ndarray, reference: np.ndarray, max_lag: int = 6) -> int:
    """Find the frames by which `track` (T,) follows `reference` (T,): argmax over k of r(track[k:], reference[:-k]).

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
    """Compute jawOpen - mouthClose / seal, (T,): 0 where the lips meet, in units of the jawOpen weight."""
    return np.maximum(np.asarray(jaw_open) - np.asarray(mouth_close) / seal, 0)


def closure_score(predicted: np.ndarray, target: np.ndarray, tolerance: int = 0) -> dict[str, float]:
    """Compute precision, recall and F1 = 2 P R / (P + R) of closed frames.

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
    return binary_dilation(flags, np.ones(2 * reach + 1))


def silence_aperture(aperture: np.ndarray, silent: np.ndarray, margin: int = 6) -> float:
    """Find the largest |aperture| (T,) over silent frames more than `margin` frames away from sound; 0 if none."""
    silent = np.asarray(silent, bool)
    inner = ~_widen(~silent, margin)
    return float(np.abs(np.asarray(aperture)[inner]).max()) if inner.any() else 0.0


def lip_vertex_error(
    predicted: np.ndarray, target: np.ndarray, lips: np.ndarray | slice = slice(None), form: str = "squared"
) -> float:
    """Compute the lip vertex error LVE, of the worst lip vertex in each frame.

    With d_tv = |p_tv - q_tv| and m_t = max over lip vertices v of d_tv:

    "squared": mean_t m_t^2, as CodeTalker and FaceDiffuser code it; a unit squared, though often printed as mm.
    "rooted": mean_t m_t, UniTalker's second number. "root_mean": sqrt(mean_t m_t^2), as ARTalk codes it.

    Args:
        predicted, target (`(T, V, 3)` float): vertices. Over several clips, frames are pooled: long clips weigh more.
        lips (`(L,)` int or `(V,)` bool, *optional*): the lip vertices; all where absent.
        form (`str`): see above.

    Raises:
        ValueError: another form.
    """
    squared = ((np.asarray(predicted)[:, lips] - np.asarray(target)[:, lips]) ** 2).sum(-1, dtype=np.float64).max(1)
    if form == "squared":
        return float(squared.mean())
    if form == "rooted":
        return float(np.sqrt(squared).mean())
    if form == "root_mean":
        return float(np.sqrt(squared.mean()))
    raise ValueError(f'form is "squared", "rooted" or "root_mean", not {form!r}')


def mean_vertex_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """Compute MVE = mean over t and v of |p_tv - q_tv|, (T, V, 3) arrays; not squared."""
    return float(np.linalg.norm(np.asarray(predicted) - np.asarray(target), axis=-1).mean(dtype=np.float64))


def face_dynamics_deviation(
    predicted: np.ndarray,
    target: np.ndarray,
    neutral: np.ndarray,
    upper: np.ndarray | slice = slice(None),
    absolute: bool = False,
) -> float:
    """Compute FDD = mean over upper-face v of dyn(target) - dyn(predicted), dyn = std over t of |x_tv - neutral_v|^2.

    Positive means too still. The result is a unit squared, of one clip: clips are averaged with sign, each once.

    Args:
        predicted, target (`(T, V, 3)` float), neutral (`(V, 3)` float): vertices.
        upper (`(U,)` int or `(V,)` bool, *optional*): the upper face; all where absent.
        absolute (`bool`): mean of the absolute differences, so that too much and too little do not cancel.
    """

    def dynamics(vertices: np.ndarray) -> np.ndarray:
        return ((vertices[:, upper] - neutral[upper]) ** 2).sum(-1, dtype=np.float64).std(0)

    difference = dynamics(target) - dynamics(predicted)
    return float((np.abs(difference) if absolute else difference).mean())


def sample_statistics(
    error: Callable[[np.ndarray, np.ndarray], float], samples: np.ndarray, target: np.ndarray
) -> dict[str, float]:
    """Summarise an error over K motions drawn for one clip, after Yang et al. (2023, arXiv 2311.18168).

    Args:
        error: `error(motion, target)`, for instance [`mean_vertex_error`].
        samples (`(K, T, ...)` float): the motions. target (`(T, ...)` float): the true one.

    Returns:
        dict of "mean" of the K errors, "min" (coverage: the error nearest to zero, with its sign) and "mean_estimate"
        (the error of the samples' mean). For a deterministic model all three are the same.
    """
    errors = [error(sample, target) for sample in samples]
    estimate = error(np.mean(samples, axis=0), target) if len(samples) > 1 else errors[0]
    return {"mean": float(np.mean(errors)), "min": min(errors, key=abs), "mean_estimate": estimate}
