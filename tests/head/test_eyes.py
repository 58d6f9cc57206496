# SPDX-License-Identifier: MIT
"""Eyeballs, lids, teeth and paint on heads of our own making."""

import numpy as np
import pytest
import trimesh

from facetalk_hf.blendshapes import LOOK_DEGREES, TONGUE
from facetalk_hf.head.appearance import paint_head
from facetalk_hf.head.eyes import cut_eye_openings, eyeballs, finish_lids
from facetalk_hf.head.teeth import JAW_MAPS, teeth
from facetalk_hf.mesh.geometry import Part, boundary_edges, join


CENTER = np.array([[31.0, 36.0, 20.0], [-31.0, 36.0, 20.0]])
RADIUS = np.array([14.5, 14.5])


def landmarks() -> np.ndarray:
    """68 points of a plain face in front of an egg: iBUG order, mm."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 17)
    jaw = np.stack([73 * np.sin(angle), 37 - 112 * np.cos(angle), -23 + 67 * np.cos(angle)], 1)
    arc = np.array([-1, -0.5, 0, 0.5, 1])
    brow = lambda side: np.stack([side * (35 + side * 23 * arc), 58 + 4 * (1 - arc**2), 42 - 12 * np.abs(arc)], 1)  # noqa: E731
    nose = [(0, 37, 47), (0, 26, 55), (0, 16, 63), (0, 4, 70)] + [(x, -11, 52) for x in (-12, -6, 0, 6, 12)]
    eye = lambda x: [(x + d, 35 + h, 32) for d, h in ((-13, 0), (-5, 4), (5, 4), (13, 0), (5, -4), (-5, -4))]  # noqa: E731
    turn = np.pi - np.arange(12) * np.pi / 6
    lips = np.stack([25 * np.cos(turn), -34 + 9.5 * np.sin(turn), 43 + 13 * np.sin(turn) ** 2], 1)
    turn = np.pi - np.arange(8) * np.pi / 4
    inner = np.stack([21 * np.cos(turn), -34 + 0.5 * np.sin(turn), 42 + 9 * np.sin(turn) ** 2], 1)
    return np.concatenate([jaw, brow(-1), brow(1), nose, eye(-31), eye(31), lips, inner]).astype(float)


def signed_volume(part: Part) -> float:
    a, b, c = (part.vertices[part.faces[:, i]].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def face_with_eyes() -> tuple[np.ndarray, np.ndarray]:
    """A sheet with a flat front from which the fronts of two balls stand out, as in an extracted head."""
    x, y = np.meshgrid(np.linspace(-70, 70, 141), np.linspace(0, 72, 73))
    z = np.full_like(x, 29.0)
    for center, radius in zip(CENTER, RADIUS, strict=True):
        inside = radius**2 - (x - center[0]) ** 2 - (y - center[1]) ** 2
        z = np.maximum(z, center[2] + np.sqrt(np.maximum(inside, 0)))
    index = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (part.reshape(-1) for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return np.stack([x, y, z], -1).reshape(-1, 3), faces


def test_eyeballs_are_closed_round_and_look_ahead():
    eyes = eyeballs(CENTER, RADIUS)
    assert not len(boundary_edges(eyes.faces))
    assert signed_volume(eyes) == pytest.approx(2 * 4 / 3 * np.pi * 14.5**3, rel=0.02)
    left = eyes.vertices[: len(eyes.vertices) // 2]
    distance = np.linalg.norm(left - CENTER[0], axis=1)
    assert 14.4 < distance.min() and distance.max() < 15.0
    # Pupil in front, white behind, iris of the asked colour between.
    angle = np.degrees(np.arccos((left - CENTER[0])[:, 2] / distance))
    colors = eyes.colors[: len(left)].astype(int)
    assert colors[angle < 6].max() < 20
    assert colors[(angle > 35) & (angle < 60)].min() > 150
    blue = eyeballs(CENTER, RADIUS, iris_color=(40, 80, 200)).colors[: len(left)].astype(int)
    ring = (angle > 15) & (angle < 22)
    assert (blue[ring, 2] - blue[ring, 0]).mean() > 60


@pytest.mark.parametrize(("name", "axis", "sign"), [
    ("eyeLookUp_L", 1, 1), ("eyeLookDown_L", 1, -1), ("eyeLookIn_L", 0, -1), ("eyeLookOut_L", 0, 1),
    ("eyeLookIn_R", 0, 1), ("eyeLookOut_R", 0, -1),
])  # fmt: skip
def test_gaze_turns_the_named_eye_the_named_way(name, axis, sign):
    eyes = eyeballs(CENTER, RADIUS)
    half = len(eyes.vertices) // 2
    own = slice(0, half) if name.endswith("L") else slice(half, None)
    center = CENTER[0 if name.endswith("L") else 1]
    front = own.start + (eyes.vertices[own, 2]).argmax()
    moved = eyes.vertices + eyes.targets[name]
    turned = moved[front] - center
    assert np.degrees(np.arctan2(sign * turned[axis], turned[2])) == pytest.approx(LOOK_DEGREES[name[7:-2]], abs=0.5)
    other = slice(half, None) if name.endswith("L") else slice(0, half)
    assert not eyes.targets[name][other].any()


def test_a_blink_draws_the_ball_back():
    eyes = eyeballs(CENTER, RADIUS, sink=0.8)
    assert eyes.targets["eyeBlink_R"][-1].tolist() == pytest.approx([0, 0, -0.8])
    assert not eyes.targets["eyeBlink_R"][: len(eyes.vertices) // 2].any()


def arches(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (5, 3) of the upper and the lower teeth of an average head, behind the seam of its lips."""
    seam = (landmarks[62] + landmarks[66]) / 2
    wide = float(np.clip(abs(landmarks[54, 0] - landmarks[48, 0]) / 50.6, 0.75, 1.25))

    def arch(edge: float, back: float, shrink: float) -> np.ndarray:
        canine, molar = 17.6 * wide * shrink, 25.6 * wide * shrink
        canine_z, molar_z = -back - 8.6 * wide, -back - 25.5 * wide
        return seam + np.array(
            [
                (0, edge, -back),
                (canine, edge + 0.2, canine_z),
                (molar, edge + 1.6, molar_z),
                (-canine, edge + 0.2, canine_z),
                (-molar, edge + 1.6, molar_z),
            ]
        )

    return arch(-1.5, 5.0, 1.0), arch(-0.4, 7.4, 0.93)


