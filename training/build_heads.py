# SPDX-License-Identifier: MIT
"""Build the scans that the small NPHM is trained on, from ICT-FaceKit's morphable head.

    python training/build_heads.py --ict path/to/ICT-FaceKit/FaceXModel --output data/heads

A scan is one random identity in the canonical pose (mouth open, as in NPHM): points with exact signed distances,
control points, and the identity's coefficients. `template.npz` holds what all identities share: a pool of surface
samples with their identity and expression bases, from which training makes correspondences by two matrix products.

Units: 1 = 250 mm = 25 ICT units; origin = ICT (0, 0, 6); +x the subject's left, +y up, +z front.
"""

import argparse
import functools
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.files import atomic_path


UNIT, ORIGIN = 25.0, np.array([0.0, 0.0, 6.0])
SKIN = 13294  # face, head and neck, mouth socket come first in ICT-FaceKit's vertex order
SOCKET = 11248
SCLERA = (slice(21451, 22221), slice(23021, 23791))  # the subject's left eye, then the right one
CANONICAL_JAW = 0.45
NECK_POINT, NECK_NORMAL = np.array([0.0, -12.6, 2.0]), np.array([0.0, -1.0, -0.4]) / np.hypot(1.0, 0.4)

# Where anchors sit on the neutral template, in ICT units: 16 pairs given by their left member, then 7 in the middle.
ANCHOR_PAIRS = [
    (1.84, 3.25, 9.2), (4.46, 3.43, 8.6), (3.1, 4.1, 9.6), (3.1, 2.9, 9.5), (3.4, 5.4, 10.0), (5.0, -0.5, 9.0),
    (2.3, -3.6, 10.2), (1.0, -2.6, 11.6), (1.0, -4.3, 11.4), (1.3, 0.0, 12.0), (6.5, -5.0, 3.0), (2.5, -7.4, 9.5),
    (8.8, 1.0, -0.5), (7.3, 7.0, 3.0), (6.0, 5.0, -6.0), (5.5, -9.5, 0.0),
]  # fmt: skip
ANCHOR_MIDDLE = [
    (0, 0.4, 13.1), (0, 5.0, 10.8), (0, 10.0, 9.5), (0, 14.5, 0), (0, 4.0, -8.8), (0, -7.6, 10.4), (0, -11.0, 4.5),
]  # fmt: skip
# Incisal points of five upper and five lower teeth (middle, left canine and molar, right canine and molar).
UPPER_TEETH = [(0, -3.5, 10.7), (1.6, -3.44, 9.8), (2.9, -3.1, 5.6), (-1.6, -3.44, 9.8), (-2.9, -3.1, 5.6)]
LOWER_TEETH = [(0, -3.41, 10.5), (1.5, -3.24, 9.6), (2.7, -2.97, 5.7), (-1.5, -3.24, 9.6), (-2.7, -2.97, 5.7)]


class Template:
    """ICT-FaceKit's shapes, in ICT units: `neutral` (V, 3), `expressions` (53, V, 3), `identities` (100, V, 3)."""

    def __init__(self, folder: Path):
        indices = json.loads((folder / "vertex_indices.json").read_text())
        if tuple(indices["expressions"]) != EXPRESSIONS:
            raise SystemExit(f"{folder}: the expression names are not those this package was written for")
        self.neutral = read_vertices(folder / "generic_neutral_mesh.obj")
        self.expressions = np.stack([read_vertices(folder / f"{name}.obj") - self.neutral for name in EXPRESSIONS])
        self.identities = np.stack([read_vertices(folder / f"identity{i:03d}.obj") - self.neutral for i in range(100)])
        self.landmarks = np.array(indices["idx_to_landmark_verts"])
        self.faces = triangles(folder / "generic_neutral_mesh.obj")
        self.faces = self.faces[(self.faces < SKIN).all(1)]
        self.canonical = self.neutral + CANONICAL_JAW * self.expressions[INDEX["jawOpen"]]
        self.surface = close_holes(self.neutral[:SKIN], self.faces)

    def nearest(self, points: list, within: slice = slice(0, SKIN)) -> np.ndarray:
        """Index of the neutral vertex nearest to each of (n, 3) points."""
        distance = np.linalg.norm(self.neutral[None, within] - np.asarray(points, float)[:, None], axis=2)
        return distance.argmin(1) + (within.start or 0)

    def anchor_vertices(self) -> np.ndarray:
        left = self.nearest(ANCHOR_PAIRS)
        right = self.nearest(self.neutral[left] * [-1, 1, 1])
        return np.concatenate([np.stack([left, right], 1).ravel(), self.nearest(ANCHOR_MIDDLE)])

    def teeth_vertices(self) -> np.ndarray:
        """Crown vertices of the upper, then of the lower arch."""
        upper, lower = slice(17039, 19247), slice(19247, 21451)
        return np.concatenate([self.nearest(UPPER_TEETH, upper), self.nearest(LOWER_TEETH, lower)])


