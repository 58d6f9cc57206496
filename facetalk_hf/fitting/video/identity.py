# SPDX-License-Identifier: MIT
"""The person and the camera, from the frames of a video that say most."""

from dataclasses import dataclass, replace

import numpy as np

from ...models.nphm import NPHMModel
from .camera import Camera, HeadPoses, first_poses
from .landmarks import POINTS, FaceLandmarks
from .person import IRISES, LIPS, FacePoints, LandmarkMap, identity_axes, identity_shapes
from .solver import POSE, FrameTerms, Seen, VideoConfig


HOLD = {"jawOpen": 3.0, "eyeBlink": 3.0, "eyeLook": 3.0, "jaw": 15.0, "mouth": 15.0, "": 90.0}
"""1 / variance of codes while a person is found, by how names begin: what a face always shows is its shape."""


@dataclass
class Person:
    """Whom a video shows: identity `code` (Z,), `camera`, and what landmarks are off by, `offsets` (478, 3) in mm."""

    code: np.ndarray
    camera: Camera
    offsets: np.ndarray


def select_frames(marks: FaceLandmarks, count: int) -> np.ndarray:
    """Select frames that differ most in what landmarks show once size and place are taken out, quiet ones first.

    The first is the one nearest to the median; then, in turn, the farthest from all that are chosen.
    """
    index = np.flatnonzero(marks.found)
    index = index[np.linspace(0, len(index) - 1, min(len(index), 400)).astype(int)]
    shape = marks.points[index, :468, :2].astype(np.float64)
    shape -= shape.mean(1, keepdims=True)
    shape = (shape / np.linalg.norm(shape, axis=(1, 2), keepdims=True)).reshape(len(index), -1)
    off = np.linalg.norm(shape - np.median(shape, 0), axis=1)
    good = np.flatnonzero(off <= np.quantile(off, 0.97) + 1e-12)  # the farthest few are the tracker's mistakes
    index, shape, off = index[good], shape[good], off[good]
    chosen, nearest = [int(off.argmin())], np.full(len(index), np.inf)
    while len(chosen) < min(count, len(index)):
        nearest = np.minimum(nearest, np.linalg.norm(shape - shape[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return np.sort(index[chosen])


def fit_person(
    head: NPHMModel, marks: FaceLandmarks, seen: Seen, camera: Camera, measured: LandmarkMap, config: VideoConfig,
    known: np.ndarray | None = None, fix_focal: bool = False,
) -> Person:  # fmt: skip
    """Find the identity, the camera's focal length, and what is left of the landmarks in all frames alike.

    Poses and weights of the selected frames, the shares of the axes of identity (a Gaussian prior) and the logarithm
    of the focal length are one Gauss-Newton problem; the frames' unknowns are eliminated (Schur complement).

    Args:
        camera: with the focal length of the prior, or the known one. known ((Z,)): a code that stays.
    """
    frames = select_frames(marks, config.frames)
    part = seen.take(frames)
    mean, axes = identity_axes(head, config.axes)
    codes = [mean, *(mean + axes)] if known is None else [known]
    bases, targets = identity_shapes(head, np.stack(codes).astype(np.float32), measured.places, measured.offsets)
    mean_base, shapes = bases[0], bases[1:] - bases[:1]
    names = head.config.expression_names or []
    # Where the eyes look says nothing about a person.
    skin = replace(measured, noise=np.where(np.arange(POINTS) < min(IRISES), measured.noise, np.inf))
    poses = start_poses(mean_base, targets, part, camera, skin)
    weights, shares, log = np.zeros((len(frames), len(names))), np.zeros(len(shapes)), 0.0
    prior = 1 / config.focal_spread**2
    hold = np.array([next(factor for start, factor in HOLD.items() if name.startswith(start)) for name in names])
    for _ in range(config.iterations + 4):
        now = Camera(camera.focal * np.exp(log), camera.center)
        base = mean_base + np.tensordot(shares, shapes, 1)
        terms = FrameTerms(names, FacePoints(base, targets, normals_of(base)), skin, now, config, hold)
        hessian, gradient, _ = terms.build(part, poses, weights)
        rows, error, weight = terms.linearize(part, poses, weights)
        common = shared_rows(terms, poses, weights, now, shapes[:, terms.used])
        if fix_focal:
            common[..., -1] = 0
        flat = (rows * weight[..., None, None]).reshape(len(rows), -1, rows.shape[-1])
        common = common.reshape(len(rows), -1, common.shape[-1])
        cross = flat.transpose(0, 2, 1) @ common
        heavy = common * np.repeat(weight, 2, axis=1)[..., None]
        outer = np.einsum("tik,til->kl", heavy, common) + np.diag([*np.ones(len(shares)), prior])
        slope = np.einsum("tik,ti->k", heavy, error.reshape(len(rows), -1)) + np.append(shares, prior * log)
        inverse = np.linalg.solve(hessian + 1e-6 * np.eye(hessian.shape[1]), cross)
        step = -np.linalg.solve(
            outer - np.einsum("tik,til->kl", cross, inverse), slope - np.einsum("tik,ti->k", inverse, gradient)
        )
        inner = -np.linalg.solve(
            hessian + 1e-6 * np.eye(hessian.shape[1]), (gradient + cross @ step)[..., None]
        )[..., 0]  # fmt: skip
        shares = shares + step[:-1].clip(-1, 1)
        # The head stays as large as it is seen while the focal length changes.
        change = float(np.clip(step[-1], -0.3, 0.3))
        log += change
        inner[:, :3] = inner[:, :3].clip(-0.3, 0.3)
        poses = poses.moved(inner[:, :3], inner[:, 3:POSE], terms.pivot)
        weights = (weights + inner[:, POSE:].clip(-0.5, 0.5)).clip(0, 1)
        if np.abs(step).max(initial=0) < 0.01 and np.abs(inner[:, POSE:]).max() < 0.02:
            break
    code = mean + shares @ axes[: len(shares)] if known is None else known
    camera = Camera(float(camera.focal * np.exp(log)), camera.center)
    return Person(np.asarray(code, np.float32), camera, constant_offsets(terms, part, poses, weights, config))


def constant_offsets(
    terms: FrameTerms, seen: Seen, poses: HeadPoses, weights: np.ndarray, config: VideoConfig
) -> np.ndarray:
    """Estimate what each landmark (478, 3) in mm is off by in all frames: least squares with a Gaussian prior."""
    points = poses.place(terms.faces(weights))
    error = terms.camera.error(points, seen.pixels[:, terms.used])
    weight = terms.information(points, poses, error, seen.trust) / config.landmarks
    local = terms.camera.rows(points) @ poses.rotations[:, None]
    spread = np.where(np.isin(terms.used, LIPS), config.lip_offset, config.offset)
    hessian = np.einsum("tn,tnki,tnkj->nij", weight, local, local)
    hessian += (len(points) * np.median(weight) / 4 / spread**2)[:, None, None] * np.eye(3)
    result = np.zeros((POINTS, 3))
    result[terms.used] = -np.linalg.solve(hessian, np.einsum("tn,tnki,tnk->ni", weight, local, error)[..., None])[
        ..., 0
    ]
    return result


def shared_rows(
    terms: FrameTerms, poses: HeadPoses, weights: np.ndarray, camera: Camera, shapes: np.ndarray
) -> np.ndarray:
    """Differentiate errors by shares of identity shapes (K, N, 3) and by log focal length: (T, N, 2, K + 1)."""
    points = poses.place(terms.faces(weights))
    local = camera.rows(points) @ poses.rotations[:, None]
    by_shape = np.einsum("tnkc,snc->tnks", local, shapes, optimize=True)
    return np.concatenate([by_shape, (points[..., :2] * (1, -1))[..., None]], -1)


def start_poses(base: np.ndarray, targets: np.ndarray, seen: Seen, camera: Camera, measured: LandmarkMap) -> HeadPoses:
    """Estimate poses (T) of the head at rest; landmarks that expressions move count little, frames not seen none."""
    used = np.isfinite(measured.noise)
    moves = np.linalg.norm(targets, axis=2).max(0)
    use = 1 / measured.noise[used] ** 2 / (1 + (moves[used] / 3) ** 2)
    found = np.flatnonzero(seen.trust > 0)
    poses = first_poses(base[used], seen.pixels[found][:, used], camera, use)
    nearest = np.searchsorted(found, np.arange(len(seen.trust))).clip(max=len(found) - 1)
    return poses.take(nearest)


def normals_of(base: np.ndarray) -> np.ndarray:
    """Estimate how landmarks (N, 3) of a face are turned, (N, 3): away from a point behind the nose's root."""
    away = base - np.array([0.0, 0.0, -20.0])
    away[:, 1] *= 0.5
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def default_camera(marks: FaceLandmarks, config: VideoConfig, focal: float | None) -> Camera:
    """Make the camera of the prior, or of a known focal length in pixels, its axis in the picture's middle."""
    width, height = marks.size
    return Camera(focal or config.focal * max(width, height), (width / 2, height / 2))


def observe(marks: FaceLandmarks) -> Seen:
    """Take what the solver needs of a tracker's landmarks."""
    trust = np.where(marks.found, marks.confidence, 0).astype(np.float64)
    return Seen(marks.points[..., :2].astype(np.float64), marks.scores.astype(np.float64), trust, np.diff(marks.times))
