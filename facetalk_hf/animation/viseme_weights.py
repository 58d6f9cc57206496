# SPDX-License-Identifier: MIT
"""The motion as the 15 visemes of Oculus' lip sync, which avatars without ARKit's shapes have."""

import numpy as np

from .arkit_names import ARKIT


VISEMES: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": {"mouthRollLower": 0.4, "mouthRollUpper": 0.3, "mouthPressLeft": 0.4, "mouthPressRight": 0.4},
    "FF": {"mouthRollLower": 0.5, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2, "jawOpen": 0.06},
    "TH": {"jawOpen": 0.15, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15, "mouthStretchLeft": 0.1,
           "mouthStretchRight": 0.1},
    "DD": {"jawOpen": 0.12, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2, "mouthUpperUpLeft": 0.1,
           "mouthUpperUpRight": 0.1},
    "kk": {"jawOpen": 0.2, "mouthStretchLeft": 0.1, "mouthStretchRight": 0.1},
    "CH": {"mouthFunnel": 0.4, "mouthPucker": 0.25, "jawOpen": 0.06, "mouthUpperUpLeft": 0.1,
           "mouthUpperUpRight": 0.1},
    "SS": {"mouthStretchLeft": 0.3, "mouthStretchRight": 0.3, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15,
           "jawOpen": 0.03},
    "nn": {"jawOpen": 0.1, "mouthStretchLeft": 0.1, "mouthStretchRight": 0.1, "mouthLowerDownLeft": 0.1,
           "mouthLowerDownRight": 0.1},
    "RR": {"mouthFunnel": 0.25, "mouthPucker": 0.2, "jawOpen": 0.12},
    "aa": {"jawOpen": 0.55, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    "E": {"jawOpen": 0.3, "mouthStretchLeft": 0.25, "mouthStretchRight": 0.25, "mouthSmileLeft": 0.15,
          "mouthSmileRight": 0.15},
    "ih": {"jawOpen": 0.15, "mouthSmileLeft": 0.3, "mouthSmileRight": 0.3, "mouthStretchLeft": 0.2,
           "mouthStretchRight": 0.2},
    "oh": {"jawOpen": 0.4, "mouthFunnel": 0.4},
    "ou": {"jawOpen": 0.1, "mouthPucker": 0.6, "mouthFunnel": 0.2},
}  # fmt: skip
"""What a full viseme is of ARKit's weights: rules of ours, in the order of Oculus' list."""


def weights_to_visemes(weights: np.ndarray, thrift: float = 0.02) -> np.ndarray:
    """Convert ARKit's weights (T, 52) to visemes (T, 15) float32 in 0..1, whose sum is 1 with `sil` among them.

    The mouth's weights of a frame are explained by as little of the visemes as will do: non-negative least squares
    with a price of `thrift` on each weight. What a lips' pose leaves of 1 is silence.
    """
    from scipy.optimize import nnls  # 0.3 s of import that other formats do without

    channels = sorted({channel for shape in VISEMES.values() for channel in shape})
    shapes = np.array([[shape.get(channel, 0.0) for channel in channels] for shape in VISEMES.values()])[1:]
    mouth = np.asarray(weights, np.float64)[:, [ARKIT.index(channel) for channel in channels]]
    price = np.linalg.solve(shapes @ shapes.T + 1e-3 * np.eye(len(shapes)), np.full(len(shapes), -thrift))
    gram = np.vstack([shapes.T, np.sqrt(1e-3) * np.eye(len(shapes))])
    shift = gram @ price
    rows = [nnls(gram, np.r_[row, np.zeros(len(shapes))] + shift)[0] for row in mouth]
    found = np.array(rows).reshape(len(mouth), len(shapes))
    found /= np.maximum(found.sum(1, keepdims=True), 1)
    return np.concatenate([1 - found.sum(1, keepdims=True), found], 1).clip(0, 1).astype(np.float32)
