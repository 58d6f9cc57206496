# SPDX-License-Identifier: MIT
"""Guesses of phones, one every few milliseconds -> the phones that were said, likeliest or known, with their times."""

from collections.abc import Sequence

import numpy as np

from ..errors import FaceTalkError
from .alphabets import SILENCE
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
    return _segments(path, path, names, stride, seconds)


def align_phones(
    log_probabilities: np.ndarray, names: Sequence[str], words: Sequence[Sequence[str]], stride: float, seconds: float
) -> tuple[list[Segment], np.ndarray]:
    """Find when each phone of known words is said, by the Viterbi algorithm; between words there may be pauses.

    Args:
        log_probabilities ((L, C) float): of each phone, guess i at i * `stride` seconds.
        names: of the C phones. words: the phones of each word, all among `names`.
        stride (`float`), seconds (`float`): of the guesses, and of the clip.

    Returns:
        list of [`Segment`] without gaps, from 0 to `seconds`, and how likely each is, (n,) float in 0..1: the
        geometric mean of its probabilities.

    Raises:
        FaceTalkError: there are fewer guesses than phones.
    """
    expected = [SILENCE, *(phone for word in words for phone in (*word, SILENCE))]
    number = np.array([list(names).index(phone) for phone in expected])
    pause = np.array([phone == SILENCE for phone in expected])
    count = len(log_probabilities)
    if count < (~pause).sum() or pause.all():
        raise FaceTalkError(f"{(~pause).sum()} phones cannot be found in a recording of {seconds:.2f} s")
    emitted = log_probabilities[:, number].astype(np.float64)
    # How many places of `expected` the path went on at each guess: 0, 1, or 2 where that leaves out a pause.
    moved = np.zeros(emitted.shape, np.int64)
    total = np.full(len(expected), -np.inf)
    total[:2] = emitted[0, :2]
    for index in range(1, count):
        before = np.concatenate([[-np.inf, -np.inf], total])
        over = np.where(np.concatenate([[False], pause[:-1]]), before[:-2], -np.inf)
        ways = np.stack([total, before[1:-1], over])
        moved[index] = ways.argmax(0)
        total = ways.max(0) + emitted[index]
    path = np.empty(count, np.int64)
    path[-1] = len(expected) - 1 - int(total[-2] > total[-1])
    for index in range(count - 1, 0, -1):
        path[index - 1] = path[index] - moved[index, path[index]]
    said = _segments(path, number[path], names, stride, seconds)
    parts = np.split(emitted[np.arange(count), path], np.flatnonzero(np.diff(path)) + 1)[: len(said)]
    return said, np.exp([part.mean() for part in parts])


def _segments(
    path: np.ndarray, phones: np.ndarray, names: Sequence[str], stride: float, seconds: float
) -> list[Segment]:
    """Make segments where the path (L,) stays the same, of the phones (L,) there; borders lie between two guesses."""
    firsts = np.flatnonzero(np.diff(path)) + 1
    borders = [0.0, *((first - 0.5) * stride for first in firsts if (first - 0.5) * stride < seconds), seconds]
    told = phones[[0, *firsts]][: len(borders) - 1]
    return [
        Segment(names[phone], float(start), float(end))
        for phone, start, end in zip(told, borders[:-1], borders[1:], strict=True)
    ]
