# SPDX-License-Identifier: MIT
"""Scanned sequences of heads that speak a corpus: noisy partial clouds with known motion, to be fitted back to codes.

Every sequence is a folder: `clouds.npz` with `points` (T, P, 3) in mm, `transforms.npz` (x_model = s R x + t),
`identity.npy`, `audio.flac` and `sequence.json`. `truth.npz` holds what was scanned; fitting never opens it. Geometry
and motion are ICT-FaceKit's own, not our networks'.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..blendshapes import INDEX
from ..data.corpus import decode_audio, encode_audio, read_shard, shards
from ..errors import FaceTalkError
from ..files import atomic_path
from ..motion.head_motion import head_motion
from ..phones.alphabets import SILENCE
from ..units import MILLIMETRES
from .scans import ScanFaults, SpeakingHead


Row = dict[str, Any]


def speaks(row: Row, frames: int) -> np.ndarray:
    """Tell in the middle of which frames a phone is spoken, (frames,) bool."""
    middle = (np.arange(frames) + 0.5) / row["fps"]
    said = np.zeros(frames, bool)
    for phone in row["phones"]:
        if phone["phone"] != SILENCE:
            said |= (middle >= phone["start"]) & (middle < phone["end"])
    return said


def draw_stretch(row: Row, frames: int, blink: bool, rng: np.random.Generator) -> int | None:
    """Draw the first frame of a stretch, 70 % of it speech, with a blink if asked; `None` where there is none."""
    said = np.concatenate([[0], np.cumsum(speaks(row, len(row["weights"])))])
    shut = row["weights"][:, INDEX["eyeBlink_L"]] > 0.5
    starts = [
        first
        for first in range(len(row["weights"]) - frames + 1)
        if said[first + frames] - said[first] >= 0.7 * frames
        and (not blink or shut[first + 5 : first + frames - 5].any())
    ]
    return int(rng.choice(starts)) if starts else None


def choose_rows(corpus: Path, count: int, frames: int, blinks: float, seed: int) -> list[Row]:
    """Choose stretches of training clips, the voices in turn (all of espeak-ng's count as two).

    Args:
        corpus (`Path`): of training/build_speech.py. count (`int`): stretches. frames (`int`): of a stretch.
        blinks (`float`): share of them that have to have a blink. seed (`int`): says which.

    Raises:
        FaceTalkError: the corpus has fewer.
    """
    voices: dict[tuple[str, Any], list[tuple[Path, int]]] = defaultdict(list)
    for path in shards(corpus):
        for index, row in enumerate(read_shard(path, columns=["speaker", "engine", "language", "split"])):
            if row["split"] == "train" and row["engine"] != "none":
                voice = row["language"][:2] == "en" if row["engine"] == "espeak" else row["speaker"]
                voices[row["engine"], voice].append((path, index))
    rng, turns = np.random.default_rng(seed), 0
    result: list[Row] = []
    queues = [[places[i] for i in rng.permutation(len(places))] for _, places in sorted(voices.items())]
    while len(result) < count:
        if not any(queues):
            raise FaceTalkError(f"{corpus} has only {len(result)} clips with {frames} frames of speech")
        queue = queues[turns % len(queues)]
        turns += 1
        while queue:
            path, index = queue.pop()
            row = list(read_shard(path))[index]
            blink = len(result) % round(1 / blinks) == 0 if blinks else False
            first = draw_stretch(row, frames, blink, rng)
            if first is not None:
                result.append(cut_row(row, first, frames) | {"name": f"{len(result):04d}-{row['id']}"})
                break
    return result


def cut_row(row: Row, first: int, frames: int) -> Row:
    """Cut a stretch of a row, with its sound and its phones, whose times count from its start."""
    begin, rate = first / row["fps"], row["sampling_rate"]
    end = begin + frames / row["fps"]
    samples = decode_audio(row)[round(begin * rate) : round(end * rate)]
    phones = [
        {"phone": p["phone"], "start": max(p["start"], begin) - begin, "end": min(p["end"], end) - begin}
        for p in row["phones"]
        if p["end"] > begin and p["start"] < end
    ]
    part = {name: row[name][first : first + frames] for name in ("weights", "closure")}
    return row | part | {"audio": encode_audio(samples, rate), "samples": samples, "phones": phones, "first": first}


def draw_poses(row: Row, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw where a camera has the head, x_mm = R (250 x_model) + t: R (T, 3, 3) and t (T, 3), with sway and nods."""
    count = len(row["weights"])
    motion = head_motion(row["samples"], row["sampling_rate"], count, row["fps"], rng)
    place = Rotation.from_rotvec(rng.uniform(-0.25, 0.25, 3))
    rotation = place * Rotation.from_rotvec(np.radians(motion[:, [1, 0, 2]]))
    return rotation.as_matrix(), rng.uniform(-300, 300, 3) + place.apply(motion[:, 3:])


def write_sequence(
    folder: Path, row: Row, person: SpeakingHead, code: np.ndarray, faults: ScanFaults, points: int, seed: list[int]
) -> None:
    """Scan a row and write its folder; `sequence.json` comes last, so a folder with it is whole.

    Args:
        folder (`Path`): to be made. row (`dict`): of `choose_rows`, with "person", who says it.
        person ([`SpeakingHead`]): that person. code ((Z,) float): the identity that is written.
        faults ([`ScanFaults`]): of the scans. points (`int`): of a scan. seed (list of `int`): of faults and poses.
    """
    rng = np.random.default_rng(seed)
    rotation, move = draw_poses(row, rng)
    clouds = np.stack([person.scan(w, points, faults, int(rng.integers(2**31))) for w in row["weights"]])
    clouds = np.einsum("tij,tpj->tpi", rotation, MILLIMETRES * clouds) + move[:, None]
    back, scale = rotation.swapaxes(1, 2), 1 / MILLIMETRES
    arrays = {
        "clouds": {"points": clouds.astype(np.float32), "fps": row["fps"]},
        "transforms": {"s": scale, "R": back, "t": -scale * np.einsum("tij,tj->ti", back, move)},
        "truth": {"weights": row["weights"], "closure": row["closure"]},
    }
    for name, values in arrays.items():
        with atomic_path(folder / f"{name}.npz") as temporary:
            np.savez(temporary, **values)
    with atomic_path(folder / "identity.npy") as temporary:
        np.save(temporary, code)
    with atomic_path(folder / "audio.flac") as temporary:
        temporary.write_bytes(row["audio"]["bytes"])
    names = ("id", "speaker", "language", "engine", "text", "phones", "licence", "fps", "sampling_rate", "first")
    about = {name: row[name] for name in names} | {"unit": "mm", "person": row["person"]}
    with atomic_path(folder / "sequence.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1, ensure_ascii=False))
