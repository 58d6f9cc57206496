# SPDX-License-Identifier: MIT
"""Keyframes: whole frames as codes, or weights of named channels at frames. The rest of a motion is generated."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..animation.arkit import canonical_channel
from ..arrays import read_npz, to_float32
from ..errors import FaceTalkError
from ..mesh.geometry import smootherstep
from ..models.nphm import NPHMModel
from .channels import Channels


LEAD = 0.25
"""Seconds on either side of a keyframe in which the motion is led into it."""

SAME = 1e-4
"""Two values for one thing that differ by no more than this are no contradiction."""


class Keyframes:
    """Fixed parts of one clip's motion, at the pipeline's own frame rate, first frame 0.

    Examples:
        ```py
        >>> keyframes = Keyframes()
        >>> keyframes.fix_frames([0, 47], pose_codes)  # (2, D): whole faces
        >>> keyframes.fix_channels([20], {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8})
        >>> keyframes.fix_channels(None, {"eyeBlinkLeft": curve})  # (N,): every frame; NaN leaves a frame free
        >>> output = pipe("speech.wav", keyframes=keyframes)
        ```
    """

    def __init__(self) -> None:
        self._codes: dict[int, np.ndarray] = {}
        self._weights: dict[int, dict[str, float]] = {}
        self._curves: dict[str, np.ndarray] = {}

    def __bool__(self) -> bool:
        return bool(self._codes or self._weights or self._curves)

    def fix_frames(self, frames: Sequence[float] | np.ndarray, codes: np.ndarray | torch.Tensor) -> "Keyframes":
        """Fix whole frames to expression codes (K, D) float. FaceTalkError for what cannot be meant."""
        codes = np.asarray(codes.cpu() if isinstance(codes, torch.Tensor) else codes)
        if codes.ndim != 2 or codes.dtype.kind not in "fiu":
            raise FaceTalkError(f"codes of keyframes must have shape (frames, code size), not {codes.shape}")
        for frame, code in zip(_frames(frames, len(codes)), to_float32(codes), strict=True):
            if not np.isfinite(code).all():
                raise FaceTalkError(f"the code of keyframe {frame} holds numbers that are not finite")
            old = self._codes.setdefault(frame, code)
            if old.shape != code.shape or np.abs(old - code).max(initial=0) > SAME:
                raise FaceTalkError(f"frame {frame} is fixed twice, to different codes")
        return self

    def fix_channels(self, frames: Sequence[float] | np.ndarray | None, weights: Mapping[str, object]) -> "Keyframes":
        """Fix weights of channels by name, to numbers or to one number for each of the frames.

        Args:
            frames (sequence of `int`, *optional*): frame numbers; `None` for all frames of the clip, for which a
                curve holds one number each.
            weights (`Mapping[str, ...]`): name -> number or (K,) float, NaN where it is free. Names in ARKit's
                spelling or the head's own; "*" stands for all channels that the same frame does not name.

        Raises:
            FaceTalkError: an unknown name, infinite numbers, a wrong count, or a channel fixed to two values.
        """
        for name, values in weights.items():
            channel = name if name == "*" else canonical_channel(str(name))
            if channel is None:
                raise FaceTalkError(f"no channel is called {str(name)[:40]!r}: use ARKit's names, such as jawOpen")
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.asarray(values, np.float32)
            if np.isinf(values).any():
                raise FaceTalkError(f"keyframes of {name} hold numbers that are not finite")
            if frames is None:
                if values.ndim > 1:
                    raise FaceTalkError(f"the curve of {name} must be one row of numbers, not {values.shape}")
                if channel in self._curves and not _agree(self._curves[channel], values):
                    raise FaceTalkError(f"channel {name} is fixed twice, to different curves")
                self._curves[channel] = values
                continue
            if values.ndim and values.shape != (len(frames),):
                raise FaceTalkError(f"keyframes of {name} must be {len(frames)} numbers, not {values.shape}")
            numbers = _frames(frames, len(frames))
            for frame, value in zip(numbers, np.broadcast_to(values, len(numbers)).tolist(), strict=True):
                if not math.isnan(value):
                    old = self._weights.setdefault(frame, {}).setdefault(channel, value)
                    if abs(old - value) > SAME:
                        raise FaceTalkError(f"{name} is fixed twice at frame {frame}, to {old:g} and {value:g}")
        return self

    def check_range(self) -> None:
        """Raise [`FaceTalkError`] for a weight that is not between 0 and 1, as all are in files."""
        fixed = [(name, value) for row in self._weights.values() for name, value in row.items()]
        for name, values in (*fixed, *self._curves.items()):
            given = np.asarray(values, np.float32).reshape(-1)
            outside = given[(given < -SAME) | (given > 1 + SAME)]
            if outside.size:
                raise FaceTalkError(f"keyframes of {name} must be between 0 and 1, and one is {outside[0]:g}")

    def resolve(self, head: NPHMModel | None, frames: int, code_dim: int, reach: int = 6) -> "Constraint":
        """Resolve the keyframes for a clip of `frames` frames.

        Args:
            head ([`NPHMModel`], *optional*): has the channels; not needed where only codes are given.
            frames (`int`), code_dim (`int`): N and D of the clip.
            reach (`int`, *optional*, defaults to 6): frames on either side that lead into a keyframe.

        Raises:
            FaceTalkError: a frame beyond the clip, a curve of another length, codes of another size, a channel that
                the head does not have, or two values for one channel of one frame.
        """
        outside = [frame for frame in (*self._codes, *self._weights) if frame >= frames]
        if outside:
            raise FaceTalkError(f"keyframe {max(outside)} is outside the clip, whose frames are 0 to {frames - 1}")
        codes = np.full((frames, code_dim), np.nan, np.float32)
        for frame, code in self._codes.items():
            if code.shape != (code_dim,):
                raise FaceTalkError(f"the code of keyframe {frame} has {code.size} numbers, this model's {code_dim}")
            codes[frame] = code
        if not (self._weights or self._curves):
            return Constraint(torch.from_numpy(codes), None, None, reach)
        channels = Channels(head, "a keyframe of channels")
        table = np.full((frames, len(channels.names)), np.nan, np.float32)
        columns: dict[str, list[int]] = {}
        for index, name in enumerate(channels.names):
            channel = canonical_channel(name) or name
            columns.setdefault(channel, []).append(index)
            if channel[-2:] in ("_L", "_R"):  # ARKit's one browInnerUp moves both of ours
                columns.setdefault(channel[:-2], []).append(index)

        def put(rows: int | slice, name: str, values: np.ndarray | float, where: str) -> None:
            if name not in columns:
                raise FaceTalkError(f"this head has no channel {name}")
            for column in columns[name]:
                old = table[rows, column]
                if not _agree(old, values):
                    raise FaceTalkError(f"{name} is fixed twice {where}, to different values")
                table[rows, column] = np.where(np.isnan(values), old, values)

        for name, curve in self._curves.items():
            if curve.ndim and len(curve) != frames:
                raise FaceTalkError(f"the curve of {name} has {len(curve)} numbers, the clip has {frames} frames")
            if name != "*":
                put(slice(None), name, curve, "at a frame")
        for frame, row in self._weights.items():
            for name, value in row.items():
                if name != "*":
                    put(frame, name, value, f"at frame {frame}")
        for rows, value in [(f, row["*"]) for f, row in self._weights.items() if "*" in row]:
            table[rows] = np.where(np.isnan(table[rows]), np.float32(value), table[rows])
        if "*" in self._curves:
            rest = np.broadcast_to(self._curves["*"], frames)[:, None]
            table = np.where(np.isnan(table), rest, table)
        fixed = ~np.isnan(codes[:, 0])
        given = channels.weights(torch.from_numpy(codes[fixed])).numpy()
        wrong = (np.abs(given - table[fixed]) > 10 * SAME).any(1)
        if wrong.any():
            frame = np.flatnonzero(fixed)[wrong][0]
            raise FaceTalkError(f"frame {frame} is fixed twice, by a code and by channels that contradict it")
        table[fixed] = given
        return Constraint(torch.from_numpy(codes), torch.from_numpy(table), channels, reach)


class Constraint:
    """Fixed codes (N, D) and weights (N, W), NaN where free, and how generated motion is led into them.

    What a generated motion misses at a keyframe is added there, and to the frames around it with a weight that falls
    from 1 to 0 over `reach` frames, or up to the next keyframe if that is nearer, by 1 - s^3 (10 - 15 s + 6 s^2): the
    motion reaches the keyframe exactly, without a step in position, velocity or acceleration, and two keyframes do not
    disturb each other.
    """

    def __init__(
        self, codes: torch.Tensor, weights: torch.Tensor | None, channels: Channels | None, reach: int = 6
    ) -> None:
        self.codes, self.weights = codes, weights
        self._by_frame = _Blend(~codes[:, :1].isnan(), reach)
        self._fixed_channels = None
        if weights is not None and channels is not None:
            self._fixed_channels = weights, channels, _Blend(~weights.isnan(), reach)

    def __call__(self, codes: torch.Tensor, lead: bool = True) -> torch.Tensor:
        """Make codes (N, D) agree with what is given; without `lead` only where it is given."""
        target = self.codes.to(codes)
        missing = (target - codes).nan_to_num(0.0)
        codes = codes + self._by_frame(missing, lead)
        if self._fixed_channels is not None:
            weights, channels, blend = self._fixed_channels
            missing = (weights.to(codes) - channels.weights(codes)).nan_to_num(0.0)
            codes = channels.change(codes, blend(missing, lead))
        return torch.where(target.isnan(), codes, target)


class _Blend:
    """For every frame and column: the fixed frames before and after it, and how much of each one's miss it takes."""

    def __init__(self, fixed: torch.Tensor, reach: int) -> None:
        count = len(fixed)
        time = torch.arange(count)[:, None].expand_as(fixed)
        far = 10 * (count + reach)
        before = torch.where(fixed, time, -far).cummax(0).values
        after = torch.where(fixed, time, far).flip(0).cummin(0).values.flip(0)
        gap = (after - before).clamp(min=1, max=max(reach, 1))
        self.before, self.after = before.clamp(min=0), after.clamp(max=count - 1)
        self.share_before = _fall((time - before) / gap)
        self.share_after = _fall((after - time) / gap) * ~fixed
        self.fixed = fixed

    def __call__(self, missing: torch.Tensor, lead: bool) -> torch.Tensor:
        if not lead:
            return missing * self.fixed.to(missing)
        before, after = self.before.expand_as(missing), self.after.expand_as(missing)
        before, after = missing.gather(0, before.to(missing.device)), missing.gather(0, after.to(missing.device))
        return before * self.share_before.to(missing) + after * self.share_after.to(missing)


