# SPDX-License-Identifier: MIT
"""How far codes fitted to scans are from the true ones, and what a denoiser trained on either is worth.

    python benchmarks/fitted_codes.py --scans data/scans --fits data/fits --data data/heads --corpus data/corpus \
        --output fitted_codes.json --metrics true=true-0.json true=true-1.json fitted=fitted-0.json

Prints the tables of docs/fitting.md. --metrics are files of training/evaluate.py; those of one label are seeds of one
recipe. --corpus only counts hours, for what fitting all of it would take.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.data.corpus import read
from facetalk_hf.evaluation.head_metrics import REGIONS
from facetalk_hf.evaluation.metrics import closure_score, correlation
from facetalk_hf.evaluation.scores import lips_closed, weight_aperture
from facetalk_hf.evaluation.studies import markdown_table
from facetalk_hf.files import atomic_path
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.head.decoder import aperture
from facetalk_hf.head.loading import load_head
from facetalk_hf.models.nphm import NPHMModel
from facetalk_hf.scripts import run_script
from facetalk_hf.synthetic.scans import MILLIMETRES, SpeakingHead


GROUPS = {"jaw": "jaw", "lips": "mouth", "lids": ("eyeBlink", "eyeSquint", "eyeWide"), "brows": "brow"}
GROUPS["cheeks, nose, gaze"] = ("cheek", "nose", "eyeLook")
USED = 0.01
"""Standard deviation of the true weight from which on a shape counts as one that the motion uses."""
COLUMNS = (*REGIONS, "lip velocity", "lip gap")
SCORES = ("aperture", "jaw", "pucker", "funnel", "f1", "f1_1", "lve_rooted", "silence", "speed", "speed_target")
SCORES += ("diversity",)


def read_pairs(scans: Path, fits: Path) -> list[dict]:
    """Every fitted sequence: fitted and true `weights` (T, 53), `closure` (T,), `person`, `identity`."""
    pairs = []
    for path in sorted(fits.glob("*/fit.npz")):
        place = scans / path.parent.name
        with np.load(path) as fit, np.load(place / "truth.npz") as truth:
            pair = {"fitted": fit["weights"], "true": truth["weights"], "closure": truth["closure"]}
        about = json.loads((place / "sequence.json").read_text())
        pairs.append(pair | {"person": about["person"], "identity": np.load(place / "identity.npy")})
    if not pairs:
        raise FaceTalkError(f"no fit.npz in the folders of {fits}: training/fit_expressions.py writes them")
    return pairs


def shape_scores(pairs: list[dict]) -> dict:
    """Errors of weights, over all frames of all sequences."""
    fitted, true = (np.concatenate([pair[name] for pair in pairs]) for name in ("fitted", "true"))
    shut, taught = lips_closed(fitted), np.concatenate([pair["closure"] for pair in pairs]) > 0.5
    spread = np.sqrt(true.var(0).mean())
    lids = [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]
    blinks = [weights[:, lids].mean(1) > 0.5 for weights in (fitted, true)]
    result = {
        "sequences": len(pairs), "frames": len(true),
        "error": float(np.sqrt(np.square(fitted - true).mean()) / spread),
        "error_rest": float(np.sqrt(np.square(true).mean()) / spread),
        "aperture": correlation(weight_aperture(fitted), weight_aperture(true)),
        "closure": closure_score(shut, taught)["f1"], "closure_1": closure_score(shut, taught, 1)["f1"],
        "closure_true": closure_score(lips_closed(true), taught)["f1"],
        "blinks": closure_score(*blinks, tolerance=1)["f1"],
    }  # fmt: skip
    result["shapes"] = {
        name: correlation(fitted[:, i], true[:, i]) for i, name in enumerate(EXPRESSIONS) if true[:, i].std() > USED
    }
    for group, start in GROUPS.items():
        columns = [i for i, name in enumerate(EXPRESSIONS) if name.startswith(start)]
        used = [i for i in columns if true[:, i].std() > USED]
        still = [i for i in columns if i not in used]
        result[group] = {
            "used": len(used), "shapes": len(columns),
            "correlation": float(np.mean([correlation(fitted[:, i], true[:, i]) for i in used])) if used else None,
            "rmse": float(np.sqrt(np.square(fitted - true)[:, used].mean())) if used else None,
            "spread": float(np.sqrt(true[:, used].var(0).mean())) if used else None,
            "false": float(np.sqrt(np.square(fitted - true)[:, still].mean())) if still else None,
        }  # fmt: skip
    return result


@torch.no_grad()
def point_scores(pairs: list[dict], head: NPHMModel, data: Path, samples: int = 500) -> dict[str, dict[str, float]]:
    """Mean distance in mm of points from where they truly are, by region; the lips' velocity error a frame; lip gap.

    "lip gap" is the mean error of the distance between the inner lips. For the fitted weights, the true ones (what the
    head itself leaves) and none (the mouth at rest).
    """
    pool, found = dict(np.load(data / "template.npz")), []
    for name in tqdm(sorted({pair["person"] for pair in pairs}), desc="people"):
        person = SpeakingHead(pool, dict(np.load(data / f"{name}.npz")))
        rng = np.random.default_rng(0)
        rows = {
            region: rng.permutation(np.flatnonzero(np.isin(person.region, numbers)))[:samples]
            for region, numbers in REGIONS.items()
        }
        field = None
        for pair in (pair for pair in pairs if pair["person"] == name):
            if field is None:
                field = make_field(head, torch.from_numpy(pair["identity"]))
                places = {region: torch.from_numpy(person.canonical[row]) for region, row in rows.items()}
                bases = {r: head.forward_net.basis(p[None], field.controls, field.glob)[0] for r, p in places.items()}
            scores = {}
            gap = aperture(np.stack([person.posed_landmarks(frame) for frame in pair["true"]])) * MILLIMETRES
            exact = {
                region: torch.from_numpy(np.stack([person.posed(frame, row) for frame in pair["true"]]).astype("f4"))
                for region, row in rows.items()
            }
            for kind in ("fitted", "true", "rest"):
                weights = np.zeros_like(pair["true"]) if kind == "rest" else pair[kind]
                mix = torch.from_numpy(weights).float() @ field.mix.T + field.rest
                posed = field.posed_landmarks(torch.from_numpy(weights).float()).numpy()
                scores[kind, "lip gap"] = float(np.abs(aperture(posed) * MILLIMETRES - gap).mean())
                for region in REGIONS:
                    ours = places[region] + torch.einsum("prk,tr->tpk", bases[region], mix)
                    wrong = (ours - exact[region]) * MILLIMETRES
                    scores[kind, region] = float(wrong.norm(dim=-1).mean())
                    if region == "lips":
                        scores[kind, "lip velocity"] = float((wrong[1:] - wrong[:-1]).norm(dim=-1).mean())
            found.append(scores)
    return {
        kind: {part: float(np.mean([s[kind, part] for s in found])) for part in COLUMNS}
        for kind in ("fitted", "true", "rest")
    }


def cost(fits: Path, corpus: Path | None) -> dict[str, float]:
    """Seconds a frame of the fits that were made in one go, and the core-hours of a whole corpus at that."""
    reports = [json.loads(path.read_text()) for path in fits.glob("*/report.json")]
    timed = [report for report in reports if "thread_s" in report]
    seconds = sum(report["thread_s"] for report in timed) / max(sum(report["frames"] for report in timed), 1)
    result = {"seconds_a_frame": seconds, "timed": len(timed)}
    if corpus is not None:
        rows = list(read(corpus, ("train", "validation", "test"), ("closure", "fps")))
        frames = sum(len(row["closure"]) for row in rows)
        result |= {"hours": sum(len(row["closure"]) / row["fps"] for row in rows) / 3600, "frames": frames}
        result["core_hours"] = frames * seconds / 3600
    return result


def denoiser_scores(files: list[str]) -> dict[str, dict[str, list[float]]]:
    """Label -> score -> a value for each file, the mean over its voices."""
    result: dict[str, dict[str, list[float]]] = {}
    for item in files:
        label, _, path = item.partition("=")
        voices = json.loads(Path(path).read_text())["scores"].values()
        for name in SCORES:
            values = [voice["diffusion"][name] for voice in voices if name in voice["diffusion"]]
            if values:
                result.setdefault(label, {}).setdefault(name, []).append(float(np.mean(values)))
    return result


def show(result: dict) -> None:
    """Print the tables."""
    parts = result["parts"]
    names = ("sequences", "error", "aperture", "closure", "closure_1", "closure_true", "blinks")
    heads = ("", "sequences", "code error / spread", "aperture r", "closure F1", "within 1 frame", "F1 of the truth")
    heads += ("blinks F1",)
    print(markdown_table(heads, [[part, *(scores[name] for name in names)] for part, scores in parts.items()]))
    print(f"\n(error of no expression at all: {parts['all']['error_rest']:.3f} of the spread)\n")
    columns = ("used", "shapes", "correlation", "rmse", "spread", "false")
    heads = ("group", "shapes in use", "of", "correlation", "error", "spread", "false activity of the others")
    print(markdown_table(heads, [[group, *(parts["all"][group][c] for c in columns)] for group in GROUPS]))
    shapes = sorted(parts["all"]["shapes"].items(), key=lambda item: -item[1])
    print("\n" + ", ".join(f"{name} {value:.2f}" for name, value in shapes if not name.endswith("_R")))
    if "points" in result:
        rows = [
            [f"{people}: {kind}", *(values[part] for part in COLUMNS)]
            for people, kinds in result["points"].items()
            for kind, values in kinds.items()
        ]
        print("\n" + markdown_table(("mm", *COLUMNS), rows))
    print(f"\n{json.dumps(result['cost'])}\n")
    if result["denoisers"]:
        labels = result["denoisers"]
        cells = [
            [name, *(" ".join(f"{v:.3f}" for v in values.get(name, [])) or "–" for values in labels.values())]
            for name in SCORES
        ]
        print(markdown_table(("score, a value a seed", *labels), cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True, help="folder written by training/scan_corpus.py")
    parser.add_argument("--fits", type=Path, required=True, help="folder written by training/fit_expressions.py")
    parser.add_argument("--data", type=Path, help="folder written by build_heads.py: errors in mm as well")
    parser.add_argument("--corpus", type=Path, help="the whole corpus, for what fitting it would take")
    parser.add_argument("--model", default=str(TINY), help="model or head of the codes")
    parser.add_argument("--metrics", nargs="*", default=[], metavar="LABEL=FILE", help="files of training/evaluate.py")
    parser.add_argument("--output", type=Path, help="all numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = read_pairs(options.scans, options.fits)
    people = {
        "all": pairs,
        "people in training": [pair for pair in pairs if pair["person"].startswith("train")],
        "held-out people": [pair for pair in pairs if not pair["person"].startswith("train")],
    }
    people = {name: chosen for name, chosen in people.items() if chosen}
    result = {
        "parts": {name: shape_scores(chosen) for name, chosen in people.items()},
        "cost": cost(options.fits, options.corpus), "denoisers": denoiser_scores(options.metrics),
    }  # fmt: skip
    if options.data:
        head = load_head(str(options.model))
        kinds = {name: chosen for name, chosen in people.items() if name != "all"}
        result["points"] = {name: point_scores(chosen, head, options.data) for name, chosen in kinds.items()}
    show(result)
    if options.output:
        with atomic_path(options.output) as temporary:
            temporary.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    run_script(main)
