# SPDX-License-Identifier: MIT
"""Measure where a tracker sees its landmarks on our heads: facetalk_hf/assets/face_landmarks.npz.

    python training/build_landmark_map.py --tracker face_landmarker.task --samples samples.npz --speech data/speech

Heads whose codes are known are rendered with other expressions, poses, cameras and light, and shown to the tracker.
Each landmark becomes the point of the canonical surface whose projections are nearest to where it is seen in all
pictures, and an offset from there; each weight that a blendshape score tells of, a line through the pictures. Mean
and covariance of weights in speech are those of a corpus.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.data import corpus
from facetalk_hf.files import atomic_path
from facetalk_hf.fitting.video.landmarks import SCORES
from facetalk_hf.fitting.video.person import IRISES, canonical_vertices, landmark_map, mesh_points
from facetalk_hf.fitting.video.reading import Picture
from facetalk_hf.fitting.video.tracker import Landmarker, find_weights
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.mesh.parts import EYES, SKIN
from facetalk_hf.mesh.pose import axis_rotations
from facetalk_hf.paths import LIBRARY
from facetalk_hf.rendering.renderer import HeadRenderer
from facetalk_hf.scripts import option, parse_config, run_script


SIZE = 448
"""Pixels of a picture's edge."""
PEOPLE = range(0, 32, 2)
PICTURES = 26
"""Pictures of each person."""
TOLD = (
    "eyeBlink", "eyeLookIn", "eyeLookOut", "eyeLookUp", "jawOpen", "mouthLeft", "mouthRight", "mouthSmile",
    "mouthFunnel",
)  # fmt: skip
"""Weights that are read from scores. Pucker's says little of ours (correlation .35) and held it near its mean."""

SPEECH = ("speech_mean", "speech")


@dataclass
class Options:
    """Options of this script."""

    samples: Path = option(Path("samples.npz"), "what the tracker saw; rendered where it is missing (3 minutes)")
    tracker: Path | None = option(None, "face_landmarker.task")
    speech: Path | None = option(None, "corpus of training/build_speech.py; the map's own statistics where absent")
    output: Path = option(LIBRARY / "assets" / "face_landmarks.npz", "the map")