def _fall(s: torch.Tensor) -> torch.Tensor:
    """1 at 0, 0 from 1 on, smooth to the second derivative."""
    return 1 - smootherstep(s.clamp(0, 1).float())


def constrain_batch(
    constraints: Sequence[Constraint | None],
    frames: Sequence[int],
    to_codes: Callable[[torch.Tensor], torch.Tensor],
    from_codes: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function that holds every element of x_0 (B, N, D) to its constraint, for
    [`~facetalk_hf.pipeline.denoising.denoise`]."""

    def constrain(clean: torch.Tensor) -> torch.Tensor:
        result = clean.clone()
        for index, (constraint, count) in enumerate(zip(constraints, frames, strict=True)):
            if constraint is not None:
                fixed = from_codes(constraint(to_codes(clean[index, :count])))
                result[index, :count, : fixed.shape[-1]] = fixed  # a pose behind the codes stays free
        return result

    return constrain


def _frames(frames: Sequence[float] | np.ndarray, count: int) -> list[int]:
    """Frame numbers as given, checked: whole, not negative, as many as there are values."""
    array = np.asarray(frames)
    if array.ndim != 1 or len(array) != count:
        raise FaceTalkError(f"{count} keyframes need {count} frame numbers, not {array.size}")
    if array.size and (array.dtype.kind not in "iuf" or not (array == np.round(array)).all() or array.min() < 0):
        raise FaceTalkError("keyframes are numbered with whole numbers from 0")
    return [int(frame) for frame in array]


def _agree(first: np.ndarray | float, second: np.ndarray | float) -> bool:
    """Whether no two numbers contradict each other; NaN contradicts nothing."""
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if first.ndim and second.ndim and first.shape != second.shape:
        return False
    return not (np.abs(first - second) > SAME).any()


def read_keyframes(path: str | os.PathLike) -> Keyframes:
    """Read a file of keyframes.

    - csv: a column `frame`, and one for each channel; an empty cell leaves the channel free.
    - json: `{"frames": {"12": {"jawOpen": 0.4}}, "channels": {"eyeBlinkLeft": [0, 0.1, null, ...]}}`, either or both;
      `null` leaves a frame free.
    - npz: `frames` (K,) int with `expression` (K, D) codes, or with `weights` (K, W) and their `names` (W,), NaN where
      free. Without `frames` all frames of the clip are meant.

    Raises:
        FaceTalkError: no such file, another layout, text that is not UTF-8, a weight outside of 0..1, or keyframes
            that `Keyframes` refuses.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".json": _read_json, ".npz": _read_npz}
    if not path.is_file():
        raise FaceTalkError(f"no such file: {path}")
    if path.suffix.lower() not in readers:
        raise FaceTalkError(f"{path} must be a .csv, .json or .npz of keyframes")
    try:
        keyframes = readers[path.suffix.lower()](path)
        keyframes.check_range()
    except FaceTalkError as error:
        raise FaceTalkError(f"{path}: {error}") from error
    except Exception as error:  # any damaged file: from UnicodeDecodeError to BadZipFile
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"{path} cannot be read as keyframes: {reason}") from error
    if not keyframes:
        raise FaceTalkError(f"{path} holds no keyframe")
    return keyframes


