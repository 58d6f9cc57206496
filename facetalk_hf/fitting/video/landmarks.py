# SPDX-License-Identifier: MIT
"""What a tracker saw: landmarks and blendshape scores of one face over time, and the file that holds them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import FaceTalkError
from ...files import atomic_path


POINTS = 478
"""Landmarks of a face in the order of MediaPipe's face mesh: 468 on the skin, then five on each iris."""

INNER_LIPS = (13, 82, 312), (14, 87, 317)
EYE_CORNERS = (33, 263)
LONGEST_GAP = 0.2
"""Seconds that a face may be lost for within a segment."""

SCORES: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""ARKit's 52 names in the order of MediaPipe's scores, which have no tongueOut: it stays 0."""


def openings(points: np.ndarray) -> np.ndarray:
    """Measure how far the lips are apart, (T,), in distances of the eyes, by points (T, N, 2 or 3)."""
    corners, lips = points[:, list(EYE_CORNERS), :2], points[:, np.array(INNER_LIPS), :2]
    eyes = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=-1)
    return np.linalg.norm(lips[:, 0] - lips[:, 1], axis=-1).mean(1) / np.maximum(eyes, 1e-9)


@dataclass
class FaceLandmarks:
    """Landmarks of one face in T frames of a video.

    Args:
        points ((T, 478, 3) float32): x to the right and y down in pixels of the upright picture, z towards the back
            in pixels about the head's middle (not used where NaN); all NaN in frames without the face.
        scores ((T, 52) float32): of `SCORES`, 0..1; NaN where unknown.
        confidence ((T,) float32): 0..1, 0 in frames without the face.
        times ((T,) float64, s): when the frames are shown, rising.
        size: width and height of the picture in pixels.

    Raises:
        FaceTalkError: arrays that do not fit together, times that do not rise, no frame with a face.
    """

    points: np.ndarray
    scores: np.ndarray
    confidence: np.ndarray
    times: np.ndarray
    size: tuple[int, int]

    def __post_init__(self) -> None:
        self.points, self.scores, self.confidence = (
            np.asarray(value, np.float32) for value in (self.points, self.scores, self.confidence)
        )
        self.times, frames = np.asarray(self.times, np.float64), len(self.points)
        self.size = (int(self.size[0]), int(self.size[1]))
        wanted = {"points": (frames, POINTS, 3), "scores": (frames, len(SCORES)), "confidence": (frames,)}
        for name, shape in (wanted | {"times": (frames,)}).items():
            if getattr(self, name).shape != shape:
                raise FaceTalkError(f"landmarks: {name} must have shape {shape}, not {getattr(self, name).shape}")
        if not (np.isfinite(self.times).all() and (np.diff(self.times) > 0).all()):
            raise FaceTalkError("landmarks: times must be numbers that rise from frame to frame")
        if min(self.size) < 1:
            raise FaceTalkError(f"landmarks: a picture of {self.size[0]} x {self.size[1]} pixels")
        if not self.found.any():
            raise FaceTalkError("landmarks: no frame with a face")

    @property
    def found(self) -> np.ndarray:
        """Frames (T,) bool that have the face."""
        return (self.confidence > 0) & np.isfinite(self.points[..., :2]).all((1, 2))

    @property
    def fps(self) -> float:
        """Frames a second of most of the frames; 24 for a single one."""
        return float(1 / np.median(np.diff(self.times))) if len(self.times) > 1 else 24.0

    def segments(self) -> list[slice]:
        """Split the frames where the face is lost for more than `LONGEST_GAP` s or jumps, as at a cut.

        Returns: ranges of frames, each of which begins and ends with a found one.
        """
        index = np.flatnonzero(self.found)
        low, high = np.nanmin(self.points[index, :, :2], 1), np.nanmax(self.points[index, :, :2], 1)
        center, reach = (low + high) / 2, (high - low).max(1)
        wait = np.diff(self.times[index])
        # A head moves by its own width in a fifth of a second at most, and its size does not change at once.
        still = 1 / 24 + np.maximum(wait - 1 / 24, 0)
        jump = np.linalg.norm(np.diff(center, axis=0), axis=1) > 5 * reach[1:] * still + 0.15 * reach[1:]
        jump |= np.abs(np.diff(np.log(reach))) > 0.25 + 2 * (still - 1 / 24)
        ends = np.flatnonzero(jump | (wait > LONGEST_GAP))
        firsts, lasts = np.append(0, ends + 1), np.append(ends, len(index) - 1)
        return [slice(int(index[a]), int(index[b]) + 1) for a, b in zip(firsts, lasts, strict=True)]

    def cuts(self) -> list[float]:
        """List the times in s at which the face jumps from one frame to the next: somebody else may be shown then."""
        parts = self.segments()
        pairs = [(self.times[a.stop - 1], self.times[b.start]) for a, b in zip(parts, parts[1:], strict=False)]
        return [round(float(after), 3) for before, after in pairs if after - before <= LONGEST_GAP]

    def save(self, path: Path) -> None:
        """Write the landmarks as an npz with the names of the arguments, and `score_names`."""
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream, points=self.points, scores=self.scores, confidence=self.confidence, times=self.times,
                size=np.array(self.size), score_names=np.array(SCORES),
            )  # fmt: skip


def read_landmarks(path: Path) -> FaceLandmarks:
    """Read landmarks of `FaceLandmarks.save`, or of another tracker in the same form.

    `scores` may be left out, or be of other names in another order where `score_names` says so; so may `confidence`.

    Raises:
        FaceTalkError: no such file, or not of that form.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        points = np.asarray(arrays["points"], np.float32)
        if points.ndim == 3 and points.shape[2] == 2:
            points = np.concatenate([points, np.full_like(points[..., :1], np.nan)], 2)
        frames, size = len(points), (int(arrays["size"][0]), int(arrays["size"][1]))
        scores = np.full((frames, len(SCORES)), np.nan, np.float32)
        given = [str(name) for name in arrays.get("score_names", SCORES)]
        if "scores" in arrays:
            for column, name in enumerate(given):
                if name in SCORES:
                    scores[:, SCORES.index(name)] = arrays["scores"][:, column]
        confidence = arrays.get("confidence", np.isfinite(points[..., :2]).all((1, 2)).astype(np.float32))
        times = arrays["times"]
    except OSError as error:
        raise FaceTalkError(f"cannot read {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise FaceTalkError(f"{path} holds no landmarks of a video: it has no {error}") from error
    except Exception as error:  # np.load: a dozen kinds; arrays of other shapes: IndexError, ValueError
        raise FaceTalkError(f"{path} is no npz with the landmarks of a video") from error
    try:
        return FaceLandmarks(points, scores, confidence, times, size)
    except FaceTalkError as error:
        raise FaceTalkError(f"{path}: {error}") from error
