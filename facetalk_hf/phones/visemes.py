# SPDX-License-Identifier: MIT
"""Timed phones -> blendshape weights of the mouth: the rule-based teacher of the synthetic corpus.

The rules follow Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993): every phone has a
target and a dominance per shape, and the face is their dominance-weighted mean. Lip closures (m, b, p) and the lip
bite (f, v) must be reached whatever the neighbours are, so they are trapezoids that override the blend.
Everything is rules, nothing is captured: a score against this teacher measures agreement with these rules.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..blendshapes import EXPRESSIONS, INDEX
from .alphabets import SILENCE
from .segments import Segment


RATE = 120
"""Hz at which the rules are evaluated, before they are brought down to the frame rate."""

LIP_SEAL = 0.93
"""On ICT-FaceKit lips meet exactly at mouthClose = 0.93 jawOpen; more interpenetrates."""


_DRIVEN = (
    "jawOpen", "mouthClose", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthShrugUpper",
    "mouthPress", "mouthStretch", "mouthSmile", "mouthLowerDown", "mouthUpperUp",
)  # fmt: skip
RULED: tuple[str, ...] = tuple(name for name in EXPRESSIONS if name.removesuffix("_L").removesuffix("_R") in _DRIVEN)
"""The shapes that the rules move; what they leave at 0 in every phone, such as mouthLeft, they know nothing of."""

SHAPES = ("jaw", "pucker", "funnel", "stretch", "smile", "lower_down", "upper_up", "bite", "press", "shrug")

# Targets in the order of SHAPES; dominance of the jaw, of rounding, of spreading, of the rest.
_TABLE = {
    "m": (".10 0 0 0 0 0 0 0 .30 0", "1 .25 .5 1"),
    "b": (".10 0 0 0 0 0 0 0 .20 0", "1 .25 .5 1"),
    "p": (".10 0 0 0 0 0 0 0 .25 0", "1 .25 .5 1"),
    "f": (".10 0 0 .05 0 0 .20 .55 0 0", "1 .5 .7 1.6"),
    "v": (".10 0 0 .05 0 0 .18 .50 0 0", "1 .5 .7 1.6"),
    "th": (".16 0 0 .06 0 .12 .04 0 0 0", ".8 .3 .5 1"),
    "dh": (".16 0 0 .06 0 .12 .04 0 0 0", ".8 .3 .5 1"),
    "t": (".14 0 0 .08 .03 .06 0 0 0 0", ".8 .15 .35 .6"),
    "d": (".14 0 0 .08 .03 .06 0 0 0 0", ".8 .15 .35 .6"),
    "n": (".14 0 0 .08 .03 .06 0 0 0 0", ".7 .15 .35 .6"),
    "l": (".18 0 0 .08 .02 .08 0 0 0 0", ".7 .20 .35 .6"),
    "s": (".07 0 0 .15 .12 .12 .04 0 0 0", "1.3 .45 .8 1"),
    "z": (".07 0 0 .15 .12 .12 .04 0 0 0", "1.3 .45 .8 1"),
    "sh": (".09 .25 .50 0 0 .08 .06 0 0 .06", "1.3 1 .9 1"),
    "zh": (".09 .25 .50 0 0 .08 .06 0 0 .06", "1.3 1 .9 1"),
    "ch": (".09 .25 .50 0 0 .08 .06 0 0 .06", "1.3 1 .9 1"),
    "jh": (".09 .25 .50 0 0 .08 .06 0 0 .06", "1.3 1 .9 1"),
    "k": (".20 0 0 .04 0 0 0 0 0 0", ".30 .12 .2 .3"),
    "g": (".20 0 0 .04 0 0 0 0 0 0", ".30 .12 .2 .3"),
    "ng": (".20 0 0 .04 0 0 0 0 0 0", ".30 .12 .2 .3"),
    "hh": (".22 0 0 0 0 0 0 0 0 0", ".12 .08 .1 .2"),
    "y": (".13 0 0 .24 .26 0 0 0 0 0", ".7 .6 .8 .5"),
    "r": (".14 .28 .28 0 0 .05 0 0 0 0", ".6 .7 .6 .5"),
    "rr": (".18 0 0 .05 0 .05 0 0 0 0", ".6 .2 .3 .5"),
    "er": (".20 .22 .30 0 0 .05 0 0 0 0", ".9 .9 .8 .6"),
    "w": (".08 .80 .15 0 0 0 0 0 0 0", "1 1.7 1.2 .7"),
    "uw": (".12 .72 .22 0 0 0 0 0 0 0", "1 1.5 1.2 .7"),
    "uy": (".12 .66 .24 0 0 0 0 0 0 0", "1 1.5 1.2 .7"),
    "oe": (".24 .42 .34 0 0 0 0 0 0 0", "1 1.3 1.1 .7"),
    "uh": (".20 .38 .22 0 0 0 0 0 0 0", "1 1.1 1 .7"),
    "ao": (".46 .18 .42 0 0 0 0 0 0 0", "1.1 1.2 1 .7"),
    "oh": (".34 .36 .36 0 0 0 0 0 0 0", "1.1 1.3 1 .7"),
    "iy": (".13 0 0 .28 .32 .05 .02 0 0 0", "1 1 1.2 .7"),
    "ih": (".20 0 0 .12 .16 .05 .02 0 0 0", "1 .9 1 .7"),
    "eh": (".34 0 0 .10 .14 .08 .04 0 0 0", "1 .9 1 .7"),
    "ae": (".48 0 0 .18 .12 .10 .05 0 0 0", "1.1 .9 1 .7"),
    "ah": (".40 0 0 .04 .03 .06 .02 0 0 0", "1 .9 .8 .7"),
    "ax": (".24 0 0 .04 .03 .04 0 0 0 0", ".7 .6 .6 .5"),
    "aa": (".62 0 0 .03 .02 .10 .04 0 0 0", "1.1 .9 .8 .7"),
    SILENCE: ("0 0 0 0 0 0 0 0 0 0", "1 .6 1 1"),
    # Last, so that the numbers of the others stay. Its lips come near each other by _NEAR.
    "bh": (".10 .04 .04 0 0 0 0 0 0 0", "1 .25 .5 1"),
}
_TARGET = {phone: np.array(row.split(), float) for phone, (row, _) in _TABLE.items()}
_GROUP = [0, 1, 1, 2, 2, 3, 3, 3, 3, 3]
_DOMINANCE = {phone: np.array(row.split(), float)[_GROUP] for phone, (_, row) in _TABLE.items()}
PHONES = tuple(_TABLE)
STOPS = ("m", "b", "p")
"""Phones that shut the lips."""

# Seconds over which a phone's pull falls to 1/e before (anticipation) and after (carry-over) it.
_ANTICIPATION = np.array([0.040, 0.070, 0.070, 0.045, 0.045, 0.030, 0.030, 0.025, 0.025, 0.040])
_CARRY_OVER = np.array([0.045, 0.050, 0.050, 0.045, 0.045, 0.030, 0.030, 0.025, 0.025, 0.040])
_LEAD = 0.020  # articulators move before the sound changes
_RAMP = 0.042
_NEAR = 0.7  # how far "bh" shuts the lips: 2 mm stay open between open vowels
_CLOSING, _OPENING = 0.16, 0.12  # seconds to come to rest in a pause and to leave it

SHOWN: tuple[str, ...] = tuple(
    name
    for name in EXPRESSIONS
    if name.startswith(("mouth", "jaw", "noseSneer")) and not name.startswith(("mouthClose", "mouthRoll"))
)
"""Weights that an expression has a part in beside speech; all others are not those of a mouth."""
_SPREADING = ("mouthSmile", "mouthStretch", "mouthDimple", "mouthFrown")
# Which shape's dominance a weight has under speech.
_GOVERNED = {
    "jawOpen": "jaw", "jawForward": "jaw", "mouthPucker": "pucker", "mouthFunnel": "funnel", "mouthStretch": "stretch",
    "mouthSmile": "smile", "mouthDimple": "smile", "mouthFrown": "smile", "mouthLowerDown": "lower_down",
    "mouthUpperUp": "upper_up", "noseSneer": "upper_up", "mouthPress": "press",
}  # fmt: skip

_DIPHTHONGS = {"ey": ("eh", "ih"), "ay": ("aa", "ih"), "oy": ("ao", "ih"), "aw": ("aa", "uh"), "ow": ("oh", "uh")}


def split_diphthongs(segments: Sequence[Segment]) -> list[Segment]:
    """Replace ey, ay, oy, aw, ow by their two halves (60 % and 40 % of the time) and merge neighbouring silences."""
    result: list[Segment] = []
    for phone, start, end in segments:
        if end <= start:
            continue
        if phone in _DIPHTHONGS:
            middle = start + 0.6 * (end - start)
            first, second = _DIPHTHONGS[phone]
            result += [Segment(first, start, middle), Segment(second, middle, end)]
        elif phone == SILENCE and result and result[-1].phone == SILENCE:
            result[-1] = Segment(SILENCE, result[-1].start, end)
        else:
            result.append(Segment(phone, start, end))
    return result


def _trapezoid(times: np.ndarray, start: float, end: float, ramp: float) -> np.ndarray:
    """1 between start and end, linear ramps of `ramp` seconds outside."""
    return np.clip(1 + np.minimum(times - start, end - times) / ramp, 0, 1)


def _closure(times: np.ndarray, segments: Sequence[Segment], phones: tuple[str, ...]) -> np.ndarray:
    """Largest of the trapezoids of the given phones, (n,) in 0..1. Stops open at their burst, before they end."""
    result = np.zeros(len(times))
    for phone, start, end in segments:
        if phone in phones:
            release = end - (0.12 if phone == "m" else 0.3) * min(end - start, 0.12)
            result = np.maximum(result, _trapezoid(times, start, max(release, start + 1e-3), _RAMP))
    return result


def _activity(times: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """1 in speech, exactly 0 in pauses once the mouth has come to rest, (n,); short pauses only dip."""
    result = np.ones(len(times))
    for index, (phone, start, end) in enumerate(segments):
        if phone != SILENCE:
            continue
        start = -np.inf if index == 0 else start
        end = np.inf if index == len(segments) - 1 else end
        inside = (times >= start) & (times < end)
        time = times[inside]
        gate = np.clip(np.clip(1 - (time - start) / _CLOSING, 0, 1) + np.clip(1 - (end - time) / _OPENING, 0, 1), 0, 1)
        result[inside] = gate * gate * (3 - 2 * gate)
    return result


def _blend(times: np.ndarray, segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """Cohen and Massaro: sum(D T) / sum(D), and sum(D), D = alpha exp(-distance / tau); each (n, len(SHAPES))."""
    target = np.stack([_TARGET[segment.phone] for segment in segments])
    alpha = np.stack([_DOMINANCE[segment.phone] for segment in segments])
    start = np.array([segment.start for segment in segments])
    end = np.array([segment.end for segment in segments])
    # The middle half of a phone counts as distance zero: a long vowel holds its shape.
    quarter = (end - start) / 4
    before = np.maximum(start + quarter - times[:, None], 0)
    after = np.maximum(times[:, None] - end + quarter, 0)
    result, total = np.zeros((len(times), len(SHAPES))), np.zeros((len(times), len(SHAPES)))
    kernels: dict[tuple[float, float], np.ndarray] = {}
    for shape, key in enumerate(zip(_ANTICIPATION, _CARRY_OVER, strict=True)):
        if key not in kernels:
            kernels[key] = np.exp(-before / key[0] - after / key[1])
        weight = kernels[key] * alpha[:, shape]
        total[:, shape] = weight.sum(1)
        result[:, shape] = weight @ target[:, shape] / (total[:, shape] + 1e-9)
    return result, total


def _pool(track: np.ndarray, frames: int, fps: float, maximum: bool) -> np.ndarray:
    """Mean or maximum of (n, ...) samples at `RATE` over each frame [i, i + 1) / fps -> (frames, ...)."""
    edges = np.round(np.arange(frames + 1) * RATE / fps).astype(int)
    edges = np.minimum(edges, len(track) - 1)
    if maximum:
        return np.stack([track[a : max(b, a + 1)].max(0) for a, b in zip(edges[:-1], edges[1:], strict=True)])
    return np.stack([track[a : max(b, a + 1)].mean(0) for a, b in zip(edges[:-1], edges[1:], strict=True)])


def lip_contact(segments: Sequence[Segment], frames: int, fps: float = 24) -> np.ndarray:
    """Tell how far each frame is one of closed lips (m, b, p) or of a bitten lip (f, v), (frames,) float32 in 0..1.

    Args:
        segments, frames, fps: as in `mouth_weights`, which meets its targets there whatever the neighbours are.
    """
    times = (np.arange(int(np.ceil(frames * RATE / fps)) + 2) + 0.5) / RATE
    contact = _closure(times, segments, (*STOPS, "f", "v"))
    return _pool(contact, frames, fps, maximum=True).astype(np.float32)


def closed_lips(weights: np.ndarray) -> np.ndarray:
    """Close the lips of weights (N, 53) as `mouth_weights` does for m, b, p; the rest of the face stays as it is."""
    closed = weights.copy()
    jaw = 0.6 * weights[:, INDEX["jawOpen"]]
    closed[:, [INDEX[name] for name in PARTING]] = 0
    closed[:, INDEX["jawOpen"]] = jaw
    closed[:, INDEX["mouthClose"]] = LIP_SEAL * jaw
    for name, least in (("mouthPress_L", 0.22), ("mouthPress_R", 0.22), ("mouthRollUpper", 0.09)):
        closed[:, INDEX[name]] = np.maximum(closed[:, INDEX[name]], least)
    closed[:, INDEX["mouthRollLower"]] = 0.05
    return closed


class Expression(NamedTuple):
    """An expression to be shown under speech: target weights and their dominance, each (frames, 53) float."""

    target: np.ndarray
    dominance: np.ndarray


def _mixed(raw: np.ndarray, speech: np.ndarray, expression: Expression, rounding: np.ndarray) -> np.ndarray:
    """Blend weights of speech (frames, 53) with an expression by their dominances, as phones are blended.

    Args:
        raw, speech: weights, and the dominance of speech (frames, len(SHAPES)), which is 0 at rest.
        rounding ((frames,) float): 0..1, how round the phones want the lips: corners that are drawn apart give way.
    """
    result = raw.copy()
    for name in SHOWN:
        column, kind = INDEX[name], SHAPES.index(_GOVERNED.get(name.split("_")[0], "shrug"))
        own, shown = speech[:, kind], expression.dominance[:, column]
        if name.startswith(_SPREADING):
            own, shown = own * (1 + 2 * rounding), shown * (1 - 0.5 * rounding)
        mean = (own * raw[:, column] + shown * expression.target[:, column]) / (own + shown + 1e-9)
        result[:, column] = np.where(shown > 0, mean, raw[:, column])
    return result


# What holds under any expression: factors of weights for a shut mouth and for a lip under the teeth. Found by looking
# at the lips of ICT-FaceKit's mean head under each emotion: docs/acting.py prints the gap that is left.
_SHUT = {
    "mouthStretch": 0.5, "mouthSmile": 0.4, "mouthFunnel": 1.0, "mouthShrugUpper": 1.0, "mouthLowerDown": 1.0,
    "mouthUpperUp": 1.0, "mouthFrown": 0.4, "mouthDimple": 0.4, "noseSneer": 0.8, "mouthShrugLower": 0.4,
}  # fmt: skip
PARTING: tuple[str, ...] = tuple(name for name in EXPRESSIONS if _SHUT.get(name.split("_")[0]) == 1)
"""The shapes that part lips whatever the jaw does."""
_BITTEN = {"mouthLowerDown": 1.0, "mouthShrugLower": 0.8, "mouthFrown": 0.4, "mouthDimple": 0.3}


def mouth_weights(
    segments: Sequence[Segment],
    frames: int,
    fps: float = 24,
    loudness: np.ndarray | None = None,
    expression: Expression | None = None,
    articulation: float | np.ndarray = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn timed phones into weights of the mouth, by rules.

    Frame i stands for the time [i, i + 1) / fps. Weights are the mean over it, but closure and lip bite are the
    maximum, because a /p/ lasts only 1.6 to 2.2 frames at 24 fps. In pauses every weight is exactly 0, or exactly that
    of the expression. Closures, bites and round lips hold under any expression and articulation.

    Args:
        segments: phones named as in `PHONES` or as a diphthong, seconds, sorted, without gaps (see `alphabets`).
        frames (`int`): number of frames.
        fps (`float`): frames a second.
        loudness (`(frames,)` float, *optional*): 0..1; the jaw opens by (0.6 + 0.5 loudness) times its target.
        expression ([`Expression`], *optional*): of the face beneath; its part of mouth, jaw and nose is blended in.
        articulation (`float` or `(frames,)` float, *optional*, defaults to 0): -1 mumbles, 1 is crisp.

    Returns:
        weights (frames, 53) float32 in the order of `EXPRESSIONS` and closure (frames,) float32 in 0..1.
    """
    weights = np.zeros((frames, len(EXPRESSIONS)), np.float32)
    segments = split_diphthongs(segments)
    if not any(segment.phone != SILENCE for segment in segments):
        if expression is not None:
            shown = [INDEX[name] for name in SHOWN]
            weights[:, shown] = expression.target[:, shown]
        return weights, np.zeros(frames, np.float32)
    times = (np.arange(int(np.ceil(frames * RATE / fps)) + 2) + 0.5) / RATE
    early = [Segment(s.phone, s.start - _LEAD, s.end - _LEAD) for s in segments]
    gate = _activity(times, early)
    blended, pull = _blend(times, early)
    blend = _pool(blended * gate[:, None], frames, fps, maximum=False)
    closure = _pool(_closure(times, segments, STOPS), frames, fps, maximum=True)
    bite = _pool(_closure(times, segments, ("f", "v")), frames, fps, maximum=True)
    near = np.maximum(closure, _NEAR * _pool(_closure(times, segments, ("bh",)), frames, fps, maximum=True))
    track = dict(zip(SHAPES, blend.T, strict=True))
    loud = np.ones(frames) if loudness is None else 0.6 + 0.5 * np.asarray(loudness)
    manner = np.broadcast_to(np.asarray(articulation, float), (frames,))
    wide, round_ = 1 + np.where(manner < 0, 0.45, 0.3) * manner, 1 + 0.2 * manner
    raw = np.zeros((frames, len(EXPRESSIONS)))

    def sides(name: str) -> list[int]:
        return [INDEX[full] for full in (name, f"{name}_L", f"{name}_R") if full in INDEX]

    for name, value in {
        "jawOpen": track["jaw"] * loud * wide,
        "mouthPucker": track["pucker"] * round_,
        "mouthFunnel": track["funnel"] * round_,
        "mouthShrugUpper": track["shrug"],
        "mouthStretch": track["stretch"] * wide,
        "mouthSmile": track["smile"] * wide,
        "mouthLowerDown": track["lower_down"] * wide,
        "mouthUpperUp": track["upper_up"] * wide,
    }.items():
        raw[:, sides(name)] = value[:, None]
    if expression is not None:
        rounding = ((track["pucker"] + track["funnel"]) / 0.6).clip(0, 1)
        raw = _mixed(raw, _pool(pull * gate[:, None], frames, fps, maximum=False), expression, rounding)
    # Closed lips hold the jaw back, and nothing that parts the lips may act on them.
    apart = 1 - near
    raw[:, INDEX["jawOpen"]] *= (1 - 0.4 * near) * (1 - 0.3 * bite)
    jaw = raw[:, INDEX["jawOpen"]]
    press = np.maximum(track["press"], 0.22 * closure) * closure
    roll = np.maximum(track["bite"], 0.5 * bite) * apart
    raw[:, sides("mouthUpperUp")] = np.maximum(raw[:, sides("mouthUpperUp")], 0.18 * bite[:, None])
    for name, share in _SHUT.items():
        raw[:, sides(name)] *= 1 - share * (near if share == 1 else closure)[:, None]
    for name, share in _BITTEN.items():
        raw[:, sides(name)] *= 1 - share * bite[:, None]
    # Lips that are pressed together by an expression alone give way as the jaw opens.
    tight = raw[:, sides("mouthPress")] * (1 - 2.5 * jaw[:, None]).clip(0, 1) * (1 - bite[:, None])
    raw[:, sides("mouthPress")] = np.maximum(tight, press[:, None])
    raw[:, INDEX["mouthClose"]] = LIP_SEAL * near * jaw
    raw[:, INDEX["mouthRollLower"]] = roll + 0.2 * press
    raw[:, INDEX["mouthRollUpper"]] = 0.4 * press
    return np.clip(raw, 0, 1).astype(np.float32), closure.astype(np.float32)
