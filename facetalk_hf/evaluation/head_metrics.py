# SPDX-License-Identifier: MIT
"""Scores of a head: its surface, motion and identities against held-out scans of training/build_heads.py.

All results are in mm unless they are ratios. A `pool` is template.npz: samples of the skin whose position on any
identity, and motion under any expression, is known exactly.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..blendshapes import EXPRESSIONS, INDEX
from ..errors import FaceTalkError
from ..head.blendshape_decoder import BlendshapeDecoder
from ..head.decoder import aperture
from ..models.nphm import NUM_LANDMARKS, NPHMModel
from ..synthetic.expressions import sample_weights
from ..units import MILLIMETRES
from .second_look import refine_identity


REGIONS = {"face": (1, 2, 3), "lips": (2,), "lids": (3,)}
"""Numbers of template.npz's `region`: 0 head, 1 face, 2 lips, 3 lids (each within 7 mm of landmarks), 4 mouth bag."""


def read_scans(folder: Path) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Read the held-out scans (test_*.npz) and the pool of a folder that build_heads.py wrote."""
    paths = sorted(Path(folder).glob("test_*.npz"))
    if not paths or not (Path(folder) / "template.npz").is_file():
        raise FaceTalkError(f"{folder} has no test_*.npz with a template.npz: make them with training/build_heads.py")
    scans = [dict(np.load(path)) for path in paths]
    if any("normals" not in scan for scan in scans):
        raise FaceTalkError(f"the test scans in {folder} have no normals: delete them and run build_heads.py again")
    return scans, dict(np.load(Path(folder) / "template.npz"))


def fit_identities(
    head: NPHMModel, scans: list[dict], steps: int = 600, points: int = 400, prior: float = 1e-3, seed: int = 0,
    refinements: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Fit codes (n, Z) to scans, from points with signed distances: auto-decoding as in training, the networks frozen.

    Loss: 50 (mean |f - d| on the surface + mean w |f - d| off it) + prior |z|^2, w = 1 / (1 + |d| / 5 mm). Adam from
    zero, 1e-2 with a cosine. Landmarks and anchors are not used. Which hair is worn is given, as in training.

    Then `refinements` steps of [`refine_identity`], eight of which bring ears out; motion stays as it is.
    """
    code = torch.zeros(len(scans), head.identity_dim)
    if head.config.hair_dim:
        code[:, head.hair] = torch.from_numpy(np.stack([scan["hair"] for scan in scans]))
    code.requires_grad_()
    optimizer = torch.optim.Adam([code], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 2e-4)
    generator = np.random.default_rng(seed)
    kinds = [np.searchsorted(scan["kind"], [0, 1, 2, 3]) for scan in scans]
    counts = (points // 2, points // 3, points // 8)
    frozen = [p for p in head.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for _ in range(steps):
        rows = [
            np.concatenate(
                [generator.integers(a, b, n) for a, b, n in zip(bound[:-1], bound[1:], counts, strict=True)]
            )
            for bound in kinds
        ]
        where, truth = (
            torch.from_numpy(np.stack([scan[name][row] for scan, row in zip(scans, rows, strict=True)]))
            for name in ("points", "distance")
        )
        error = (head.sdf(where, code).clamp(-0.2, 0.2) - truth.clamp(-0.15, 0.15)).abs()
        weight = 1 / (1 + truth.abs() / 0.02)
        loss = 50 * (error[:, : counts[0]].mean() + (weight * error)[:, counts[0] :].mean())
        loss = loss + prior * code.square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        assert code.grad is not None
        code.grad[:, head.hair] = 0
        optimizer.step()
        schedule.step()
    code = code.detach()
    if refinements:
        refined = [refine_identity(head, *pair, refinements, seed=seed) for pair in zip(scans, code, strict=True)]
        code = torch.stack(refined)
    for parameter in frozen:
        parameter.requires_grad_(True)
    return code


def even_samples(vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw points (count, 3) evenly over a mesh, and the normals (count, 3) of their triangles.

    Not by trimesh's sample_surface, whose draws would change the published scores.
    """
    generator = np.random.default_rng(seed)
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    chosen = generator.choice(len(faces), count, p=area / area.sum())
    inside = generator.dirichlet([1, 1, 1], count)
    return np.einsum("nc,ncd->nd", inside, corners[chosen]), normals[chosen] / area[chosen, None]


def surface_distance(
    points: np.ndarray, samples: np.ndarray, normals: np.ndarray, reach: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the distance (n,) of points (n, 3) from samples (m, 3) of a surface with normals; with nearest samples.

    That of the nearest sample's tangent plane, so that it doesn't count how far apart the samples are; where the
    nearest one is more than `reach` away along its plane there is no surface, and the distance is that of the sample.
    """
    distance, index = cKDTree(samples).query(points)
    plane = np.abs(((points - samples[index]) * normals[index]).sum(1))
    along = np.sqrt(np.maximum(distance**2 - plane**2, 0))
    return np.where(along < reach, plane, distance), index


def surface_scores(head: NPHMModel, code: torch.Tensor, scan: dict, pool: dict, resolution: int = 192) -> dict:
    """Compute Chamfer-L1 and normal consistency of a code's (Z,) canonical surface against a scan, over head and face.

    Surface: the decoder's (marching cubes, 4 Taubin iterations), before anything is cut or sealed. 200 k even samples
    of each surface stand for it. Chamfer-L1 = mean over the samples of both directions' mean `surface_distance`;
    normal consistency = the same mean of |n . n'|. Head: all above the neck plane, with eyeballs and mouth bag. Face:
    where the pool sample nearest to the point is one of face, lips or lids, and the skin is bare. Hair, ears: where
    the nearest sample of the scan is, by its `coat`, on hair or a beard, or on a bare ear; left out without any.
    `points_ears`: how many samples of the scan are on a bare ear.
    """
    vertices, faces = BlendshapeDecoder(head, resolution=resolution).canonical_surface(code[None])
    ours, ours_normals = even_samples(vertices * MILLIMETRES, faces, 200_000)
    theirs, theirs_normals = scan["surface"] * MILLIMETRES, scan["normals"]
    coat = scan.get("coat", np.zeros(len(theirs), np.uint8))
    skin = cKDTree(positions(pool, scan["coefficients"]) * MILLIMETRES)
    result: dict[str, float] = {"handles": handles(vertices, faces), "points_ears": int((coat == 2).sum())}
    sides = []
    for points, own, samples, normals, worn in (
        (ours, ours_normals, theirs, theirs_normals, None), (theirs, theirs_normals, ours, ours_normals, coat),
    ):  # fmt: skip
        keep = head.above_neck(points / MILLIMETRES) > 0
        points, own = points[keep][::3], own[keep][::3]
        distance, index = surface_distance(points, samples, normals)
        consistency = np.abs((own * normals[index]).sum(1))
        region, label = pool["region"][skin.query(points)[1]], coat[index] if worn is None else worn[keep][::3]
        sides.append((distance, consistency, region, label))
    parts: dict[str, list[np.ndarray]] = {
        name: [np.isin(region, numbers) & (label != 1) for _, _, region, label in sides]
        for name, numbers in {"skin": (0, 1, 2, 3), **REGIONS}.items()
    }
    parts |= {"head": [region >= 0 for _, _, region, _ in sides]}
    parts |= {name: [side[3] == number for side in sides] for name, number in (("hair", 1), ("ears", 2))}
    for name, chosen in parts.items():
        if not all(part.any() for part in chosen):
            continue
        result[f"chamfer_{name}"] = float(np.mean([d[c].mean() for (d, *_), c in zip(sides, chosen, strict=True)]))
        result[f"normals_{name}"] = float(np.mean([n[c].mean() for (_, n, *_), c in zip(sides, chosen, strict=True)]))
    return result


def handles(vertices: np.ndarray, faces: np.ndarray) -> int:
    """Count the handles g of one closed surface, such as a pierced ear: V - E + F = 2 - 2 g."""
    return 1 - (len(vertices) - len(faces) // 2) // 2


def positions(pool: dict, coefficients: np.ndarray) -> np.ndarray:
    """Compute canonical positions (P, 3), model units, of the pool on an identity with coefficients (100,)."""
    return pool["mean"] + np.einsum("pkc,k->pc", pool["identities"].astype(np.float32), coefficients, optimize=True)


@torch.no_grad()
def motion_scores(
    head: NPHMModel, codes: torch.Tensor, scans: list[dict], pool: dict, expressions: int = 64, seed: int = 0
) -> dict:
    """Measure the forward deformation of held-out identities (codes (n, Z)) under expressions with true codes.

    Returns `vertex_*`: mean and 95th percentile of |predicted - true| over the pool's samples (denser at eyes and
    lips) and random expressions; `shapes`: for each of the 53 alone, mean error / mean motion over the samples that it
    moves by more than a tenth of its largest motion; `lid_travel`: predicted share of the true travel in a blink,
    over the samples that travel more than half of the largest; `lip_gap`: how far the lips stand apart (mean; p95) at
    z = 0 where the true ones meet, see `lip_gaps`; `lip_aperture`: the mean absolute error of the inner landmarks'
    distance at z = 0; `jaw_open`: that distance at jawOpen = 1, the smallest; `landmarks`: their canonical error.
    """
    generator = torch.Generator().manual_seed(1_000_000 + seed)
    weights = sample_weights(expressions, generator).numpy()
    rest = head.forward_net.coefficient_map.bias.float().numpy()
    region = pool["region"]
    motion = pool["expressions"].astype(np.float32) * MILLIMETRES  # (P, 53, 3)
    size = np.linalg.norm(motion, axis=2)
    moved = size > 0.1 * size.max(0)
    errors, singles, travel, gaps, opening, closing, landmark = [], [], [], [], [], [], []
    for code, scan in zip(codes[:, None], scans, strict=True):
        place = positions(pool, scan["coefficients"])
        fields = predicted_fields(head, place, code)
        wrong = fields - motion
        errors.append(np.linalg.norm(np.einsum("pkc,mk->mpc", wrong, weights + rest, optimize=True), axis=2))
        off = np.linalg.norm(wrong, axis=2)
        singles.append((off * moved).sum(0) / (size * moved).sum(0))
        for name in ("eyeBlink_L", "eyeBlink_R"):
            k = INDEX[name]
            lid = (size[:, k] > 0.5 * size[:, k].max()) & (region == 3)
            travel.append((fields[lid, k] * motion[lid, k]).sum() / (motion[lid, k] ** 2).sum())
        gaps.append(lip_gaps(place * MILLIMETRES, motion, fields, rest, region == 2))
        points = head.landmarks(code)
        truth = scan["controls"][head.config.num_anchors :][:NUM_LANDMARKS]
        landmark.append(np.linalg.norm(points[0].numpy() - truth, axis=1).mean() * MILLIMETRES)
        both = torch.zeros(2, len(EXPRESSIONS))
        both[1, INDEX["jawOpen"]] = 1
        posed = points + head.deform(points.expand(2, -1, -1), code.expand(2, -1), head.expression_from_weights(both))
        closed, opened = aperture(posed.numpy() * MILLIMETRES).tolist()
        anchors = head.config.num_anchors
        rested = truth + np.einsum("kpc,k->pc", pool["control_expressions"][:, anchors:][:, :NUM_LANDMARKS], rest)
        opening.append(opened)
        closing.append(abs(closed - float(aperture(rested * MILLIMETRES))))
    error = np.stack(errors)
    gap = np.concatenate(gaps) if any(map(len, gaps)) else np.zeros(1)  # where no lips meet there is no gap
    result = {"landmarks": float(np.mean(landmark))}
    for name, numbers in {"all": (0, 1, 2, 3, 4), **REGIONS}.items():
        part = error[..., np.isin(region, numbers)]
        result |= {f"vertex_{name}": float(part.mean()), f"vertex_{name}_p95": float(np.percentile(part, 95))}
    return result | {
        "shapes": dict(zip(EXPRESSIONS, np.mean(singles, 0).tolist(), strict=True)),
        "lid_travel": float(np.mean(travel)), "lid_travel_min": float(np.min(travel)), "lip_gap": float(gap.mean()),
        "lip_gap_p95": float(np.percentile(gap, 95)), "jaw_open": float(np.min(opening)),
        "lip_aperture": float(np.mean(closing)),
    }  # fmt: skip


def predicted_fields(head: NPHMModel, points: np.ndarray, code: torch.Tensor) -> np.ndarray:
    """Evaluate the forward deformation's fields (P, R, 3), mm, at canonical points (P, 3) of an identity (1, Z)."""
    net, controls, glob = head.forward_net, head.controls(code), head.split_identity(code)[0]
    parts = torch.from_numpy(np.asarray(points, np.float32)).split(4096)
    return torch.cat([net.basis(part[None], controls, glob)[0] for part in parts]).numpy() * np.float32(MILLIMETRES)


def lip_gaps(
    place: np.ndarray, motion: np.ndarray, fields: np.ndarray, rest: np.ndarray, lips: np.ndarray
) -> np.ndarray:
    """Measure how far (n,) mm lip points stand apart at z = 0 that truly meet there; 0 where they overlap.

    The pairs: samples of the lips (bool (P,)) that come within 0.7 mm of each other from at least 4 mm in the
    canonical pose, so one is of the upper and one of the lower lip. Counted is the vertical distance beyond the true.
    """
    place, true, predicted = (
        place[lips],
        *(place[lips] + np.einsum("pkc,k->pc", field[lips], rest, optimize=True) for field in (motion, fields)),
    )
    pairs = cKDTree(true).query_pairs(0.7, output_type="ndarray")
    pairs = pairs[np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1) > 4]
    upper = place[pairs[:, 0], 1] > place[pairs[:, 1], 1]
    upper, lower = np.where(upper, *pairs.T), np.where(upper, *pairs.T[::-1])
    opening = predicted[upper, 1] - predicted[lower, 1] - (true[upper, 1] - true[lower, 1])
    return np.maximum(opening, 0)


@torch.no_grad()
def backward_scores(
    head: NPHMModel, codes: torch.Tensor, scans: list[dict], pool: dict, expressions: int = 32, seed: int = 0
) -> dict:
    """Measure |x + F(x) - canonical point| over posed samples x: mean and 95th percentile by region, with true codes.

    8000 of the pool's samples, each `expressions` times on every identity (codes (n, Z)).
    """
    generator = torch.Generator().manual_seed(2_000_000 + seed)
    weights = sample_weights(expressions, generator)
    rest = head.forward_net.coefficient_map.bias.float()
    rows = torch.randperm(len(pool["mean"]), generator=generator)[:8000].numpy()
    motion, errors = torch.from_numpy(pool["expressions"][rows].astype(np.float32)), []
    for code, scan in zip(codes[:, None], scans, strict=True):
        place = torch.from_numpy(positions(pool, scan["coefficients"])[rows])
        for row in weights:
            offset = torch.einsum("pkc,k->pc", motion, row + rest)
            expression = head.expression_from_weights(row[None])
            back = head.deform_backward((place + offset)[None], code, expression)[0]
            errors.append((back + offset).norm(dim=-1).numpy() * MILLIMETRES)
    error = np.stack(errors)
    result: dict[str, float] = {}
    for name, numbers in {"all": (0, 1, 2, 3, 4), **REGIONS}.items():
        part = error[:, np.isin(pool["region"][rows], numbers)]
        result |= {f"backward_{name}": float(part.mean()), f"backward_{name}_p95": float(np.percentile(part, 95))}
    return result


@torch.no_grad()
def identity_distances(head: NPHMModel, codes: torch.Tensor, resolution: int = 96) -> dict:
    """Measure the distance of the people of codes (n, Z), pair by pair: of their canonical faces, and 68 landmarks.

    Returns `surface` (n, n): mean `surface_distance` of 2000 points of the front of the head (the box that
    build_heads.py calls face), the mean of both directions; `landmarks` (n, n): mean distance of a landmark to its
    twin; `handles` (n,) and `height` (n,) of each surface.
    """
    decoder = BlendshapeDecoder(head, resolution=resolution)
    people: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    result: dict[str, Any] = {"handles": [], "height": []}
    for code in codes[:, None]:
        vertices, faces = decoder.canonical_surface(code)
        points, normals = even_samples(vertices, faces, 20_000)
        front = (points[:, 2] > -0.08) & (points[:, 1] > -0.34) & (points[:, 1] < 0.36)
        people.append((points * MILLIMETRES, normals, points[front][:2000] * MILLIMETRES))
        result["handles"].append(handles(vertices, faces))
        result["height"].append(float(np.ptp(vertices[:, 1]) * MILLIMETRES))
    distance = np.array([[surface_distance(a[2], b[0], b[1], 4.0)[0].mean() for b in people] for a in people])
    marks = head.landmarks(codes) * MILLIMETRES
    apart = (marks[:, None] - marks[None]).norm(dim=-1).mean(-1)
    return result | {"surface": (distance + distance.T) / 2, "landmarks": apart.numpy()}