def _read_csv(path: Path) -> Keyframes:
    keyframes = Keyframes()
    with io.StringIO(_read_text(path), newline="") as stream:
        rows = csv.DictReader(stream, skipinitialspace=True)
        names = rows.fieldnames or ()
        if "frame" not in names and any(";" in name or "\t" in name for name in names):
            raise FaceTalkError("its columns are not parted by commas: save it with commas, and points in numbers")
        if "frame" not in names:
            raise FaceTalkError("the first line must name the columns, one of them frame")
        if len(set(names)) < len(names):
            raise FaceTalkError("two columns have the same name")
        for row in rows:
            if None in row or None in row.values():
                raise FaceTalkError(f"line {rows.line_num} has not as many cells as the first")
            cells = {name: _number(cell, name, rows.line_num) for name, cell in row.items() if cell.strip()}
            if not cells:
                continue
            if "frame" not in cells:
                raise FaceTalkError(f"line {rows.line_num} has no frame number")
            keyframes.fix_channels([cells.pop("frame")], cells)
    return keyframes


def _read_text(path: Path) -> str:
    """Read UTF-8, with a byte order mark or without; FaceTalkError for UTF-16, as Excel and PowerShell write it."""
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:64]:
        raise FaceTalkError("it is text in UTF-16: save it as UTF-8")
    return content.decode("utf-8-sig")


