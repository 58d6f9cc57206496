# SPDX-License-Identifier: MIT
"""Tongue, teeth and lips: what is seen of the tongue, and how deep anything goes into anything else.

    python benchmarks/tongue.py

Two parts: the 53 handles of the head one by one, and the three shipped clips with their phones. Depths are measured
from vertices of one part to the nearest vertex of the other, along its normal. The table goes to docs/head.md.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from facetalk_hf import FaceTalkPipeline, HeadAnimation
from facetalk_hf.audio.io import load_audio
from facetalk_hf.blendshapes import TONGUE
from facetalk_hf.evaluation.studies import write_between_markers
from facetalk_hf.evaluation.timing import machine
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.mesh.geometry import Surface
from facetalk_hf.mesh.parts import SKIN, TEETH
from facetalk_hf.paths import TINY
from facetalk_hf.phones.alignment import align
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
CLIPS = {
    ROOT / "facetalk_hf/assets/demo.wav": "Mama, would you move the blue balloon? "
    "Bob, please bring me a bowl of soup.",
    ROOT / "spaces_app/clips/hello.mp3": "Hello there! Pick a face, press the button, and I will say it again.",
    ROOT / "spaces_app/clips/peter.mp3": "Peter Piper picked a peck of pickled peppers.",
}
RATE, EYE = 16000, 600.0  # Hz; mm from the lips to the camera
OPEN = 2.0  # mm between the inner lips


class Mouth:
    """Parts of a head's mouth, and what is measured on them."""

    def __init__(self, animation: HeadAnimation) -> None:
        self.animation = animation
        names = animation.target_names
        self.tongue = np.flatnonzero(np.any(animation.targets[names.index("tongueOut")], axis=1))
        teeth = np.setdiff1d(np.flatnonzero(animation.parts == TEETH), self.tongue)
        light = animation.colors[teeth].astype(int)
        self.crowns = teeth[light[:, 1] > 0.8 * light[:, 0]]  # gums are red
        marks = animation.landmarks[0, 60:68] if animation.landmarks is not None else np.zeros((8, 3))
        self.seam = marks.mean(0)
        near = np.linalg.norm(animation.base - self.seam, axis=1) < 45
        self.faces = animation.faces[near[animation.faces].all(1)]
        self.surface = Surface(self.faces, len(animation.base))
        skin = np.flatnonzero((animation.parts == SKIN) & near)
        self.lips = skin[cKDTree(marks).query(animation.base[skin])[0] < 8]
        tongue = animation.base[self.tongue]
        self.tip = self.tongue[tongue[:, 2] > tongue[:, 2].max() - 8]

    def depth(self, vertices: np.ndarray, normals: np.ndarray, others: np.ndarray) -> float:
        """Measure how far tongue and other vertices are inside each other, mm, at the worst place."""
        worst = 0.0
        for inside, around in ((self.tongue, others), (others, self.tongue)):
            away, index = cKDTree(vertices[around]).query(vertices[inside], distance_upper_bound=4.0)
            found = np.isfinite(away)
            nearest = around[index[found]]
            height = np.einsum("ij,ij->i", vertices[inside[found]] - vertices[nearest], normals[nearest])
            # Beside a vertex, its plane is no surface: count what is straight below it.
            worst = max(worst, float(np.max(-height[-height > 0.7 * away[found]], initial=0.0)))
        return worst

    def seen(self, vertices: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Tell which of some vertices a camera in front of the mouth sees, (n,) bool."""
        rays = self.seam + [0, 0, EYE] - vertices[which]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        mesh = trimesh.Trimesh(vertices, self.faces, process=False)
        return ~mesh.ray.intersects_any(vertices[which] + 0.4 * rays, rays)


def handles(mouth: Mouth) -> tuple[float, float]:
    """Move every handle that is not of eyes or brows to 1: depth of the tongue in teeth and in lips, mm."""
    teeth = lips = 0.0
    for name, target in zip(mouth.animation.target_names, mouth.animation.targets, strict=True):
        if name in TONGUE or name.startswith(("eye", "brow")):
            continue
        vertices = mouth.animation.base + target
        normals = mouth.surface.normals(vertices)[0]
        teeth = max(teeth, mouth.depth(vertices, normals, mouth.crowns))
        lips = max(lips, mouth.depth(vertices, normals, mouth.lips))
    return teeth, lips


def clip(mouth: Mouth, moving: HeadAnimation, phones: list[str], every: int) -> tuple[float, float, list[bool]]:
    """Measure a clip: depth of the tongue in teeth and in lips, mm; whether open frames of l, th, dh show it."""
    teeth = lips = 0.0
    seen = []
    assert moving.landmarks is not None
    gap = moving.landmarks[:, [61, 62, 63], 1].mean(1) - moving.landmarks[:, [67, 66, 65], 1].mean(1)
    for frame, phone in enumerate(phones):
        tip = phone in ("l", "th", "dh") and gap[frame] > OPEN
        if not tip and frame % every:
            continue
        vertices = moving.vertices(frame)
        normals = mouth.surface.normals(vertices)[0]
        teeth = max(teeth, mouth.depth(vertices, normals, mouth.crowns))
        lips = max(lips, mouth.depth(vertices, normals, mouth.lips))
        if tip:
            seen.append(int(mouth.seen(vertices, mouth.tip).sum()) >= 6)
    return teeth, lips, seen


def main(argv: list[str] | None = None) -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, nargs="+", default=[0, 5, 9])
    parser.add_argument("--resolution", type=int, default=96, help="grid cells along the head")
    parser.add_argument("--every", type=int, default=2, help="measure each nth frame")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "head.md")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    pipe = FaceTalkPipeline.from_pretrained(TINY).few_steps()
    pipe.set_progress_bar_config(disable=True)
    pipe.decoder = decoder = BlendshapeDecoder(pipe.head, args.resolution)
    fps, said = pipe.config["fps"], []
    for path, text in CLIPS.items():
        sound = load_audio(path, RATE)
        phones = align(sound, RATE, text).phones
        source = torch.Generator().manual_seed(args.seed)
        output = pipe(sound, RATE, phones=phones, generator=source, output_type="expression")
        middles = (np.arange(len(output.expressions[0])) + 0.5) / fps
        ends = np.array([segment.end for segment in phones])
        names = [phones[min(index, len(phones) - 1)].phone for index in np.searchsorted(ends, middles)]
        said.append((output.expressions[0], output.tongue[0], names))
    rows = ["identity | handles: teeth mm | lips mm | clips: teeth mm | lips mm | tip seen"]
    rows.append(" | ".join(["---"] + ["---:"] * 5))
    for identity in args.identities:
        still = decoder(np.zeros((1, pipe.head.config.expression_dim), np.float32), identity)
        mouth = Mouth(still)
        found = handles(mouth)
        parts = [
            clip(mouth, decoder(codes, identity).with_tongue(tongue), names, args.every)
            for codes, tongue, names in said
        ]
        seen = [item for part in parts for item in part[2]]
        cells = [f"{identity}", f"{found[0]:.2f}", f"{found[1]:.2f}"]
        cells += [f"{max(part[index] for part in parts):.2f}" for index in (0, 1)]
        rows.append(" | ".join([*cells, f"{sum(seen)} of {len(seen)}"]))
        print(rows[-1], flush=True)
    table = "\n".join(f"| {row} |" for row in rows)
    about = (
        f"Depth of the tongue in others: handles at 1, one frame in {args.every} of the three clips, all open ones "
        f"of l, th, dh, where the tip is seen from in front or not; seed {args.seed}, few steps; {machine()}."
    )
    write_between_markers(args.page, "tongue", f"{table}\n\n{about}")


if __name__ == "__main__":
    run_script(main)
