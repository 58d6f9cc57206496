# SPDX-License-Identifier: MIT
"""Import of vertex sequences of one topology (VOCASET, FLAME trackings) into a corpus, coded by a `VertexBasis`."""

import io
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..arrays import map_npy, read_npy, read_npz, to_float32
from ..errors import FaceTalkError
from ..fitting.poses import check_unit
from ..mesh import reading as mesh_reading
from ..units import MILLIMETRES, Unit
from .recordings import SOUNDS, Recording, check_folder, frames_in, only_sound, speaker_of
from .vertex_basis import VertexBasis


MESHES = (".ply", ".obj")
PLACES = ("", "vertices", "meshes", "flame_2023_tracking/flame_meshes")
"""Places of the frames in a sequence's folder."""
TEMPLATE = "flame_2023_tracking/flame_2023_template.ply"
"""Place of the template in a sequence of FaceTalk's authors."""
USUAL = ("templates.pkl", "templates.npz", "templates", "template.ply", "template.obj")


@dataclass
class VertexFiles:
    """A sequence of meshes on disk: one .npy, (T, V, 3) or (T, 3 V), or a file a frame."""

    recording: Recording
    files: Path | list[Path]

    def frames(self) -> int:
        """Count the frames, T."""
        return len(self.files) if isinstance(self.files, list) else len(map_array(self.files))

    def vertices(self, count: int, indices: Iterable[int] | None = None) -> np.ndarray:
        """Read vertices (T, V, 3) float32 in the files' unit, of all frames or of some.

        Raises:
            FaceTalkError: another number of vertices than `count`, or NaN; names file and frame.
        """
        indices = list(range(self.frames()) if indices is None else indices)
        mapped = None if isinstance(self.files, list) else map_array(self.files)
        result = np.zeros((len(indices), count, 3), np.float32)
        for row, index in enumerate(indices):
            path = self.files[index] if isinstance(self.files, list) else self.files
            frame = mapped[index] if mapped is not None else read_frame(path)
            if frame.size != 3 * count:
                raise FaceTalkError(f"{path}: frame {index} has {frame.size // 3} vertices, the template has {count}")
            if not np.isfinite(frame).all():
                raise FaceTalkError(f"{path}: frame {index} has vertices that are NaN or infinite")
            result[row] = to_float32(frame).reshape(count, 3)
        return result


def map_array(path: Path) -> np.ndarray:
    """Map a .npy of vertices (T, V, 3) or (T, 3 V) into memory; FaceTalkError for another shape or no such file."""
    try:
        values = map_npy(path)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"it holds {values.dtype}, no numbers")
    except (OSError, ValueError, TypeError) as error:
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    if not (values.ndim == 3 and values.shape[2] == 3 or values.ndim == 2 and values.shape[1] % 3 == 0):
        raise FaceTalkError(f"{path}: vertices must be (T, V, 3) or (T, 3 V), not {values.shape}")
    return values


def read_frame(path: Path) -> np.ndarray:
    """Read the vertices of one frame, of any shape, from a .npy, .ply or .obj."""
    if path.suffix.lower() in MESHES:
        return read_mesh(path)[0]
    try:
        return to_float32(read_npy(path))
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def find_vertices(folder: str | Path, audio: str | Path | None = None, underscore: str = "last") -> list[VertexFiles]:
    """List the sequences SPEAKER_SENTENCE of a folder.

    Either `SPEAKER_SENTENCE.npy` in the folder or its `vertices_npy/` (FaceFormer's form of VOCASET), or a folder
    `SPEAKER_SENTENCE/` with a .ply, .obj or .npy a frame, or one .npy, in it (or in its vertices/, meshes/,
    flame_2023_tracking/flame_meshes/). The sound is NAME.wav in `audio` (by default in wav/, audio/ or beside the
    .npy), or the only sound file in the sequence's folder or its audio/.

    Raises:
        FaceTalkError: there is none, or one has no audio.
    """
    folder = check_folder(folder)
    found: list[tuple[str, Path | list[Path], Path, Path]] = []
    arrays = [path for place in (folder, folder / "vertices_npy") for path in sorted(place.glob("[!.]*.npy"))]
    for path in arrays:
        found.append((path.stem, path, path, folder))
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        for name in PLACES:
            part = place / name
            if not part.is_dir() or place.name in ("vertices_npy", "templates"):
                continue
            single = sorted(part.glob("[!.]*.npy"))
            meshes = [path for path in part.iterdir() if path.suffix.lower() in MESHES]
            if len(single) == 1 and not meshes:
                found.append((place.name, single[0], place, place))
            elif meshes or single:
                suffixes = MESHES if meshes else (".npy",)
                found.append((place.name, frames_in(part, suffixes), place, place))
            else:
                continue
            break
    result = []
    for name, files, place, home in found:
        speaker, sequence = speaker_of(name, underscore)
        sound = find_sound(name, folder, home, audio)
        result.append(VertexFiles(Recording(name, speaker, sequence, place, sound, dict), files))
    if not result:
        raise FaceTalkError(f"no vertex sequences in {folder}: neither SPEAKER_SENTENCE.npy nor folders of meshes")
    return result


