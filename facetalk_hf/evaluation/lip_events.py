# SPDX-License-Identifier: MIT
"""Lip events: a mouth against phones whose times are known.

Does it close where lips close, and only there? Nothing is compared with another motion, so that recordings of people,
for whom only the phones are known, can be used.
Frame i of a motion shows the time (i + 1/2) / fps. docs/evaluation.md has the numbers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import scipy.stats

from ..errors import FaceTalkError
from ..phones.alphabets import SILENCE
from ..phones.reading import Row, to_segments
from ..phones.visemes import STOPS


BITES = ("f", "v")
OPEN = frozenset({"aa", "ae", "ao", "aw", "ay"})
NARROW = frozenset({"iy", "uw", "s", "z", "sh", "t", "d", "n", "ih"})
ROUND = frozenset({"uw", "ow", "w", "uh", "ao", "oy", "oh", "uy", "oe"})
SPREAD = frozenset({"iy", "eh", "ae", "s", "z", "ih", "ey"})
CLOSED_MM = 1.0
"""Aperture below which lips count as shut, mm."""

_SLACK = 0.02  # seconds that lips may be early: articulators move before the sound
_EDGE = 0.1  # seconds beside a pause in which a mouth may be shut or open
_LONG_PAUSE = 0.3  # seconds of a pause that a mouth must come to rest in ..
_REST = 0.12  # .. and seconds at its ends that it has for that
_LONG_VOWEL = 0.05  # seconds of an open vowel that can be reached
_LAGS = range(-5, 6)


@dataclass(frozen=True)
class LipScores:
    """What [`LipEvents`] has counted.

    Args:
        stops (`int`): how many m, b, p there were. runs (`int`): closed runs in speech.
        recall, precision, f1 (`float`): of stops, in 0..1; see `LipEvents`.
        recall_of (dict): recall of m, of b and of p. false_of (dict): false runs by the phone in their middle.
        open_auc, round_auc, bite_auc (`float`): areas under ROC curves, 0.5 is chance; NaN where a class is empty or
            the track was not given.
        open_mm, narrow_mm (`float`): mean apertures at the middles of the two classes.
        missed_mm (`float`): median of the least aperture at stops that were missed.
        silence_mm, silence_p95 (`float`): mean and 95th percentile of the aperture in long pauses.
        lag (`float`): frames by which the mouth is late, median over clips; correlation (`float`): mean over clips of
            r with the openings that the phones ask for, at no lag.
        speed (`float`): mm/s in speech, mean over clips.
    """

    stops: int
    runs: int
    recall: float
    precision: float
    f1: float
    open_auc: float
    round_auc: float
    bite_auc: float
    open_mm: float
    narrow_mm: float
    missed_mm: float
    silence_mm: float
    silence_p95: float
    lag: float
    correlation: float
    speed: float
    recall_of: dict[str, float] = field(default_factory=dict)
    false_of: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Make a dictionary for JSON; what is NaN becomes None."""
        plain = asdict(self)
        return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in plain.items()}


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Compute the area under the ROC curve: the chance that a positive value is above a negative one, ties half.

    AUC = (R - P (P + 1) / 2) / (P N) with R the sum of the ranks of the P positive values among all P + N (Mann and
    Whitney 1947); NaN where one of them is empty.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    count = len(positive)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negative)))


