# SPDX-License-Identifier: MIT
"""MediaPipe's Face Landmarker as the tracker: its weights, and its landmarks of every face in every frame."""

import hashlib
import os
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceTalkError
from ...files import atomic_path
from .landmarks import POINTS, SCORES, FaceLandmarks
from .looks import join_looks, raise_shadows
from .person import landmark_map
from .reading import Picture


Face = tuple[np.ndarray, np.ndarray]
"""Points (478, 3) in pixels and scores (52,)."""
VARIABLE = "FACETALK_FACE_LANDMARKER"
"""Environment variable: the tracker's weight file."""
ADDRESS = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
FACES = 4
"""Faces that are followed at a time. With one, MediaPipe smooths over time, which a short closure does not survive."""


def find_weights(path: Path | None = None) -> Path:
    """Find face_landmarker.task: the given file, `VARIABLE`'s, the cache's, else fetched from its publisher.

    Raises:
        FaceTalkError: none of these, with how to get it.
    """
    given = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if given is not None:
        if not given.is_file():
            raise FaceTalkError(f"no such file: {given} (the tracker's weights)")
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facetalk_hf" / "face_landmarker.task"
    if cache.is_file():
        return cache
    try:
        with urllib.request.urlopen(ADDRESS, timeout=30) as answer:
            content = answer.read()
    except (OSError, ValueError) as error:
        raise FaceTalkError(
            f"the tracker's weights are not here and cannot be fetched ({error}): download {ADDRESS} "
            f"and name the file by --tracker or {VARIABLE}"
        ) from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise FaceTalkError(f"{ADDRESS} is not the expected file, sha256 {SHA256}: get that one and set {VARIABLE}")
    with atomic_path(cache) as temporary:
        temporary.write_bytes(content)
    return cache


@dataclass
class Track:
    """One face from frame to frame: numbers of the frames, points (478, 3) and scores (52,) in each."""

    frames: list[int] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: int, points: np.ndarray, scores: np.ndarray) -> None:
        """Append what was seen in a frame."""
        self.frames.append(frame)
        self.points.append(points)
        self.scores.append(scores)

    @property
    def area(self) -> float:
        """Area of the face in pixels, summed over its frames."""
        return float(sum(np.prod(np.ptp(points[:, :2], axis=0)) for points in self.points))


def track_video(
    pictures: Iterable[Picture], weights: Path, face: int = 1, progress: Callable[[int], None] | None = None
) -> FaceLandmarks:
    """Follow one face through a video, each picture looked at plain and with raised shadows (looks.py).

    Args:
        pictures: frames in order, of one size. weights (`Path`): face_landmarker.task.
        face (`int`, defaults to 1): which, by size: 1 is the largest over the whole video.
        progress: called with the number of frames done.

    Raises:
        FaceTalkError: mediapipe is missing, the weights are damaged, no frame has a face, or there are fewer than
            `face`.
    """
    tracks: list[Track] = []
    again: list[list[Face]] = []
    times, size = [], (0, 0)
    with Landmarker(weights) as landmarker, Landmarker(weights) as second:
        for number, picture in enumerate(pictures):
            if number and picture.size != size:
                break  # another stream was appended: its pixels are not comparable
            size = picture.size
            times.append(picture.time)
            seen = landmarker.detect(picture)
            _extend(tracks, number, times, seen)
            again.append(second.detect(replace(picture, image=raise_shadows(picture.image))) if seen else [])
            if progress is not None:
                progress(number + 1)
    if not tracks:
        raise FaceTalkError(f"no face was found in any of {len(times)} frames")
    chosen = choose_tracks(tracks, face)
    looks = [
        (np.full((len(times), POINTS, 3), np.nan, np.float32), np.full((len(times), len(SCORES)), np.nan, np.float32))
        for _ in range(2)
    ]
    for track in chosen:
        looks[0][0][track.frames], looks[0][1][track.frames] = np.stack(track.points), np.stack(track.scores)
        for frame, seen_there in zip(track.frames, track.points, strict=True):
            same = find_face(seen_there, again[frame])
            if same is not None:
                looks[1][0][frame], looks[1][1][frame] = same
    points, scores = join_looks(*looks)
    confidence = np.isfinite(points[:, 0, 0]).astype(np.float32)
    return FaceLandmarks(points, scores, confidence, np.array(times), size)


def choose_tracks(tracks: list[Track], face: int) -> list[Track]:
    """Choose the tracks of the face that is the `face`-th by size, and those that may be it after it was lost.

    Whoever is seen beside it is somebody else, in all of the video.
    """
    order = sorted(tracks, key=lambda track: -track.area)
    people: list[list[Track]] = []
    for track in order:
        for person in people:
            if not any(set(track.frames) & set(other.frames) for other in person):
                person.append(track)
                break
        else:
            people.append([track])
    if face > len(people):
        raise FaceTalkError(f"there is no face {face}: the video shows {len(people)} at most")
    return people[face - 1]


