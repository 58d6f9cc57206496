# SPDX-License-Identifier: MIT
"""Poses and weights of all frames of a segment by Gauss-Newton: landmarks, scores and the priors of motion."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation

from .camera import Camera, HeadPoses, join_poses, pose_rows
from .landmarks import EYE_CORNERS, openings
from .person import LIPS, FacePoints, LandmarkMap


POSE = 6
CHUNK = 48
"""Frames whose Jacobians are held at a time."""
LIDS = ("eyeBlink", "eyeSquint", "eyeWide")
RARE = {
    "jawForward": 12.0, "jawLeft": 8.0, "jawRight": 8.0, "mouthLeft": 4.0, "mouthRight": 4.0, "mouthShrug": 6.0,
    "noseSneer": 6.0, "mouthFrown": 6.0, "cheek": 8.0, "mouthPress": 4.0, "mouthDimple": 4.0, "browDown": 3.0,
    "eyeWide": 4.0, "eyeSquint": 2.0, "mouthRoll": 2.0, "mouthClose": 2.0,
}  # fmt: skip
"""Factors of the prior on codes while a person is found, by how names begin: shapes that resemble others."""
TOUCHING, APART = 1.2, 2.0
"""Distances of a tracker's inner lips, mm: lips of rendered people touch below the first, and not above the other."""


@dataclass
class VideoConfig:
    """Weights of the objective; errors of landmarks in mm at the face, codes in blendshape weights.

    Args:
        landmarks: factor of the landmarks' information: neighbours are wrong together. lips: more of it, for the lips.
        outlier: errors, in multiples of a landmark's noise, at which its IRLS weight has fallen to a quarter.
        scores: factor of the information of the blendshape scores.
        speech: factor of the covariance of codes in speech. code: 1 / variance of what is beside it.
        contact: 1 / variance in mm of the lips' distance where the tracker's lips touch, whatever they are off by.
        box: of |outside 0..1|^2 / 2. symmetry: of |left - right|^2 / 2.
        temporal, huber: of Huber's loss of w_t - w_(t-1), and where it turns linear, at 25 frames a second.
        lid_inertia: factor of `temporal` for lids. gaze_inertia: for the shapes of gaze.
        turn, move: of squared changes of the pose from frame to frame, in degrees and mm.
        iterations, tolerance: steps at most; they end when no weight moves by `tolerance`.
        window, overlap: frames that are solved together, and how many of them again with the next window.
        focal, focal_spread: prior of the focal length in widths of the picture's longer side, and its standard
            deviation in natural logarithm.
        axes: of identity that are fitted. frames: that identity and focal length are found from.
        offset, lip_offset: mm, standard deviations of what landmarks of a person are constantly off by beside that.
    """

    landmarks: float = 0.03
    lips: float = 5.0
    outlier: float = 4.0
    scores: float = 1.0
    speech: float = 4.0
    code: float = 400.0
    contact: float = 4.0
    box: float = 300.0
    symmetry: float = 10.0
    temporal: float = 40.0
    huber: float = 0.05
    lid_inertia: float = 0.05
    gaze_inertia: float = 0.3
    turn: float = 0.5
    move: float = 0.02
    iterations: int = 10
    tolerance: float = 0.01
    window: int = 300
    overlap: int = 20
    focal: float = 1.2
    focal_spread: float = 0.15
    axes: int = 24
    frames: int = 14
    offset: float = 1.5
    lip_offset: float = 0.5


@dataclass
class Solution:
    """Poses and weights (T, W) of a segment; `residual` (T,) mm, mean error of its landmarks."""

    poses: HeadPoses
    weights: np.ndarray
    residual: np.ndarray


