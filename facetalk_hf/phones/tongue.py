# SPDX-License-Identifier: MIT
"""Phones -> weights of the tongue's shapes, timed by known phones or by what an audio encoder hears.

As for the lips ([`facetalk_hf.phones.visemes`]) phones have targets and dominances (Cohen and Massaro, 1993): th and
dh put the tip between the teeth; l, t, d, n lift it to the ridge behind them, s and z nearly; k, g, ng lift the back;
what leaves the tongue free (m, p, f, h ..) lets its neighbours pass. No tongue was recorded for these rules.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..blendshapes import INDEX, TONGUE
from .alphabets import SILENCE
from .segments import Segment
from .visemes import PHONES, RATE, split_diphthongs


# Out, tip up, tip down, back up, wide; dominance. Phones that are not here leave the tongue free.
_RULES = {
    "th dh": (0.50, 0.40, 0, 0, 0.1, 1.4),
    "l": (0, 1.0, 0, 0, 0, 1.3),
    "t d n": (0, 0.85, 0, 0, 0.2, 1.0),
    "rr": (0, 0.80, 0, 0.1, 0, 0.8),
    "s z": (0, 0.40, 0, 0.1, 0.5, 1.1),
    "sh zh ch jh": (0, 0.45, 0, 0.4, 0.4, 1.0),
    "r er": (0, 0.35, 0, 0.5, 0, 0.7),
    "k g ng": (0, 0, 0.25, 1.0, 0.1, 1.0),
    "y iy": (0, 0, 0.35, 0.65, 0.7, 0.7),
    "ih": (0, 0, 0.25, 0.35, 0.4, 0.4),
    "eh ae ah ax aa": (0, 0, 0.35, 0, 0.2, 0.4),
    "ao oh uh oe": (0, 0, 0.3, 0.4, 0, 0.4),
    "uw uy w": (0, 0, 0.2, 0.5, 0, 0.4),
    SILENCE: (0, 0, 0, 0, 0, 0.5),
}
_ROWS = {phone: np.array(row) for names, row in _RULES.items() for phone in names.split()}
_TABLE = np.stack([_ROWS.get(phone, np.array([0, 0, 0, 0, 0, 0.02])) for phone in PHONES])
_TARGET, _DOMINANCE = _TABLE[:, :-1], _TABLE[:, -1]
_NUMBER = {phone: number for number, phone in enumerate(PHONES)}
_REACH = 0.028  # seconds over which the pull of a phone falls to 1/e before and after it
_LEAD = 0.015  # seconds by which the tongue is ahead of its sound

_OVERBITE, _DROP = 1.3, 35.0  # mm that the upper incisors cover of the lower ones, and that these sink by jawOpen = 1


def tongue_weights(segments: Sequence[Segment], frames: int, fps: float = 24) -> np.ndarray:
    """Compute the tongue's weights from timed phones.

    Args:
        segments, frames, fps: as in [`facetalk_hf.phones.visemes.mouth_weights`].

    Returns:
        (frames, 5) float32 in 0..1, in the order of `blendshapes.TONGUE`, for a mouth that is open wide enough:
        [`within_mouth`] fits them to the one that there is.
    """
    segments = split_diphthongs(segments)
    if not segments or not frames:
        return np.zeros((frames, len(TONGUE)), np.float32)
    fine = max(1, round(RATE / fps))
    times = (np.arange(frames * fine) + 0.5) / (fine * fps)
    number = [_NUMBER[segment.phone] for segment in segments]
    start, end = (np.array([getattr(s, name) for s in segments]) - _LEAD for name in ("start", "end"))
    quarter = (end - start) / 4  # its middle half belongs to a phone alone
    away = np.maximum(start + quarter - times[:, None], 0) + np.maximum(times[:, None] - end + quarter, 0)
    pull = np.exp(-away / _REACH) * _DOMINANCE[number]
    blend = pull @ _TARGET[number] / (pull.sum(1, keepdims=True) + 1e-9)
    return blend.reshape(frames, fine, -1).mean(1).astype(np.float32)


def heard_tongue(logits: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Compute the tongue's weights from an audio encoder's phones, frame by frame: for a whole clip or a stream.

    Args:
        logits ((2 N, P) float): of `LogMelEncoder.predict_phones`, in the order of `visemes.PHONES`.
        before ((5,) float, *optional*): the row before the first frame, which a stream keeps; at rest where absent.

    Returns: (N, 5) float32, as those of [`tongue_weights`].
    """
    share = np.exp(logits - logits.max(1, keepdims=True))
    share = share / share.sum(1, keepdims=True) * _DOMINANCE[: logits.shape[1]]
    share = share.reshape(len(share) // 2, 2, -1).mean(1)
    pull = share.sum(1)
    wanted = share @ _TARGET[: logits.shape[1]] / (pull[:, None] + 1e-9)
    row = np.zeros(len(TONGUE)) if before is None else np.asarray(before, float)
    result = np.empty((len(wanted), len(TONGUE)), np.float32)
    for index, (target, strength) in enumerate(zip(wanted, pull, strict=True)):
        row = row + min(0.9 * strength, 0.9) * (target - row)  # a phone that leaves the tongue free lets it stay
        result[index] = row
    return result


def tongue_rules() -> dict[str, Any]:
    """Give the numbers of `heard_tongue` and `within_mouth`, for programs in other languages."""
    return {
        "names": list(TONGUE), "target": _TARGET.tolist(), "dominance": _DOMINANCE.tolist(), "overbite": _OVERBITE,
        "drop": _DROP,
    }  # fmt: skip


def within_mouth(tongue: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """Fit the tongue's weights (N, 5) to the mouth's (N, 53): it comes out between parted teeth and lips alone.

    What comes out is held half-way between the rows, and no further out than the room between them allows.

    Returns: (N, 5) float32.
    """
    result = np.asarray(tongue, np.float32).copy()
    out, tip, down = (TONGUE.index(name) for name in ("tongueOut", "tongueTipUp", "tongueTipDown"))
    jaw, shut = mouth[:, INDEX["jawOpen"]], mouth[:, INDEX["mouthClose"]]
    gap = np.maximum(_DROP * jaw - _OVERBITE, 0)
    # Lips that are drawn together over open teeth (m, b, p) leave it inside.
    lips = np.clip((_DROP * (jaw - shut) - 1) / 3, 0, 1)
    result[:, out] = np.minimum(result[:, out], np.clip((gap - 2.5) / 9, 0, 1) * lips)
    share = np.clip(result[:, out] / 0.1, 0, 1)
    middle = np.clip((gap / 2 + 4.2 - 4.5 * result[:, out]) / 11, 0, 1)
    result[:, tip] += share * (middle - result[:, tip])
    result[:, down] *= 1 - share
    # A tip that is lifted behind a nearly shut mouth meets the palate earlier.
    result[:, tip] = np.minimum(result[:, tip], 0.45 + gap / 12)
    return result
