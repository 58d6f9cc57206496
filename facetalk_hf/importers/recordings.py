# SPDX-License-Identifier: MIT
"""Import of recordings into a corpus: tracked ones in the layout of FaceTalk's authors, results of `facetalk fit`.

`find_*` list recordings without reading them, so that whole speakers can be given to splits; `import_rows` reads them
one after the other.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import read_npz, to_float32
from ..audio.io import read_audio, resample
from ..blendshapes import EXPRESSIONS
from ..data.checks import FRAMES, check_length, cut_to_length
from ..data.corpus import encode_audio, pack_poses
from ..data.resampling import resample_fields
from ..errors import FaceTalkError
from ..fitting.point_clouds import numbered_files
from ..fitting.poses import read_transforms


SAMPLING_RATE = 16000
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".mp4")
EXPRESSION_KEYS = ("expression", "expressions", "z_exp", "exp", "lat_exp", "latent_exp", "lat_rep_exp", "code")
"""Names under which a code is looked for in the authors' npz, which they have not published."""
EXPRESSION_SIZE = 200
"""Length of NPHM's expression codes."""


@dataclass
class Recording:
    """A recorded sequence on disk, not yet read.

    Args:
        name (`str`): of the row; speaker, sequence (`str`): its two parts.
        place (`Path`): file or folder, for messages.
        audio (`Path`): sound or video file.
        read: gives the fields that hold the motion, and `fps` where the files know it.
    """

    name: str
    speaker: str
    sequence: str
    place: Path
    audio: Path
    read: Callable[[], dict[str, Any]]


@dataclass
class ImportOptions:
    """Columns and rates that the files do not hold.

    Args:
        fps (`float`): frames a second of the files. every (`int`): keep every so many frames one, from the first.
        source, licence, consent, language (`str`, *optional*): columns of the same names, where files do not say it.
        model_fps (`float`, *optional*): frame rate that all motion is resampled to; by default it keeps its own.
    """

    fps: float | None = 24.0
    every: int = 1
    source: str | None = None
    licence: str | None = None
    language: str | None = None
    model_fps: float | None = None
    consent: str | None = None


def import_rows(
    recordings: Iterable[Recording], splits: Mapping[str, str], options: ImportOptions
) -> Iterator[tuple[dict[str, Any], Path]]:
    """Read recordings: pairs of a row and its place, for `building.write_rows`.

    Audio becomes one channel at 16 kHz. Where it differs from the motion by up to two frames, the longer is cut. Text
    is taken from a .txt beside the audio.

    Args:
        recordings: see `find_tracked`, `find_fits`, `vertex_sequences.encode_vertices`.
        splits: speaker -> split.
        options ([`ImportOptions`]): for all of them.

    Raises:
        FaceTalkError: files that cannot be used; names the file, and the frame where there is one.
    """
    for recording in recordings:
        fields = recording.read()
        rate = fields.pop("fps", options.fps)
        if rate is None:
            raise FaceTalkError(f"{recording.place} does not say its frames a second: give --fps")
        fps = rate / options.every
        fields = {key: value[:: options.every] if key in FRAMES else value for key, value in fields.items()}
        if options.model_fps is not None:
            fields, fps = resample_fields(fields, fps, options.model_fps), options.model_fps
        samples = resample(*read_audio(recording.audio), SAMPLING_RATE)
        frames = min(len(fields[name]) for name in FRAMES if fields.get(name) is not None)
        check_length(len(samples), SAMPLING_RATE, frames, fps, recording.audio)
        text = recording.audio.with_suffix(".txt")
        row = {
            "id": recording.name, "speaker": recording.speaker, "sequence": recording.sequence, "fps": fps,
            "split": splits[recording.speaker], "sampling_rate": SAMPLING_RATE, "source": options.source,
            "licence": options.licence, "consent": options.consent, "language": options.language,
            "text": text.read_text(encoding="utf-8").strip() if text.is_file() else None,
        }  # fmt: skip
        row, samples = cut_to_length(row | fields, samples)
        yield row | {"audio": encode_audio(samples, SAMPLING_RATE)}, recording.place


