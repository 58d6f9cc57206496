# SPDX-License-Identifier: MIT
"""Animations as npz: the motion alone, or with its head; read back with a head that a model decodes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import read_npz
from ..blendshapes import GAZE_PREFIX, TONGUE
from ..errors import FaceTalkError
from ..files import SYNTHETIC_NOTE, atomic_path
from .formats import register_reader, register_writer
from .gaze import gaze_angles
from .head_animation import HeadAnimation


GEOMETRY = ("base", "targets", "faces", "colors", "parts")
MARKS = ("landmark_vertices", "anchor_vertices")
KEYS = {"expressions": "expression"}


@register_reader("npz")
def load_animation(
    path: str | os.PathLike, decode: Callable[[np.ndarray, np.ndarray], HeadAnimation] | None = None
) -> HeadAnimation:
    """Read an npz of `HeadAnimation.save`.

    One that was written with `geometry=True` holds everything. Any other holds the motion: with `decode` its head is
    made anew; without, the animation has no vertices and can be saved as csv, json, weights and npz only.

    Args:
        path (`str` or `os.PathLike`): the npz.
        decode (`Callable`, *optional*): `pipe.decode` or a `HeadDecoder`, called with the codes (T, D) and the
            identity (Z,) where the file holds no head.

    Raises:
        FaceTalkError: no such file, not an npz that `save` wrote, or motion of another model than that of `decode`.
    """
    arrays = read_arrays(path)
    try:
        fields: dict[str, Any] = {
            "weights": arrays["weights"],
            "target_names": tuple(arrays["target_names"].tolist()),
            "fps": float(arrays["fps"]),
            "seed": None if arrays["seed"] < 0 else int(arrays["seed"]),
        }
        for name in ("expressions", "landmarks", "lip_aperture", "identity"):
            values = arrays[KEYS.get(name, name)]
            fields[name] = values if values.size else None
        fields |= {name: arrays[name] for name in ("poses", "pivot") if name in arrays}  # only where the head moves
        if "audio" in arrays:
            fields["audio"] = arrays["audio"] if arrays["audio"].size else None
            fields["sampling_rate"] = int(arrays["sampling_rate"])
        if has_geometry(arrays):
            fields |= {name: arrays[name] for name in GEOMETRY}
            fields |= {name: arrays.get(name) for name in MARKS}
            return HeadAnimation(**fields)
        if decode is None:
            names = len(fields["target_names"])
            base, targets, faces = np.zeros((0, 3)), np.zeros((names, 0, 3)), np.zeros((0, 3), int)
            return HeadAnimation(base=base, targets=targets, faces=faces, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FaceTalkError(f"{path} is not an animation that facetalk wrote: {_reason(error)}") from error
    if fields["expressions"] is None or fields["identity"] is None:
        raise FaceTalkError(f"{path} holds neither a head nor the codes to make it: save it with geometry=True")
    animation = decode(fields["expressions"], fields["identity"])
    turned = np.array([name.startswith(GAZE_PREFIX) for name in fields["target_names"]], bool)
    saved = tuple(name for name, gaze in zip(fields["target_names"], turned, strict=True) if not gaze)
    # A file from before heads had a tongue has none of its targets.
    if saved not in (animation.target_names, tuple(name for name in animation.target_names if name not in TONGUE)):
        raise FaceTalkError(f"{path} was made with another model: its head has other targets")
    # The weights as they were saved: what was done to the motion after decoding stays done.
    weights = np.zeros((len(fields["weights"]), len(animation.target_names)), np.float32)
    weights[:, [animation.target_names.index(name) for name in saved]] = fields["weights"][:, ~turned]
    animation = animation.replace(**fields | {"weights": weights, "target_names": animation.target_names})
    return animation.with_gaze(*gaze_angles(animation.weights, animation.target_names)) if turned.any() else animation


def has_geometry(arrays: dict[str, np.ndarray]) -> bool:
    """Say whether an npz's arrays hold a head, or its motion only."""
    return "base" in arrays and len(arrays["base"]) > 0


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file; FaceTalkError if there is none or it is damaged."""
    if not Path(path).is_file():
        raise FaceTalkError(f"no such file: {path}")
    try:
        return read_npz(path)
    except (OSError, FaceTalkError) as error:
        raise FaceTalkError(f"{path} is not an .npz that facetalk wrote: {error}") from error


def _reason(error: Exception) -> str:
    """Say in a few words what a file that cannot be used lacks."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


@register_writer("npz", needs_head=False)
def write_npz(
    path: str | os.PathLike, animation: HeadAnimation, geometry: bool = False, more: dict[str, Any] | None = None
) -> Path:
    """Write the motion as an npz: the same animation gives the same bytes.

    Keys: `expression` (T, D) codes, `fps`, `identity` (Z,), `seed` (-1 where unknown), `landmarks` (T, 68, 3) in mm,
    `lip_aperture` (T,) in mm, `weights` (T, R), `target_names` (R,); what the animation lacks is an array of size 0.
    Where the head moves also `poses` (T, 6), degrees and mm, and `pivot` (3,).
    With `geometry` also `base`, `targets`, `faces`, `colors`, `parts`, `audio`, `sampling_rate` and, where they are
    known, `landmark_vertices` or `anchor_vertices`. `comment` says that the head is synthetic. `more` adds arrays,
    such as the `audio` and `sampling_rate` of a motion without head.
    """
    arrays: dict[str, Any] = {
        "comment": np.array(SYNTHETIC_NOTE),
        "expression": _or_empty(animation.expressions, (animation.num_frames, 0)),
        "fps": np.float64(animation.fps),
        "identity": _or_empty(animation.identity, (0,)),
        "seed": np.int64(-1 if animation.seed is None else animation.seed),
        "landmarks": _or_empty(animation.landmarks, (0, 68, 3)),
        "lip_aperture": _or_empty(animation.lip_aperture, (0,)),
        "weights": animation.weights,
        "target_names": np.array(animation.target_names, dtype=np.str_),
    }
    if animation.poses is not None:
        arrays |= {"poses": animation.poses, "pivot": _or_empty(animation.pivot, (3,))}
    if geometry:
        for name in GEOMETRY:
            arrays[name] = getattr(animation, name)
        arrays["audio"] = _or_empty(animation.audio, (0,))
        arrays["sampling_rate"] = np.int64(animation.sampling_rate)
        arrays |= {name: value for name in MARKS if (value := getattr(animation, name)) is not None}
    arrays |= more or {}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        # numpy dates every member 1980, so nothing in the file tells when it was written.
        np.savez(stream, **arrays)
    return Path(path)


def _or_empty(value: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array, or one of this shape where it is absent."""
    return np.zeros(shape, np.float32) if value is None else value
