# SPDX-License-Identifier: MIT
"""Images and videos of a head by a rasteriser in compiled loops: no GPU, no display, no GL library.

Triangles are drawn into a buffer of depths, several samples a pixel. What changes slowly over a surface is lit at its
vertices, what shines at its pixels. What changes slowly in time and costs many rays (ambient occlusion, the soft
shadow of the key light) is baked per vertex at a few key poses of the clip and blended by how far each vertex moved.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceTalkError
from ..mesh.geometry import Surface
from ..mesh.parts import SKIN
from .background import TRANSPARENT, Background, draw_background, is_transparent
from .camera import Camera
from .drawable import Drawable
from .occlusion import BakedLight
from .raster import project, rasterize
from .shading import highlights, light_vertices, linear_to_srgb, powers, resolve, srgb_to_linear
from .video import write_mp4, write_pngs, write_webm


__all__ = ["HeadRenderer", "render_frames", "render_video", "write_mp4"]


class HeadRenderer:
    """Draws frames of one animation from one camera.

    Args:
        animation (`Drawable`): what to draw, such as a `HeadAnimation`.
        size (`int` or `(width, height)`, defaults to 512): pixels.
        yaw, pitch (`float`, degrees): turn the camera around the head to its left / upwards. (90, 0) is the profile
            from the subject's left.
        samples (`int`, defaults to 4): samples of a pixel; 0 or 1 turns anti-aliasing off.
        key_poses (`int`, defaults to 4): poses at which occlusion is baked; 0 turns occlusion and shadow off.
        background (*optional*): what is behind the head, see [`facetalk_hf.rendering.background.draw_background`];
            the backdrop of a studio where absent. "transparent" makes images of four channels.
        zoom (`float`, defaults to 1): 1 frames the head, more comes closer to the face.

    Raises:
        FaceTalkError: a size, zoom, number of samples or background that cannot be drawn, a package that is missing.
    """

    def __init__(
        self,
        animation: Drawable,
        size: int | tuple[int, int] = 512,
        yaw: float = 0.0,
        pitch: float = 0.0,
        samples: int = 4,
        key_poses: int = 4,
        background: Background | None = None,
        zoom: float = 1.0,
    ) -> None:
        self.width, self.height = _size(size)
        if not 0.1 <= zoom <= 100:
            raise FaceTalkError(f"zoom must be 0.1 to 100, not {zoom}")
        if not 0 <= samples <= 64:
            raise FaceTalkError(f"samples must be 0 to 64, not {samples}")
        self.animation = animation
        self._background = draw_background(background, self.width, self.height)
        # Whole numbers without a sign: the loops need not ask whether an index counts from the end.
        self._faces = np.ascontiguousarray(animation.faces, np.uint32)
        self._parts = np.ascontiguousarray(animation.parts, np.uint8)
        self._poses = animation.pose_matrices()
        self._camera = Camera.framing(
            animation, self.width, self.height, np.radians(yaw), np.radians(pitch), float(zoom)
        )
        albedo = srgb_to_linear(animation.colors)
        # Lips are the redder skin; they are moist, so they shine more.
        red = (albedo[:, 0] - albedo[:, 1]) / np.maximum(albedo[:, 0], 1e-3)
        self._lips = (np.clip((red - 0.58) / 0.14, 0, 1) * (self._parts == SKIN)).astype(np.float32)
        self._albedo = albedo.astype(np.float32)
        surface = Surface(animation.faces, len(animation.base))
        self._light = BakedLight(animation, surface, self._camera.eye, self._camera.lights[0, 0], key_poses)
        self._encode = np.round(255 * linear_to_srgb(np.linspace(0, 1, 8192))).astype(np.uint8)
        self._powers, self._lobes = powers(), highlights()
        light = np.linspace(0, 4, 8192)
        self._shoulder = np.where(light > 0.6, 1 - 0.4 * np.exp((0.6 - light) / 0.4), light).astype(np.float32)
        self._empty = self._encode[(self._background * 8191 + 0.5).astype(np.int32)]
        if is_transparent(background):
            self._empty = np.zeros((self.height, self.width, 4), np.uint8)
        # Spread over the pixel, each in a row and a column of its own, on the grid that `project` rounds to.
        steps = np.arange(max(samples, 1))
        offsets = np.stack([(steps + 0.5) / len(steps), (steps * 0.618034 + 0.31) % 1.0], 1)
        self._offsets = np.round(offsets * 256 if len(steps) > 1 else np.array([[128, 128]])).astype(np.int32)
        self._scratch = threading.local()

    def film(self, eye: np.ndarray, focal: float, center: tuple[float, float] | None = None) -> None:
        """Put a pinhole camera that looks along -z, +y up, in place of the one that frames the head.

        Args:
            eye ((3,) float, mm): where it is. focal (`float`): focal length in pixels.
            center (two `float`, *optional*): where its axis meets the picture, in pixels; the middle where absent.
        """
        x, y = center or (self.width / 2, self.height / 2)
        self._camera = Camera.pinhole(eye, np.eye(3), np.array([focal, focal, x, y]))

    def light_from(self, turn: float, gain: float = 1.0) -> None:
        """Turn all lights about the vertical by `turn` degrees, to the picture's right, and scale them by `gain`."""
        self._camera.turn_lights(turn, gain)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) in mm to image positions (..., 2) float in pixels."""
        return self._camera.project(points)

    def render(self, frame: int | np.ndarray, pose: np.ndarray | None = None) -> np.ndarray:
        """Draw one image, (height, width, 3) uint8 sRGB; RGBA with alpha not multiplied in if nothing is behind it.

        Args:
            frame: the number of a frame, or vertices (V, 3) float in mm.
            pose ((4, 4) float, *optional*): rigid motion of given vertices; a frame brings its own.
        """
        if isinstance(frame, (int, np.integer)):
            pose = None if self._poses is None else self._poses[frame]
            frame = self.animation.vertices(int(frame))
        vertices = np.ascontiguousarray(frame, np.float32)
        matrix = np.ascontiguousarray((np.eye(4) if pose is None else pose)[:3], np.float32)
        camera, faces, room = self._camera, self._faces, self._room(len(vertices))
        count = project(
            vertices, matrix, faces, camera.eye, camera.axes, camera.lens,
            room.world, room.screen, room.near, room.normals, room.seen, room.front,
        )  # fmt: skip
        front = room.front[:count]
        box = rasterize(faces, front, room.screen, room.near, self._offsets, room.buffer)
        # Baked light belongs to the face, wherever the head has turned.
        light = self._light.at(vertices, room.seen)
        light_vertices(
            room.seen, faces, front, room.world, room.screen, room.near, room.normals,
            light, self._albedo, self._lips, self._parts,
            camera.eye, camera.lights, camera.axes[1], self._powers, room.values, room.tone,
        )  # fmt: skip
        image = self._empty.copy()
        resolve(
            room.buffer, box, self._offsets, faces, room.tone, room.values,
            camera.eye, camera.lights, self._lobes, self._shoulder, self._background, self._encode, image,
        )  # fmt: skip
        return image

    def _room(self, count: int) -> threading.local:
        """Return the arrays that a thread writes to, made once for each."""
        room = self._scratch
        if len(getattr(room, "world", ())) != count:
            room.world, room.normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
            room.screen, room.near = np.empty((count, 2), np.int32), np.empty(count, np.float32)
            room.seen, room.front = np.empty(count, bool), np.empty(len(self._faces), np.uint32)
            room.tone = np.empty(len(self._faces), np.float32)
            # A row is a line of the cache, if it begins where one begins.
            values = np.empty(16 * count + 16, np.float32)
            start = -values.ctypes.data // 4 % 16
            room.values = values[start : start + 16 * count].reshape(count, 16)
            room.buffer = np.zeros((self.height, self.width, len(self._offsets)), np.int64)
        return room


def render_frames(
    animation: Drawable,
    size: int | tuple[int, int] = 512,
    frames: Iterable[int] | None = None,
    workers: int | None = None,
    progress: bool = True,
    **camera: Any,
) -> Iterator[np.ndarray]:
    """Yield the images of an animation in order, (height, width, 3) uint8 sRGB, or RGBA if nothing is behind it.

    Args:
        animation (`Drawable`), size, camera: as in `HeadRenderer`.
        frames (iterable of `int`, *optional*): which frames; all of them where absent.
        workers (`int`, *optional*, defaults to the number of CPUs): frames drawn at a time, each by a thread: the
            compiled loops leave the interpreter free meanwhile. Abandoning the generator stops them.
        progress (`bool`, defaults to `True`): show a progress bar.
    """
    renderer = HeadRenderer(animation, size, **camera)
    order = range(len(animation.weights)) if frames is None else list(frames)
    workers = max(1, os.cpu_count() or 1 if workers is None else workers)
    from tqdm import tqdm

    bar = tqdm(total=len(order), desc="rendering", unit="frame", disable=not progress)
    matrices = animation.pose_matrices()
    poses = repeat(None) if matrices is None else (matrices[index] for index in order)
    source = zip(animation.iterate(order), poses, strict=False)
    pool = ThreadPoolExecutor(workers) if workers > 1 else None
    try:
        if pool is None:
            for vertices, pose in source:
                yield renderer.render(vertices, pose)
                bar.update()
            return
        waiting: deque = deque()
        for vertices, pose in source:
            waiting.append(pool.submit(renderer.render, vertices, pose))
            # A short queue bounds memory and what is left to wait for when the consumer stops.
            if len(waiting) > workers:
                yield waiting.popleft().result()
                bar.update()
        while waiting:
            yield waiting.popleft().result()
            bar.update()
    finally:
        bar.close()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def render_video(
    animation: Drawable,
    path: str | os.PathLike,
    size: int | tuple[int, int] = 512,
    crf: int | None = None,
    format: str | None = None,
    **options: Any,
) -> Path:
    """Draw an animation and write it with its sound. Options go to `render_frames`.

    Args:
        animation (`Drawable`), size: as in `HeadRenderer`.
        path: .mp4, .webm, or a folder of png. Nothing is behind the head in webm and png, where no `background` is
            given; mp4 cannot be transparent.
        crf (`int`, *optional*): quality of the video, lower is better; 18 of x264 or 24 of VP9 where absent.
        format (`str`, *optional*, defaults to the suffix): "mp4", "webm" or "png".

    Raises:
        FaceTalkError: an mp4 that should be transparent, options that cannot be drawn, or a place that cannot be
            written to.
    """
    format = format or Path(path).suffix[1:].lower()
    if format == "mp4" and is_transparent(options.get("background")):
        raise FaceTalkError("an mp4 cannot be transparent: write webm or png")
    if format in ("webm", "png") and options.get("background") is None:
        options["background"] = TRANSPARENT
    images = render_frames(animation, size, **options)
    if format == "png":
        return write_pngs(path, images)
    quality: dict[str, Any] = {} if crf is None else {"crf": crf}
    write = write_webm if format == "webm" else write_mp4
    return write(path, images, animation.fps, animation.audio, animation.sampling_rate, **quality)


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels; FaceTalkError for what no picture can have."""
    width, height = (size, size) if isinstance(size, (int, np.integer)) else size
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise FaceTalkError(f"image size must be 16 to 8192 pixels, not {width} x {height}")
    return int(width), int(height)
