# SPDX-License-Identifier: MIT
"""Readers of point clouds: folders with one file a frame, or one file for all."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..arrays import read_npz, to_float32
from ..errors import FaceTalkError
from ..mesh.reading import read_mesh


SUFFIXES: tuple[str, ...] = (".ply", ".obj", ".npz")
SEQUENCE_FILE = "clouds.npz"
"""The file that may hold all frames of a sequence, in place of one file a frame."""


@dataclass
class Cloud:
    """A frame as read: `points` (P, 3) float32, `normals` (P, 3) and `landmarks` (68, 3) where the file has them."""

    name: str
    points: np.ndarray
    normals: np.ndarray | None = None
    landmarks: np.ndarray | None = None


def frame_files(folder: Path) -> list[Path]:
    """List the files of a sequence in the order of their numbers.

    Raises:
        FaceTalkError: no such files, two for one frame, or a number left out in the middle.
    """
    order = numbered_files(Path(folder), SUFFIXES)
    for (a, first), (b, second) in zip(order[:-1], order[1:], strict=True):
        if b - a > 1:
            raise FaceTalkError(
                f"{folder}: frame {a + 1} is missing between {first.name} and {second.name}; "
                "put it back, or fit the parts before and after it as two sequences"
            )
    return [path for _, path in order]


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> list[tuple[int, Path]]:
    """List the files of a folder with the last number in their names, in its order.

    Raises:
        FaceTalkError: no such folder or files, a name without a number, two files of one number.
    """
    if not folder.is_dir():
        raise FaceTalkError(f"no folder {folder}: give one with a file a frame")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != ".")
    if not files:
        raise FaceTalkError(f"no frames in {folder}: no {', '.join(suffixes)} file")
    numbers = [re.findall(r"\d+", path.stem) for path in files]
    if not all(numbers):
        bad = next(path for path, found in zip(files, numbers, strict=True) if not found)
        raise FaceTalkError(f"{bad} has no frame number in its name: call the files frame_0000{bad.suffix} and so on")
    order = sorted((int(found[-1]), path) for found, path in zip(numbers, files, strict=True))
    for (a, first), (b, second) in zip(order[:-1], order[1:], strict=True):
        if a == b:
            raise FaceTalkError(f"{first} and {second} are both frame {a}: leave one")
    return order


def read_sequence(folder: Path, least: int = 50) -> tuple[list[Path], list[Cloud]]:
    """Read all frames of a sequence: the file of each, and the clouds.

    Args:
        folder (`Path`): with one file a frame, or with all of them in `clouds.npz`: `points` (T, P, 3) and, if known,
            `landmarks` (T, 68, 3).
        least (`int`): points that a frame needs.

    Raises:
        FaceTalkError: as `frame_files` and `read_cloud`; both kinds in one folder.
    """
    path = Path(folder) / SEQUENCE_FILE
    if not path.is_file():
        files = frame_files(folder)
        return files, [read_cloud(file, least) for file in files]
    others = [file.name for file in path.parent.iterdir() if re.match(r"frame.*\.(ply|obj|npz)$", file.name, re.I)]
    if others:
        raise FaceTalkError(f"{folder} has {SEQUENCE_FILE} and single frames ({min(others)}): leave one of both")
    try:
        data = read_npz(path, ("points", "landmarks"))
        points = to_float32(data["points"])
        landmarks = to_float32(data["landmarks"]) if "landmarks" in data else None
    except Exception as error:  # a broken file: NumPy and zipfile raise anything
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0] if str(error) else error!r}") from error
    if points.ndim != 3 or points.shape[2] != 3 or not len(points):
        raise FaceTalkError(f"{path}: points have shape {points.shape}, not (frames, points, 3)")
    if landmarks is not None and len(check_landmarks(landmarks, path)) != len(points):
        raise FaceTalkError(f"{path}: {len(landmarks)} frames of landmarks for {len(points)} of points")
    places = [Path(f"{path} frame {index}") for index in range(len(points))]
    clouds = [
        Cloud(place.name, check_points(part, place, least), landmarks=None if landmarks is None else landmarks[index])
        for index, (place, part) in enumerate(zip(places, points, strict=True))
    ]
    return places, clouds


def read_cloud(path: Path, least: int = 50) -> Cloud:
    """Read one frame; the vertices of a mesh.

    An .npz holds `points` or `vertices` (P, 3), and may hold `normals` (P, 3) and `landmarks` (68, 3).

    Raises:
        FaceTalkError: a file that cannot be read, fewer than `least` points, numbers that are not finite.
    """
    path = Path(path)
    normals = landmarks = None
    try:
        if path.suffix.lower() == ".npz":
            data = read_npz(path, ("points", "vertices", "normals", "landmarks"))
            name = next((name for name in ("points", "vertices") if name in data), None)
            if name is None:
                raise ValueError("it holds neither points nor vertices")
            points, normals, landmarks = data[name], data.get("normals"), data.get("landmarks")
        else:
            points, normals = _read_mesh(path)
        points = to_float32(points)
    except Exception as error:  # a broken file: the readers raise anything
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0] if str(error) else error!r}") from error
    points = check_points(points, path, least)
    if landmarks is not None:
        landmarks = check_landmarks(as_numbers(landmarks, path), path)
        if landmarks.ndim != 2:
            raise FaceTalkError(f"{path}: landmarks have shape {landmarks.shape}, not (68, 3)")
    return Cloud(path.stem, points, None if normals is None else check_normals(normals, points, path), landmarks)


def as_numbers(values: np.ndarray, place: Path) -> np.ndarray:
    """Convert an array of a file to float32; FaceTalkError where it holds no numbers."""
    try:
        return to_float32(values)
    except FaceTalkError as error:
        raise FaceTalkError(f"{place}: {error}") from error


def check_normals(normals: np.ndarray, points: np.ndarray, place: Path) -> np.ndarray:
    """Normalise normals (P, 3) of points (P, 3), and turn them away from the cloud's middle; zero where unknown.

    Raises:
        FaceTalkError: another shape than the points.
    """
    normals = as_numbers(normals, place)
    if normals.shape != points.shape:
        raise FaceTalkError(f"{place}: normals have shape {normals.shape} for {len(points)} points")
    normals = np.where(np.isfinite(normals).all(1, keepdims=True), normals, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that no cloud has
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        inwards = (normals * (points - points.mean(0))).sum(1).mean() < 0
    return -normals if inwards else normals


def check_points(points: np.ndarray, place: Path, least: int) -> np.ndarray:
    """Check points (P, 3), and return them; FaceTalkError for another shape, fewer than `least`, NaN and infinity."""
    if points.ndim != 2 or points.shape[1:] != (3,):
        raise FaceTalkError(f"{place}: points have shape {points.shape}, not (P, 3)")
    if len(points) < least:
        raise FaceTalkError(f"{place} has {len(points)} point(s); fitting needs at least {least}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise FaceTalkError(f"{place}: point {row} is NaN or infinite; remove such points")
    return points


def check_landmarks(landmarks: np.ndarray, place: Path) -> np.ndarray:
    """Check landmarks (.., 68, 3), NaN where unknown, and return them; FaceTalkError for another shape."""
    if landmarks.shape[-2:] != (68, 3):
        raise FaceTalkError(f"{place}: landmarks have shape {landmarks.shape}, not 68 points of iBUG 300-W in 3D")
    return landmarks


def _read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read points (P, 3) and normals (P, 3) of a ply or obj; a ply with faces has those of its faces, if no others."""
    mesh = read_mesh(path)
    if mesh.normals is not None or not len(mesh.faces) or path.suffix.lower() == ".obj":
        return mesh.vertices, mesh.normals
    import trimesh

    finite = np.isfinite(mesh.vertices).all()
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return mesh.vertices, np.array(surface.vertex_normals, np.float32) if finite else None