def speaker_of(name: str, underscore: str = "first") -> tuple[str, str]:
    """Split "ID_SEQUENCE" at the first or last underscore; a name without one is speaker and sequence."""
    at = name.find("_") if underscore == "first" else name.rfind("_")
    return (name[:at], name[at + 1 :]) if 0 < at < len(name) - 1 else (name, name)


def find_tracked(folder: str | Path, underscore: str = "first") -> list[Recording]:
    """List the sequences of a folder in the layout of FaceTalk's authors.

    `ID_SEQUENCE/audio/cleaned_audio.wav` (or the only sound file there) and `ID_SEQUENCE/nphm_tracking/
    nphm_expressions/frame_N.npz`; whatever else lies beside them (features, meshes, FLAME) is not looked at. Frame
    numbers may start anywhere and go up by any constant step.

    Raises:
        FaceTalkError: there is none, or one has either no audio or no codes.
    """
    folder, found = check_folder(folder), []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        codes, sound = place / "nphm_tracking" / "nphm_expressions", place / "audio"
        if not codes.is_dir() and not sound.is_dir():
            continue
        if not codes.is_dir():
            raise FaceTalkError(f"{place} has audio, but no folder nphm_tracking/nphm_expressions")
        speaker, sequence = speaker_of(place.name, underscore)
        audio = sound / "cleaned_audio.wav"
        audio = audio if audio.is_file() else only_sound(sound, place)
        found.append(Recording(place.name, speaker, sequence, place, audio, partial(read_tracked, codes)))
    if not found:
        raise FaceTalkError(
            f"no sequences in {folder}: no folder ID_SEQUENCE with audio/ and nphm_tracking/nphm_expressions/ in it"
        )
    return found


def find_fits(folder: str | Path, audio: str | Path | None = None, underscore: str = "first") -> list[Recording]:
    """List results of `facetalk fit`: every folder below this one with a fit.npz.

    The folder's path is the name: `SPEAKER/SEQUENCE/fit.npz`, or `SPEAKER_SEQUENCE/fit.npz`. The sound is the only
    sound file beside fit.npz, or NAME.wav in the folder `audio` (SPEAKER_SEQUENCE.wav, or SPEAKER/SEQUENCE.wav).

    Raises:
        FaceTalkError: there is none, or one has no audio.
    """
    folder, found = check_folder(folder), []
    for file in sorted(folder.rglob("fit.npz")):
        place = file.parent
        parts = place.relative_to(folder).parts or (folder.name,)
        speaker, sequence = (parts[0], "_".join(parts[1:])) if parts[1:] else speaker_of(parts[0], underscore)
        name = "_".join(parts)
        if audio is None:
            sound = only_sound(place, place)
        else:
            stems = (Path(audio, name), Path(audio, *parts))
            candidates = [stem.with_name(stem.name + suffix) for stem in stems for suffix in SOUNDS]
            there = [path for path in candidates if path.is_file()]
            if not there:
                raise FaceTalkError(f"{place}: no sound of it in {audio}; it should be called {name}.wav")
            sound = there[0]
        found.append(Recording(name, speaker, sequence, place, sound, partial(read_fit, place)))
    if not found:
        raise FaceTalkError(f"no fitted sequences in {folder}: no fit.npz in or below it; `facetalk fit` writes it")
    return found


def read_tracked(folder: Path) -> dict[str, Any]:
    """Read the fields of a row from the frame_N.npz of a tracked sequence."""
    return {"expression": read_codes(folder)}