def read_vertices(path: Path) -> np.ndarray:
    with open(path) as file:
        return np.array([line.split()[1:4] for line in file if line.startswith("v ")], dtype=np.float64)


def triangles(path: Path) -> np.ndarray:
    """(F, 3) int triangles of an OBJ; quads are split along their first diagonal."""
    result = []
    with open(path) as file:
        for line in file:
            if line.startswith("f "):
                corners = [int(token.split("/")[0]) - 1 for token in line.split()[1:]]
                result += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
    return np.array(result)


def close_holes(vertices: np.ndarray, faces: np.ndarray) -> dict:
    """Weld the neutral template by position and close its boundary loops (eyes, neck) with fans.

    Returns `weld` (V,) old to new vertex, `faces` (F, 3) of the closed surface over the new vertices followed by one
    centre a loop, and `loops`, the new vertices of each loop.
    """
    _, first, weld = np.unique(vertices.round(5), axis=0, return_index=True, return_inverse=True)
    weld = weld.ravel()
    faces = weld[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(a, b) for a, b in half.tolist()}
    following = {a: b for a, b in known if (b, a) not in known}
    loops, fans, centre = [], [], len(first)
    while following:
        start = current = next(iter(following))
        loop = []
        while current in following:
            loop.append(current)
            current = following.pop(current)
        if current != start:
            raise SystemExit("the template's boundary is not made of closed loops")
        fans += [(loop[(i + 1) % len(loop)], loop[i], centre + len(loops)) for i in range(len(loop))]
        loops.append(np.array(loop))
    return {"weld": weld, "first": first, "faces": np.concatenate([faces, fans]), "loops": loops}


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of the sphere through (n, 3) points, by linear least squares."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))


def density(template: Template) -> np.ndarray:
    """(V,) how much more often than elsewhere a vertex' neighbourhood is sampled."""
    neutral = template.neutral[:SKIN]
    weight = np.ones(SKIN)
    weight[(neutral[:, 2] > 4) & (neutral[:, 1] > -9)] = 2.0  # the front of the head
    weight[(np.abs(neutral[:, 0]) > 7.2) & (np.abs(neutral[:, 1] - 0.8) < 4) & (np.abs(neutral[:, 2] + 0.5) < 3)] = 2.0
    weight[np.linalg.norm(neutral - [0, 0.3, 12.5], axis=1) < 2.2] = 3.0  # the nose
    marks = neutral[template.landmarks]
    mouth = np.linalg.norm(neutral[:, None] - marks[None, 48:68], axis=2).min(1)
    eyes = np.linalg.norm(neutral[:, None] - marks[None, 36:48], axis=2).min(1)
    weight[(mouth < 1.3) | (eyes < 1.2)] = 6.0
    weight[(mouth < 0.5) | (eyes < 0.5)] = 12.0
    weight[SOCKET:] = np.where(neutral[SOCKET:, 2] > 8, 2.0, 0.3)
    return weight


def signed_distance(points: np.ndarray, head: np.ndarray, faces: np.ndarray, eyes: list) -> np.ndarray:
    """(n,) distance in ICT units to the head united with its eyeballs and cut at the neck; negative inside."""
    import igl

    distance = igl.signed_distance(points, head, faces, igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER)[0]
    for centre, radius in eyes:
        distance = np.minimum(distance, np.linalg.norm(points - centre, axis=1) - radius)
    return np.maximum(distance, (points - NECK_POINT) @ NECK_NORMAL)


