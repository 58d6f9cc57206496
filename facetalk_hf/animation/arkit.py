# SPDX-License-Identifier: MIT
"""The motion as Apple ARKit's 52 weights: their names and order, and the csv and json that other programs read."""

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..blendshapes import EXPRESSIONS, GAZE_PREFIX, LOOK_DEGREES, TONGUE
from ..errors import FaceTalkError
from ..files import atomic_path
from .arkit_names import ARKIT
from .formats import register_writer
from .head_animation import HeadAnimation
from .viseme_weights import VISEMES, weights_to_visemes


ROTATIONS: tuple[str, ...] = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch",
    "RightEyeRoll",
)  # fmt: skip
"""The angles, in radians, that follow the weights in that csv."""

JOINED: tuple[str, ...] = ("browInnerUp", "cheekPuff")
"""Shapes that ARKit has once and our heads twice, with `_L` and `_R`."""


def canonical_channel(name: str) -> str | None:
    """Find the channel that a shape's name stands for, by our name or ARKit's; None where there is none.

    Case and the way of naming a side do not matter: eyeBlink_L, EyeBlinkLeft, eyeblink.l and Eye_Blink_Left are all
    eyeBlinkLeft. A side of browInnerUp or cheekPuff keeps our name, browInnerUp_L.
    """
    return _LOOKUP.get(_plain(name))


def _plain(name: str) -> str:
    """Reduce a name to its letters and digits in lower case, with a side spelled out."""
    name = re.sub(r"[\s_.\-]+(l|r)$", lambda side: {"l": "left", "r": "right"}[side[1].lower()], name, flags=re.I)
    return re.sub(r"[^a-z0-9]", "", name.lower())


_LOOKUP = {_plain(name): name for name in (*ARKIT, *(f"{name}_{side}" for name in JOINED for side in "LR"))}


def arkit_weights(animation: HeadAnimation) -> np.ndarray:
    """Convert the motion to ARKit's channels, in the order of `ARKIT`, held in ARKit's range 0..1.

    ARKit has one shape where we have browInnerUp_L/_R and cheekPuff_L/_R: it gets their mean. A channel without a
    target in the animation is zero; of the tongue's there is tongueOut alone.

    Args:
        animation (`HeadAnimation`): with targets of our names (`blendshapes.EXPRESSIONS`) or ARKit's.

    Returns: (T, 52) float32.

    Raises:
        FaceTalkError: targets that are not ARKit channels, such as those of `HeadAnimation.compact`.
    """
    return weights_to_arkit(animation.weights, animation.target_names)


