# SPDX-License-Identifier: MIT
"""The fifteen visemes of Oculus and Ready Player Me as ARKit's weights, for avatars that have nothing else."""

import numpy as np

from ..animation.arkit import ARKIT, weights_to_arkit
from ..blendshapes import EXPRESSIONS
from ..phones.segments import Segment
from ..phones.visemes import mouth_weights


PHONES = {
    "PP": "p", "FF": "f", "TH": "th", "DD": "d", "kk": "k", "CH": "ch", "SS": "s", "nn": "n", "RR": "r", "aa": "aa",
    "E": "eh", "I": "iy", "O": "oh", "U": "uw",
}  # fmt: skip
"""A phone of each; `sil` is the face at rest."""


def viseme_table(fps: float = 24.0) -> dict[str, dict[str, float]]:
    """Give the mouth of each viseme, ARKit's name -> weight: the rules' answer to its phone when it is held."""
    result = {}
    for name, phone in PHONES.items():
        weights, _ = mouth_weights([Segment(phone, 0.0, 1.0)], round(fps), fps)
        row = weights_to_arkit(np.asarray(weights)[round(fps) // 2][None], EXPRESSIONS)[0]
        result[name] = {
            channel: round(float(value), 4) for channel, value in zip(ARKIT, row, strict=True) if value > 0.01
        }
    return result
