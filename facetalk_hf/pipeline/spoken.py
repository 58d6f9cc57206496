# SPDX-License-Identifier: MIT
"""What is said in the clips of a call: phones or texts as given -> segments that last as long as the sound."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FaceTalkError
from ..phones.alignment import align
from ..phones.alphabets import SILENCE
from ..phones.files import read_phones
from ..phones.reading import to_segments
from ..phones.segments import Segment


Phones = str | os.PathLike | Sequence[tuple[str, float, float]]
"""Timed phones of one clip: (name, start, end) in seconds, in any of our alphabets, or the path of a file of them."""


def one_a_clip(given: Any, count: int, batch: bool, name: str) -> list[Any]:
    """List what was given for each of `count` clips, `None` where there is nothing.

    Args:
        given: for a single clip as it is, for a `batch` a list of such.
        name (`str`): of the argument, for errors.

    Raises:
        FaceTalkError: no list for a batch, or one of another length.
    """
    if given is None:
        return [None] * count
    if not batch:
        return [given]
    if not isinstance(given, (list, tuple)) or len(given) != count:
        said = f"a list of {len(given)}" if isinstance(given, (list, tuple)) else f"one {type(given).__name__}"
        raise FaceTalkError(f"{name} of a list of {count} clip(s) must be a list of {count}, one a clip, not {said}")
    return list(given)


def spoken_segments(
    phones: Phones | None, text: str | None, audio: np.ndarray, sampling_rate: int, language: str = "en"
) -> list[Segment] | None:
    """Find what is said in a clip: segments of the common alphabet, without gaps, from 0 s to the end of the sound.

    Args:
        phones: timed, or `None`. text (`str`, *optional*): in their place, to be aligned with the sound.
        audio ((S,) float), sampling_rate (`int`, Hz): the clip. language (`str`): of the text, as espeak-ng calls it.

    Returns:
        list of [`Segment`], or `None` where neither is given.

    Raises:
        FaceTalkError: both are given; phones that cannot be read, or belong to a longer sound; a text that cannot be
            aligned.
    """
    if phones is not None and text is not None:
        raise FaceTalkError("phones and text are two ways to say what is spoken: give one of them for a clip")
    if text is not None:
        if not isinstance(text, str):
            raise FaceTalkError(f"text must be what is said in the clip, not of type {type(text).__name__}")
        return fit_to_sound(align(audio, sampling_rate, text, language).phones, len(audio) / sampling_rate)
    if phones is None:
        return None
    if isinstance(phones, (str, os.PathLike)):
        segments = read_phones(phones)
    else:
        segments = to_segments(_rows(phones))
    return fit_to_sound(segments, len(audio) / sampling_rate)


def _rows(phones: Any) -> list[tuple[str, float, float]]:
    try:
        return [(str(name), float(start), float(end)) for name, start, end in phones]
    except (TypeError, ValueError):
        raise FaceTalkError("phones must be a path, or a list of (phone, start, end) with times in seconds") from None


def fit_to_sound(segments: Sequence[Segment], seconds: float) -> list[Segment]:
    """Cut segments off where the sound ends, and add silence up to there.

    Raises:
        FaceTalkError: more than half of the phones come after the sound, so that they must belong to another one.
    """
    spoken = [segment for segment in segments if segment.phone != SILENCE]
    late = sum(segment.start >= seconds for segment in spoken)
    if 2 * late > len(spoken):
        raise FaceTalkError(
            f"{late} of {len(spoken)} phones start after the end of the sound, which lasts {seconds:.2f} s: they are "
            "of another recording, or not in seconds"
        )
    kept = [Segment(name, start, min(end, seconds)) for name, start, end in segments if start < seconds]
    end = kept[-1].end if kept else 0.0
    if end < seconds or not kept:
        kept.append(Segment(SILENCE, end, max(seconds, end)))
    return kept
