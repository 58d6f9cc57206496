# SPDX-License-Identifier: MIT
"""Import of expression codes in files: an .npz or .npy of (T, D) a sequence, and a sound of the same name."""

from functools import partial
from pathlib import Path
from typing import Any

from ..arrays import read_npy, read_npz, to_float32
from ..errors import FaceTalkError
from .recordings import EXPRESSION_KEYS, SOUNDS, Recording, check_folder, speaker_of


def find_codes(folder: str | Path, audio: str | Path | None = None, underscore: str = "first") -> list[Recording]:
    """List the sequences SPEAKER_SENTENCE.npz (or .npy) of a folder.

    The sound is SPEAKER_SENTENCE.wav (flac, mp3, ...) in `audio`, by default beside the codes or in wav/ or audio/.
    An npz may say its `fps`.

    Raises:
        FaceTalkError: there is none, or one has no sound.
    """
    folder, found = check_folder(folder), []
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".npz", ".npy") and path.name[0] != "."]
    places = [folder, folder / "wav", folder / "audio"] if audio is None else [Path(audio)]
    for path in files:
        sounds = [place / f"{path.stem}{suffix}" for place in places for suffix in SOUNDS]
        sound = next((item for item in sounds if item.is_file()), None)
        if sound is None:
            raise FaceTalkError(f"{path}: no sound of it, such as {sounds[0]}")
        speaker, sequence = speaker_of(path.stem, underscore)
        found.append(Recording(path.stem, speaker, sequence, path, sound, partial(read_code_sequence, path)))
    if not found:
        raise FaceTalkError(f"no codes in {folder}: no .npz or .npy with a sound of the same name")
    return found


def read_code_sequence(path: Path) -> dict[str, Any]:
    """Read the fields of a row from a file of codes (T, D), under one of `EXPRESSION_KEYS` or as the only such array.

    Raises:
        FaceTalkError: a file that cannot be read, or without codes.
    """
    try:
        arrays = read_npz(path) if path.suffix == ".npz" else {"expression": read_npy(path)}
        tables = {name: value for name, value in arrays.items() if value.ndim == 2 and value.dtype.kind in "fiu"}
        names = [name for name in EXPRESSION_KEYS if name in tables][:1] or list(tables)
        if len(names) != 1:
            raise ValueError(f"which array is the codes (T, D)? It holds {', '.join(arrays) or 'nothing'}")
        fields: dict[str, Any] = {"expression": to_float32(tables[names[0]])}
        if "fps" in arrays:
            fields["fps"] = float(arrays["fps"])
        for name in ("identity",):
            if name in arrays and arrays[name].size:
                fields[name] = to_float32(arrays[name]).reshape(-1)
        return fields
    except (OSError, ValueError, TypeError) as error:
        raise FaceTalkError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