def _extend(tracks: list[Track], number: int, times: list[float], seen: list[Face]) -> None:
    """Give each face of a frame to the track that was nearest to it within half a second, or to a new one."""
    recent = [track for track in tracks if times[number] - times[track.frames[-1]] < 0.5]
    pairs = []
    for index, (points, _) in enumerate(seen):
        reach = np.ptp(points[:, :2], axis=0).max()
        for track in recent:
            before = track.points[-1][:, :2]
            distance = np.linalg.norm(points[:, :2].mean(0) - before.mean(0)) / reach
            change = abs(np.log(reach / np.ptp(before, axis=0).max()))
            if distance < 0.6 and change < 0.5:
                pairs.append((distance + change, index, track))
    taken: set[int] = set()
    used: list[Track] = []
    for _, index, track in sorted(pairs, key=lambda pair: pair[:2]):
        if index not in taken and not any(track is other for other in used):
            track.add(number, *seen[index])
            taken.add(index)
            used.append(track)
    for index, face in enumerate(seen):
        if index not in taken:
            tracks.append(Track())
            tracks[-1].add(number, *face)


class Landmarker:
    """Opens MediaPipe's Face Landmarker; a context that closes it.

    Args:
        weights (`Path`): face_landmarker.task. faces (`int`): how many are looked for.
        follow (`bool`): frames follow each other; else every picture is looked at by itself.
        mirror (`bool`): every picture is looked at in the mirror as well, and the mean taken: much of what the tracker
            is off by is not the same on both sides, above all on turned heads.

    Raises:
        FaceTalkError: mediapipe is missing, or the weights are not its own.
    """

    def __init__(self, weights: Path, faces: int = FACES, follow: bool = True, mirror: bool = True) -> None:
        try:
            import mediapipe
            from mediapipe.tasks.python import vision
            from mediapipe.tasks.python.core.base_options import BaseOptions
        except ImportError as error:
            raise FaceTalkError(
                "videos are tracked by mediapipe: pip install 'facetalk-hf[video]', or give --landmarks FILE.npz"
            ) from error
        self.mediapipe, self.follow, self.last = mediapipe, follow, -1
        mode = vision.RunningMode.VIDEO if follow else vision.RunningMode.IMAGE
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(weights)), running_mode=mode, num_faces=faces,
            output_face_blendshapes=True,
        )  # fmt: skip
        try:
            self.landmarkers = [vision.FaceLandmarker.create_from_options(options) for _ in range(1 + mirror)]
        except (RuntimeError, ValueError) as error:
            raise FaceTalkError(f"{weights} is not MediaPipe's face_landmarker.task") from error

    def __enter__(self) -> "Landmarker":
        return self

    def __exit__(self, *error: object) -> None:
        for landmarker in self.landmarkers:
            landmarker.close()

    def detect(self, picture: Picture) -> list[Face]:
        """Find the faces of a picture: of each the points (478, 3) in pixels of the file and the scores (52,)."""
        if self.follow:
            self.last = max(self.last + 1, round(1000 * picture.time))  # milliseconds that rise
        seen = self._look(self.landmarkers[0], picture.image, picture.scale)
        if len(self.landmarkers) == 1 or not seen:
            return seen
        turned = self._look(self.landmarkers[1], np.ascontiguousarray(picture.image[:, ::-1]), picture.scale)
        return join_mirrored(seen, turned, picture.image.shape[1] / picture.scale)

    def _look(self, landmarker: Any, pixels: np.ndarray, scale: float) -> list[Face]:
        image = self.mediapipe.Image(image_format=self.mediapipe.ImageFormat.SRGB, data=pixels)
        result = landmarker.detect_for_video(image, self.last) if self.follow else landmarker.detect(image)
        unit = np.array([pixels.shape[1], pixels.shape[0], pixels.shape[1]], np.float32) / np.float32(scale)
        return [
            (np.array([[p.x, p.y, p.z] for p in points], np.float32) * unit, _scores(scores))
            for points, scores in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]


def find_face(points: np.ndarray, faces: list[Face]) -> Face | None:
    """Find the face among others that lies where points (478, 3) do, within a tenth of its size."""
    reach = np.ptp(points[:, :2], axis=0).max()
    away = [np.linalg.norm((points - other)[:, :2], axis=1).mean() / reach for other, _ in faces]
    return faces[int(np.argmin(away))] if away and min(away) < 0.1 else None


def join_mirrored(seen: list[Face], turned: list[Face], width: float) -> list[Face]:
    """Take the mean of each face, points (478, 3) and scores (52,), and of its image in a mirrored picture, if found.

    Args:
        turned: faces of the mirrored picture, of `width` in the unit of the points.
    """
    sides = [SCORES.index(_other_side(name)) for name in SCORES]
    back = []
    for points, scores in turned:
        points = points[landmark_map().mirror].copy()
        points[:, 0] = width - points[:, 0]
        back.append((points, scores[sides]))
    result = []
    for points, scores in seen:
        image = find_face(points, back)
        if image is not None:  # else another face, or one of the two is wrong
            points, scores = (points + image[0]) / 2, (scores + image[1]) / 2
        result.append((points, scores))
    return result


def _other_side(name: str) -> str:
    """Name the shape of the face's other side: its own name for those that have no side."""
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


def _scores(categories: Any) -> np.ndarray:
    """Put MediaPipe's scores into the order of `SCORES`."""
    known = {category.category_name: category.score for category in categories}
    return np.array([known.get(name, 0.0) for name in SCORES], np.float32)