def weights_to_arkit(weights: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Convert weights (T, R) of R targets with these names to ARKit's channels, as [`arkit_weights`] does."""
    return (np.asarray(weights, np.float32) @ _to_arkit(tuple(names))).clip(0, 1)


@lru_cache(maxsize=16)
def _to_arkit(names: tuple[str, ...]) -> np.ndarray:
    """Make the matrix (R, 52) from weights of targets with these names to ARKit's."""
    result = np.zeros((len(names), len(ARKIT)), np.float32)
    for index, name in enumerate(names):
        if name.startswith(GAZE_PREFIX) or name in TONGUE and name not in ARKIT:
            continue  # completes what eyeLook* say already, or is of a tongue that ARKit knows only outside the mouth
        channel = canonical_channel(name)
        if channel is None:
            raise FaceTalkError(
                f"target {name!r} is no ARKit channel, so there are no ARKit weights: save the plain weights "
                "(format weights) instead"
            )
        share = 0.5 if channel[-2:] in ("_L", "_R") else 1.0
        result[index, ARKIT.index(_whole(channel))] = share
    return result


def with_tongue_out(weights: np.ndarray, tongue: np.ndarray) -> np.ndarray:
    """Put tongueOut of a tongue's weights (N, 5), in the order of `TONGUE`, into ARKit's (N, 52), in a copy."""
    result = weights.copy()
    result[:, ARKIT.index("tongueOut")] = tongue[:, TONGUE.index("tongueOut")]
    return result


def weights_from_arkit(values: np.ndarray) -> np.ndarray:
    """Convert ARKit's weights (..., 52) in the order of `ARKIT` to ours, (..., 53), for `expression_from_weights`.

    Both sides of browInnerUp and cheekPuff get its value; tongueOut is dropped.
    """
    columns = [ARKIT.index(_whole(canonical_channel(name) or name)) for name in EXPRESSIONS]
    return np.asarray(values, np.float32)[..., columns]


def _whole(channel: str) -> str:
    """Return browInnerUp for browInnerUp_L; any other channel as it is."""
    return channel.removesuffix("_L").removesuffix("_R")


def channel_weights(animation: HeadAnimation, names: Sequence[str]) -> np.ndarray:
    """Choose the weights of shapes of another head, (T, len(names)) float32 in 0..1; zero for what the motion lacks.

    A side of browInnerUp or cheekPuff gets its own side's weight where the animation has sides.

    Raises:
        FaceTalkError: a name that is not an ARKit channel, here or in the animation.
    """
    values = dict(zip(ARKIT, arkit_weights(animation).T, strict=True))
    for index, name in enumerate(animation.target_names):
        side = canonical_channel(name) or ""
        if side[-2:] in ("_L", "_R"):
            values[side] = animation.weights[:, index].clip(0, 1)
    result = np.zeros((animation.num_frames, len(names)), np.float32)
    for index, name in enumerate(names):
        channel = canonical_channel(name)
        if channel is None:
            raise FaceTalkError(f"shape {name!r} is no ARKit channel")
        result[:, index] = values.get(channel, values[_whole(channel)])
    return result


def eye_angles(weights: np.ndarray) -> np.ndarray:
    """Compute yaw and pitch of the left, then the right eye, (T, 2, 2) float32 in radians, as eyeLook* say.

    In ARKit's axes, which are ours: yaw turns about +y, towards the subject's left; pitch about +x, DOWN.

    Args:
        weights ((T, 52) float): in the order of `ARKIT`.
    """
    values = dict(zip(ARKIT, np.asarray(weights, np.float32).T, strict=True))
    eyes = []
    for side, left in (("Left", 1), ("Right", -1)):
        out, into, down, up = (
            values[f"eyeLook{way}{side}"] * LOOK_DEGREES[way] for way in ("Out", "In", "Down", "Up")
        )
        eyes.append(np.stack([left * (out - into), down - up], 1))
    return np.radians(np.stack(eyes, 1))


def rotations(weights: np.ndarray, poses: np.ndarray | None = None) -> np.ndarray:
    """Compute the angles `ROTATIONS` of Live Link Face, (T, 9) float64 in radians.

    Args:
        weights ((T, 52) float): in the order of `ARKIT`.
        poses ((T, 6) float, *optional*): as in `HeadAnimation.poses`; `None` for a head that does not move.
    """
    angles = np.zeros((len(weights), 3, 3))  # head, left eye, right eye; yaw, pitch, roll
    if poses is not None:
        angles[:, 0] = np.radians(poses[:, :3] * (1, -1, -1))
    angles[:, 1:, :2] = eye_angles(weights)
    return angles.reshape(len(weights), 9)


def timecode(frame: int, fps: float) -> str:
    """Write the time of a frame as Live Link Face does, HH:MM:SS:FF.fff: FF counts whole frames of the nominal rate.

    A fractional rate (23.976, 29.97) counts at the nearest whole one, without dropping frames. Hours go on
    beyond 24.
    """
    rate = max(1, round(fps))
    seconds, part = divmod(frame, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{part:02d}.000"


@register_writer("csv", needs_head=False)
def write_live_link_csv(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write the csv of Epic's Live Link Face app, which Unreal's importer and the add-ons of Blender and Maya read.

    Columns: Timecode, BlendShapeCount (61), the 52 weights in 0..1 by ARKit's names with a capital, and yaw, pitch
    and roll of head, left and right eye: radians about +y, +x and +z, so that a positive pitch looks down.

    Raises:
        FaceTalkError: targets without ARKit names, or a place that cannot be written to.
    """
    weights = arkit_weights(animation)
    rows = [live_link_header()]
    for index, (row, angles) in enumerate(zip(weights, rotations(weights, animation.poses), strict=True)):
        rows.append(live_link_row(index, row, animation.fps, angles))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Path(path)


def live_link_header() -> str:
    """Return the first line of the csv of Live Link Face."""
    names = [name[0].upper() + name[1:] for name in ARKIT]
    return ",".join(("Timecode", "BlendShapeCount", *names, *ROTATIONS))


def live_link_row(frame: int, weights: np.ndarray, fps: float, angles: np.ndarray | None = None) -> str:
    """Return the line of that csv for one frame: its weights (52,), and the angles (9,) of head and eyes, radians."""
    values = np.concatenate([weights, np.zeros(len(ROTATIONS)) if angles is None else np.ravel(angles)])
    return ",".join((timecode(frame, fps), str(len(values)), *(f"{value:.8f}" for value in values)))


@register_writer("json", needs_head=False)
def write_arkit_json(path: str | os.PathLike, animation: HeadAnimation) -> Path:
    """Write ARKit's weights as JSON: `fps`, `frames`, `names` and `weights`, one row of 52 numbers a frame.

    Where the head moves also `head` and `head_names`: yaw, pitch, roll in degrees, x, y, z in mm. Where the tongue
    does also `tongue` and `tongue_names`, rows of the weights of `blendshapes.TONGUE`. Also `viseme_names` and
    `visemes`, one row of 15 numbers a frame ([`facetalk_hf.animation.visemes`]).

    Raises:
        FaceTalkError: targets without ARKit names, or a place that cannot be written to.
    """
    weights = arkit_weights(animation)
    rows = [[round(float(value), 6) for value in row] for row in weights]
    document = {
        "generator": "facetalk_hf",
        "comment": "ARKit blend shape weights of a synthetic talking head, 0..1; row t is at t / fps seconds.",
        "fps": float(animation.fps),
        "frames": animation.num_frames,
        "names": list(ARKIT),
        "viseme_names": list(VISEMES),
        "visemes": [[round(float(value), 4) for value in row] for row in weights_to_visemes(weights)],
    }
    if animation.poses is not None:
        document["head"] = [[round(float(value), 5) for value in row] for row in animation.poses]
        document["head_names"] = ["yaw", "pitch", "roll", "x", "y", "z"]
    tongue = animation.tongue
    if tongue is not None and tongue.any():
        document["tongue"] = [[round(float(value), 5) for value in row] for row in tongue]
        document["tongue_names"] = list(TONGUE)
    head = json.dumps(document, indent=1)[:-2]
    # One line a frame: a person can read it, and a diff shows which frame changed.
    body = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(f'{head},\n "weights": [\n  {body}\n ]\n}}\n', encoding="utf-8")
    return Path(path)