def test_teeth_follow_the_arch_and_the_lower_row_the_jaw():
    upper, lower = arches(landmarks())
    part = teeth(upper, lower)
    assert signed_volume(part) > 0
    for point in upper:
        assert np.linalg.norm(part.vertices - point, axis=1).min() < 6
    # Left and right mirror each other.
    mirrored = part.vertices * [-1, 1, 1]
    from scipy.spatial import cKDTree

    assert cKDTree(part.vertices).query(mirrored)[0].max() < 0.05
    assert set(part.targets) == {*JAW_MAPS, *TONGUE}
    # Beside the jaw, these move the tongue alone: from behind the lower teeth, out, up and down.
    tongue = np.any(part.targets["tongueOut"], axis=1)
    assert 2 < lower[0, 2] - part.vertices[tongue, 2].max() < 9 and part.targets["tongueOut"][..., 2].max() > 10
    tip = tongue & (part.vertices[:, 2] > part.vertices[tongue, 2].max() - 1)
    assert part.targets["tongueTipUp"][tip, 1].min() > 9 > 1 > part.targets["tongueTipDown"][tip, 1].max() + 4
    assert not any(np.any(part.targets[name][~tongue]) for name in TONGUE)
    # Its edges stay out of the upper molars.
    sideways = np.abs(part.targets["jawLeft"][:, 0])
    assert 1 < sideways[tongue].max() < 0.85 * sideways[~tongue].max()
    open_jaw = part.targets["jawOpen"]
    still = ~np.any(open_jaw, axis=1)
    assert 0.3 < still.mean() < 0.7
    assert part.vertices[still, 1].min() > lower[0, 1] - 5
    front = np.linalg.norm(part.vertices[~still] - lower[0], axis=1).argmin()
    assert open_jaw[~still][front, 1] < -25
    # Ivory, not paper: no channel saturates, gums are pink.
    assert part.colors.max() < 240
    pink = part.colors[:, 0].astype(int) - part.colors[:, 1]
    assert (pink > 50).any() and (pink < 20).any()


def test_join_shifts_faces_and_fills_missing_targets():
    one = Part(np.zeros((3, 3)), np.array([[0, 1, 2]]), np.zeros((3, 3)), np.zeros(3), {"a": np.ones((3, 3))})
    two = Part(np.ones((4, 3)), np.array([[1, 2, 3]]), np.ones((4, 3)), np.ones(4), {"b": np.full((4, 3), 2.0)})
    both = join([one, two])
    assert both.faces.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert both.targets["a"][:3].all() and not both.targets["a"][3:].any()
    assert both.targets["b"][3:].all() and not both.targets["b"][:3].any()


def test_the_cut_leaves_two_smooth_round_openings():
    vertices, faces = face_with_eyes()
    cut, kept, pairs, share = cut_eye_openings(vertices, faces, CENTER, RADIUS, margin=0.5)
    distance = np.linalg.norm(cut[:, None] - CENTER, axis=2).min(1)
    assert distance.min() > 14.95
    source = vertices[pairs[:, 0]] * (1 - share[:, None]) + vertices[pairs[:, 1]] * share[:, None]
    np.testing.assert_allclose(source, cut, atol=1e-4)
    edges = boundary_edges(kept)
    rim = edges[np.linalg.norm(cut[edges[:, 0]][:, None] - CENTER, axis=2).min(1) < 17]
    assert len(rim) > 60
    # Linear interpolation between vertices: on the level to a fraction of the grid's step.
    assert np.abs(np.linalg.norm(cut[rim[:, 0]][:, None] - CENTER, axis=2).min(1) - 15).max() < 0.2
    assert sorted(rim[:, 0]) == sorted(rim[:, 1])
    area = trimesh.Trimesh(cut, kept, process=False).area
    opening = 2 * np.pi * (15**2 - (29 - 20) ** 2)
    assert area == pytest.approx(140 * 72 - opening, rel=0.01)


