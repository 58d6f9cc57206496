# SPDX-License-Identifier: MIT
"""Pictures of a fit: a plot of residual and speed, and a video of the clouds beside the fitted head."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..files import atomic_path
from ..head.decoding import make_decoder
from ..models.nphm import NPHMModel
from ..rendering.renderer import HeadRenderer, write_mp4
from ..units import MILLIMETRES
from .expressions import SequenceFit
from .posed_field import PosedField
from .report import mouth_speed


INK, GRID, PAPER = (40, 44, 52), (221, 224, 229), (255, 255, 255)
LINES = ((38, 84, 164), (186, 74, 32))


def write_plot(path: Path, field: PosedField, fit: SequenceFit, size: tuple[int, int] = (960, 480)) -> None:
    """Draw residual (mm) above the mouth's speed (mm a frame) over frames as a PNG; bad frames are shaded."""
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    width, height = size
    rows = ((fit.residual, "residual, mm"), (mouth_speed(field, fit.weights), "speed of the mouth, mm a frame"))
    for row, ((values, title), color) in enumerate(zip(rows, LINES, strict=True)):
        left, right, top, bottom = 56, width - 16, row * height // 2 + 28, (row + 1) * height // 2 - 26
        finite = values[np.isfinite(values)]
        high = max(float(finite.max(initial=0.0)) * 1.1, 0.1)
        xs = left + (right - left) * np.arange(len(values)) / max(len(values) - 1, 1)
        for frame in fit.bad_frames:
            draw.rectangle((xs[frame] - 3, top, xs[frame] + 3, bottom), fill=(248, 222, 216))
        for tick in np.linspace(0, high, 4):
            y = bottom - (bottom - top) * tick / high
            draw.line((left, y, right, y), fill=GRID)
            draw.text((8, y - 6), f"{tick:.2f}", fill=INK)
        ys = bottom - (bottom - top) * np.nan_to_num(values, posinf=high).clip(0, high) / high
        draw.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=color, width=2)
        draw.text((left, top - 20), title, fill=INK)
        for frame in np.unique(np.linspace(0, len(values) - 1, 6).astype(int)):
            draw.text((xs[frame] - 6, bottom + 6), str(frame), fill=INK)
    with atomic_path(path) as temporary:
        image.save(temporary)


def write_comparison(
    path: Path, head: NPHMModel, identity: np.ndarray, fit: SequenceFit, clouds: list[np.ndarray], fps: float,
    size: int = 384,
) -> None:  # fmt: skip
    """Write an mp4 with the clouds (T arrays (P, 3), canonical, model units) on the left and the fit on the right."""
    with torch.no_grad():
        animation = make_decoder(head, resolution=96)(fit.expressions, identity)
    renderer = HeadRenderer(animation, size, yaw=25.0, samples=0)

    def images() -> Iterator[np.ndarray]:
        for index, cloud in enumerate(clouds):
            yield np.concatenate([dots(renderer, cloud * MILLIMETRES, size), renderer.render(index)], axis=1)

    write_mp4(path, images(), fps)


def dots(renderer: HeadRenderer, points: np.ndarray, size: int) -> np.ndarray:
    """Draw points (P, 3) in mm as dots of 2 or 3 pixels on a dark image (size, size, 3) uint8; nearer are lighter."""
    image = np.full((size, size, 3), (28, 31, 36), np.uint8)
    place = np.floor(renderer.project(points)).astype(int)
    order = np.argsort(points[:, 2])
    shade = np.interp(points[order, 2], np.percentile(points[:, 2], [5, 98]), [110, 250]).astype(np.uint8)
    wide = range(3 if len(points) < 4000 else 2)
    for dx in wide:
        for dy in wide:
            x, y = place[order, 0] + dx, place[order, 1] + dy
            kept = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            image[y[kept], x[kept]] = shade[kept, None]
    return image