@dataclass
class Seen:
    """What a tracker saw in T frames: pixels (T, N, 2), scores (T, S) with NaN, trust (T,) 0..1, steps (T - 1,) s."""

    pixels: np.ndarray
    scores: np.ndarray
    trust: np.ndarray
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def take(self, frames: slice | np.ndarray) -> "Seen":
        """Select some of the frames; of an array of them, no two are neighbours."""
        steps = np.diff(np.append(0, np.cumsum(np.append(0, self.steps)))[1:][frames])
        return Seen(self.pixels[frames], self.scores[frames], self.trust[frames], steps)


class FrameTerms:
    """Normal equations of single frames: landmarks, scores and the priors that do not look at neighbours.

    Args:
        names: of the W weights. points (`FacePoints`): the person's landmarks. measured (`LandmarkMap`).
        hold ((W,), *optional*): 1 / variance of codes about rest, times those of `RARE`, in place of speech's prior.
        parting ((W,), *optional*): mm by which each weight parts the lips; without it, they need not touch.
    """

    def __init__(
        self, names: Sequence[str], points: FacePoints, measured: LandmarkMap, camera: Camera, config: VideoConfig,
        hold: np.ndarray | None = None, parting: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        corners = points.base[list(EYE_CORNERS)]
        self.parting, self.eye_distance = parting, float(np.linalg.norm(corners[0] - corners[1]))
        self.used = np.flatnonzero(np.isfinite(measured.noise))
        self.base, self.targets = points.base[self.used], points.targets[:, self.used]
        self.normals, self.noise = points.normals[self.used], measured.noise[self.used]
        self.names, self.measured, self.camera, self.config = tuple(names), measured, camera, config
        self.gain = config.landmarks / self.noise**2 * np.where(np.isin(self.used, LIPS), config.lips, 1.0)
        if hold is None:
            # What goes together in speech may move together; pucker is not explained away by stretch, press and frown.
            self.usual = measured.speech_mean
            loose = np.eye(len(self.names)) / config.code
            self.prior = np.linalg.inv(config.speech * measured.speech + loose)
        else:
            rare = [next((f for start, f in RARE.items() if name.startswith(start)), 1.0) for name in self.names]
            self.usual, self.prior = np.zeros(len(self.names)), np.diag(hold * np.array(rare))
        self.pivot = np.average(self.base, axis=0, weights=self.noise**-2)
        self.left = [i for i, name in enumerate(self.names) if name.endswith("_L")]
        self.right = [self.names.index(self.names[i][:-1] + "R") for i in self.left]
        # Gaze is not symmetric: where one eye looks out, the other looks in.
        pairs = [(a, b) for a, b in zip(self.left, self.right, strict=True) if "LookIn" not in self.names[a]]
        pairs = [(a, self.names.index("eyeLookIn_R") if "LookOut" in self.names[a] else b) for a, b in pairs]
        if "eyeLookOut_R" in self.names:
            pairs.append((self.names.index("eyeLookIn_L"), self.names.index("eyeLookOut_R")))
        self.pairs = np.array(pairs, int).reshape(-1, 2)

    def faces(self, weights: np.ndarray) -> np.ndarray:
        """Compute landmarks (T, N, 3) of the head under weights (T, W)."""
        return self.base + np.tensordot(weights, self.targets, 1)

    def information(self, points: np.ndarray, poses: HeadPoses, error: np.ndarray, trust: np.ndarray) -> np.ndarray:
        """Weigh landmarks (T, N): by noise, robustly, and by how far they face the camera."""
        toward = -points / np.linalg.norm(points, axis=-1, keepdims=True)
        facing = np.einsum("tnc,tnc->tn", self.normals @ poses.rotations.transpose(0, 2, 1), toward)
        off = np.linalg.norm(error, axis=-1) / self.noise / self.config.outlier
        return (
            trust[:, None] * self.gain / (1 + off**2) ** 2
            * np.clip(0.3 + 1.4 * facing, 0.03, 1)
        )  # fmt: skip

    def build(self, seen: Seen, poses: HeadPoses, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build Hessians (T, 6 + W, 6 + W), gradients (T, 6 + W) and mean errors (T,) in mm."""
        count, size = weights.shape
        hessian, gradient = np.zeros((count, POSE + size, POSE + size)), np.zeros((count, POSE + size))
        residual = np.zeros(count)
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            rows, error, weight = self.linearize(seen.take(part), poses.take(part), weights[part])
            root = np.sqrt(weight)[..., None]
            rows = (rows * root[..., None]).astype(np.float32).reshape(len(error), -1, POSE + size)
            flat = (error * root).astype(np.float32).reshape(len(error), -1, 1)
            hessian[part] = rows.transpose(0, 2, 1) @ rows
            gradient[part] = (rows.transpose(0, 2, 1) @ flat)[..., 0]
            residual[part] = (np.linalg.norm(error, axis=-1) * weight).sum(1) / np.maximum(weight.sum(1), 1e-12)
        residual[seen.trust == 0] = np.nan
        self._priors(seen, weights, hessian[:, POSE:, POSE:], gradient[:, POSE:])
        return hessian, gradient, residual

    def linearize(
        self, seen: Seen, poses: HeadPoses, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linearise the landmarks' errors: rows (T, N, 2, 6 + W), errors (T, N, 2) in mm, information (T, N)."""
        points = poses.place(self.faces(weights))
        pixels = np.where(seen.trust[:, None, None] > 0, seen.pixels[:, self.used], 0)
        error = np.where(seen.trust[:, None, None] > 0, self.camera.error(points, pixels), 0)
        weight = self.information(points, poses, error, seen.trust)
        # Rows of the camera in the head's axes, so that targets need not be turned.
        local = (self.camera.rows(points) @ poses.rotations[:, None]).astype(np.float32)
        shapes = np.einsum("tnkc,ncw->tnkw", local, self.targets.transpose(1, 2, 0).astype(np.float32), optimize=True)
        return np.concatenate([pose_rows(self.camera, points, poses, self.pivot), shapes], -1), error, weight

    def contact(self, pixels: np.ndarray) -> np.ndarray:
        """Tell where lips touch, (T,) 0..1, by pixels (T, N, 2) of the inner lips, beside those between the eyes."""
        apart = openings(pixels) * self.eye_distance
        return np.nan_to_num(((APART - apart) / (APART - TOUCHING)).clip(0, 1))

    def _priors(self, seen: Seen, weights: np.ndarray, hessian: np.ndarray, gradient: np.ndarray) -> None:
        """Add scores, code, box and evenness of left and right, in place."""
        config, (count, size) = self.config, weights.shape
        diagonal = np.zeros((count, size))
        gradient += (weights - self.usual) @ self.prior
        hessian += self.prior
        if self.parting is not None:
            touch = config.contact * seen.trust * self.contact(seen.pixels)
            gradient += (touch * (weights @ self.parting))[:, None] * self.parting
            hessian += touch[:, None, None] * np.outer(self.parting, self.parting)
        outside = weights - weights.clip(0, 1)
        gradient += config.box * outside
        diagonal += config.box * (outside != 0)
        known = self.measured.score_index >= 0
        score = seen.scores[:, self.measured.score_index[known]]
        wanted = (self.measured.score_gain[known] * score + self.measured.score_bias[known]).clip(0, 1)
        sure = seen.trust[:, None] * config.scores / self.measured.score_noise[known] ** 2
        valid = np.isfinite(wanted) & (seen.trust[:, None] > 0)
        gradient[:, known] += np.where(valid, sure * (weights[:, known] - wanted), 0)
        diagonal[:, known] += np.where(valid, sure, 0)
        index = np.arange(size)
        hessian[:, index, index] += diagonal
        a, b = self.pairs.T
        uneven = config.symmetry * (weights[:, a] - weights[:, b])
        gradient[:, a] += uneven
        gradient[:, b] -= uneven
        hessian[:, a, a] += config.symmetry
        hessian[:, b, b] += config.symmetry
        hessian[:, a, b] -= config.symmetry
        hessian[:, b, a] -= config.symmetry


def solve_segment(
    terms: FrameTerms, seen: Seen, poses: HeadPoses, weights: np.ndarray,
    before: tuple[HeadPoses, np.ndarray] | None = None,
) -> Solution:  # fmt: skip
    """Solve poses and weights of T frames together, from where they are.

    Args:
        before: pose and weights (1, W) of the frame before the first, which stay.
    """
    config, size = terms.config, weights.shape[1]
    poses, weights = poses.take(slice(None)), weights.copy()
    inertia = np.full(size, config.temporal)
    for index, name in enumerate(terms.names):
        inertia[index] *= config.lid_inertia if name.startswith(LIDS) else 1.0
        inertia[index] *= config.gaze_inertia if name.startswith("eyeLook") else 1.0
    # The same loss a second at any rate of frames; across a gap of many frames nothing is known.
    pace = np.minimum(1 / np.maximum(25 * seen.steps, 1e-3), 4)[:, None]
    rigid = np.repeat([config.turn * np.degrees(1) ** 2, config.move], 3)
    residual = np.zeros(len(weights))
    for _ in range(config.iterations):
        hessian, gradient, residual = terms.build(seen, poses, weights)
        change = np.diff(weights, axis=0)
        pull = pace * inertia * (config.huber / np.maximum(np.abs(change), 1e-9)).clip(max=1.0)
        links = np.concatenate([np.broadcast_to(pace * rigid, (len(change), POSE)), pull], 1)
        bends = np.concatenate([pose_changes(poses, terms.pivot), change], 1) * links
        if before is not None:
            first = links[0] if len(links) else np.concatenate([rigid, inertia])
            joined = join_poses([before[0], poses.take(slice(0, 1))])
            gap = np.concatenate([pose_changes(joined, terms.pivot)[0], weights[0] - before[1][0]])
            gradient[0] += first * gap
            hessian[0] += np.diag(first)
        step = solve_chain(hessian, gradient, links, bends)
        step[:, :3] = step[:, :3].clip(-0.2, 0.2)
        poses = poses.moved(step[:, :3], step[:, 3:POSE], terms.pivot)
        weights = (weights + step[:, POSE:].clip(-0.5, 0.5)).clip(-0.05, 1.05)
        if np.abs(step[:, POSE:]).max() < config.tolerance:
            break
    return Solution(poses, weights.clip(0, 1), residual)


def solve_chain(hessian: np.ndarray, gradient: np.ndarray, links: np.ndarray, bends: np.ndarray) -> np.ndarray:
    """Solve the step (T, n) of frames tied to their neighbours.

    Args:
        hessian (T, n, n), gradient (T, n): of the frames by themselves.
        links (T - 1, n), bends (T - 1, n): of |x_(t+1) - x_t|^2 / 2, its weights and its gradient by x_(t+1).
    """
    count, size = gradient.shape
    gradient = gradient.copy()
    gradient[1:] += bends
    gradient[:-1] -= bends
    diagonal = np.zeros((count, size))
    diagonal[1:] += links
    diagonal[:-1] += links
    banded = np.zeros((size + 1, count, size))
    for offset in range(size):
        banded[offset, :, : size - offset] = np.diagonal(hessian, -offset, 1, 2)
    banded[0] += diagonal + 1e-6
    banded[size, :-1] = -links
    return -solveh_banded(banded.reshape(size + 1, -1), gradient.ravel(), lower=True).reshape(count, size)


def pose_changes(poses: HeadPoses, pivot: np.ndarray) -> np.ndarray:
    """Compute the turns and moves (T - 1, 6) from each pose to the next, as [`HeadPoses.moved`] takes them."""
    if len(poses.rotations) < 2:
        return np.zeros((0, POSE))
    turn = poses.rotations[1:] @ poses.rotations[:-1].transpose(0, 2, 1)
    center = poses.rotations @ pivot + poses.translations
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec().reshape(-1, 3), np.diff(center, axis=0)], 1)
