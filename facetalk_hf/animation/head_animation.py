# SPDX-License-Identifier: MIT
"""What the pipeline decodes to: a head of fixed topology whose motion is a weighted sum of morph targets."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..blendshapes import TONGUE
from ..errors import FaceTalkError
from ..mesh.parts import PARTS
from ..mesh.pose import apply_pose, axis_rotations
from .formats import READERS, WRITERS, format_of
from .gaze import Motion, carry_landmarks, turn_eyes, without_gaze


@dataclass(repr=False)
class HeadAnimation:
    """A head of V vertices over T frames: frame t is `base + sum_r weights[t, r] * targets[r]`, in millimetres.

    Axes: +x the subject's left, +y up, +z out of the face. R morph targets, S audio samples.

    Args:
        base ((V, 3) float, mm): the head at rest.
        targets ((R, V, 3) float, mm): displacement for a weight of one.
        weights ((T, R) float): the motion.
        target_names (sequence of R `str`): unique names of the targets.
        faces ((F, 3) int): triangles, counter-clockwise seen from outside.
        colors ((V, 3) uint8, *optional*): sRGB albedo; a plain skin tone where absent.
        parts ((V,) uint8, *optional*): what a vertex belongs to, see `facetalk_hf.mesh.parts`; all skin where absent.
        fps (`float`, *optional*, defaults to 24): frames a second.
        audio ((S,) float, *optional*), sampling_rate (`int`): the speech that goes with the motion.
        expressions ((T, D) float, *optional*), identity ((Z,) float, *optional*), seed (`int`, *optional*): where it
            came from.
        landmarks ((T, 68, 3) float, mm, *optional*), lip_aperture ((T,) float, mm, *optional*): measured on the head.
        poses ((T, 6) float, *optional*): rigid motion of the whole head about `pivot`: yaw, pitch, roll in degrees (to
            the subject's left, up, to the left shoulder), then x, y, z in mm. Not contained in base, targets and
            landmarks; the writers apply it. pivot ((3,) float, mm, *optional*): the origin where absent.
        landmark_vertices ((68,) int, *optional*): the vertices of the skin nearest to the landmarks. anchor_vertices
            ((K,) int, *optional*): those nearest to the anchors of a head that has no landmarks.

    Raises:
        FaceTalkError: shapes that do not fit together, non-finite numbers, a frame rate that is not positive.
    """

    base: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    target_names: tuple[str, ...]
    faces: np.ndarray
    colors: np.ndarray = cast("np.ndarray", None)  # always an array once it is made
    parts: np.ndarray = cast("np.ndarray", None)
    fps: float = 24.0
    audio: np.ndarray | None = None
    sampling_rate: int = 16000
    expressions: np.ndarray | None = None
    identity: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    lip_aperture: np.ndarray | None = None
    seed: int | None = None
    poses: np.ndarray | None = None
    pivot: np.ndarray | None = None
    landmark_vertices: np.ndarray | None = None
    anchor_vertices: np.ndarray | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = _array(self.base, "base", (None, 3))
        count = len(self.base)
        self.targets = _array(self.targets, "targets", (None, count, 3))
        self.target_names = tuple(str(name) for name in self.target_names)
        self.weights = _array(self._with_still_tongue(np.asarray(self.weights)), "weights", (None, len(self.targets)))
        if len(self.target_names) != len(self.targets) or len(set(self.target_names)) != len(self.targets):
            raise FaceTalkError(f"target_names must be {len(self.targets)} different names, one for each target")
        self.faces = _array(self.faces, "faces", (None, 3), np.int32)
        if self.faces.size and not (self.faces.min() >= 0 and self.faces.max() < count):
            raise FaceTalkError(f"faces must index the {count} vertices of base")
        if self.colors is None:
            self.colors = np.tile(np.array([217, 167, 141], np.uint8), (count, 1))
        self.colors = _array(self.colors, "colors", (count, 3), np.uint8)
        self.parts = _array(np.zeros(count) if self.parts is None else self.parts, "parts", (count,), np.uint8)
        if self.parts.max(initial=0) >= len(PARTS):  # compiled code looks them up in tables
            raise FaceTalkError(f"parts are numbers below {len(PARTS)}, those of facetalk_hf.mesh.parts")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise FaceTalkError(f"fps must be a positive number, not {self.fps}")
        frames = len(self.weights)
        for name, shape in (
            ("expressions", (frames, None)),
            ("landmarks", (frames, 68, 3)),
            ("lip_aperture", (frames,)),
            ("audio", (None,)),
            ("identity", (None,)),
            ("poses", (frames, 6)),
            ("pivot", (3,)),
        ):
            if getattr(self, name) is not None:
                setattr(self, name, _array(getattr(self, name), name, shape))
        for name, number in (("landmark_vertices", 68), ("anchor_vertices", None)):
            if getattr(self, name) is not None:
                marks = _array(getattr(self, name), name, (number,), np.int32)
                if marks.size and not (marks.min() >= 0 and marks.max() < count):
                    raise FaceTalkError(f"{name} must index the {count} vertices of base")
                setattr(self, name, marks)

    def _with_still_tongue(self, weights: np.ndarray) -> np.ndarray:
        """Add weights of 0 for a tongue to weights of the other targets alone, which programs of old give."""
        count = len(self.target_names) - len(TONGUE)
        if self.target_names[count:] != TONGUE or weights.ndim != 2 or weights.shape[1] != count:
            return weights
        return np.concatenate([weights, np.zeros((len(weights), len(TONGUE)), weights.dtype)], 1)

    def __repr__(self) -> str:
        return (
            f"HeadAnimation({self.num_frames} frames at {self.fps:g} fps, {len(self.base)} vertices, "
            f"{len(self.faces)} faces, {len(self.targets)} targets)"
        )

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.iterate()

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.weights)

    @property
    def duration(self) -> float:
        """Length in seconds, T / fps."""
        return len(self.weights) / self.fps

    def vertices(self, index: int) -> np.ndarray:
        """Vertices of one frame without its pose, (V, 3) float, mm; IndexError beyond the end, negative from it."""
        return next(self.iterate([range(self.num_frames)[index]]))

    def pose_matrices(self) -> np.ndarray | None:
        """Return the head's rigid motion as (T, 4, 4) float64, for column vectors in mm; `None` where there is none.

        Turned about the pivot by roll, then pitch, then yaw, and then moved.
        """
        if self.poses is None:
            return None
        pose = self.poses.astype(np.float64)
        yaw, pitch, roll = np.radians(pose[:, :3]).T
        turn = axis_rotations(1, yaw) @ axis_rotations(0, -pitch) @ axis_rotations(2, -roll)
        pivot = np.zeros(3) if self.pivot is None else self.pivot.astype(np.float64)
        result = np.tile(np.eye(4), (len(pose), 1, 1))
        result[:, :3, :3] = turn
        result[:, :3, 3] = pivot + pose[:, 3:] - turn @ pivot
        return result

    def iterate_posed(self) -> Iterator[np.ndarray]:
        """Yield (V, 3) float vertices in mm, frame by frame, with the head's rigid motion."""
        matrices = self.pose_matrices()
        for index, vertices in enumerate(self.iterate()):
            yield vertices if matrices is None else apply_pose(matrices[index], vertices)

    def iterate(self, indices: "range | list[int] | None" = None, chunk: int = 16) -> Iterator[np.ndarray]:
        """Yield (V, 3) float vertices in mm, frame by frame, never holding more than `chunk` frames; without poses.

        A chunk is one matrix product, which reads the targets once for all its frames.
        """
        indices = range(self.num_frames) if indices is None else indices
        flat = self.targets.reshape(len(self.targets), self.base.size)
        for start in range(0, len(indices), chunk):
            weights = self.weights[list(indices[start : start + chunk])]
            moving = np.flatnonzero(np.any(weights, axis=0))
            # A frame at rest, or a clip that uses few of its targets, should not pay for all of them.
            used = flat if 2 * len(moving) > len(flat) else flat[moving]
            moved = (weights if used is flat else weights[:, moving]) @ used
            yield from moved.reshape(len(weights), *self.base.shape) + self.base

    def motion_metric(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Return the Gram matrix of the targets over the vertices in `mask` ((V,) bool), (R, R) float64, mm squared.

        `d = weights[i] - weights[j]` then gives the summed squared displacement between two frames as `d G d`.
        """
        targets = self.targets if mask is None else self.targets[:, mask]
        flat = targets.reshape(len(targets), 3 * targets.shape[1])
        return (flat @ flat.T).astype(np.float64)

    def replace(self, **changes: Any) -> "HeadAnimation":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def with_gaze(self, yaw: float | np.ndarray = 0.0, pitch: float | np.ndarray = 0.0) -> "HeadAnimation":
        """Turn both eyes by the same angles, in place of whatever gaze the motion had, in a copy.

        The lids follow and landmarks go with them ([`facetalk_hf.animation.gaze.turn_eyes`]); expression codes stay as
        they were. Where the targets are anonymous the eyeballs turn and the lids stay.

        Args:
            yaw (`float` or (T,) float, degrees): towards the subject's left, at most 30 either way.
            pitch (`float` or (T,) float, degrees): upwards, at most 25 either way.

        Raises:
            FaceTalkError: angles beyond the limits or not finite, another number of angles than frames, no eyeballs.
        """
        before = without_gaze(Motion(self.weights, self.targets, self.target_names))
        after = turn_eyes(self.base, self.parts, before, yaw, pitch)
        landmarks = self.landmarks
        if landmarks is not None and self.num_frames:
            first = self.replace(**before._asdict()).vertices(0)
            landmarks = carry_landmarks(landmarks, first, self.parts, before, after)
        return self.replace(**after._asdict(), landmarks=landmarks)

    @property
    def tongue(self) -> np.ndarray | None:
        """Weights (T, 5) of the tongue's targets, in the order of `blendshapes.TONGUE`; `None` without a tongue."""
        if not set(TONGUE) <= set(self.target_names):
            return None
        return self.weights[:, [self.target_names.index(name) for name in TONGUE]]

    def with_tongue(self, weights: np.ndarray | None) -> "HeadAnimation":
        """Give the tongue its motion, in place of what it had, in a copy; a head without a tongue stays as it is.

        Args:
            weights ((T, 5) float, *optional*): of the targets in `blendshapes.TONGUE`, such as those of
                [`facetalk_hf.phones.tongue.tongue_weights`].
        """
        if self.tongue is None or weights is None:
            return self
        moved = self.weights.copy()
        moved[:, [self.target_names.index(name) for name in TONGUE]] = _array(weights, "weights", (len(self), 5))
        return self.replace(weights=moved)

    def compact(self, tolerance: float = 0.02) -> "HeadAnimation":
        """Express the same motion by the fewest targets with an error below `tolerance` mm at every vertex and frame.

        Principal components of the motion, found in the (R, R) space of the targets. The new targets are called
        `component_00` and so on. Worth it where the targets are many and anonymous.
        """
        used = np.flatnonzero(np.any(self.weights, axis=0))
        flat = self.targets[used].reshape(len(used), self.base.size)
        # With G = C C^T, the motion's energy along any direction is that of the T x R matrix W C.
        gram = flat.astype(np.float64) @ flat.T.astype(np.float64)
        values, vectors = np.linalg.eigh(gram)
        keep = values > max(values[-1], 0.0) * 1e-12 if len(values) else np.zeros(0, bool)
        root = vectors[:, keep] * np.sqrt(values[keep])
        inverse = (vectors[:, keep] / np.sqrt(values[keep])).T
        left, scale, right = np.linalg.svd(self.weights[:, used] @ root, full_matrices=False)
        weights, components = left * scale, (right @ inverse) @ flat
        return self._smallest(weights, components, lambda i: self.weights[i, used] @ flat, tolerance)

    def _smallest(
        self, weights: np.ndarray, components: np.ndarray, motion: Callable[[slice], np.ndarray], tolerance: float
    ) -> "HeadAnimation":
        """Keep as few leading components as the tolerance allows; `motion(slice)` is the exact (n, 3V) motion."""
        low, high = 0, len(components)
        while low < high:
            count = (low + high) // 2
            error = 0.0
            for start in range(0, len(weights), 16):
                part = slice(start, start + 16)
                rest = motion(part) - weights[part, :count] @ components[:count]
                error = max(error, float((rest.reshape(-1, 3) ** 2).sum(1).max()) ** 0.5)
                if error >= tolerance:
                    break
            low, high = (count + 1, high) if error >= tolerance else (low, count)
        reach = np.abs(weights[:, :low]).max(0) if low else np.ones(0)
        return self.replace(
            weights=(weights[:, :low] / reach).astype(np.float32),
            targets=(components[:low] * reach[:, None]).reshape(low, *self.base.shape).astype(np.float32),
            target_names=tuple(f"component_{i:02d}" for i in range(low)),
        )

    @classmethod
    def from_vertices(
        cls, vertices: np.ndarray, faces: np.ndarray, tolerance: float = 0.02, **fields: Any
    ) -> "HeadAnimation":
        """Find base and targets of an animation given as (T, V, 3) float vertices in mm.

        A singular value decomposition of the motion about the first frame, cut where the largest vertex error of
        any frame falls below `tolerance` mm. Other fields are passed on.
        """
        vertices = _array(vertices, "vertices", (None, None, 3))
        if not len(vertices):
            raise FaceTalkError("vertices holds no frame")
        motion = (vertices - vertices[0]).reshape(len(vertices), vertices[0].size)
        # T is far smaller than 3V: diagonalise the T x T matrix.
        values, vectors = np.linalg.eigh(motion.astype(np.float64) @ motion.T.astype(np.float64))
        keep = np.flatnonzero(values > max(values[-1], 1e-12) * 1e-14)[::-1]
        scale = np.sqrt(values[keep])
        components = (vectors[:, keep] / scale).T @ motion
        empty = cls(
            base=vertices[0],
            targets=np.zeros((0, *vertices.shape[1:])),
            weights=np.zeros((len(vertices), 0)),
            target_names=(),
            faces=faces,
            **fields,
        )
        return empty._smallest(vectors[:, keep] * scale, components, lambda i: motion[i], tolerance)

    @classmethod
    def load(cls, path: str | os.PathLike, decode: Callable | None = None) -> "HeadAnimation":
        """Read a saved npz; see [`facetalk_hf.animation.npz.load_animation`] for arguments and errors."""
        # A path of an unknown suffix goes to the reader of npz, which says what is wrong with it.
        return READERS.get(format_of(path), READERS["npz"])(path, decode)

    def save(self, path: str | os.PathLike, format: str | None = None, **options: Any) -> Path:
        """Write the animation; the format follows the suffix (docs/export.md says what each holds).

        Args:
            path (`str` or `os.PathLike`): file: .glb, .mp4, .usdc (.usda, .usd), .npz, .csv (Live Link Face),
                .json (ARKit), .weights.csv, .wav; or folder for `format="ply"` (the default of a path without
                suffix) and `format="obj"`, which write one mesh a frame.
            format (`str`, *optional*): one of [`facetalk_hf.animation.formats.WRITERS`], where the suffix does not say
                it.
            options: passed to the writer of the format.

        Raises:
            FaceTalkError: an unknown format, or a place that cannot be written to.
        """
        format = format or format_of(path)
        if format not in WRITERS:
            raise FaceTalkError(f"cannot save as {format!r}; use one of {', '.join(WRITERS)}")
        writer = WRITERS[format]
        if not len(self.base) and writer.needs_head:
            raise FaceTalkError(f"this animation is motion without a head, which {format} needs: load it with decode=")
        return writer.write(Path(path), self, **options)


def _array(value: object, name: str, shape: tuple[int | None, ...], dtype: type = np.float32) -> np.ndarray:
    """Return `value` as a contiguous array of the given shape (None: any size), or a FaceTalkError that names it."""
    array = np.asarray(value)
    wanted = "(" + ", ".join("*" if size is None else str(size) for size in shape) + ")"
    if array.ndim != len(shape) or any(b is not None and a != b for a, b in zip(array.shape, shape, strict=True)):
        raise FaceTalkError(f"{name} must have shape {wanted}, not {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FaceTalkError(f"{name} holds numbers that are not finite")
    return np.ascontiguousarray(array, dtype)


def neck_pivot(animation: HeadAnimation) -> np.ndarray:
    """Find where a head turns, (3,) float, mm: the base of the neck, the middle of the mesh's lowest twentieth."""
    height = animation.base[:, 1]
    if not len(height):
        return np.zeros(3, np.float32)
    low, high = height.min(), height.max()
    ring = animation.base[height <= low + 0.05 * (high - low)]
    return ((ring.min(0) + ring.max(0)) / 2).astype(np.float32)
