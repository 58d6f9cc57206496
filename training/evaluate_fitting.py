# SPDX-License-Identifier: MIT
"""Measure fitting on scans of held-out people with known motion, and print the table of docs/fitting.md.

    python training/evaluate_fitting.py --data data/heads --corpus data/corpus

Clouds are simulated (facetalk_hf/synthetic/scans.py): ICT-FaceKit's exact motion under weights of corpus clips, seen
from the front and both sides. Errors are those of points: where the fitted code takes the true canonical point,
against where it truly is. "surface" is the distance of true points from the fitted surface.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch

from facetalk_hf import TINY
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data.corpus import read_shard, shards
from facetalk_hf.evaluation.head_metrics import REGIONS, fit_identities
from facetalk_hf.files import atomic_path
from facetalk_hf.fitting.expressions import fit_expressions
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.fitting.identity import fit_identity
from facetalk_hf.fitting.observations import FrameObservation
from facetalk_hf.fitting.posed_field import PosedField
from facetalk_hf.head.loading import load_head
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.scans import ScanFaults, SpeakingHead
from facetalk_hf.units import MILLIMETRES


FAULTS = {
    "1 mm noise": ScanFaults(),
    "2 mm noise": ScanFaults(noise=2.0),
    "1 mm, 30 % missing on one side": ScanFaults(hole=0.3),
    "1 mm, 5 % outliers": ScanFaults(outliers=0.05),
    "2 mm, 30 % missing, 5 % outliers": ScanFaults(noise=2.0, outliers=0.05, hole=0.3),
}
EXTRAS = ("", ", landmarks", ", normals")


def observe(
    person: SpeakingHead, weights: np.ndarray, points: int, faults: ScanFaults, seed: int, extra: str
) -> FrameObservation:
    """A frame's scan; landmarks have the noise of points, normals are 10 degrees off."""
    cloud, normals = person.scan(weights, points, faults, seed), None
    if "normals" in extra:
        cloud, normals = map(torch.from_numpy, person.scan(weights, points, faults, seed, with_normals=True))
    marks = None
    if "landmarks" in extra:
        noise = np.random.default_rng(seed + 500).normal(size=(68, 3)) * faults.noise / MILLIMETRES
        marks = torch.from_numpy((person.posed_landmarks(weights) + noise).astype(np.float32))
    return FrameObservation(torch.as_tensor(cloud), marks, normals=normals)


def clips(corpus: Path, count: int, frames: int) -> list[np.ndarray]:
    """Stretches (frames, 53) of test clips, each with a blink in it."""
    found = []
    for path in shards(corpus):
        for row in read_shard(path, splits=["test"], columns=["weights", "split"]):
            weights = row["weights"].astype(np.float32)
            shut = np.flatnonzero(weights[:, INDEX["eyeBlink_L"]] > 0.5)
            shut = shut[(shut >= frames // 2) & (shut + frames // 2 <= len(weights))]
            if len(shut):
                found.append(weights[shut[0] - frames // 2 :][:frames])
                if len(found) == count:
                    return found
    raise SystemExit(f"only {len(found)} test clips in {corpus} have a blink in their middle")


@torch.no_grad()
def errors(
    field: PosedField, person: SpeakingHead, weights: torch.Tensor, true: np.ndarray, samples: int = 600
) -> dict:
    """Mean point errors in mm by region, and the lips' velocity error in mm a frame."""
    rng, result = np.random.default_rng(0), {}
    for name, numbers in REGIONS.items():
        rows = rng.permutation(np.flatnonzero(np.isin(person.region, numbers)))[:samples]
        place = torch.from_numpy(person.canonical[rows])
        fields = field.head.forward_net.basis(place[None], field.controls, field.glob)[0]
        coefficients = weights.float() @ field.mix.T + field.rest
        ours = place + torch.einsum("prk,tr->tpk", fields, coefficients)
        exact = torch.from_numpy(np.stack([person.posed(row, rows) for row in true]).astype(np.float32))
        wrong = (ours - exact) * MILLIMETRES
        result[name] = float(wrong.norm(dim=-1).mean())
        if name == "lips":
            result["lip_velocity"] = float((wrong[1:] - wrong[:-1]).norm(dim=-1).mean())
        near = [field.distance(exact[t], weights[t].float()).abs().mean() for t in range(0, len(true), 4)]
        result[f"surface_{name}"] = float(torch.stack(near).mean()) * MILLIMETRES
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder written by build_heads.py")
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by build_speech.py")
    parser.add_argument("--model", default=TINY, help="model, or folder of a head alone")
    parser.add_argument("--identities", type=int, default=2)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--points", type=int, default=1600)
    parser.add_argument("--cases", type=int, default=len(FAULTS), help="how many rows of faults")
    parser.add_argument("--extras", nargs="*", choices=EXTRAS, default=EXTRAS, help="what is given with the points")
    parser.add_argument("--from-clouds", action="store_true", help="find the person from the clouds as well")
    parser.add_argument("--output", type=Path, help="all numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head, rows = load_head(str(options.model)), {}
    pool = dict(np.load(options.data / "template.npz"))
    scans = [dict(np.load(path)) for path in sorted(options.data.glob("test_*.npz"))[: options.identities]]
    known = fit_identities(head, scans, 400)
    motions = clips(options.corpus, options.identities, options.frames)

    def add(name: str, values: dict) -> None:
        rows.setdefault(name, []).append(values)

    for number, (scan, code, true) in enumerate(zip(scans, known, motions, strict=True)):
        person, field = SpeakingHead(pool, scan), make_field(head, code)
        add("no expression (z = 0)", errors(field, person, torch.zeros(len(true), field.size), true))
        add("true weights", errors(field, person, torch.from_numpy(true), true))
        for extra, (name, faults) in itertools.product(options.extras, list(FAULTS.items())[: options.cases]):
            name, seeds = name + extra, range(1000 * number, 1000 * number + len(true))
            seen = [
                observe(person, row, options.points, faults, seed, extra)
                for row, seed in zip(true, seeds, strict=True)
            ]
            start = time.process_time()
            fit = fit_expressions(field, seen)
            cost = (time.process_time() - start) / len(true)
            add(name, errors(field, person, torch.from_numpy(fit.weights), true) | {"cpu_s": cost})
            print(f"# {name}: { ({key: round(value, 3) for key, value in rows[name][-1].items()}) }", flush=True)
            if options.from_clouds and faults == ScanFaults():
                found = make_field(head, fit_identity(head, seen))
                fit = fit_expressions(found, seen)
                add(name + ", person found too", errors(found, person, torch.from_numpy(fit.weights), true))
    columns = ["lips", "face", "lids", "lip_velocity", "surface_lips", "surface_face", "surface_lids", "cpu_s"]
    print("| | " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        mean = {key: float(np.mean([v[key] for v in values])) for key in values[0]}
        print(f"| {name} | " + " | ".join(f"{mean[key]:.2f}" if key in mean else "" for key in columns) + " |")
    if options.output:
        with atomic_path(options.output) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run_script(main)