def _number(cell: str, name: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FaceTalkError(f"line {line}: {name[:40]} must be a number, not {cell.strip()[:40]!r}")
    return value


def _read_json(path: Path) -> Keyframes:
    keyframes = Keyframes()
    document = json.loads(_read_text(path))
    if not isinstance(document, dict) or not set(document) <= {"frames", "channels"}:
        raise FaceTalkError('it must be an object with "frames" or "channels"')
    for frame, weights in document.get("frames", {}).items():
        if not str(frame).strip().isdigit():
            raise FaceTalkError(f"{frame[:40]!r} is no frame number: keyframes are numbered with whole numbers from 0")
        keyframes.fix_channels([int(frame)], weights)
    curves = {
        name: [np.nan if value is None else value for value in curve] if isinstance(curve, list) else curve
        for name, curve in document.get("channels", {}).items()
    }
    return keyframes.fix_channels(None, curves)


def _read_npz(path: Path) -> Keyframes:
    keyframes = Keyframes()
    try:
        arrays = read_npz(path)
    except FaceTalkError as error:
        raise ValueError(str(error)) from error
    known = {"frames", "expression", "weights", "names"}
    if not set(arrays) <= known or not {"expression", "weights"} & set(arrays):
        raise FaceTalkError("it must hold frames, and expression or weights with names")
    frames = arrays.get("frames")
    if "expression" in arrays:
        codes = arrays["expression"]
        keyframes.fix_frames(np.arange(len(codes)) if frames is None else frames, codes)
    if "weights" in arrays:
        weights, names = arrays["weights"], arrays["names"].tolist()
        if weights.ndim != 2 or weights.shape[1] != len(names) or len(set(names)) < len(names):
            raise FaceTalkError(f"weights must be (frames, {len(names)}), a column for each of the names")
        keyframes.fix_channels(frames, dict(zip(names, weights.T, strict=True)))
    return keyframes
