# SPDX-License-Identifier: MIT
"""Weights of the fitting objective, and the files that set them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FaceTalkError


@dataclass
class FittingConfig:
    r"""Weights of the fitting objective; distances in mm, codes in blendshape weights.

    E = sdf * mean_i a_i rho(d_i) + temporal * Huber(w_t - w_(t-1)) + code * |w|^2 / 2 + box * |outside 0..1|^2 / 2
    + symmetry * |left - right|^2 / 2 + landmarks * mean rho(l - l'), with rho of Geman and McClure,
    d = sdf(x + F(x)), and a_i larger at the eyes. FaceTalk gives the first three terms and neither their weights nor
    the rest; those are ours.

    Args:
        window, overlap: frames that are optimised together, and how many of them again with the next window.
        points: points of a frame that are used, at most.
        iterations: steps of a window at most; it ends early when no weight moves by `tolerance`.
        outlier_scale: mm at which the IRLS weight of a point has fallen to a quarter.
        huber: change of a weight, from one frame to the next, at which its penalty turns from quadratic to linear.
        blink_inertia: factor of `temporal` for the eyelids, because they are quick, and of `code` in windows whose
            landmarks show them.
        blink_hold: factor of `code` for the eyelids in windows without such landmarks; `find_blinks` sets these
            weights afterwards.
        blink_cost, blink_hold_cost: log-likelihood that a blink has to gain, and more for each frame beyond 0.4 s.
        blink_contrast: share of the evidence expected of closed lids by which a blink exceeds the sequence's baseline.
        blink_bias: mm, bandwidth of the Gaussian over which the head's surface error is averaged over other frames.
        fps: frames a second, which set how many frames a blink takes.
        gaze_hold: factor of `code` for the shapes of gaze.
        ease: factor of `code` in the first step, a third of it in the next, down to 1.
        eye_gain, eye_reach: additional weight of points within `eye_reach` mm of the lids' landmarks.
        still: mm; points that no weight of 1 moves by more are left out after the first step that uses them.
        bad_frame: share of outliers beyond which a frame is listed, and its terms are multiplied by 0.2.

    Raises:
        FaceTalkError: a number that is negative or not finite, or zero where it must be positive.
    """

    window: int = 10
    overlap: int = 2
    points: int = 1600
    iterations: int = 9
    tolerance: float = 0.01
    sdf: float = 1.0
    temporal: float = 0.1
    huber: float = 0.1
    code: float = 0.015
    box: float = 1.0
    symmetry: float = 0.3
    blink_inertia: float = 0.2
    blink_hold: float = 100.0
    blink_cost: float = 6.0
    blink_hold_cost: float = 1.5
    blink_contrast: float = 0.4
    blink_bias: float = 3.0
    fps: float = 24.0
    gaze_hold: float = 10.0
    landmarks: float = 0.1
    outlier_scale: float = 4.0
    eye_gain: float = 4.0
    eye_reach: float = 9.0
    still: float = 0.3
    ease: float = 20.0
    bad_frame: float = 0.25

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < 1e12:  # NaN is not, either
                raise FaceTalkError(f"fitting: {name} must be a number of at least 0, and below 1e12, not {value}")
        if not 0 <= self.overlap < self.window:
            raise FaceTalkError(f"fitting: overlap {self.overlap} must be smaller than the window of {self.window}")
        for name in ("outlier_scale", "points", "huber", "fps", "blink_bias"):
            if not getattr(self, name):
                raise FaceTalkError(f"fitting: {name} must be positive")


def read_config(path: Path | None, points: int, fps: float) -> FittingConfig:
    """Make a `FittingConfig` from `points`, `fps` and a yaml or json file, which takes precedence.

    Raises:
        FaceTalkError: a file that cannot be read, or what `FittingConfig` does not know or refuses.
    """
    values = read_settings(path, FittingConfig())
    try:
        return FittingConfig(**({"points": points, "fps": fps} | values))
    except FaceTalkError as error:
        raise FaceTalkError(f"{path}: {error}" if path else str(error)) from error


def read_settings(path: Path | None, defaults: Any) -> dict[str, Any]:
    """Read numbers for the fields of a dataclass from a yaml or json file; an empty dict without one.

    Raises:
        FaceTalkError: a file that cannot be read, or what the dataclass does not know or is no number.
    """
    import yaml

    if path is None:
        return {}
    try:
        values = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # json is yaml
    except Exception as error:  # YAMLError, and of odd scalars what Python's types raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"cannot read {path}: {reason}") from error
    known = {name: type(default) for name, default in asdict(defaults).items()}
    if not isinstance(values, dict):
        raise FaceTalkError(f"{path} is no list of settings such as `temporal: 0.1`")
    if unknown := [str(name) for name in values if name not in known]:
        raise FaceTalkError(f"{path}: no setting {unknown[0]}; there are {', '.join(known)}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (known[name] is int and value % 1):
            raise FaceTalkError(f"{path}: {name} must be a number{' without fraction' * (known[name] is int)}")
        values[name] = known[name](value)
    return values
