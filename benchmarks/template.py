# SPDX-License-Identifier: MIT
"""How near the template of exported heads is to their extracted surface, and how large the glb files of a clip are.

`python benchmarks/template.py TALK.npz [--identities 0 random:1]`, with an npz of `facetalk generate`: for each
identity how far vertices of the surface are from the template, at rest and with an open mouth, by regions; the size of
its glb. With `--unmarked` the heads have no landmarks, but anchors as NPHM and MonoNPHM predict them (places of the
template that are off by `--off` mm), or none that can be used: how near the template then comes, and how far its
landmarks are from those that they are.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from facetalk_hf import TINY
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.animation.npz import load_animation
from facetalk_hf.animation.template_head import on_template, open_pose
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.head.regions import region_masks
from facetalk_hf.mesh.geometry import Surface
from facetalk_hf.mesh.parts import MOUTH, SKIN
from facetalk_hf.scripts import run_script
from facetalk_hf.template.fitting import Target
from facetalk_hf.template.starts import EXPANSES, FEATURES
from facetalk_hf.template.topology import load_topology, split


FILES = {"template": {}, "template, compressed": {"compress": True}}


def distances(animation: HeadAnimation) -> dict[str, tuple[float, float, float]]:
    """Mean, 95th and 99th percentile in mm of the distance from the surface to the template, by region, two poses."""
    head, topology = on_template(animation), load_topology()
    first = np.searchsorted(topology.owner, np.arange(len(topology.shape)))
    kinds = animation.parts[animation.faces].max(1)
    faces = animation.faces[(kinds == SKIN) | (kinds == MOUTH)]
    masks = region_masks(animation.base, animation.base[animation.landmark_vertices], animation.parts)
    found: dict[str, list[np.ndarray]] = {name: [] for name in masks}
    for fine, coarse in ((animation.base, head.animation.base), (open_pose(animation), open_pose(head.animation))):
        target = Target(coarse[first], split(topology.quads))
        corners, shares = target.project(fine, Surface(faces, len(fine)).normals(fine)[0])
        off = np.linalg.norm(np.einsum("nc,ncd->nd", shares, target.vertices[corners]) - fine, axis=1)
        for name, mask in masks.items():
            found[name].append(off[mask])
    return {
        name: (np.concatenate(part).mean(), *np.quantile(np.concatenate(part), [0.95, 0.99]))
        for name, part in found.items()
    }


def unmarked(animation: HeadAnimation, off: float, seed: int = 0) -> list[tuple]:
    """Fit the template to skin and mouth alone, without landmarks: kind of start, face error, landmarks' error, mm."""
    topology, truth = load_topology(), on_template(animation).animation
    first = np.searchsorted(topology.owner, np.arange(len(topology.shape)))
    kinds, rng = animation.parts[animation.faces].max(1), np.random.default_rng(seed)
    used, faces = np.unique(animation.faces[(kinds == SKIN) | (kinds == MOUTH)], return_inverse=True)
    alone = animation.replace(
        base=animation.base[used], targets=animation.targets[:, used], faces=faces.reshape(-1, 3),
        colors=animation.colors[used], parts=np.zeros(len(used)), landmark_vertices=None,
        target_names=tuple(f"component_{number:02d}" for number in range(len(animation.targets))),
    )  # fmt: skip
    frame = int(np.argmax(animation.lip_aperture))
    surface, places = animation.vertices(frame)[used], truth.vertices(frame)[first]
    rows = []
    for count in (39, 65, 10):
        pairs = np.array(FEATURES.get(count, ()) + EXPANSES.get(count, ())).reshape(-1, 2).astype(int)
        anchors = np.zeros(count, int)
        moved = places[pairs[:, 1]] + rng.normal(0, off / 3**0.5, (len(pairs), 3))
        anchors[pairs[:, 0]] = cKDTree(surface).query(moved)[1] if len(pairs) else 0
        try:
            found = on_template(alone.replace(anchor_vertices=anchors))
        except FaceTalkError as error:
            rows.append((count, str(error), "-", "-"))
            continue
        marks = first[topology.landmarks]
        apart = np.linalg.norm(found.animation.base[marks] - truth.base[marks], axis=1)
        rows.append((count, found.error, float(apart.mean()), float(apart.max())))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", type=Path)
    parser.add_argument("--identities", nargs="+", default=["0", "3", "7", "random:1", "random:2"], metavar="N")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="how often the clip is in the files")
    parser.add_argument("--model", default=TINY)
    parser.add_argument("--unmarked", action="store_true", help="measure heads without landmarks instead")
    parser.add_argument("--off", type=float, default=4.0, metavar="MM", help="root mean square error of anchors")
    options = parser.parse_args()
    decoder = make_decoder(load_head(options.model))
    clip = load_animation(options.npz)
    if options.unmarked:
        print("| head | anchors | face, 99 % | landmarks, mean | largest |\n|---|---|---|---|---|")
        for number in options.identities:
            animation = decoder(clip.expressions, int(number) if number.isdecimal() else number)
            for count, *values in unmarked(animation.replace(weights=clip.weights), options.off):
                cells = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)
                print(f"| {number} | {count} | " + " | ".join(cells) + " |", flush=True)
        return
    print("| head | region | mean | 95 % | 99 % |\n|---|---|---|---|---|")
    sizes = []
    for number in options.identities:
        animation = decoder(clip.expressions, int(number) if number.isdecimal() else number).replace(
            weights=clip.weights, fps=clip.fps
        )
        animation = animation.replace(
            weights=np.tile(clip.weights, (options.repeat, 1)), expressions=None, landmarks=None, lip_aperture=None
        )
        start = time.process_time()
        on_template(animation)
        spent = time.process_time() - start
        for name, values in distances(animation).items():
            print(f"| {number} | {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            files = [animation.save(Path(folder) / "a.glb", **more).stat().st_size / 1e6 for more in FILES.values()]
        sizes.append(f"| {number} | " + " | ".join(f"{size:.2f}" for size in files) + f" | {spent:.1f} |")
    print(
        f"\n{clip.duration * options.repeat:.1f} s\n\n| head | "
        + ", MB | ".join(FILES)
        + ", MB | template, s of CPU time |"
    )
    print("|---|---|---|---|", *sizes, sep="\n")


if __name__ == "__main__":
    run_script(main)
