# SPDX-License-Identifier: MIT
"""Blinks that are generated and blinks that are decided (`blink_contrast`): how many, and how many of them shut.

    python benchmarks/blinks.py --corpus data/corpus --clips 8 --samples 1

Both are made of the same samples, and so have the same mouth. The table goes to docs/control.md, between its markers.
"""

from pathlib import Path

import numpy as np

from facetalk_hf import FaceTalkError
from facetalk_hf.corpus import decode_audio
from facetalk_hf.evaluation import pipeline_predictor
from facetalk_hf.studies import (
    BLINK_SHUT,
    blink_peaks,
    markdown_table,
    open_study,
    study_parser,
    write_between_markers,
)
from facetalk_hf.upper_face import sharpen_blinks


DOCS = Path(__file__).resolve().parents[1] / "docs"


def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    args = study_parser(__doc__, DOCS / "results" / "blinks.json", DOCS / "control.md", 8, 1).parse_args(argv)
    pipe, rows, _, results = open_study(args)
    basis, names = pipe.head.expression_basis.float().cpu().numpy(), pipe.head.config.expression_names
    predict, made = pipeline_predictor(pipe, blink_contrast=0.0), []

    def count(items: list[np.ndarray]) -> dict[str, float]:
        peaks = np.concatenate([blink_peaks(item) for item in items])
        minutes = sum(len(item) for item in items) / pipe.config.fps / 60
        half = ((peaks > 0.4) & (peaks <= BLINK_SHUT)).sum() / minutes
        return {"blinks": len(peaks) / minutes, "shut": float((peaks > BLINK_SHUT).mean()), "half": float(half)}

    def samples() -> list[np.ndarray]:
        for index, row in enumerate(rows) if not made else ():
            for k in range(args.samples):
                made.append(predict([decode_audio(row)], [args.seed + index + 100_000 * k])[0].numpy() @ basis)
        return made

    kinds = {
        "the rules that it learnt from": lambda: count([row["weights"] for row in rows]),
        "`blink_contrast=0`, as generated": lambda: count(samples()),
        "`blink_contrast=0.5`": lambda: count([sharpen_blinks(item, names, 0.5) for item in samples()]),
        "`blink_contrast=1`, the default": lambda: count([sharpen_blinks(item, names) for item in samples()]),
    }
    table = [
        [name, *(results.measure(name, f)[key] for key in ("blinks", "shut", "half"))] for name, f in kinds.items()
    ]
    text = (
        f"{args.clips} clips of each held-out voice, {args.samples} sample(s), seed {args.seed}. A blink: both lids "
        f"above 0.3 on average; shut: above {BLINK_SHUT}; half: highest between 0.4 and {BLINK_SHUT}. "
        f"{results.provenance()}\n\n" + markdown_table(["", "blinks/min", "shut", "half blinks/min"], table)
    )
    write_between_markers(args.page, "blinks", text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"blinks.py: {error}") from error
