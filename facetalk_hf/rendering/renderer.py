# SPDX-License-Identifier: MIT
"""Images and videos of a head by ray casting: no GPU, no display, no GL library.

Embree (PyPI's embreex) finds what every pixel sees, numpy shades it. What changes slowly and costs many rays (ambient
occlusion, the soft shadow of the key light) is baked per vertex at a few key poses of the clip and blended by how far
each vertex has moved, so a frame needs little more than its primary rays.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceTalkError
from ..mesh.geometry import Surface, unit
from ..mesh.parts import EYES, SKIN
from ..mesh.pose import apply_pose, axis_rotations
from .drawable import Drawable
from .occlusion import BakedLight
from .shading import FILL, KEY, RIM, linear_to_srgb, shade, srgb_to_linear
from .video import write_mp4


__all__ = ["HeadRenderer", "render_frames", "render_video", "write_mp4"]


class HeadRenderer:
    """Draws frames of one animation from one camera.

    Args:
        animation (`Drawable`): what to draw, such as a `HeadAnimation`.
        size (`int` or `(width, height)`, defaults to 512): pixels.
        yaw, pitch (`float`, degrees): turn the camera around the head to its left / upwards. (90, 0) is the profile
            from the subject's left.
        samples (`int`, defaults to 4): extra rays for pixels on an edge; 0 turns anti-aliasing off.
        key_poses (`int`, defaults to 4): poses at which occlusion is baked; 0 turns occlusion and shadow off.
        background (pair of sRGB triples, *optional*): colour at the middle and at the corners.
    """

    def __init__(
        self,
        animation: Drawable,
        size: int | tuple[int, int] = 512,
        yaw: float = 0.0,
        pitch: float = 0.0,
        samples: int = 4,
        key_poses: int = 4,
        background: tuple[tuple[int, int, int], tuple[int, int, int]] = ((168, 176, 186), (74, 81, 92)),
    ) -> None:
        self.width, self.height = _size(size)
        self.animation, self.samples = animation, samples
        self._embree = _import_embree()
        self._surface = Surface(animation.faces, len(animation.base))
        self._corners = np.ascontiguousarray(animation.faces.T)
        # embreex reads faces one Python object at a time; tuples are five times faster to read than array rows.
        self._faces = np.empty(len(animation.faces), object)
        self._faces[:] = [tuple(face) for face in animation.faces.tolist()]
        self._face_part = animation.parts[animation.faces].max(1, initial=0)
        self._poses = animation.pose_matrices()
        self._place_camera(np.radians(yaw), np.radians(pitch))
        albedo = srgb_to_linear(animation.colors)
        # Lips are the redder skin; they are moist, so they shine more.
        red = (albedo[:, 0] - albedo[:, 1]) / np.maximum(albedo[:, 0], 1e-3)
        lips = np.clip((red - 0.58) / 0.14, 0, 1) * (animation.parts == SKIN)
        self._albedo = np.concatenate([albedo, lips[:, None]], 1).astype(np.float32)
        count = key_poses if len(animation.faces) else 0
        self._light = BakedLight(animation, self._surface, self._scene, self._eye, self._lights[0][0], count)
        self._background = self._backdrop(*(srgb_to_linear(np.array(color, np.uint8)) for color in background))
        self._encode = np.round(255 * linear_to_srgb(np.linspace(0, 1, 8192))).astype(np.uint8)

    def _place_camera(self, yaw: float, pitch: float) -> None:
        """Place a long lens (24 degrees) that frames the head of `base` with a little air, wherever it looks from."""
        base = self.animation.base
        low, high = base.min(0), base.max(0)
        # The picture ends just above where the neck was cut, like a portrait, and never down at the shoulders.
        bottom = low[1] + 0.035 * (high[1] - low[1])
        eyes = self.animation.parts == EYES
        if eyes.any():
            level = base[eyes, 1].mean()
            bottom = max(bottom, level - 1.4 * (high[1] - level))
        tall = high[1] - bottom
        center = np.array([(low[0] + high[0]) / 2, bottom + 0.53 * tall, (low[2] + high[2]) / 2], np.float32)
        stretch = [max(1.0, self.width / self.height), max(1.0, self.height / self.width)]
        self._tan, self._shift = np.tan(np.radians(12.0)) * np.array(stretch, np.float32), np.zeros(2, np.float32)
        distance = 0.53 * tall / np.tan(np.radians(12.0)) + (high[2] - low[2]) / 8
        toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], np.float32)
        right = np.array([np.cos(yaw), 0, -np.sin(yaw)], np.float32)
        self._axes = np.stack([right, np.cross(toward, right), toward])
        self._eye = (center + toward * distance).astype(np.float32)
        self._lights = [
            ((direction / np.linalg.norm(direction)) @ self._axes, color) for direction, color in (KEY, FILL, RIM)
        ]

    def film(self, eye: np.ndarray, focal: float, center: tuple[float, float] | None = None) -> None:
        """Put a pinhole camera that looks along -z, +y up, in place of the one that frames the head.

        Args:
            eye ((3,) float, mm): where it is. focal (`float`): focal length in pixels.
            center (two `float`, *optional*): where its axis meets the picture, in pixels; the middle where absent.
        """
        self._eye, self._axes = np.asarray(eye, np.float32), np.eye(3, dtype=np.float32)
        self._tan = np.array([self.width, self.height], np.float32) / np.float32(2 * focal)
        x, y = center or (self.width / 2, self.height / 2)
        self._shift = np.array([2 * x / self.width - 1, 1 - 2 * y / self.height], np.float32)
        self._lights = [(direction / np.linalg.norm(direction), color) for direction, color in (KEY, FILL, RIM)]

    def light_from(self, turn: float, gain: float = 1.0) -> None:
        """Turn all lights about the vertical by `turn` degrees, to the picture's right, and scale them by `gain`."""
        matrix = axis_rotations(1, np.radians([turn]))[0].astype(np.float32)
        self._lights = [(matrix @ direction, color * np.float32(gain)) for direction, color in self._lights]

    def _rays(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return unit directions through image positions in pixels (0 at the left and top edge), (n, 3) float32."""
        u = (x * np.float32(2.0 / self.width) - 1.0 - self._shift[0]) * self._tan[0]
        v = (1.0 - y * np.float32(2.0 / self.height) - self._shift[1]) * self._tan[1]
        rays = np.stack([u, v, np.full_like(u, -1.0)], 1) @ self._axes
        return unit(rays.astype(np.float32))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) in mm to image positions (..., 2) float in pixels."""
        local = (np.asarray(points) - self._eye) @ self._axes.T
        ratio = local[..., :2] / -local[..., 2:] / self._tan + self._shift
        return np.stack([(ratio[..., 0] + 1) * self.width / 2, (1 - ratio[..., 1]) * self.height / 2], -1)

    def _backdrop(self, middle: np.ndarray, corner: np.ndarray) -> np.ndarray:
        """Draw the backdrop, (height, width, 3) float32: linear colours from the middle out to the corners."""
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        x, y = (x + 0.5) / self.width - 0.5, (y + 0.5) / self.height - 0.44
        radius = np.clip(np.sqrt(x * x + y * y * 0.9) / 0.72, 0, 1)[..., None]
        smooth = radius * radius * (3 - 2 * radius)
        # Half a grey level of fixed noise keeps the gradient from banding in the encoder.
        noise = np.random.default_rng(0).uniform(-0.0025, 0.0025, smooth.shape)
        return (middle * (1 - smooth) + corner * smooth + noise).clip(0, 1).astype(np.float32)

    def _scene(self, vertices: np.ndarray, faces: np.ndarray | None = None) -> Any:
        """Build embree's tree over all faces, or over some given as an object array of tuples."""
        scene_class, mesh_class, device = self._embree
        scene = scene_class(device)
        mesh_class(scene, vertices, self._faces if faces is None else faces)
        return scene

    def render(self, frame: int | np.ndarray, pose: np.ndarray | None = None) -> np.ndarray:
        """Draw one image, (height, width, 3) uint8 sRGB.

        Args:
            frame: the number of a frame, or vertices (V, 3) float in mm.
            pose ((4, 4) float, *optional*): rigid motion of given vertices; a frame brings its own.
        """
        if isinstance(frame, (int, np.integer)):
            pose = None if self._poses is None else self._poses[frame]
            frame = self.animation.vertices(int(frame))
        vertices = np.asarray(frame, np.float32)
        # Baked light belongs to the face, wherever the head has turned.
        light = self._light.at(vertices)
        if pose is not None:
            vertices = apply_pose(pose, vertices)
        image = self._background.copy()
        normals, flat = self._surface.normals(vertices)
        # Faces that look away are never the first hit of a closed head; leaving them out halves the tree.
        front = np.einsum("ij,ij->i", flat, self._eye - vertices.take(self._corners[0], 0)) > 0
        if front.any():
            kept = np.flatnonzero(front)
            scene = self._scene(vertices, self._faces[kept])
            attributes = np.concatenate([normals, light, self._albedo], 1).astype(np.float32)
            corners = self.project(vertices)
            left, top = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, [self.width, self.height])
            right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, [self.width, self.height])
            y, x = (a.reshape(-1) for a in np.mgrid[top:bottom, left:right].astype(np.int32))
            hit, color = self._cast(scene, kept, attributes, x + np.float32(0.5), y + np.float32(0.5))
            image[y[hit], x[hit]] = color
            if self.samples:
                self._antialias(image, scene, kept, attributes)
        return self._encode[(image * 8191 + 0.5).astype(np.int32)]

    def _cast(
        self, scene: Any, kept: np.ndarray, attributes: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which rays hit (indices) and the display-linear colour of each, (n, 3) float32 in 0..1."""
        rays = self._rays(x, y)
        result = scene.run(np.broadcast_to(self._eye, rays.shape), rays, output=True)
        hit = np.flatnonzero(result["primID"] >= 0)
        face = kept[result["primID"][hit]]
        u, v = result["u"][hit, None], result["v"][hit, None]
        values = attributes.take(self._corners[0].take(face), 0)
        values *= 1 - u - v
        for corner, share in ((1, u), (2, v)):
            other = attributes.take(self._corners[corner].take(face), 0)
            other *= share
            values += other
        part = self._face_part.take(face)
        return hit, shade(values, -rays[hit], part, self._lights, self._axes[1])

    def _antialias(self, image: np.ndarray, scene: Any, kept: np.ndarray, attributes: np.ndarray) -> None:
        """Average extra rays where neighbouring pixels differ visibly; in place."""
        tone = np.sqrt(image @ np.array([0.3, 0.5, 0.2], np.float32))
        jump = np.zeros(tone.shape, bool)
        across, down = (np.abs(np.diff(tone, axis=axis)) > 0.045 for axis in (1, 0))
        jump[:, 1:] |= across
        jump[:, :-1] |= across
        jump[1:] |= down
        jump[:-1] |= down
        y, x = np.nonzero(jump)
        if not len(x):
            return
        steps = (np.arange(self.samples) + 0.5) / self.samples
        offsets = np.stack([steps, (np.arange(self.samples) * 0.618034 + 0.31) % 1.0], 1)
        many_x = (x[:, None] + offsets[:, 0]).reshape(-1)
        many_y = (y[:, None] + offsets[:, 1]).reshape(-1)
        colors = np.repeat(self._background[y, x], self.samples, 0)
        hit, color = self._cast(scene, kept, attributes, many_x, many_y)
        colors[hit] = color
        image[y, x] = (colors.reshape(len(x), self.samples, 3).sum(1) + image[y, x]) / (self.samples + 1)


def render_frames(
    animation: Drawable,
    size: int | tuple[int, int] = 512,
    frames: Iterable[int] | None = None,
    workers: int | None = None,
    progress: bool = True,
    **camera: Any,
) -> Iterator[np.ndarray]:
    """Yield the images of an animation in order, (height, width, 3) uint8 sRGB.

    Args:
        animation (`Drawable`), size, camera: as in `HeadRenderer`.
        frames (iterable of `int`, *optional*): which frames; all of them where absent.
        workers (`int`, *optional*, defaults to the number of CPUs): frames drawn at a time, each by a thread: embree
            and numpy leave the interpreter free meanwhile. Abandoning the generator stops them.
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
    crf: int = 18,
    **options: Any,
) -> Path:
    """Draw an animation and write it with its audio as mp4. Options go to `render_frames`."""
    images = render_frames(animation, size, **options)
    return write_mp4(path, images, animation.fps, animation.audio, animation.sampling_rate, crf=crf)


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return width and height in pixels; FaceTalkError for what no picture can have."""
    width, height = (size, size) if isinstance(size, (int, np.integer)) else size
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise FaceTalkError(f"image size must be 16 to 8192 pixels, not {width} x {height}")
    return int(width), int(height)


def _import_embree() -> tuple[Any, Any, Any]:
    """Return embree's classes of scenes and meshes, and a device."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore import EmbreeDevice
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise FaceTalkError("rendering needs embreex: pip install embreex") from error
    return EmbreeScene, TriangleMesh, EmbreeDevice()