def read_fit(folder: Path) -> dict[str, Any]:
    """Read the fields of a row from a folder of `facetalk fit`: fit.npz, and poses.npz where it is there.

    Raises:
        FaceTalkError: a file that cannot be read, or that lacks the codes.
    """
    path = folder / "fit.npz"
    try:
        arrays = read_npz(path)
        codes = to_float32(arrays["expressions"])
        fields = {"expression": codes, "fps": float(arrays["fps"])}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise FaceTalkError(f"{path} is no result of `facetalk fit`: {error}") from error
    if codes.ndim != 2:
        raise FaceTalkError(f"{path}: expressions must be (T, D), not {codes.shape}")
    for name in ("identity", "residual"):
        if name in arrays:
            fields[name] = to_float32(arrays[name]).reshape(-1)
    if "head_pose" in arrays:
        fields["head_pose"] = to_float32(arrays["head_pose"])
    if (folder / "about.json").is_file():
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        fields |= {name: str(about[name]) for name in ("licence", "consent") if about.get(name)}
    if "weights" in arrays and tuple(np.atleast_1d(arrays.get("names", ())).tolist()) == EXPRESSIONS:
        fields["weights"] = to_float32(arrays["weights"])
    if (folder / "poses.npz").is_file():
        fields["poses"] = pack_poses(*read_transforms(folder / "poses.npz", len(codes)))
    return fields


def read_codes(folder: Path) -> np.ndarray:
    """Read codes (T, D) float32 from frame_N.npz files.

    The authors have not said under which name a file holds its code. It is taken from the first of `EXPRESSION_KEYS`,
    else from the only array of numbers there, else from the only one of 200 numbers, NPHM's size.

    Raises:
        FaceTalkError: a frame missing, unreadable, not finite, or of another size than the first; names its file.
    """
    files = frames_in(folder, (".npz",))
    codes = [read_code_file(path) for path in files]
    for frame, (path, code) in enumerate(zip(files, codes, strict=True)):
        if len(code) != len(codes[0]):
            raise FaceTalkError(
                f"{path}: frame {frame} has a code of {len(code)} numbers, those before have {len(codes[0])}"
            )
        if not np.isfinite(code).all():
            raise FaceTalkError(f"{path}: the code of frame {frame} is NaN or infinite; fit it again")
    return np.stack(codes)


def read_code_file(path: Path) -> np.ndarray:
    """Read the code (D,) float32 of an npz, see `read_codes`."""
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    numbers = {name: value.reshape(-1) for name, value in arrays.items() if value.dtype.kind == "f" and value.size > 1}
    named = [name for name in EXPRESSION_KEYS if name in numbers]
    sized = [name for name, value in numbers.items() if len(value) == EXPRESSION_SIZE]
    choices = named[:1] or (list(numbers) if len(numbers) == 1 else sized)
    if len(choices) != 1:
        held = ", ".join(f"{name} {value.shape}" for name, value in arrays.items()) or "nothing"
        raise FaceTalkError(f"{path}: which array is the expression code? It holds {held}; call it expression")
    return to_float32(numbers[choices[0]])


def frames_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files of a folder in the order of their numbers, which go up by one step.

    Raises:
        FaceTalkError: no files, a number twice, or one left out.
    """
    order = numbered_files(folder, suffixes)
    numbers = [number for number, _ in order]
    step = min(np.diff(numbers), default=1)
    for (a, first), (b, second) in zip(order[:-1], order[1:], strict=True):
        if b - a != step:
            raise FaceTalkError(
                f"{folder}: frame {a + step} is missing between {first.name} and {second.name}; "
                "put it back, or make two sequences of it"
            )
    return [path for _, path in order]


def only_sound(folder: Path, place: Path) -> Path:
    """Find the only sound file of a folder; FaceTalkError names `place` for none and for several."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SOUNDS] if folder.is_dir() else []
    sounds = [path for path in files if path.suffix.lower() != ".mp4"] or files  # `facetalk fit` writes a silent video
    if len(sounds) != 1:
        what = "no sound file" if not sounds else "more than one sound file: " + ", ".join(p.name for p in sounds)
        raise FaceTalkError(f"{place} has {what}")
    return sounds[0]


def check_folder(folder: str | Path) -> Path:
    """Check that a folder exists and is not empty, and return its path."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FaceTalkError(f"no folder {folder}")
    if not any(folder.iterdir()):
        raise FaceTalkError(f"{folder} is empty")
    return folder
