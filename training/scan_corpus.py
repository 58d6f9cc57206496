# SPDX-License-Identifier: MIT
"""Scan heads that speak a corpus: noisy partial point clouds with known motion, to be fitted back to codes.

    python training/scan_corpus.py --data data/heads --corpus data/corpus --model HEAD --output data/scans

Every sequence is a folder that training/fit_expressions.py reads: `clouds.npz` with `points` (T, P, 3) in mm,
`transforms.npz` (x_model = s R x + t), `identity.npy` (the code of the person's clean canonical scan), `audio.flac`
and `sequence.json`. `truth.npz` holds what was scanned; fitting never opens it. Geometry and motion are ICT-FaceKit's
own, not our networks'. Clips come in equal numbers from all training voices; test voices are left alone.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data.corpus import decode_audio, encode_audio, read_shard, shards
from facetalk_hf.evaluation.head_metrics import fit_identities
from facetalk_hf.files import atomic_path
from facetalk_hf.head.loading import load_head
from facetalk_hf.motion.head_motion import head_motion
from facetalk_hf.synthetic.phone_alphabets import SILENCE
from facetalk_hf.synthetic.scans import MILLIMETRES, ScanFaults, SpeakingHead


def speaks(row: dict, frames: int) -> np.ndarray:
    """(frames,) bool: a phone is spoken in the middle of the frame."""
    middle = (np.arange(frames) + 0.5) / row["fps"]
    said = np.zeros(frames, bool)
    for phone in row["phones"]:
        if phone["phone"] != SILENCE:
            said |= (middle >= phone["start"]) & (middle < phone["end"])
    return said


def stretch(row: dict, frames: int, blink: bool, rng: np.random.Generator) -> int | None:
    """First frame of a stretch that is speech for 70 % at least, with a blink if asked; `None`: there is none."""
    said = np.concatenate([[0], np.cumsum(speaks(row, len(row["weights"])))])
    shut = row["weights"][:, INDEX["eyeBlink_L"]] > 0.5
    starts = [
        first
        for first in range(len(row["weights"]) - frames + 1)
        if said[first + frames] - said[first] >= 0.7 * frames
        and (not blink or shut[first + 5 : first + frames - 5].any())
    ]
    return int(rng.choice(starts)) if starts else None


def choose(corpus: Path, count: int, frames: int, blinks: float, seed: int) -> list[dict]:
    """Rows cut to `frames` frames, `count` of them, the voices in turn (all of espeak-ng's count as two)."""
    voices = defaultdict(list)
    for path in shards(corpus):
        for index, row in enumerate(read_shard(path, columns=["speaker", "engine", "language", "split"])):
            if row["split"] == "train" and row["engine"] != "none":
                voice = row["language"][:2] == "en" if row["engine"] == "espeak" else row["speaker"]
                voices[row["engine"], voice].append((path, index))
    rng, turns, result = np.random.default_rng(seed), 0, []
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
            first = stretch(row, frames, blink, rng)
            if first is not None:
                result.append(cut(row, first, frames) | {"name": f"{len(result):04d}-{row['id']}"})
                break
    return result


def cut(row: dict, first: int, frames: int) -> dict:
    """A stretch of a row with its sound and its phones, times from its own start."""
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


def recorded_poses(row: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a camera has the head, x_mm = R (250 x_model) + t: R (T, 3, 3) and t (T, 3), with sway and nods."""
    count = len(row["weights"])
    motion = head_motion(row["samples"], row["sampling_rate"], count, row["fps"], rng)
    place = Rotation.from_rotvec(rng.uniform(-0.25, 0.25, 3))
    rotation = place * Rotation.from_rotvec(np.radians(motion[:, [1, 0, 2]]))
    return rotation.as_matrix(), rng.uniform(-300, 300, 3) + place.apply(motion[:, 3:])


def write_sequence(
    folder: Path, row: dict, person: SpeakingHead, code: np.ndarray, options: argparse.Namespace, number: int
) -> None:
    """Scan a row and write its folder; `sequence.json` comes last, so a folder with it is whole."""
    rng = np.random.default_rng([options.seed, number])
    rotation, move = recorded_poses(row, rng)
    faults = ScanFaults(options.noise, options.outliers, options.hole)
    clouds = np.stack([person.scan(w, options.points, faults, int(rng.integers(2**31))) for w in row["weights"]])
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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder written by build_heads.py")
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by build_speech.py")
    parser.add_argument("--model", default=str(TINY), help="model or head whose identity codes are written")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sequences", type=int, default=210)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--blinks", type=float, default=1 / 3, help="share of the sequences that have to have a blink")
    parser.add_argument("--train-heads", type=int, default=40, help="people the head model was trained on")
    parser.add_argument("--test-heads", type=int, default=8, help="people it never saw")
    parser.add_argument("--points", type=int, default=1600)
    parser.add_argument("--noise", type=float, default=1.0, help="mm")
    parser.add_argument("--outliers", type=float, default=0.0, help="share of the points that lie anywhere")
    parser.add_argument("--hole", type=float, default=0.0, help="share of the points missing on one side")
    parser.add_argument("--identity-steps", type=int, default=400, help="steps in which a person's code is found")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if not 0 <= options.blinks <= 1:
        raise FaceTalkError(f"--blinks is a share from 0 to 1, not {options.blinks:g}")
    torch.set_num_threads(1)
    people = [
        path
        for kind, count in (("train", options.train_heads), ("test", options.test_heads))
        for path in sorted(options.data.glob(f"{kind}_*.npz"))[:count]
    ]
    if not people:
        raise FaceTalkError(f"{options.data} has no train_*.npz and no test_*.npz: make them with build_heads.py")
    head = load_head(str(options.model))
    rows = choose(options.corpus, options.sequences, options.frames, options.blinks, options.seed)
    # One person after another, because a person takes seconds to load; who says what is drawn.
    for row, index in zip(rows, np.random.default_rng(options.seed).permutation(len(rows)), strict=True):
        row["person"] = people[index % len(people)].stem
    pool = dict(np.load(options.data / "template.npz"))
    progress = tqdm(total=len(rows), desc="scanning", unit=" sequences", mininterval=10)
    for path in people:
        own = [(number, row) for number, row in enumerate(rows) if row["person"] == path.stem]
        own = [(n, row) for n, row in own if not (options.output / row["name"] / "sequence.json").is_file()]
        if own:
            scan = dict(np.load(path))
            code, person = fit_identities(head, [scan], options.identity_steps)[0].numpy(), SpeakingHead(pool, scan)
            for number, row in own:
                write_sequence(options.output / row["name"], row, person, code, options, number)
                progress.update()
    progress.close()


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"scan_corpus.py: {error}") from None
