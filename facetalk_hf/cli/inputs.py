# SPDX-License-Identifier: MIT
"""Files of the `facetalk` command: identities and keyframes that are read, results and their folder."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceTalkError
from .common import ENDINGS, FOLDERS, HUB_ID, Format, choose_device


if TYPE_CHECKING:
    import numpy as np

    from ..motion.controls import MotionControls
    from ..motion.keyframes import Keyframes
    from ..phones.segments import Segment


def plan_outputs(
    sources: list[Path], folder: Path, formats: list[Format], num_samples: int
) -> list[list[dict[Format, Path]]]:
    """Name every file that will be written: for each source, for each sample, format -> path.

    Raises:
        FaceTalkError: two results would have the same name, or a result would replace one of the sources.
    """
    plan: list[list[dict[Format, Path]]] = []
    owner: dict[str, Path] = {}
    inputs = {source.resolve() for source in sources}
    for source in sources:
        stems = [source.stem] if num_samples == 1 else [f"{source.stem}-{index + 1}" for index in range(num_samples)]
        plan.append([{kind: folder / (stem + ENDINGS.get(kind, f".{kind}")) for kind in formats} for stem in stems])
        for kind, path in (item for files in plan[-1] for item in files.items()):
            # Lower case, because some file systems do not tell A.mp4 from a.mp4.
            if (other := owner.setdefault(str(path).lower(), source)) is not source:
                if other == source:
                    raise FaceTalkError(f"{source} is given twice")
                raise FaceTalkError(f"{other} and {source} would both be written to {path}: rename one of them")
            if path.resolve() in inputs:
                raise FaceTalkError(f"{path} would be replaced by its own result: choose another --output-dir")
            if path.exists() and path.is_dir() != (kind in FOLDERS):
                raise FaceTalkError(f"{path} is in the way of a result: remove it or choose another --output-dir")
    return plan


def read_identity(text: str) -> "str | int | np.ndarray":
    """Read `--identity`: "zero", "random:SEED", the number of a head, or a file with one code, (Z,) float."""
    if text == "zero" or re.fullmatch(r"random:[0-9]{1,18}", text):
        return text
    with contextlib.suppress(ValueError):
        return int(text)
    path = Path(text)
    if path.suffix != ".npy" or not path.is_file():
        raise FaceTalkError(
            f"no identity {text!r}: give zero, the number of a head, random:SEED, or an .npy file that exists"
        )
    from ..head.identity_files import read_identity_code

    return read_identity_code(path)


def read_fixed(path: Path | None, recordings: int) -> "Keyframes | None":
    """Read `--keyframes`, which belong to one recording."""
    if path is None:
        return None
    if recordings > 1:
        raise FaceTalkError(f"--keyframes {path} is for one recording, but {recordings} are given")
    if not path.is_file():
        raise FaceTalkError(f"no such file: {path}")
    from ..motion.keyframes import read_keyframes

    return read_keyframes(path)


PHONE_SUFFIXES = (".csv", ".textgrid", ".json", ".tsv")  # .txt and .lab beside them are transcripts


def read_spoken(path: Path | None, audio: list[Path]) -> "list[list[Segment] | None]":
    """Read `--phones`: a file of one recording, or a folder with a file for each, called like it; `None` for none."""
    if path is None:
        return [None] * len(audio)
    from ..phones.files import read_phones

    return [read_phones(file) for file in _one_each(path, audio, "--phones", PHONE_SUFFIXES)]


def read_texts(text: str | None, audio: list[Path]) -> list[str | None]:
    """Read `--text`: a file, the words themselves, or a folder with a .txt for each recording; `None` for none."""
    if text is None:
        return [None] * len(audio)
    if not text.strip():
        raise FaceTalkError("--text is empty: give what is said, or leave it out")
    path, exists = Path(text), False
    with contextlib.suppress(OSError, ValueError):  # what is too long for a name is a text
        exists = path.exists()
    if exists:
        return [_read_text(file) for file in _one_each(path, audio, "--text", (".txt",))]
    if path.suffix == ".txt":
        raise FaceTalkError(f"no such file: {text}")
    if len(audio) > 1:
        raise FaceTalkError(f"--text is of one recording, but {len(audio)} are given: a folder of .txt files will do")
    return [text]


def check_ear(ear: str | None) -> None:
    """Refuse a `--ear` that can be none before anything heavy is imported."""
    if ear is not None and not Path(ear).is_dir() and not HUB_ID.fullmatch(ear):
        raise FaceTalkError(f"no folder {ear}: --ear takes one, or a Hub id such as openai/whisper-base")


def hear_phones(ear: str, device: str, clips: "list[tuple[np.ndarray, int]]") -> "list[list[Segment] | None]":
    """Let a Whisper encoder, a folder or Hub id, hear the phones of clips: samples (S,) and their rate in Hz."""
    from ..pipeline.large_ear import LargeEar

    hear = LargeEar.from_pretrained(ear, device=choose_device(device))
    return [hear(clip, sampling_rate) for clip, sampling_rate in clips]


def _one_each(path: Path, audio: list[Path], flag: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Find the file of every recording: `path` itself, or in the folder `path` the one of the same stem."""
    if not path.exists():
        raise FaceTalkError(f"no such file: {path}")
    if not path.is_dir():
        if len(audio) > 1:
            raise FaceTalkError(f"{flag} {path} is of one recording, but {len(audio)} are given: a folder will do")
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    found = [[file for file in files if file.stem == source.stem] for source in audio]
    for source, matches in zip(audio, found, strict=True):
        if len(matches) != 1:
            many = f"both {matches[0].name} and {matches[1].name}" if matches else f"no {source.stem}{suffixes[0]}"
            raise FaceTalkError(f"{flag} {path}: there is {many} for {source}")
    return [file for file, *_ in found]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise FaceTalkError(f"{path} cannot be read as text in UTF-8: {error}") from error


def with_emotions(controls: "MotionControls", path: Path | None) -> "MotionControls":
    """Read `--emotion-file` into controls, in place of `--emotion`; the latter as text of names and numbers."""
    if path is None:
        return controls
    if controls.emotion is not None:
        raise FaceTalkError("--emotion and --emotion-file are two ways to say the same: leave one out")
    if not path.is_file():
        raise FaceTalkError(f"no such file: {path}")
    from ..motion.emotions import read_emotions

    return replace(controls, emotion=read_emotions(path))


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the folder and try it before the work; if nothing came to lie in it, take it away again."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except FileExistsError as error:
            raise FaceTalkError(f"cannot write to {folder}: it is a file, not a folder") from error
        except OSError as error:
            raise FaceTalkError(f"cannot write to {folder}: {error.strerror or error}") from error
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
