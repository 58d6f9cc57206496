# SPDX-License-Identifier: MIT
"""Folders of recordings with transcripts: which sound says which text, and who speaks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import FaceTalkError
from .recordings import SOUNDS


TRANSCRIPTS = (".txt", ".lab")
LIST = "transcripts.json"


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it, not yet read.

    Args:
        name (`str`): unique among those of a folder. speaker (`str`): who speaks.
        path (`Path`): the sound. text (`str`): what is said.
    """

    name: str
    speaker: str
    path: Path
    text: str


def find_speech(source: str | Path, speaker: str | None = None) -> list[Utterance]:
    """List the recordings of a folder that have a transcript.

    - LibriSpeech: lines "ID TEXT" in *.trans.txt, with ID.flac beside; the speaker is what stands before the first
      hyphen of ID.
    - LJ Speech: lines "ID|text|text with figures written out" in metadata.csv, with the sound in wavs/ or beside; the
      speaker is the folder.
    - transcripts.json, or a JSON file in place of the folder: name -> `file`, `text` and perhaps `speaker`.
    - name.wav (or another sound) with name.txt or name.lab; the speaker is the folder that holds them.

    A folder may hold several of these at any depth.

    Args:
        source (`str` or `Path`): the folder, or a JSON file.
        speaker (`str`, *optional*): the speaker of all of them.

    Raises:
        FaceTalkError: nothing is there, or a list that cannot be read.
    """
    source = Path(source)
    if not source.exists():
        raise FaceTalkError(f"no folder {source}")
    found: dict[str, Utterance] = {}
    for item in _listed(source) if source.is_dir() else _from_json(source):
        item = item if speaker is None else Utterance(item.name, speaker, item.path, item.text)
        if item.name in found:
            raise FaceTalkError(f"the name {item.name} is there twice: {found[item.name].path} and {item.path}")
        found[item.name] = item
    if not found:
        raise FaceTalkError(
            f"no recordings with transcripts in {source}: name.wav with name.txt, *.trans.txt, metadata.csv or {LIST}"
        )
    return [found[name] for name in sorted(found)]


def _listed(folder: Path) -> Iterator[Utterance]:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not any(p[0] == "." for p in path.parts[-4:])
    )
    listed: set[Path] = set()
    for path in files:
        if path.name == LIST:
            items = _from_json(path)
        elif path.name.endswith(".trans.txt"):
            items = _libri_speech(path)
        elif path.name == "metadata.csv":
            items = _lj_speech(path)
        else:
            continue
        for item in items:
            listed.add(item.path)
            yield item
    for path in files:
        if path.suffix.lower() in SOUNDS and path not in listed:
            text = next((path.with_suffix(end) for end in TRANSCRIPTS if path.with_suffix(end).is_file()), None)
            if text is not None:
                name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "_")
                yield Utterance(name, path.parent.resolve().name, path, _read(text).strip())


def _libri_speech(path: Path) -> Iterator[Utterance]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            name, _, text = line.strip().partition(" ")
            yield Utterance(name, name.split("-")[0], _sound(path.parent / name, f"{path}, line {number}"), text)


def _lj_speech(path: Path) -> Iterator[Utterance]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            fields, place = line.strip().split("|"), f"{path}, line {number}"
            if len(fields) < 2:
                raise FaceTalkError(f"{place} is not ID|text: {line[:60]}")
            folder = path.parent / "wavs"
            sound = _sound((folder if folder.is_dir() else path.parent) / fields[0], place)
            yield Utterance(fields[0], path.parent.resolve().name, sound, fields[-1] or fields[1])


def _from_json(path: Path) -> Iterator[Utterance]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise FaceTalkError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise FaceTalkError(f"{path} must be an object: name -> file and text")
    for name, fields in content.items():
        if not isinstance(fields, dict) or not {"file", "text"} <= set(fields):
            raise FaceTalkError(f"{path}: {name} lacks its file or its text")
        sound = path.parent / str(fields["file"])
        if not sound.is_file():
            raise FaceTalkError(f"{path}: {name}: no file {sound}")
        yield Utterance(
            str(name), str(fields.get("speaker") or path.parent.resolve().name), sound, str(fields["text"])
        )


def _sound(stem: Path, place: str) -> Path:
    sounds = [stem.with_name(stem.name + end) for end in SOUNDS if stem.with_name(stem.name + end).is_file()]
    if not sounds:
        raise FaceTalkError(f"{place}: no sound {stem}.wav, .flac or the like")
    return sounds[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FaceTalkError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise FaceTalkError(f"{path} is no text in UTF-8") from error
