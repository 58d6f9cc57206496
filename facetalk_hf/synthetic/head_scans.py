# SPDX-License-Identifier: MIT
"""Scans of random people, made from ICT-FaceKit's morphable head: what the small NPHM is trained on.

A scan is one identity in the canonical pose (mouth open, as in NPHM): points with exact signed distances, control
points, and the identity's coefficients, in model units. All identities share a pool of surface samples with their
identity and expression bases, from which training makes correspondences by two matrix products.
"""

from collections.abc import Callable

import numpy as np

from ..blendshapes import INDEX
from ..head.hair_styles import HairStyle
from ..mesh.isosurface import extract_surface
from .hair import Hair, coat_thickness
from .ict_template import (
    CANONICAL_JAW,
    NECK_NORMAL,
    NECK_POINT,
    ORIGIN,
    SCLERA,
    SKIN,
    SOCKET,
    UNIT,
    Template,
    ear_mask,
)


Eyes = list[tuple[np.ndarray, float]]
"""Centre (3,) and radius of each eyeball."""
Distance = Callable[[np.ndarray], np.ndarray]
"""Points (n, 3) -> signed distances (n,), in ICT units."""

THICKEST = (HairStyle("curly", volume=1, hairline=0, beard=1), HairStyle("short", volume=1, hairline=0))


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a sphere to (n, 3) points by linear least squares: centre (3,) and radius."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))


def density(template: Template) -> np.ndarray:
    """Say how much more often than elsewhere each vertex' neighbourhood is sampled, (V,)."""
    neutral = template.neutral[:SKIN]
    weight = np.ones(SKIN)
    weight[(neutral[:, 2] > 4) & (neutral[:, 1] > -9)] = 2.0  # the front of the head
    weight[ear_mask(neutral)] = 6.0
    weight[np.linalg.norm(neutral - [0, 0.3, 12.5], axis=1) < 2.2] = 3.0  # the nose
    marks = neutral[template.landmarks]
    mouth = np.linalg.norm(neutral[:, None] - marks[None, 48:68], axis=2).min(1)
    eyes = np.linalg.norm(neutral[:, None] - marks[None, 36:48], axis=2).min(1)
    weight[(mouth < 1.3) | (eyes < 1.2)] = 6.0
    weight[(mouth < 0.5) | (eyes < 0.5)] = 12.0
    weight[SOCKET:] = np.where(neutral[SOCKET:, 2] > 8, 2.0, 0.3)
    return weight


def signed_distance(
    points: np.ndarray, head: np.ndarray, faces: np.ndarray, eyes: Eyes, hair: Hair | None = None
) -> np.ndarray:
    """Measure the distance of points (n, 3) to the head with its eyeballs, cut at the neck; negative inside.

    Args:
        points ((n, 3) float), head ((V, 3) float), faces ((F, 3) int): in ICT units.
        eyes: centres and radii.
        hair ([`Hair`], *optional*): that grows on it.
    """
    import igl

    distance = igl.signed_distance(points, head, faces, igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER)[0]
    for centre, radius in eyes:
        distance = np.minimum(distance, np.linalg.norm(points - centre, axis=1) - radius)
    if hair is not None:
        return hair.join(points, distance)
    return np.maximum(distance, (points - NECK_POINT) @ NECK_NORMAL)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, probability: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw points (n, 3) on triangles, with their faces (n,) and barycentric coordinates (n, 3)."""
    chosen = rng.choice(len(faces), count, p=probability)
    barycentric = rng.dirichlet([1, 1, 1], count)
    return np.einsum("nc,ncd->nd", barycentric, vertices[faces[chosen]]), chosen, barycentric


def face_probability(vertices: np.ndarray, faces: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Turn areas and weights of vertices (V,) into probabilities of triangles, (F,)."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    probability = area * weight[faces].mean(1)
    return probability / probability.sum()


def surface_area(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Add up the areas of triangles (F, 3) of vertices (V, 3)."""
    corners = vertices[faces]
    return float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )


def hair_surface(distance: Distance, cell: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Triangulate a head with its hair, closed at the neck: vertices (V, 3) and faces (F, 3), `cell` cm fine."""
    low, high = np.array([-13.5, -21.0, -17.0]), np.array([13.5, 20.5, 15.5])
    cells = (16 * np.ceil((high - low) / cell / 16)).astype(int)
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(low, high, cells, strict=True)]
    return extract_surface(lambda points: distance(points.astype(np.float64)).astype(np.float32), axes)


def points_on_hair(
    distance: Distance, bald: Distance, density: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points (n, 3) with outward normals on what `distance` has beyond `bald`, `density` of them a square cm."""
    vertices, faces = hair_surface(distance)
    even = face_probability(vertices, faces, np.ones(len(vertices)))
    count = round(density * surface_area(vertices, faces))
    points, chosen, _ = sample_surface(vertices.astype(np.float64), faces, even, count, rng)
    corners = vertices[faces[chosen]].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    rows = np.flatnonzero(bald(points) > 0.03)
    points, normals = points[rows], normals[rows]
    for _ in range(3):
        points = points - 0.9 * distance(points)[:, None] * normals
    return points, normals


def scan_person(
    template: Template, seed: int, neutral: bool = False, held_out: bool = False, style: HairStyle | None = None
) -> dict[str, np.ndarray]:
    """Scan one identity in the canonical pose.

    Args:
        template ([`Template`]): of all people. seed (`int`): makes the person and the samples.
        neutral (`bool`): the mean head in place of a random one.
        held_out (`bool`): with evenly spread points and normals, to measure against.
        style ([`HairStyle`], *optional*): hair and beard that it wears; bald without.

    Returns:
        dict in model units: "points" (N, 3), "distance" (N,), "kind" (N,): 0 on the surface, 1 near it, 2 anywhere;
        "controls" (C, 3): anchors, landmarks, centres and fronts of the eyes, teeth; "coefficients" (100,);
        "hair" (HAIR_DIM,): the style as numbers; "still" (2000, 3): points of hair, or around a bald head, that no
        expression moves; for a held-out one "surface" and "normals" (M, 3), "coat" (M,): 1 hair, 2 ear, 0 the rest.
    """
    rng = np.random.default_rng(seed)
    coefficients = np.zeros(100) if neutral else rng.normal(0, 0.8, 100)
    shape = template.canonical + np.tensordot(coefficients, template.identities, 1)
    surface = template.surface
    head, faces = surface.vertices(shape), surface.faces
    eyes = [fit_sphere(shape[part]) for part in SCLERA]
    style = style or HairStyle("none")
    hair = Hair.on(template, shape, style, seed)

    def bald(points: np.ndarray) -> np.ndarray:
        return signed_distance(points, head, faces, eyes)

    def exact(points: np.ndarray) -> np.ndarray:
        return signed_distance(points, head, faces, eyes, hair)

    weight = density(template)[surface.first]
    weight = np.concatenate([weight, np.zeros(len(surface.loops))])
    points = sample_surface(head, faces, face_probability(head, faces, weight), 60_000, rng)[0]
    for centre, radius in eyes:
        points = points[np.linalg.norm(points - centre, axis=1) > radius]
    points = points[(points - NECK_POINT) @ NECK_NORMAL < 0]
    balls = []
    for centre, radius in eyes:
        direction = rng.normal(size=(9000, 3))
        direction[:, 2] = np.abs(direction[:, 2])
        balls.append(centre + radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    covered, outward = points_on_hair(exact, bald, 20.0, rng) if hair.grows else (points[:0],) * 2
    everything = np.concatenate([points, covered])
    low, high = everything.min(0) - 2.5, everything.max(0) + 2.5
    cap = rng.uniform(low, high, (60_000, 3))
    cap -= ((cap - NECK_POINT) @ NECK_NORMAL)[:, None] * NECK_NORMAL
    candidates = np.concatenate([points, *balls, covered, cap])
    # What lies on a part but not on the united solid (fans behind the eyes, a mouth bag that leaves the head) goes.
    distance = exact(candidates)
    on_cap = np.arange(len(candidates)) >= len(candidates) - len(cap)
    keep = np.abs(distance) < 0.01
    keep &= ~on_cap | (rng.random(len(candidates)) < 0.5)
    on_surface = candidates[keep]
    sigma = UNIT * rng.choice([0.003, 0.01, 0.03], len(on_surface), p=[0.5, 0.3, 0.2])
    close = on_surface + rng.normal(size=on_surface.shape) * sigma[:, None]
    far = rng.uniform(low, high, (8000, 3))
    samples = np.concatenate([on_surface, close, far])
    distance = np.concatenate([np.zeros(len(on_surface)), exact(np.concatenate([close, far]))])
    kind = np.repeat([0, 1, 2], [len(on_surface), len(close), len(far)]).astype(np.uint8)
    controls = shape[np.concatenate([template.anchor_vertices(), template.landmarks])]
    centres = np.stack([centre for centre, _ in eyes])
    fronts = centres + np.array([[0, 0, radius] for _, radius in eyes])
    controls = np.concatenate([controls, centres, fronts, shape[template.teeth_vertices()]])
    still = still_points(samples, distance, covered, bald, rng)
    result = {
        "hair": style.vector(),
        "still": ((still - ORIGIN) / UNIT).astype(np.float32),
        "points": ((samples - ORIGIN) / UNIT).astype(np.float32),
        "distance": (distance / UNIT).astype(np.float32),
        "kind": kind,
        "controls": ((controls - ORIGIN) / UNIT).astype(np.float32),
        "coefficients": coefficients.astype(np.float32),
    }
    if held_out:
        even, normals, coat = even_surface(head, faces, eyes, 200_000, rng, ear_mask(template.neutral)[surface.first])
        keep = np.abs(exact(even)) < 0.004
        even, normals, coat = even[keep], normals[keep], coat[keep]
        if len(covered):
            more, outward = points_on_hair(exact, bald, 200_000 / surface_area(head, faces), rng)
            even, normals = np.concatenate([even, more]), np.concatenate([normals, outward])
            coat = np.concatenate([coat, np.ones(len(more))])
        result |= {
            "surface": ((even - ORIGIN) / UNIT).astype(np.float32), "normals": normals.astype(np.float32),
            "coat": coat.astype(np.uint8),
        }  # fmt: skip
    return result


def still_points(
    samples: np.ndarray, distance: np.ndarray, covered: np.ndarray, bald: Distance, rng: np.random.Generator
) -> np.ndarray:
    """Draw 2000 points that no expression moves: of hair further off than any beard, else of space above or behind."""
    loose = covered[bald(covered) > 1.3] if len(covered) else covered
    if len(loose) < 200:
        above = (samples[:, 1] > 8) | (samples[:, 2] < -4)
        loose = samples[above & (distance > 0.0) & (distance < 2.5)]
    return loose[rng.integers(0, len(loose), 2000)]


def even_surface(
    head: np.ndarray, faces: np.ndarray, eyes: Eyes, count: int, rng: np.random.Generator, ears: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread points evenly over head and eyeballs, without the cut's plane.

    Args: ears (bool): the first vertices' that are on ears.

    Returns: points (n, 3), outward normals (n, 3) and (n,) 2 on ears, 0 elsewhere.
    """
    corners = head[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    points, chosen, _ = sample_surface(head, faces, area / area.sum(), count, rng)
    parts, directions = [points], [normals[chosen] / area[chosen, None]]
    on_ear = np.pad(ears, (0, len(head) - len(ears)))[faces[chosen]].all(1)
    for centre, radius in eyes:
        direction = rng.normal(size=(round(count * 4 * np.pi * radius**2 / (area.sum() / 2)), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        parts.append(centre + radius * direction)
        directions.append(direction)
    points, outward = np.concatenate(parts), np.concatenate(directions)
    label = 2 * np.pad(on_ear, (0, len(points) - len(on_ear))).astype(np.uint8)
    keep = np.abs(signed_distance(points, head, faces, eyes)) < 0.004
    return points[keep], outward[keep], label[keep]


def surface_pool(template: Template, count: int) -> dict[str, np.ndarray]:
    """Draw the pool of surface samples: position = mean + coefficients @ identities, motion = weights @ expressions.

    Returns:
        dict in model units: "mean" (P, 3), "identities" (P, 100, 3), "expressions" (P, 53, 3); "normals" (P, 3) and
        "reach" (P,): how far off the skin hair or a beard may be there, which moves with the skin; "region" (P,): 1
        face, 2 lips, 3 lids, 4 mouth bag, 0 the rest; "canonical_weights" (53,); "control_expressions" (53, C, 3).
    """
    rng = np.random.default_rng(0)
    skin = template.canonical[:SKIN]
    probability = face_probability(skin, template.faces, density(template))
    mean, chosen, barycentric = sample_surface(skin, template.faces, probability, count, rng)

    def at(field: np.ndarray) -> np.ndarray:
        return np.einsum("nc,kncd->nkd", barycentric, field[:, template.faces[chosen]]) / UNIT

    neutral = np.einsum("nc,ncd->nd", barycentric, template.neutral[template.faces[chosen]])
    marks = template.neutral[template.landmarks]
    region = np.zeros(count, np.uint8)  # 1 face, 2 lips, 3 lids, 4 mouth bag
    region[(neutral[:, 2] > 4) & (neutral[:, 1] > -8.5) & (neutral[:, 1] < 9)] = 1
    region[np.linalg.norm(neutral[:, None] - marks[None, 48:68], axis=2).min(1) < 0.7] = 2
    region[np.linalg.norm(neutral[:, None] - marks[None, 36:48], axis=2).min(1) < 0.7] = 3
    region[(template.faces[chosen] >= SOCKET).all(1)] = 4
    corners = skin[template.faces[chosen]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    thickest = np.maximum.reduce([coat_thickness(template, style) for style in THICKEST])
    reach = (barycentric * thickest[template.faces[chosen]]).sum(1)
    anchors, teeth = template.anchor_vertices(), template.teeth_vertices()
    controls = np.concatenate([anchors, template.landmarks, teeth])
    return {
        "mean": ((mean - ORIGIN) / UNIT).astype(np.float32),
        "identities": at(template.identities[:, :SKIN]).astype(np.float16),
        "expressions": at(template.expressions[:, :SKIN]).astype(np.float16),
        "normals": normals.astype(np.float32),
        "reach": (reach / UNIT).astype(np.float32),
        "region": region,
        "canonical_weights": CANONICAL_JAW * (np.arange(53) == INDEX["jawOpen"]).astype(np.float32),
        "control_expressions": (template.expressions[:, controls] / UNIT).astype(np.float32),
    }
