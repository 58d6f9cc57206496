# SPDX-License-Identifier: MIT
"""A corpus of scanned sequences: with the codes that were fitted, or with the true ones, to compare the two.

    python training/build_fitted_corpus.py --scans data/scans --fits data/fits --output-dir data/fitted
    python training/build_fitted_corpus.py --scans data/scans --fits data/fits --true --output-dir data/true

--scans is what training/scan_corpus.py wrote, --fits what training/fit_expressions.py made of it. Both corpora hold
the sequences that were fitted, and nothing else; every row is in the split "train". (Fits of recordings of one's own
become a corpus by `build_corpus.py --from fits`.)
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.data.building import building, write_rows
from facetalk_hf.data.coding import write_lip_matrix
from facetalk_hf.data.corpus import pack_poses
from facetalk_hf.fitting.poses import read_transforms
from facetalk_hf.head.loading import load_head
from facetalk_hf.importers.recordings import read_fit
from facetalk_hf.models.nphm import NPHMModel
from facetalk_hf.scripts import run_script


ABOUT = {
    False: "Scans of ICT-FaceKit heads speaking synthesised speech, simulated, with expression codes fitted to them.",
    True: "Synthesised speech with the motion that rules give it: the truth behind a corpus of fitted codes.",
}


def rows(scans: Path, fits: list[Path], head: NPHMModel | None) -> Iterator[tuple[dict, Path]]:
    """Rows and where they are from; with a head the true codes, else the fitted ones."""
    for fit in fits:
        place = scans / fit.name
        about = json.loads((place / "sequence.json").read_text())
        with np.load(place / "truth.npz") as data:
            truth = {name: data[name] for name in data.files}
        if head is None:
            motion = read_fit(fit)
        else:
            motion = {
                "expression": head.expression_from_weights(torch.from_numpy(truth["weights"])).numpy(),
                "weights": truth["weights"], "identity": np.load(place / "identity.npy"),
                "poses": pack_poses(*read_transforms(place / "transforms.npz", len(truth["weights"]))),
            }  # fmt: skip
        named = ("speaker", "language", "engine", "text", "phones", "licence", "fps", "sampling_rate")
        row = {name: about[name] for name in named} | motion
        row |= {"id": fit.name, "sequence": about["id"], "split": "train", "closure": truth["closure"]}
        row |= {"audio": {"bytes": (place / "audio.flac").read_bytes(), "path": None}}
        yield row | {"source": f"training/scan_corpus.py, {about['person']}"}, fit


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True, help="folder written by scan_corpus.py")
    parser.add_argument("--fits", type=Path, required=True, help="folder written by fit_expressions.py")
    parser.add_argument("--true", action="store_true", help="the codes that were scanned, in place of the fitted ones")
    parser.add_argument("--model", default=str(TINY), help="model or head of the codes")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    datasets.disable_progress_bars()
    head = load_head(str(options.model)).float()
    done = sorted(path.parent for path in options.fits.glob("*/report.json"))
    if not done:
        raise FaceTalkError(f"no fitted sequence in {options.fits}: fit_expressions.py writes them")
    with building(options.output_dir, about=ABOUT[options.true]) as work:
        write_lip_matrix(head, work)
        count = write_rows(rows(options.scans, done, head if options.true else None), work)
    print(f"{options.output_dir}: {count} sequences")


if __name__ == "__main__":
    run_script(main)