def find_sound(name: str, folder: Path, home: Path, audio: str | Path | None) -> Path:
    """Find the sound file of a sequence, see `find_vertices`."""
    places = [folder / "wav", folder / "audio", folder] if audio is None else [Path(audio)]
    for path in (place / f"{name}{suffix}" for place in places for suffix in SOUNDS):
        if path.is_file():
            return path
    if home != folder:
        sounds = home / "audio"
        if (sounds / "cleaned_audio.wav").is_file():
            return sounds / "cleaned_audio.wav"
        return only_sound(sounds if sounds.is_dir() else home, home)
    raise FaceTalkError(f"no sound of {name}: no {name}.wav in {', '.join(map(str, places))}")


def read_templates(
    folder: str | Path, sequences: list[VertexFiles], templates: str | Path | None = None,
    topology: str | Path | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """Read the faces at rest of all speakers, name -> (V, 3) in the files' unit, and the triangles (F, 3).

    Args:
        folder (`str` or `Path`): the data set.
        sequences: whose speakers are needed.
        templates (`str` or `Path`, *optional*): a mesh for everybody; a folder of SPEAKER.ply, .obj or .npy; an npz or
            VOCASET's pickle of arrays by name. By default what `USUAL` names in the folder, or
            flame_2023_tracking/flame_2023_template.ply in the sequences.
        topology (`str` or `Path`, *optional*): a mesh with the triangles, where templates have none; by default
            FLAME_sample.ply or the like: the first mesh in the folder.

    Raises:
        FaceTalkError: none there, one is missing, or they differ in size.
    """
    folder, speakers = Path(folder), sorted({item.recording.speaker for item in sequences})
    place = Path(templates) if templates else next((folder / n for n in USUAL if (folder / n).exists()), None)
    own = {item.recording.speaker: item.recording.place / TEMPLATE for item in sequences}
    own = {speaker: path for speaker, path in own.items() if path.is_file()}
    if place is None and own:
        place = folder
    if place is None or not place.exists():
        raise FaceTalkError(f"no template of the faces at rest in {place or folder}; give one by --templates")
    faces: np.ndarray | None = None
    if place.is_dir():
        files = own if place == folder else {path.stem: path for path in sorted(place.iterdir())}
        known = {}
        for name, path in files.items():
            if path.suffix.lower() in MESHES:
                known[name], faces = read_mesh(path)
            elif path.suffix == ".npy" and name in speakers:
                known[name] = read_frame(path)
    elif place.suffix.lower() in MESHES:
        points, faces = read_mesh(place)
        known = dict.fromkeys(speakers, points)
    else:
        known = read_arrays(place)
    if missing := [name for name in speakers if name not in known]:
        raise FaceTalkError(
            f"{place} has no template of {missing[0]}, only of {', '.join(list(known)[:8]) or 'nobody'}"
        )
    for name in speakers:
        known[name] = to_float32(known[name])
        if known[name].size % 3:
            raise FaceTalkError(f"{place}: the template of {name} must be (V, 3), not {known[name].shape}")
        known[name] = known[name].reshape(-1, 3)
    known = {name: known[name] for name in speakers}
    sizes = {len(points) for points in known.values()}
    if len(sizes) > 1:
        raise FaceTalkError(f"{place}: templates have {sorted(sizes)} vertices; they must be of one topology")
    for name, points in known.items():
        if not np.isfinite(points).all():
            raise FaceTalkError(f"{place}: the template of {name} has vertices that are NaN or infinite")
    if topology is not None or faces is None or not len(faces):
        mesh = (
            Path(topology) if topology else next(iter(sorted(p for p in folder.glob("*") if p.suffix in MESHES)), None)
        )
        if mesh is None:
            raise FaceTalkError(f"{place} has no triangles; give a mesh of the same topology by --topology")
        points, faces = read_mesh(mesh)
        if len(points) != max(sizes):
            raise FaceTalkError(f"{mesh} has {len(points)} vertices, the templates have {max(sizes)}")
    return known, faces


def encode_vertices(
    sequences: list[VertexFiles], splits: dict[str, str], templates: dict[str, np.ndarray], faces: np.ndarray,
    components: int = 64, unit: Literal["auto"] | Unit = "auto", lips: np.ndarray | None = None, most: int = 1500,
) -> tuple[VertexBasis, list[Recording]]:  # fmt: skip
    """Compute a basis from the training speakers' frames, and make recordings of its codes from all sequences.

    Args:
        sequences, templates, faces: see `find_vertices` and `read_templates`.
        splits: speaker -> split; the basis is made of "train" alone.
        components (`int`): at most so many numbers in a code; 0 for the displacements themselves.
        unit (`str`): of the files: mm, cm, m, or auto.
        lips ((V,) bool, *optional*): lip vertices.
        most (`int`): frames that the basis is made of, evenly spaced; (most, V, 3) must fit into memory.

    Raises:
        FaceTalkError: a sequence that does not fit its template; names file and frame.
    """
    some = next(iter(templates.values()))
    scale = MILLIMETRES * check_unit(some, unit, "the template")
    templates = {name: points * np.float32(scale) for name, points in templates.items()}
    training = [item for item in sequences if splits[item.recording.speaker] == "train"]
    step = max(1, -(-sum(item.frames() for item in training) // most))
    moved = []
    for item in training if components else ():
        frames = item.vertices(len(some), range(0, item.frames(), step))
        moved.append(frames * np.float32(scale) - templates[item.recording.speaker])
    stacked = np.concatenate(moved) if moved else np.zeros((0, len(some), 3), np.float32)
    basis = VertexBasis.fit(stacked, templates, faces, components, lips)

    def reader(item: VertexFiles) -> dict[str, Any]:
        vertices = item.vertices(len(some)) * np.float32(scale)
        codes, residual = basis.encode(vertices, item.recording.speaker)
        return {"expression": codes, "residual": residual}

    for item in sequences:
        item.recording.read = partial(reader, item)
    return basis, [item.recording for item in sequences]


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 in the file's order and triangles (F, 3) of a .ply or .obj; polygons become fans.

    Raises:
        FaceTalkError: not readable.
    """
    try:
        mesh = mesh_reading.read_mesh(path)
        return mesh.vertices, mesh.faces
    except Exception as error:  # a broken file: the readers raise anything
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0] if str(error) else error!r}") from error


def read_lips(path: Path, count: int) -> np.ndarray:
    """Read indices of lip vertices, a .npy or numbers in a text file, as a mask (V,) bool.

    Raises:
        FaceTalkError: no such file, or no indices of these vertices.
    """
    try:
        if path.suffix == ".npy":
            indices = read_npy(path)
        else:
            indices = np.array(path.read_text().replace(",", " ").split(), int)
        if indices.dtype.kind not in "iu":
            values = to_float32(indices)
            if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
                raise ValueError("they are no whole numbers")
        if indices.size and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(f"they go from {indices.min()} to {indices.max()}")
        mask = np.zeros(count, bool)
        mask[indices.astype(int).reshape(-1)] = True
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise FaceTalkError(f"{path} holds no indices of {count} vertices: {error}") from error
    return mask


def _empty_array(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Make the array that NumPy's pickles begin with, which has no elements."""
    if tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array of another size than its numbers")
    return np.empty(0)


# The one in Python: that in C makes room for whatever a length in the file promises.
class _Arrays(pickle._Unpickler):
    """Reads pickled NumPy arrays in dictionaries, and refuses everything that could run code or take memory."""

    ALLOWED = {"dtype", "scalar", "_frombuffer"}
    # No array is made of a bytearray, for which room would be made before it is read.
    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray"):
            return _empty_array
        if (module.split(".")[0] == "numpy" and name in self.ALLOWED) or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read arrays by name from an npz, or from VOCASET's templates.pkl, of which nothing but arrays is read.

    Raises:
        FaceTalkError: neither.
    """
    try:
        if path.suffix == ".npz":
            return read_npz(path)
        found = _Arrays(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        return {str(name): to_float32(value) for name, value in found.items()}
    except Exception as error:  # of a damaged pickle: from EOFError and IndexError to RecursionError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FaceTalkError(f"{path} holds no arrays by name: {reason}") from error
