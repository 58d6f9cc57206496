# SPDX-License-Identifier: MIT
"""Build the scans that the small NPHM is trained on, from ICT-FaceKit's morphable head.

    python training/build_heads.py --ict path/to/ICT-FaceKit/FaceXModel --output-dir data/heads

OUTPUT_DIR gets train_*.npz, of which the first is the mean head, test_*.npz for evaluation, and template.npz, what all
identities share; facetalk_hf/synthetic/head_scans.py says what they hold. What is there already is kept.
"""

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk_hf.files import atomic_path
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.head_scans import scan_person, surface_pool
from facetalk_hf.synthetic.ict_template import Template


@functools.cache
def load_template(folder: Path) -> Template:
    """The template, read once a process."""
    return Template(folder)


def build(job: tuple[Path, Path, int, bool, bool]) -> None:
    folder, path, *options = job
    result = scan_person(load_template(folder), *options)
    with atomic_path(path) as temporary:
        np.savez(temporary, **result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=160, help="training identities; the first is the mean head")
    parser.add_argument("--held-out", type=int, default=8, help="further identities, for evaluation only")
    parser.add_argument("--samples", type=int, default=60_000, help="size of the shared pool of surface samples")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    template = options.output_dir / "template.npz"
    if not template.exists():
        pool = surface_pool(load_template(options.ict), options.samples)
        with atomic_path(template) as temporary:
            np.savez(temporary, **pool)
    jobs = [
        (options.ict, options.output_dir / f"{kind}_{i:04d}.npz", options.seed + offset + i,
         kind == "train" and i == 0, kind == "test")
        for kind, number, offset in (("train", options.identities, 0), ("test", options.held_out, 100_000))
        for i in range(number)
    ]  # fmt: skip
    jobs = [job for job in jobs if not job[1].exists()]
    with ProcessPoolExecutor(options.workers) as pool:
        list(tqdm(pool.map(build, jobs), total=len(jobs), desc="scans"))


if __name__ == "__main__":
    run_script(main)