def sample_surface(vertices, faces, probability, count, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random points (n, 3) on triangles, with their faces (n,) and barycentric coordinates (n, 3)."""
    chosen = rng.choice(len(faces), count, p=probability)
    barycentric = rng.dirichlet([1, 1, 1], count)
    return np.einsum("nc,ncd->nd", barycentric, vertices[faces[chosen]]), chosen, barycentric


def face_probability(vertices: np.ndarray, faces: np.ndarray, weight: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    probability = area * weight[faces].mean(1)
    return probability / probability.sum()


def scan(template: Template, seed: int, neutral: bool = False, held_out: bool = False) -> dict[str, np.ndarray]:
    """One identity in the canonical pose; all results in model units. A held-out one can be measured against."""
    rng = np.random.default_rng(seed)
    coefficients = np.zeros(100) if neutral else rng.normal(0, 0.8, 100)
    shape = template.canonical + np.tensordot(coefficients, template.identities, 1)
    surface = template.surface
    head = shape[surface["first"]]
    head = np.concatenate([head, [head[loop].mean(0) for loop in surface["loops"]]])
    eyes = [fit_sphere(shape[part]) for part in SCLERA]
    weight = density(template)[surface["first"]]
    weight = np.concatenate([weight, np.zeros(len(surface["loops"]))])
    points = sample_surface(head, surface["faces"], face_probability(head, surface["faces"], weight), 60_000, rng)[0]
    for centre, radius in eyes:
        points = points[np.linalg.norm(points - centre, axis=1) > radius]
    points = points[(points - NECK_POINT) @ NECK_NORMAL < 0]
    balls = []
    for centre, radius in eyes:
        direction = rng.normal(size=(9000, 3))
        direction[:, 2] = np.abs(direction[:, 2])
        balls.append(centre + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    low, high = points.min(0) - 2.5, points.max(0) + 2.5
    cap = rng.uniform(low, high, (60_000, 3))
    cap -= ((cap - NECK_POINT) @ NECK_NORMAL)[:, None] * NECK_NORMAL
    candidates = np.concatenate([points, *balls, cap])
    # What lies on a part but not on the united solid (fans behind the eyes, a mouth bag that leaves the head) goes.
    exact = signed_distance(candidates, head, surface["faces"], eyes)
    on_cap = np.arange(len(candidates)) >= len(candidates) - len(cap)
    keep = np.abs(exact) < 0.004
    keep &= ~on_cap | (rng.random(len(candidates)) < 0.5)
    on_surface = candidates[keep]
    sigma = UNIT * rng.choice([0.003, 0.01, 0.03], len(on_surface), p=[0.5, 0.3, 0.2])
    close = on_surface + rng.normal(size=on_surface.shape) * sigma[:, None]
    far = rng.uniform(low, high, (8000, 3))
    samples = np.concatenate([on_surface, close, far])
    distance = np.concatenate(
        [np.zeros(len(on_surface)), signed_distance(np.concatenate([close, far]), head, surface["faces"], eyes)]
    )
    kind = np.repeat([0, 1, 2], [len(on_surface), len(close), len(far)]).astype(np.uint8)
    controls = shape[np.concatenate([template.anchor_vertices(), template.landmarks])]
    centres = np.stack([centre for centre, _ in eyes])
    fronts = centres + np.array([[0, 0, radius] for _, radius in eyes])
    controls = np.concatenate([controls, centres, fronts, shape[template.teeth_vertices()]])
    result = {
        "points": ((samples - ORIGIN) / UNIT).astype(np.float32),
        "distance": (distance / UNIT).astype(np.float32),
        "kind": kind,
        "controls": ((controls - ORIGIN) / UNIT).astype(np.float32),
        "coefficients": coefficients.astype(np.float32),
    }
    if held_out:
        even, normals = even_surface(head, surface["faces"], eyes, 200_000, rng)
        result |= {"surface": ((even - ORIGIN) / UNIT).astype(np.float32), "normals": normals.astype(np.float32)}
    return result


def even_surface(head, faces, eyes: list, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) with outward normals (n, 3), spread evenly over the united solid without the cut's plane."""
    corners = head[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    points, chosen, _ = sample_surface(head, faces, area / area.sum(), count, rng)
    parts, directions = [points], [normals[chosen] / area[chosen, None]]
    for centre, radius in eyes:
        direction = rng.normal(size=(round(count * 4 * np.pi * radius**2 / (area.sum() / 2)), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        parts.append(centre + radius * direction)
        directions.append(direction)
    points, directions = np.concatenate(parts), np.concatenate(directions)
    keep = np.abs(signed_distance(points, head, faces, eyes)) < 0.004
    return points[keep], directions[keep]


def shared(template: Template, count: int) -> dict[str, np.ndarray]:
    """The pool of surface samples: position = mean + coefficients @ identities, motion = weights @ expressions."""
    rng = np.random.default_rng(0)
    skin = template.canonical[:SKIN]
    probability = face_probability(skin, template.faces, density(template))
    mean, chosen, barycentric = sample_surface(skin, template.faces, probability, count, rng)

    def at(field):
        return np.einsum("nc,kncd->nkd", barycentric, field[:, template.faces[chosen]]) / UNIT

    neutral = np.einsum("nc,ncd->nd", barycentric, template.neutral[template.faces[chosen]])
    marks = template.neutral[template.landmarks]
    region = np.zeros(count, np.uint8)  # 1 face, 2 lips, 3 lids, 4 mouth bag
    region[(neutral[:, 2] > 4) & (neutral[:, 1] > -8.5) & (neutral[:, 1] < 9)] = 1
    region[np.linalg.norm(neutral[:, None] - marks[None, 48:68], axis=2).min(1) < 0.7] = 2
    region[np.linalg.norm(neutral[:, None] - marks[None, 36:48], axis=2).min(1) < 0.7] = 3
    region[(template.faces[chosen] >= SOCKET).all(1)] = 4
    anchors, teeth = template.anchor_vertices(), template.teeth_vertices()
    controls = np.concatenate([anchors, template.landmarks, teeth])
    return {
        "mean": ((mean - ORIGIN) / UNIT).astype(np.float32),
        "identities": at(template.identities[:, :SKIN]).astype(np.float16),
        "expressions": at(template.expressions[:, :SKIN]).astype(np.float16),
        "region": region,
        "canonical_weights": CANONICAL_JAW * (np.arange(53) == INDEX["jawOpen"]).astype(np.float32),
        "control_expressions": (template.expressions[:, controls] / UNIT).astype(np.float32),
    }


@functools.cache
def load_template(folder: Path) -> Template:
    """The template, read once a process."""
    return Template(folder)


def build(job: tuple[Path, Path, int, bool, bool]) -> None:
    folder, path, *options = job
    result = scan(load_template(folder), *options)
    with atomic_path(path) as temporary:
        np.savez(temporary, **result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=160, help="training identities; the first is the mean head")
    parser.add_argument("--held-out", type=int, default=8, help="further identities, for evaluation only")
    parser.add_argument("--samples", type=int, default=60_000, help="size of the shared pool of surface samples")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.ict / "vertex_indices.json").is_file():
        parser.error(f"{options.ict} is not a FaceXModel folder (no vertex_indices.json); clone ICT-VGL/ICT-FaceKit")
    jobs = [
        (options.ict, options.output / f"{kind}_{i:04d}.npz", options.seed + offset + i, kind == "train" and i == 0,
         kind == "test")
        for kind, number, offset in (("train", options.identities, 0), ("test", options.held_out, 100_000))
        for i in range(number)
    ]  # fmt: skip
    jobs = [job for job in jobs if not job[1].exists()]
    if not (options.output / "template.npz").exists():
        with atomic_path(options.output / "template.npz") as temporary:
            np.savez(temporary, **shared(Template(options.ict), options.samples))
    with ProcessPoolExecutor(options.workers) as pool:
        list(tqdm(pool.map(build, jobs), total=len(jobs), desc="scans"))


if __name__ == "__main__":
    main()
