# SPDX-License-Identifier: MIT
"""Measure a head on identities and expressions that it was not trained on, and print the table of docs/head.md.

    python training/evaluate_head.py --data data/heads --output head.json

`--data` is the folder of build_heads.py; its test_*.npz are used, its training scans are not. What each number means
is said in facetalk_hf/evaluation/head_metrics.py.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from facetalk_hf import TINY, NPHMModel
from facetalk_hf.evaluation.head_metrics import (
    backward_scores,
    fit_identities,
    identity_distances,
    motion_scores,
    read_scans,
    surface_scores,
)
from facetalk_hf.files import atomic_path
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.hair_styles import HairStyle
from facetalk_hf.scripts import run_script


BARS = {  # name -> what it is, the bar, its unit
    "chamfer_head": ("Chamfer-L1, head", "<= 0.35", "mm"),
    "chamfer_face": ("Chamfer-L1, face", "<= 0.30", "mm"),
    "chamfer_ears": ("Chamfer-L1, ears", "<= 0.35", "mm"),
    "chamfer_ears_by_area": ("Chamfer-L1, ears, each head by how much of them it has bare", "", "mm"),
    "chamfer_hair": ("Chamfer-L1, hair and beards", "", "mm"),
    "normals_head": ("normal consistency, head", ">= 0.985", ""),
    "normals_face": ("normal consistency, face", ">= 0.985", ""),
    "normals_ears": ("normal consistency, ears", "", ""),
    "normals_hair": ("normal consistency, hair and beards", "", ""),
    "vertex_all": ("vertex error, mean", "<= 0.25", "mm"),
    "vertex_all_p95": ("vertex error, 95th percentile", "", "mm"),
    "vertex_face": ("vertex error, face", "<= 0.25", "mm"),
    "vertex_lips": ("vertex error, lips", "<= 0.40", "mm"),
    "vertex_lids": ("vertex error, lids", "", "mm"),
    "lid_travel": ("travel of the lids in a blink", ">= 0.90", "of the true"),
    "lid_travel_min": ("the same, worst lid of the worst head", "", "of the true"),
    "lip_gap": ("lip gap at z = 0, mean over contacts", "< 0.5", "mm"),
    "lip_gap_p95": ("lip gap at z = 0, 95th percentile", "", "mm"),
    "lip_aperture": ("lip gap at z = 0, by inner landmarks", "< 0.5", "mm"),
    "jaw_open": ("lip aperture at jawOpen = 1, smallest", ">= 25", "mm"),
    "worst_shape": ("error of one shape alone, worst of 53", "< 0.25", "of its motion"),
    "mean_shape": ("error of one shape alone, mean", "", "of its motion"),
    "landmarks": ("68 landmarks", "", "mm"),
    "handles": ("handles of the held-out surfaces", "", ""),
    "handles_named": ("handles of the named identities", "", ""),
    "handles_sampled": ("handles of sampled identities", "", ""),
    "named_apart": ("named faces, mean distance of a pair", "", "mm"),
    "named_closest": ("named faces, closest pair", "", "mm"),
    "named_landmarks_apart": ("named faces, landmarks of a pair", "", "mm"),
    "sampled_apart": ("sampled faces, mean distance of a pair", "", "mm"),
    "extraction": ("canonical surface on one core", "<= 6", "s"),
    "fit": ("fit of a head on one core", "", "s"),
    "backward_all": ("backward, mean", "", "mm"),
    "backward_face": ("backward, face", "", "mm"),
    "backward_lips": ("backward, lips", "", "mm"),
    "backward_lids": ("backward, lids", "", "mm"),
}


def passes(value: float, bar: str) -> bool:
    sign, limit = bar.split()
    return {"<=": value <= float(limit), ">=": value >= float(limit), "<": value < float(limit)}[sign]


def table(scores: dict) -> str:
    """The scores as markdown, with a verdict where there is a bar."""
    lines = ["| | measured | bar | |", "|---|---|---|---|"]
    for name, (text, bar, unit) in BARS.items():
        if name not in scores:
            continue
        value = scores[name]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else f"{value:.3g} {unit}".strip()
        if name.startswith("normals"):
            shown = f"{value:.4f}"
        verdict = "" if not bar else "pass" if passes(value, bar) else "**missed**"
        lines.append(f"| {text} | {shown} | {bar} | {verdict} |")
    return "\n".join(lines)


def by_head(scores: list[dict], scans: list[dict]) -> str:
    """The surfaces' scores of each held-out head, by the hair that it wears."""
    names = {"face": "chamfer_face", "head": "chamfer_head", "ears": "chamfer_ears", "hair": "chamfer_hair"}
    lines = ["| Chamfer-L1, mm | " + " | ".join(names) + " |", "|---" * 5 + "|"]
    for row, scan in zip(scores, scans, strict=True):
        worn = HairStyle.of_vector(scan["hair"]) if scan.get("hair", np.zeros(0)).size else HairStyle("none")
        beard = f", beard {worn.beard:.1f}" if worn.beard else ""
        shown = (f"{row[name]:.2f}" if name in row else "" for name in names.values())
        lines.append(f"| {worn.kind}{beard} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def ears_by_area(scores: list[dict]) -> dict[str, float]:
    """The ears' error of all held-out heads, each counted by what it has bare: a bob leaves no more than a rim."""
    ears = [(row["chamfer_ears"], row["points_ears"]) for row in scores if "chamfer_ears" in row]
    if not ears:
        return {}
    errors, points = zip(*ears, strict=True)
    return {"chamfer_ears_by_area": float(np.average(errors, weights=points))}


def people(head: NPHMModel, sampled: int) -> dict:
    scores = {}
    draws = [head.sample_identity(torch.Generator().manual_seed(seed)) for seed in range(sampled)]
    for name, codes in (("named", head.identity_codes), ("sampled", torch.stack(draws))):
        result = identity_distances(head, codes)
        pairs = np.triu_indices(len(codes), 1)
        scores |= {
            f"handles_{name}": result["handles"], f"{name}_apart": float(result["surface"][pairs].mean()),
            f"{name}_closest": float(result["surface"][pairs].min()), f"height_{name}": result["height"],
            f"{name}_landmarks_apart": float(result["landmarks"][pairs].mean()),
        }  # fmt: skip
    return scores


def main() -> None:
    os.environ["FACETALK_CACHE"] = "off"  # surfaces are timed, not found
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder written by build_heads.py")
    parser.add_argument("--head", type=Path, default=Path(TINY) / "head", help="the embedded head unless given")
    parser.add_argument("--output", type=Path, help="all scores as JSON")
    parser.add_argument("--resolution", type=int, default=192, help="cells along the height of the head")
    parser.add_argument("--fit-steps", type=int, default=600)
    parser.add_argument(
        "--refinements", type=int, default=8, help="steps of the second look at a scan; 0: a plain fit"
    )
    parser.add_argument("--expressions", type=int, default=64, help="random expressions an identity")
    parser.add_argument("--sampled", type=int, default=16, help="identities to draw")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = NPHMModel.from_pretrained(options.head, torch_dtype=torch.float32).eval()
    scans, pool = read_scans(options.data)
    start = time.process_time()
    codes = fit_identities(head, scans, options.fit_steps, seed=options.seed, refinements=options.refinements)
    scores = {"fit": (time.process_time() - start) / len(scans)}
    start = time.process_time()
    BlendshapeDecoder(head, resolution=options.resolution).canonical_surface(codes[:1])
    scores |= {"extraction": time.process_time() - start}
    each = [
        surface_scores(head, code, scan, pool, options.resolution) for code, scan in zip(codes, scans, strict=True)
    ]
    names = {name for row in each for name in row} - {"handles", "points_ears"}  # bald heads have no score of hair
    scores |= {name: float(np.mean([row[name] for row in each if name in row])) for name in sorted(names)}
    scores["handles"] = [row["handles"] for row in each]
    scores |= ears_by_area(each)
    scores |= motion_scores(head, codes, scans, pool, options.expressions, options.seed)
    shapes = sorted(scores["shapes"].items(), key=lambda item: -item[1])
    scores |= {"worst_shape": shapes[0][1], "mean_shape": float(np.mean([value for _, value in shapes]))}
    if head.config.deformation == "both":
        scores |= backward_scores(head, codes, scans, pool, options.expressions // 2, options.seed)
    scores |= people(head, options.sampled)
    print(table(scores))
    print("\n" + by_head(each, scans))
    print("\nworst shapes: " + ", ".join(f"{name} {value:.0%}" for name, value in shapes[:6]))
    if options.output:
        with atomic_path(options.output) as temporary:
            temporary.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    run_script(main)
