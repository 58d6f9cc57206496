# SPDX-License-Identifier: MIT
"""Build the scans that the small NPHM is trained on, from ICT-FaceKit's morphable head.

    python training/build_heads.py --ict path/to/ICT-FaceKit/FaceXModel --output-dir data/heads

OUTPUT_DIR gets train_*.npz, of which the first is the mean head, test_*.npz for evaluation, and template.npz, what all
identities share; facetalk_hf/synthetic/head_scans.py says what they hold. What is there already is kept. Every person
is scanned with --hairs styles of hair, one file each, so that a head learns what is the person and what is the hair.

Heads to choose settings on, none of which is a test head or a training one (another --seed would repeat test heads):

    python training/build_heads.py --ict ... --output-dir data/dev-heads --identities 0 --first-held-out 8
"""

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk_hf.files import atomic_path
from facetalk_hf.head.hair_styles import HAIR_KINDS, HairStyle, random_style
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.head_scans import scan_person, surface_pool
from facetalk_hf.synthetic.ict_template import Template


@functools.cache
def load_template(folder: Path) -> Template:
    """The template, read once a process."""
    return Template(folder)


def build(job: tuple[Path, Path, int, int, bool, bool, HairStyle]) -> None:
    folder, path, person, *options = job
    result = scan_person(load_template(folder), *options) | {"person": np.array(person)}
    with atomic_path(path) as temporary:
        np.savez(temporary, **result)


def styles(person: int, count: int, seed: int) -> list[HairStyle]:
    """Choose `count` styles of a person: all kinds in turn over the people, never one twice; sizes at random."""
    rng = np.random.default_rng([seed, person])
    kinds = [HAIR_KINDS[(person + 3 * turn) % len(HAIR_KINDS)] for turn in range(count)]
    return [random_style(rng, kind) for kind in kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=160, help="training identities; the first is the mean head")
    parser.add_argument(
        "--hairs", type=int, default=2, help="styles of hair a training identity is scanned with, 1 to 8"
    )
    parser.add_argument("--held-out", type=int, default=8, help="further identities, for evaluation only")
    parser.add_argument("--first-held-out", type=int, default=0, help="number of the first of them; tests are 0 to 7")
    parser.add_argument("--samples", type=int, default=60_000, help="size of the shared pool of surface samples")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    template = options.output_dir / "template.npz"
    if not template.exists():
        pool = surface_pool(load_template(options.ict), options.samples)
        with atomic_path(template) as temporary:
            np.savez(temporary, **pool)
    jobs = []
    first = options.first_held_out
    for kind, numbers, hairs, offset in (
        ("train", range(options.identities), options.hairs, 0),
        ("test", range(first, first + options.held_out), 1, 100_000),
    ):
        for i in numbers:
            worn = styles(i + offset, hairs, options.seed)
            if kind == "train" and i == 0:
                worn[0] = HairStyle()  # the mean head, whose code is zero
            for turn, style in enumerate(worn):
                path = options.output_dir / (f"{kind}_{i:04d}_{turn}.npz" if hairs > 1 else f"{kind}_{i:04d}.npz")
                neutral = kind == "train" and i == 0
                jobs.append((options.ict, path, i, options.seed + offset + i, neutral, kind == "test", style))
    jobs = [job for job in jobs if not job[1].exists()]
    with ProcessPoolExecutor(options.workers) as pool:
        list(tqdm(pool.map(build, jobs), total=len(jobs), desc="scans"))


if __name__ == "__main__":
    run_script(main)
