# SPDX-License-Identifier: MIT
"""A video of a fit: the recording, the tracker's landmarks on it, and the fitted head before the same camera."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...rendering.renderer import HeadRenderer, write_mp4
from .fit import FittedVideo
from .landmarks import FaceLandmarks
from .reading import read_pictures


DOT, LOST = np.array([90, 235, 140], np.uint8), np.array([40, 42, 48], np.uint8)


@dataclass
class Crop:
    """A square of the picture: its left and top edge and its side, in pixels of the file."""

    left: float
    top: float
    side: float


def crop_of(marks: FaceLandmarks) -> Crop:
    """Choose the square that holds the face in all frames, and as much again around it."""
    points = marks.points[marks.found][..., :2]
    low, high = points.min((0, 1)), points.max((0, 1))
    size = np.median(np.ptp(points, axis=1), axis=0).max()
    side = min(float((high - low).max() + 0.9 * size), float(max(marks.size)))
    left, top = (low + high) / 2 - side / 2 - (0, 0.08 * side)
    return Crop(float(left), float(top), side)


def draw_sheet(
    source: Path, marks: FaceLandmarks, fitted: FittedVideo, size: int = 360, frames: list[int] | None = None
) -> Iterator[np.ndarray]:
    """Yield pictures (size, 3 size, 3) uint8 of some or all frames of the fit, in order.

    Args:
        source (`Path`): the recording. size (`int`): pixels of a panel. frames: numbers of the fit's frames.
    """
    crop, animation = crop_of(marks), fitted.animation
    scale = size / crop.side
    renderer = HeadRenderer(animation, size, samples=0, key_poses=3)
    x, y = fitted.camera.center
    renderer.film(np.zeros(3), fitted.camera.focal * scale, ((x - crop.left) * scale, (y - crop.top) * scale))
    wanted = range(len(animation)) if frames is None else frames
    pictures, number, picture, following = read_pictures(source), -1, None, None
    for index in wanted:
        target = int(np.abs(marks.times - fitted.times[index]).argmin())
        while number < target:
            following = next(pictures, None)
            picture, number = (following or picture), number + 1
        panel = _cut(picture.image, crop, picture.scale, size) if picture is not None else np.zeros((size, size, 3))
        dotted = panel.copy()
        if marks.found[target]:
            place = np.floor((marks.points[target, :, :2] - (crop.left, crop.top)) * scale).astype(int)
            place = place[((place >= 0) & (place < size)).all(1)]
            dotted[place[:, 1], place[:, 0]] = DOT
        if fitted.confidence[index] > 0:
            pose = np.eye(4)
            pose[:3, :3] = fitted.head_poses.rotations[index]
            pose[:3, 3] = fitted.head_poses.translations[index]
            head = renderer.render(animation.vertices(index), pose)
        else:
            head = np.tile(LOST, (size, size, 1))
        yield np.concatenate([panel, dotted, head], 1).astype(np.uint8)


def write_side_by_side(path: Path, source: Path, marks: FaceLandmarks, fitted: FittedVideo, size: int = 360) -> None:
    """Write [`draw_sheet`] as an mp4 with the sound."""
    animation = fitted.animation
    write_mp4(
        path, draw_sheet(source, marks, fitted, size), animation.fps, animation.audio, animation.sampling_rate,
        comment="A recording, and a synthetic head that was fitted to it by facetalk_hf.",
    )  # fmt: skip


def _cut(image: np.ndarray, crop: Crop, scale: float, size: int) -> np.ndarray:
    """Cut the square out of a picture (h, w, 3) that was made smaller by `scale`: (size, size, 3) uint8."""
    box = tuple(scale * edge for edge in (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side))
    return np.array(
        Image.fromarray(image).transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    )
