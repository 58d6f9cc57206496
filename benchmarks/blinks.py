# SPDX-License-Identifier: MIT
"""Blinks that are generated and blinks that are decided (`blink_contrast`): how many, and how many of them shut.

    python benchmarks/blinks.py --corpus data/corpus --clips 8 --samples 1

Both are made of the same samples, and so have the same mouth. The table goes to docs/control.md, between its markers.
"""

from functools import partial
from pathlib import Path

import numpy as np

from facetalk_hf.data.corpus import decode_audio
from facetalk_hf.evaluation.scores import pipeline_predictor
from facetalk_hf.evaluation.studies import (
    BLINK_SHUT,
    blink_peaks,
    markdown_table,
    open_study,
    study_parser,
)
from facetalk_hf.motion.blinks import sharpen_blinks
from facetalk_hf.paths import FEW_STEPS
from facetalk_hf.scripts import run_script


DOCS = Path(__file__).resolve().parents[1] / "docs"


def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    args = study_parser(__doc__, DOCS / "results" / "blinks.json", DOCS / "control.md", 8, 1).parse_args(argv)
    study = open_study(args)
    pipe, rows, results = study.pipe, study.rows, study.results
    basis, names = pipe.head.expression_basis.float().cpu().numpy(), pipe.head.config.expression_names
    pipes, made = {"": pipe}, {}
    if pipe.model_folder is not None and (pipe.model_folder / FEW_STEPS).is_dir():
        pipes["few steps, "] = pipe.few_steps()

    def count(items: list[np.ndarray]) -> dict[str, float]:
        peaks = np.concatenate([blink_peaks(item) for item in items])
        minutes = sum(len(item) for item in items) / pipe.config.fps / 60
        half = ((peaks > 0.4) & (peaks <= BLINK_SHUT)).sum() / minutes
        return {"blinks": len(peaks) / minutes, "shut": float((peaks > BLINK_SHUT).mean()), "half": float(half)}

    def samples(which: str) -> list[np.ndarray]:
        if which not in made:
            predict, made[which] = pipeline_predictor(pipes[which], blink_contrast=0.0), []
            for index, row in enumerate(rows):
                for k in range(args.samples):
                    codes = predict([decode_audio(row)], [args.seed + index + 100_000 * k])[0]
                    made[which].append(codes.numpy() @ basis)
        return made[which]

    def decided(which: str, amount: float) -> dict[str, float]:
        return count([sharpen_blinks(item, names, amount) for item in samples(which)])

    kinds = {"the rules that it learnt from": lambda: count([row["weights"] for row in rows])}
    amounts = {
        "as generated": 0,
        "`blink_contrast=0.5`": 0.5,
        "`blink_contrast=1`, the default": 1,
    }
    for which in pipes:
        kinds |= {which + name: partial(decided, which, amount) for name, amount in amounts.items()}
    table = [
        [name, *(results.measure(name, f)[key] for key in ("blinks", "shut", "half"))] for name, f in kinds.items()
    ]
    about = (
        f"{args.clips} clips of each held-out voice, {args.samples} sample(s), seed {args.seed}. A blink: both lids "
        f"above 0.3 on average; shut: above {BLINK_SHUT}; half: highest between 0.4 and {BLINK_SHUT}. "
        f"{results.provenance()}"
    )
    print(study.write("blinks", about, markdown_table(["", "blinks/min", "shut", "half blinks/min"], table)))


if __name__ == "__main__":
    run_script(main)
