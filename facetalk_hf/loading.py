# SPDX-License-Identifier: MIT
"""A saved npz read back: motion alone, or with the head that it was written with or that a model decodes."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .animation import HeadAnimation
from .blendshapes import GAZE_PREFIX
from .errors import FaceTalkError
from .gaze import gaze_angles


GEOMETRY = ("base", "targets", "faces", "colors", "parts")
KEYS = {"expressions": "expression"}


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
        FaceTalkError: no such file, not an npz of ours, or motion of another model than that of `decode`.
    """
    arrays = read_arrays(path)
    try:
        fields = {
            "weights": arrays["weights"],
            "target_names": tuple(arrays["target_names"].tolist()),
            "fps": float(arrays["fps"]),
            "seed": None if arrays["seed"] < 0 else int(arrays["seed"]),
        }
        for name in ("expressions", "landmarks", "lip_aperture", "identity"):
            values = arrays[KEYS.get(name, name)]
            fields[name] = values if values.size else None
        fields |= {name: arrays[name] for name in ("poses", "pivot") if name in arrays}  # only where the head moves
        if has_geometry(arrays):
            fields |= {name: arrays[name] for name in GEOMETRY}
            fields["audio"] = arrays["audio"] if arrays["audio"].size else None
            fields["sampling_rate"] = int(arrays["sampling_rate"])
            return HeadAnimation(**fields)
        if decode is None:
            names = len(fields["target_names"])
            empty = {"base": np.zeros((0, 3)), "targets": np.zeros((names, 0, 3)), "faces": np.zeros((0, 3), int)}
            return HeadAnimation(**empty, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FaceTalkError(f"{path} is not an animation that facetalk wrote: {_reason(error)}") from error
    if fields["expressions"] is None or fields["identity"] is None:
        raise FaceTalkError(f"{path} holds neither a head nor the codes to make it: save it with geometry=True")
    animation = decode(fields["expressions"], fields["identity"])
    turned = [name.startswith(GAZE_PREFIX) for name in fields["target_names"]]
    if animation.target_names != tuple(n for n, gaze in zip(fields["target_names"], turned, strict=True) if not gaze):
        raise FaceTalkError(f"{path} was made with another model: its head has other targets")
    # The weights as they were saved: what was done to the motion after decoding stays done.
    animation = animation.replace(
        **fields | {"weights": fields["weights"][:, ~np.array(turned)], "target_names": animation.target_names}
    )
    return animation.with_gaze(*gaze_angles(animation)) if any(turned) else animation


def has_geometry(arrays: dict[str, np.ndarray]) -> bool:
    """Whether an npz's arrays hold a head, or its motion only."""
    return "base" in arrays and len(arrays["base"]) > 0


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an npz file; FaceTalkError if there is none or it is damaged."""
    if not Path(path).is_file():
        raise FaceTalkError(f"no such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # np.load: a dozen kinds, from BadZipFile to UnpicklingError
        raise FaceTalkError(f"{path} is not an .npz that facetalk wrote") from error


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
