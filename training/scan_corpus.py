# SPDX-License-Identifier: MIT
"""Scan heads that speak a corpus: noisy partial point clouds with known motion, to be fitted back to codes.

    python training/scan_corpus.py --data data/heads --corpus data/corpus --model HEAD --output-dir data/scans

Every sequence is a folder that training/fit_expressions.py reads: `clouds.npz` with `points` (T, P, 3) in mm,
`transforms.npz` (x_model = s R x + t), `identity.npy` (the code of the person's clean canonical scan), `audio.flac`
and `sequence.json`. `truth.npz` holds what was scanned; fitting never opens it. Geometry and motion are ICT-FaceKit's
own, not our networks'. Clips come in equal numbers from all training voices; test voices are left alone.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.evaluation.head_metrics import fit_identities
from facetalk_hf.head.loading import load_head
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.scans import ScanFaults, SpeakingHead
from facetalk_hf.synthetic.spoken_scans import choose_rows, write_sequence


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder written by build_heads.py")
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by build_speech.py")
    parser.add_argument("--model", default=str(TINY), help="model or head whose identity codes are written")
    parser.add_argument("--output-dir", type=Path, required=True)
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
    rows = choose_rows(options.corpus, options.sequences, options.frames, options.blinks, options.seed)
    # One person after another, because a person takes seconds to load; who says what is drawn.
    for row, index in zip(rows, np.random.default_rng(options.seed).permutation(len(rows)), strict=True):
        row["person"] = people[index % len(people)].stem
    pool = dict(np.load(options.data / "template.npz"))
    faults = ScanFaults(options.noise, options.outliers, options.hole)
    progress = tqdm(total=len(rows), desc="scanning", unit=" sequences", mininterval=10)
    for path in people:
        own = [(number, row) for number, row in enumerate(rows) if row["person"] == path.stem]
        own = [(n, row) for n, row in own if not (options.output_dir / row["name"] / "sequence.json").is_file()]
        if own:
            scan = dict(np.load(path))
            code, person = fit_identities(head, [scan], options.identity_steps)[0].numpy(), SpeakingHead(pool, scan)
            for number, row in own:
                folder = options.output_dir / row["name"]
                write_sequence(folder, row, person, code, faults, options.points, [options.seed, number])
                progress.update()
    progress.close()


if __name__ == "__main__":
    run_script(main)
