# SPDX-License-Identifier: MIT
"""The fit of a video from a tracker's landmarks to its files: person, camera, poses, codes, report."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ...animation.head_animation import HeadAnimation, neck_pivot
from ...animation.npz import write_npz
from ...errors import FaceTalkError
from ...files import atomic_path
from ...head.blendshape_decoder import BlendshapeDecoder
from ...head.decoder import aperture
from ...models.nphm import NPHMModel
from .camera import Camera, HeadPoses, join_poses
from .identity import default_camera, fit_person, observe, start_poses
from .landmarks import FaceLandmarks
from .person import FacePoints, LandmarkMap, check_head, landmark_map, mesh_points
from .solver import FrameTerms, Seen, Solution, VideoConfig, solve_segment


RATES = (12, 12.5, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120)
"""Rates that a measured one is taken for when it is within 2 %."""


@dataclass
class FittedVideo:
    """A fitted video: T frames of an even rate.

    Args:
        animation (`HeadAnimation`): the head, its motion, its poses before the camera, the sound.
        camera (`Camera`); head_poses (`HeadPoses`): T, in the camera's axes.
        residual ((T,) mm): mean error of the landmarks, NaN without a face. confidence ((T,)): 0 where the face is
            lost and the motion is filled in. segments: (first, last + 1) frames. times ((T,) s): in the video.
    """

    animation: HeadAnimation
    camera: Camera
    head_poses: HeadPoses
    residual: np.ndarray
    confidence: np.ndarray
    segments: list[tuple[int, int]]
    times: np.ndarray
    cpu_seconds: float


def fit_video(
    head: NPHMModel, marks: FaceLandmarks, config: VideoConfig | None = None, identity: np.ndarray | None = None,
    focal: float | None = None, fps: float | None = None, audio: np.ndarray | None = None, sampling_rate: int = 16000,
    log: Callable[[str], None] = lambda line: None, measured: LandmarkMap | None = None,
) -> FittedVideo:  # fmt: skip
    """Fit person, camera, poses and expression codes to a tracker's landmarks.

    Args:
        head (`NPHMModel`): with named weights and linear motion. marks (`FaceLandmarks`).
        identity ((Z,) float32, *optional*): the person's code; else it is found. focal (pixels, *optional*): likewise.
        fps (*optional*): of the result; the video's own where absent.
        audio ((S,) float), sampling_rate (Hz): the sound, which is carried along.

    Raises:
        FaceTalkError: a head that cannot be fitted.
    """
    check_head(head)
    begin = time.process_time()
    config, measured, names = config or VideoConfig(), measured or landmark_map(), head.config.expression_names or []
    seen = observe(marks)
    camera = default_camera(marks, config, focal)
    log(f"  finding the person from {min(config.frames, int(marks.found.sum()))} of {len(marks.times)} frames")
    person = fit_person(head, marks, seen, camera, measured, config, identity, focal is not None)
    decoder, camera, code = BlendshapeDecoder(head), person.camera, person.code
    points = mesh_points(decoder, code, measured.places, measured.offsets + person.offsets)
    parting = aperture(decoder.geometry(code).landmark_targets)
    terms = FrameTerms(names, points, measured, camera, config, parting=parting)
    parts, solutions = marks.segments(), []
    for number, part in enumerate(parts):
        solutions.append(solve_long(terms, seen.take(part), points, measured))
        log(f"  segment {number + 1} of {len(parts)}: {part.stop - part.start} frames")
    rate = fps or nominal_rate(marks.fps)
    times = even_times(marks.times, rate)
    poses, weights, residual, confidence = resample(marks, parts, solutions, times)
    with_codes = head.expression_basis.detach().float().numpy()
    animation = decoder((weights @ with_codes.T).astype(np.float32), code)
    animation = animation.replace(
        poses=relative_poses(poses, neck_pivot(animation)).astype(np.float32), pivot=neck_pivot(animation), fps=rate,
        audio=audio, sampling_rate=sampling_rate,
    )  # fmt: skip
    edges = [np.searchsorted(times, marks.times[[part.start, part.stop - 1]] + 1e-6) for part in parts]
    spans = [(max(int(a) - 1, 0), int(b)) for a, b in edges]
    return FittedVideo(
        animation, camera, poses, residual, confidence, spans, times, time.process_time() - begin
    )  # fmt: skip


def solve_long(terms: FrameTerms, seen: Seen, points: FacePoints, measured: LandmarkMap) -> Solution:
    """Solve a segment of any length: windows of `config.window` frames, which overlap and hold what is behind them."""
    config, total = terms.config, len(seen.trust)
    pieces = [seen.take(slice(first, first + config.window)) for first in range(0, total, config.window)]
    poses = join_poses([start_poses(points.base, points.targets, piece, terms.camera, measured) for piece in pieces])
    weights = np.zeros((total, len(terms.names)))
    weights[:, terms.names.index("jawOpen")] = 0.05
    done, residual = 0, np.zeros(total)
    while done < total:
        first = max(done - config.overlap, 0)
        part = slice(first, min(first + config.window, total))
        held = slice(first - 1, first)
        before = (poses.take(held), weights[held]) if first else None
        window = seen.take(part)
        result = solve_segment(terms, window, poses.take(part), weights[part], before)
        poses = join_poses([poses.take(slice(0, first)), result.poses, poses.take(slice(part.stop, None))])
        weights[part], residual[part], done = result.weights, result.residual, part.stop
    return Solution(poses, weights, residual)


def nominal_rate(rate: float) -> float:
    """Round a measured rate to a usual one within 2 %, otherwise to a hundredth."""
    near = min(RATES, key=lambda usual: abs(np.log(usual / rate)))
    return float(near) if abs(near / rate - 1) < 0.02 else round(float(rate), 2)


def even_times(times: np.ndarray, rate: float) -> np.ndarray:
    """Make times (T,) in s from the first frame to the last at an even rate; those of the video where they are."""
    even = np.arange(max(1, round((times[-1] - times[0]) * rate) + 1)) / rate + times[0]
    return times if len(even) == len(times) and np.abs(even - times).max() < 0.4 / rate else even


def resample(
    marks: FaceLandmarks, parts: list[slice], solutions: list[Solution], times: np.ndarray
) -> tuple[HeadPoses, np.ndarray, np.ndarray, np.ndarray]:
    """Bring segments to `times` (T,), and fill what is between them with a straight way from one to the next.

    Returns: poses, weights (T, W), residual (T,) with NaN, and confidence (T,) with 0 where it was filled.
    """
    at = np.concatenate([marks.times[part] for part in parts])
    poses = join_poses([solution.poses for solution in solutions])
    weights = np.concatenate([solution.weights for solution in solutions])
    off = np.concatenate([solution.residual for solution in solutions])
    inside = times.clip(at[0], at[-1])
    share = np.stack([np.interp(inside, at, column) for column in weights.T], 1)
    move = np.stack([np.interp(inside, at, column) for column in poses.translations.T], 1)
    turn = Rotation.from_matrix(poses.rotations)
    rotations = (Slerp(at, turn)(inside) if len(at) > 1 else turn[np.zeros(len(times), int)]).as_matrix()
    known = np.zeros(len(times), bool)
    for part in parts:
        begin, end = marks.times[[part.start, part.stop - 1]]
        known |= (times >= begin - 1e-6) & (times <= end + 1e-6)
    after = np.searchsorted(at, inside).clip(max=len(at) - 1)
    earlier = np.maximum(after - 1, 0)
    nearest = np.where(inside - at[earlier] < at[after] - inside, earlier, after)
    trust = np.concatenate([np.where(marks.found, marks.confidence, 0)[part] for part in parts])[nearest]
    return (
        HeadPoses(rotations, move), share, np.where(known, off[nearest], np.nan), np.where(known, trust, 0)
    )  # fmt: skip


def relative_poses(poses: HeadPoses, pivot: np.ndarray) -> np.ndarray:
    """Convert poses before the camera to those of `HeadAnimation` (T, 6): angles, and mm about the middle place."""
    turn = poses.rotations
    pitch = -np.arcsin((-turn[:, 1, 2]).clip(-1, 1))
    yaw = np.arctan2(turn[:, 0, 2], turn[:, 2, 2])
    roll = -np.arctan2(turn[:, 1, 0], turn[:, 1, 1])
    center = turn @ pivot + poses.translations
    return np.concatenate([np.degrees(np.stack([yaw, pitch, roll], 1)), center - np.median(center, 0)], 1)


def write_results(path: Path, fitted: FittedVideo, source: str, extra: dict | None = None) -> dict:
    """Write the npz that generation writes, with sound, camera, residual and confidence; beside it NAME.report.json.

    Keys beyond those of generation: `audio`, `sampling_rate`; `residual`, `confidence` (T,); `segments` (n, 2);
    `camera` (focal, x, y in pixels); `rotations` (T, 3, 3), `translations` (T, 3) before the camera, in mm.
    """
    animation = fitted.animation
    more: dict[str, np.ndarray] = {
        "audio": np.zeros(0, np.float32) if animation.audio is None else animation.audio,
        "sampling_rate": np.array(animation.sampling_rate), "residual": fitted.residual.astype(np.float32),
        "confidence": fitted.confidence.astype(np.float32), "segments": np.array(fitted.segments, np.int64),
        "camera": np.array([fitted.camera.focal, *fitted.camera.center]),
        "rotations": fitted.head_poses.rotations.astype(np.float32),
        "translations": fitted.head_poses.translations.astype(np.float32),
    }  # fmt: skip
    try:
        write_npz(path, animation, more=more)
        report = make_report(fitted) | {"source": source} | (extra or {})
        with atomic_path(path.with_name(path.stem + ".report.json")) as temporary:
            temporary.write_text(json.dumps(report, indent=1))
    except OSError as error:
        raise FaceTalkError(f"cannot write {path}: {error.strerror or error}") from error
    return report


def make_report(fitted: FittedVideo) -> dict:
    """Summarise a fit: frames, segments, errors of the landmarks, blinks, head angles, camera, time."""
    animation, known = fitted.animation, np.isfinite(fitted.residual)
    lids = animation.weights[:, [animation.target_names.index(f"eyeBlink_{side}") for side in "LR"]].mean(1)
    shut = np.diff(np.append(0, (lids > 0.5).astype(int))) > 0
    angles = np.zeros((0, 3)) if animation.poses is None else animation.poses[:, :3]
    return {
        "frames": len(animation), "fps": animation.fps, "found": float((fitted.confidence > 0).mean()),
        "segments": fitted.segments, "residual_mm": float(np.mean(fitted.residual[known])) if known.any() else None,
        "residual_frames_mm": [None if np.isnan(value) else round(float(value), 3) for value in fitted.residual],
        "blinks": int(shut.sum()), "aperture_mm": np.percentile(_aperture(animation), [5, 50, 95]).tolist(),
        "head_degrees": {name: [float(column.min()), float(column.max())]
                         for name, column in zip(("yaw", "pitch", "roll"), angles.T, strict=True)},
        "camera": {"focal_pixels": fitted.camera.focal, "center": list(fitted.camera.center),
                   "distance_mm": float(-np.median(fitted.head_poses.translations[:, 2]))},
        "fit_cpu_s": round(fitted.cpu_seconds, 3),
    }  # fmt: skip


def _aperture(animation: HeadAnimation) -> np.ndarray:
    return np.zeros(1) if animation.lip_aperture is None else animation.lip_aperture