def test_lids_get_a_smooth_edge_and_a_thickness():
    vertices, faces = face_with_eyes()
    rough = vertices.copy()
    rough[:, 2] += np.random.default_rng(0).normal(0, 0.4, len(rough))
    cut, kept, *_ = cut_eye_openings(rough, faces, CENTER, RADIUS)
    part = Part(cut, kept, np.full((len(cut), 3), 200, np.uint8), np.zeros(len(cut), np.uint8), {"blink": cut * 0.1})
    done = finish_lids(part, CENTER, RADIUS)

    def roughness(values: np.ndarray, triangles: np.ndarray) -> float:
        edges = boundary_edges(triangles)
        edges = edges[np.linalg.norm(cut[edges[:, 0]][:, None] - CENTER, axis=2).min(1) < 18]
        after = dict(edges.tolist())
        return float(np.mean([
            np.linalg.norm(values[a] - 2 * values[b] + values[after[b]]) for a, b in edges.tolist() if b in after
        ]))  # fmt: skip

    assert roughness(done.vertices, kept) < 0.5 * roughness(cut, kept)
    assert roughness(done.targets["blink"] / 0.1, kept) < 0.5 * roughness(cut, kept)
    rim = done.vertices[len(cut) :]
    assert len(rim) > 60
    inner = np.linalg.norm(rim[:, None] - CENTER, axis=2).min(1)
    assert 12.5 < inner.min() and inner.max() < 14.8
    # The old edge is closed by the rim; far away nothing moved.
    assert len(done.colors) == len(done.parts) == len(done.vertices) == len(done.targets["blink"])
    far = np.linalg.norm(cut[:, None] - CENTER, axis=2).min(1) > 25
    np.testing.assert_allclose(done.vertices[: len(cut)][far], cut[far], atol=1e-5)


def test_paint_knows_lips_brows_hair_and_the_inside_of_the_mouth():
    mesh = trimesh.creation.icosphere(subdivisions=6, radius=1)
    skull = mesh.vertices * [75, 125, 95] + [0, 20, -40]
    marks = landmarks()
    # An open mouth: a bag pushed into the skull within the inner contour of the lips.
    marks[60:68, 1] = -34 + 9 * np.sin(np.pi - np.arange(8) * np.pi / 4)
    marks[48:60, 1] = -34 + 17 * np.sin(np.pi - np.arange(12) * np.pi / 6)
    marks[48:68, 2] = -40 + 95 * np.sqrt(1 - (marks[48:68, 0] / 75) ** 2 - ((marks[48:68, 1] - 20) / 125) ** 2)
    offset = (((skull[:, :2] - [0, -34]) / [21, 9]) ** 2).sum(1)
    hole = (skull[:, 2] > 0) & (offset < 1)
    skull[hole, 2] -= 40 * np.sqrt(1 - offset[hole])
    colors, parts = paint_head(skull, marks, CENTER, RADIUS, faces=mesh.faces, skin=(214, 164, 138))
    bald, _ = paint_head(skull, marks, CENTER, RADIUS, faces=mesh.faces, hair=None)
    at = lambda *p: colors[np.linalg.norm(skull - p, axis=1).argmin()].astype(int)  # noqa: E731
    assert at(0, 140, -60).mean() < 120 < bald[skull[:, 1].argmax()].mean()
    assert 0.5 < (parts == 3).sum() / hole.sum() < 1.2
    assert parts[np.linalg.norm(skull - [0, -34, 10], axis=1).argmin()] == 3
    lip = at(0, -46, 46)
    cheek = at(48, -20, 10)
    assert lip[0] - lip[1] > cheek[0] - cheek[1] + 10
    assert (parts[skull[:, 2] < -30] == 0).all()


def test_every_head_has_its_own_colours_and_the_mean_head_the_default_ones():
    from facetalk_hf.head.appearance import palette

    assert palette(np.zeros(8))["skin"] == (214, 164, 138) and palette(np.zeros(8))["hair"] == (72, 54, 44)
    codes = np.random.default_rng(0).normal(size=(32, 64))
    tones = np.array([palette(code)["skin"] for code in codes])
    assert tones[:, 0].std() > 10 and (tones > 30).all() and (tones < 250).all()
    assert all(sum(palette(code)["hair"]) < sum(palette(code)["skin"]) for code in codes)
    assert palette(codes[3]) == palette(2 * codes[3]) and (np.diff(tones, axis=1) < 0).all()
