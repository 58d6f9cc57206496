# SPDX-License-Identifier: MIT
"""Guesses of phones, one every few milliseconds -> the phones that were most likely said, with their times."""

from collections.abc import Sequence

import numpy as np

from .segments import Segment


def decode_phones(
    log_probabilities: np.ndarray, names: Sequence[str], stride: float, seconds: float, penalty: float
) -> list[Segment]:
    """Find the most likely sequence of phones by the Viterbi algorithm, where each change of phone costs the same.

    Args:
        log_probabilities ((L, C) float): of each phone, guess i at i * `stride` seconds.
        names: of the C phones. stride (`float`), seconds (`float`): of the guesses, and of the clip.
        penalty (`float`): natural logarithm by which a change must be outweighed.

    Returns:
        list of [`Segment`] without gaps, from 0 to `seconds`; a border lies half way between two guesses.
    """
    total = log_probabilities[0].astype(np.float64)
    came = np.zeros(log_probabilities.shape, np.int64)  # from which phone each one was reached
    same = np.arange(len(names))
    for index in range(1, len(log_probabilities)):
        best = int(total.argmax())
        changes = total[best] - penalty > total
        came[index] = np.where(changes, best, same)
        total = np.where(changes, total[best] - penalty, total) + log_probabilities[index]
    path = np.empty(len(log_probabilities), np.int64)
    path[-1] = total.argmax()
    for index in range(len(path) - 1, 0, -1):
        path[index - 1] = came[index, path[index]]
    firsts = np.flatnonzero(np.diff(path)) + 1
    borders = [0.0, *((first - 0.5) * stride for first in firsts if (first - 0.5) * stride < seconds), seconds]
    phones = path[[0, *firsts]][: len(borders) - 1]
    return [
        Segment(names[phone], float(start), float(end))
        for phone, start, end in zip(phones, borders[:-1], borders[1:], strict=True)
    ]