class LipEvents:
    """A tally of lip events over clips; those of a voice or a speaker go into one.

    - Stops: each m, b, p from a to b seconds is an event. It is hit if the aperture falls under 1 mm in a frame whose
      middle is in [a - 1/fps - 0.02, b + 1/fps). Recall = hits / events.
    - Closed runs: frames in a row under 1 mm whose middle is in a phone, and more than 0.1 s from any pause and from
      both ends of the speech. A run is false if no frame of it is in [a - 1.5/fps - 0.02, b + 1.5/fps) of an m, b, p,
      f or v. Precision = 1 - false runs / runs; F1 = 2 P R / (P + R).
    - Open: AUC of the aperture at the middles of phones, `OPEN` of at least 50 ms against `NARROW`. Round: AUC of
      `rounding`, `ROUND` against `SPREAD`. Bite: AUC of `bite`, f and v against all other phones.
    - Silence: apertures in pauses longer than 0.3 s, without 0.12 s at both ends.
    - Lag: the shift of -5 to 5 frames that makes the correlation of the aperture with 1 in open vowels, 0 in m, b, p,
      1/4 in narrow phones and f, v, 1/2 in others greatest, in speech; the median over clips of more than 30 frames.
    """

    def __init__(self, closed: float = CLOSED_MM) -> None:
        self.closed = closed
        self.clips = 0
        self._stops, self._hits, self._false = Counter[str](), Counter[str](), Counter[str]()
        self._runs = 0
        self._lists: dict[str, list[float]] = {
            name: [] for name in "open narrow round spread bite other silence missed lag correlation speed".split()
        }

    def add(
        self,
        phones: Sequence[Row],
        aperture_mm: np.ndarray,
        fps: float,
        rounding: np.ndarray | None = None,
        bite: np.ndarray | None = None,
    ) -> "LipEvents":
        """Count a clip.

        Args:
            phones: segments, or rows (phone, start, end) in seconds, of any alphabet that `to_segments` tells.
            aperture_mm (`(T,)` float): between the inner lips, mm; 0 is shut.
            fps (`float`): frames a second.
            rounding (`(T,)` float, *optional*): pucker + funnel, any unit. bite (`(T,)` float, *optional*): roll of
                the lower lip.

        Returns:
            self

        Raises:
            FaceTalkError: tracks of different lengths, or no numbers.
        """
        aperture = np.asarray(aperture_mm, float)
        tracks = {"aperture": aperture, "rounding": rounding, "bite": bite}
        for name, track in tracks.items():
            if track is not None and (np.shape(track) != aperture.shape or not np.isfinite(track).all()):
                raise FaceTalkError(f"{name} must be {len(aperture)} finite numbers, one a frame")
        if aperture.ndim != 1 or not len(aperture):
            raise FaceTalkError(f"the aperture must be one number a frame, not an array of {aperture.shape}")
        frames, times = len(aperture), (np.arange(len(aperture)) + 0.5) / fps
        segments = to_segments(phones)
        speech, edge, near = (np.zeros(frames, bool) for _ in range(3))
        asked, under = np.full(frames, np.nan), np.full(frames, SILENCE, dtype="U4")
        spoken = [segment for segment in segments if segment.phone != SILENCE]
        if spoken:
            edge |= (times < spoken[0].start + _EDGE) | (times > spoken[-1].end - _EDGE)
        for phone, start, end in segments:
            if phone == SILENCE:
                edge |= (times >= start - _EDGE) & (times < end + _EDGE)
                if end - start > _LONG_PAUSE:
                    self._put("silence", aperture[(times >= start + _REST) & (times < end - _REST)])
                continue
            inside = (times >= start) & (times < end)
            speech |= inside
            under[inside] = phone
            if phone in STOPS:
                self._stop(phone, aperture[(times >= start - 1 / fps - _SLACK) & (times < end + 1 / fps)])
            if phone in STOPS + BITES:
                near |= (times >= start - 1.5 / fps - _SLACK) & (times < end + 1.5 / fps)
            asked[inside] = _opening(phone)
            middle = min(frames - 1, int((start + end) / 2 * fps))
            self._middle(phone, end - start, middle, aperture, rounding, bite)
        self._count_runs((aperture < self.closed) & speech & ~edge, near, under)
        self._follow(aperture, asked)
        if speech.sum() > 20:
            self._put("speed", [np.abs(np.diff(aperture)).mean() * fps])
        self.clips += 1
        return self

    def merge(self, others: Iterable["LipEvents"]) -> "LipEvents":
        """Add what other tallies have counted to this one, and return it."""
        for other in others:
            self.clips += other.clips
            self._runs += other._runs
            self._stops += other._stops
            self._hits += other._hits
            self._false += other._false
            for name, values in other._lists.items():
                self._lists[name] += values
        return self

    def summary(self) -> LipScores:
        """Compute the scores of all clips that were added."""
        stops, lists = self._stops.total(), self._lists
        recall = self._hits.total() / max(stops, 1)
        precision = 1 - self._false.total() / max(self._runs, 1)
        silence = lists["silence"]
        return LipScores(
            stops=stops,
            runs=self._runs,
            recall=recall,
            precision=precision,
            f1=2 * recall * precision / max(recall + precision, 1e-9),
            open_auc=area_under_curve(lists["open"], lists["narrow"]),
            round_auc=area_under_curve(lists["round"], lists["spread"]),
            bite_auc=area_under_curve(lists["bite"], lists["other"]),
            open_mm=_mean(lists["open"]),
            narrow_mm=_mean(lists["narrow"]),
            missed_mm=float(np.median(lists["missed"])) if lists["missed"] else float("nan"),
            silence_mm=_mean(silence),
            silence_p95=float(np.percentile(silence, 95)) if silence else float("nan"),
            lag=float(np.median(lists["lag"])) if lists["lag"] else float("nan"),
            correlation=_mean(lists["correlation"]),
            speed=_mean(lists["speed"]),
            recall_of={phone: self._hits[phone] / self._stops[phone] for phone in STOPS if self._stops[phone]},
            false_of=dict(self._false.most_common()),
        )

    def _put(self, name: str, values: Iterable[float]) -> None:
        self._lists[name].extend(float(value) for value in values)

    def _stop(self, phone: str, apertures: np.ndarray) -> None:
        self._stops[phone] += 1
        if len(apertures) and apertures.min() < self.closed:
            self._hits[phone] += 1
        elif len(apertures):
            self._put("missed", [apertures.min()])

    def _middle(
        self, phone: str, seconds: float, middle: int, aperture: np.ndarray, rounding: np.ndarray | None,
        bite: np.ndarray | None,
    ) -> None:  # fmt: skip
        if phone in NARROW or phone in OPEN and seconds >= _LONG_VOWEL - 1e-9:
            self._put("narrow" if phone in NARROW else "open", [aperture[middle]])
        if rounding is not None:
            for name, group in (("round", ROUND), ("spread", SPREAD)):
                if phone in group:
                    self._put(name, [rounding[middle]])
        if bite is not None:
            self._put("bite" if phone in BITES else "other", [bite[middle]])

    def _count_runs(self, shut: np.ndarray, near: np.ndarray, under: np.ndarray) -> None:
        steps = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(int)))
        for start, end in zip(steps[::2], steps[1::2], strict=True):
            self._runs += 1
            if not near[start:end].any():
                self._false[str(under[(start + end - 1) // 2])] += 1

    def _follow(self, aperture: np.ndarray, asked: np.ndarray) -> None:
        known = np.isfinite(asked)
        if known.sum() <= 30:
            return
        values = {}
        for shift in _LAGS:
            here = known.copy()
            here[len(here) - max(shift, 0) :] = False
            here[: max(-shift, 0)] = False
            moved, wanted = np.roll(aperture, -shift)[here], asked[here]
            flat = len(wanted) < 3 or moved.std() < 1e-9 or wanted.std() < 1e-9
            values[shift] = 0.0 if flat else float(np.corrcoef(moved, wanted)[0, 1])
        best = max(values.values())
        self._put("lag", [min((shift for shift in _LAGS if values[shift] >= best - 1e-9), key=abs)])
        self._put("correlation", [values[0]])


def _opening(phone: str) -> float:
    """How far a phone asks the lips to be open, 0 to 1."""
    if phone in OPEN:
        return 1.0
    if phone in STOPS:
        return 0.0
    return 0.25 if phone in NARROW or phone in BITES else 0.5


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