def draw_expression(rng: np.random.Generator) -> np.ndarray:
    """Weights (53,): at rest, one shape, or some; then perhaps lids and gaze."""
    weights, kind = np.zeros(53), rng.random()
    if kind < 0.12:
        return weights
    if kind < 0.3:
        index = rng.integers(53)
        weights[index] = rng.uniform(0.4, 1)
        name = EXPRESSIONS[index]
        if name.endswith(("_L", "_R")):
            weights[INDEX[name[:-1] + "LR"["LR".index(name[-1]) - 1]]] = weights[index]
        if name == "mouthClose":
            weights[INDEX["jawOpen"]] = weights[index]
    else:
        for index, name in enumerate(EXPRESSIONS):
            if rng.random() < 0.22 and not name.startswith(("eyeLook", "eyeBlink")):
                weights[index] = rng.uniform(0, 0.7)
                if name.endswith("_R") and rng.random() < 0.85:
                    weights[index] = weights[INDEX[name[:-1] + "L"]]
        weights[INDEX["jawOpen"]] = rng.uniform(0, 0.7) if rng.random() < 0.6 else 0
        weights[INDEX["mouthClose"]] = weights[INDEX["jawOpen"]] * rng.random() if rng.random() < 0.3 else 0
    if rng.random() < 0.2:
        weights[[INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = 1.0 if rng.random() < 0.6 else rng.random()
    if rng.random() < 0.4:
        x, y = rng.normal(size=2) * 0.4
        for side, out in (("L", x), ("R", -x)):
            for way, amount in (("Out", out), ("In", -out), ("Up", y), ("Down", -y)):
                weights[INDEX[f"eyeLook{way}_{side}"]] = np.clip(amount, 0, 1)
    return weights


def draw_pose(rng: np.random.Generator, middle: np.ndarray, distance: float, straight: bool) -> np.ndarray:
    """Pose (4, 4) before the camera: up to 30 degrees of yaw, 18 of pitch, 12 of roll."""
    yaw, pitch, roll = np.radians(np.clip(rng.normal(size=3), -2, 2) * (not straight) * [15, 9, 6])
    pose = np.eye(4)
    turn = axis_rotations(1, np.array([yaw])) @ axis_rotations(0, np.array([-pitch]))
    pose[:3, :3] = (turn @ axis_rotations(2, np.array([-roll])))[0]
    pose[:3, 3] = np.array([rng.normal() * 12, rng.normal() * 8, -distance]) - pose[:3, :3] @ middle
    return pose


def take_samples(decoder: BlendshapeDecoder, tracker: Path) -> dict[str, np.ndarray]:
    """Show all people to the tracker: `person`, `weights`, `pose`, `focal`, `points`, `scores`, one row a picture."""
    rows: dict[str, list] = {name: [] for name in ("identity", "weights", "pose", "focal", "points", "scores")}
    lost = 0
    with Landmarker(tracker, 1, follow=False) as landmarker:
        for person in tqdm(PEOPLE, desc="people"):
            rng = np.random.default_rng(1000 + person)
            colors = [tuple(int(value) for value in rng.integers(30, 230, 3)) for _ in range(2)]
            weights = np.stack([draw_expression(rng) for _ in range(PICTURES)]).astype(np.float32)
            weights[0] = 0
            rest = decoder(np.zeros((1, decoder.head.config.expression_dim), np.float32), person)
            animation = rest.replace(weights=weights, expressions=None, landmarks=None, lip_aperture=None)
            eyes = animation.base[animation.parts == EYES]
            middle = np.array([0, eyes[:, 1].mean() - 35, eyes[:, 2].mean()])
            renderer = HeadRenderer(animation, SIZE, background=(colors[0], colors[1]), key_poses=3, samples=2)
            for number in range(PICTURES):
                focal = SIZE / 2 / np.tan(np.radians(rng.uniform(16, 50) / 2))
                distance = 200 * focal / (rng.uniform(0.55, 0.8) * SIZE)
                pose = draw_pose(rng, middle, distance, number == 0)
                renderer.film(np.zeros(3), focal)
                renderer.light_from(rng.uniform(-50, 70), rng.uniform(0.7, 1.15))
                image = renderer.render(animation.vertices(number), pose)
                faces = landmarker.detect(Picture(np.ascontiguousarray(image), 0.0, 1.0, (SIZE, SIZE)))
                lost += not faces
                for points, scores in faces:
                    row = (person, weights[number], pose, focal, points, scores)
                    for name, value in zip(rows, row, strict=True):
                        rows[name].append(value)
    print(f"{lost} of {len(PEOPLE) * PICTURES} pictures without a face")
    return {name: np.array(values) for name, values in rows.items()}


@dataclass
class Views:
    """C candidate points in S pictures: pixels (S, C, 2), how far they face the camera (S, C), mm of a pixel (S,)."""

    pixels: np.ndarray
    facing: np.ndarray
    scale: np.ndarray


def view_candidates(decoder: BlendshapeDecoder, places: np.ndarray, samples: dict[str, np.ndarray]) -> Views:
    """Project candidates, canonical places (C, 3) of the code zero, as they are in each picture."""
    count = len(samples["identity"])
    views = Views(*(np.zeros((count, *shape), np.float32) for shape in ((len(places), 2), (len(places),), ())))
    for person in np.unique(samples["identity"]):
        points = mesh_points(decoder, decoder.identity_code(int(person)), places, np.zeros((1, 3)))
        for row in np.flatnonzero(samples["identity"] == person):
            pose, focal = samples["pose"][row], samples["focal"][row]
            place = points.base + np.tensordot(samples["weights"][row], points.targets, 1)
            place = place @ pose[:3, :3].T + pose[:3, 3]
            views.pixels[row] = SIZE / 2 + focal * place[:, :2] * (1, -1) / -place[:, 2:]
            toward = -place / np.linalg.norm(place, axis=1, keepdims=True)
            views.facing[row] = np.einsum("nc,nc->n", points.normals @ pose[:3, :3].T, toward)
            views.scale[row] = np.median(-place[:, 2]) / focal
    return views


def solve_landmark(
    views: Views, turns: np.ndarray, seen: np.ndarray, near: np.ndarray
) -> tuple[int, np.ndarray, float]:
    """Choose the candidate of one landmark, seen at (S, 2): its number, the offset (3,) in mm, and the noise in mm.

    Args:
        turns ((S, 3, 3)): rotations. near: numbers of the candidates to choose from.
    """
    error = np.linalg.norm(views.pixels[:, near] - seen[:, None], axis=2) * views.scale[:, None]
    clear = np.clip(0.3 + 1.4 * views.facing[:, near], 0.03, 1)
    cost = (clear * error**2 / (1 + (error / 4) ** 2)).sum(0) / clear.sum(0)
    cost += 0.3 * (clear.mean(0).max() - clear.mean(0))  # a point that is seldom seen is seldom wrong
    best = near[cost.argmin()]
    off = (seen - views.pixels[:, best]) * views.scale[:, None] * (1, -1)
    rows, clear = turns[:, :2], np.clip(0.3 + 1.4 * views.facing[:, best], 0.03, 1)
    offset = np.zeros(3)
    for _ in range(6):
        rest = off - rows @ offset
        weight = clear / (1 + (np.linalg.norm(rest, axis=1) / 4) ** 2) ** 2
        # Depth is hardly seen: it is held near the surface.
        hessian = np.einsum("s,ski,skj->ij", weight, rows, rows) + 0.05 * len(weight) * np.diag([0.1, 0.1, 2.0])
        offset = np.linalg.solve(hessian, np.einsum("s,ski,sk->i", weight, rows, off))
    far = np.minimum(np.linalg.norm(off - rows @ offset, axis=1), 8)
    return int(best), offset, float(np.sqrt(np.average(far**2, weights=clear) / 2))


def read_scores(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fit weight = gain * score + bias by least squares for the weights of `TOLD`."""
    index, gain, bias, noise = np.full(53, -1), np.zeros(53), np.zeros(53), np.ones(53)
    for row, name in enumerate(EXPRESSIONS):
        if name.startswith(TOLD):
            index[row] = SCORES.index(name.replace("_L", "Left").replace("_R", "Right"))
            score, weight = samples["scores"][:, index[row]], samples["weights"][:, row]
            gain[row], bias[row] = np.polyfit(score, weight, 1)
            # Half as much again: people's faces differ from renders.
            noise[row] = 1.5 * np.sqrt(np.mean((gain[row] * score + bias[row] - weight) ** 2))
    return {"score_index": index, "score_gain": gain, "score_bias": bias, "score_noise": noise}


def read_speech(folder: Path) -> dict[str, np.ndarray]:
    """Mean (53,) and covariance (53, 53) of the weights of a corpus."""
    weights = np.concatenate([row["weights"][:, :53] for row in corpus.read(folder, columns=["weights"])])
    return {"speech_mean": weights.mean(0), "speech": np.cov(weights.T.astype(np.float64))}


def main(argv: list[str] | None = None) -> None:
    """Render where needed, solve, save."""
    options = parse_config(Options, __doc__, argv)
    torch.set_num_threads(1)
    decoder = BlendshapeDecoder(load_head(TINY))
    if not options.samples.is_file():
        samples = take_samples(decoder, find_weights(options.tracker))
        with atomic_path(options.samples) as temporary:
            np.savez_compressed(temporary, **samples)
    with np.load(options.samples) as file:
        samples = dict(file)
    if samples["points"].ndim != 3 or not len(samples["points"]):
        raise FaceTalkError(f"{options.samples} holds no samples of this script")
    geometry = decoder.geometry(np.zeros(decoder.head.identity_dim, np.float32))
    front = (geometry.base[:, 2] > 0) & (np.abs(geometry.base[:, 1]) < 75) & (geometry.parts == SKIN)
    candidates = canonical_vertices(decoder.head, geometry)[front]
    views = view_candidates(decoder, candidates, samples)
    turns, seen = samples["pose"][:, :3, :3], samples["points"][..., :2]
    calm = np.flatnonzero((samples["weights"].sum(1) < 1.5) & (np.abs(turns[:, 0, 2]) < 0.2))
    coarse = np.arange(0, len(candidates), 4)
    pixels, hidden = views.pixels[calm][:, coarse], 40 * (views.facing[calm][:, coarse] < 0.05)
    places, offsets, noise = np.zeros((478, 3)), np.zeros((478, 3)), np.full(478, np.inf)
    for landmark in tqdm(range(min(IRISES)), desc="landmarks"):
        error = np.linalg.norm(pixels - seen[calm, landmark][:, None], axis=2) * views.scale[calm, None]
        first = coarse[np.minimum(error + hidden, 30).mean(0).argmin()]
        near = np.flatnonzero(np.linalg.norm(candidates - candidates[first], axis=1) < 16)
        best, offsets[landmark], noise[landmark] = solve_landmark(views, turns, seen[:, landmark], near)
        places[landmark] = candidates[best]
    places[min(IRISES) :] = places[0]  # not used: irises are pupils of the eyeballs
    noise = np.maximum(noise, 0.6)
    noise[list(IRISES)] = 1.0
    print(f"noise in mm, quartiles: {np.percentile(noise[: min(IRISES)], [25, 50, 75]).round(2)}")
    known = landmark_map()
    arrays = {"places": places, "offsets": offsets, "noise": noise, "mirror": known.mirror} | read_scores(samples)
    arrays |= read_speech(options.speech) if options.speech else {n: getattr(known, n) for n in SPEECH}
    with atomic_path(options.output) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream, **{n: a.astype(np.float32 if a.dtype.kind == "f" else np.int16) for n, a in arrays.items()}
        )


if __name__ == "__main__":
    run_script(main)
