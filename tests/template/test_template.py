# SPDX-License-Identifier: MIT
"""The template on heads of other shapes: one topology, little error, ARKit's names, pictures that show the colours."""

import io

import numpy as np
import pytest
import trimesh
from animations import Glb
from PIL import Image
from scipy.spatial import cKDTree

from facetalk_hf.animation.glb import write_glb
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.animation.template_head import on_template
from facetalk_hf.cli.common import Format, save
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.head.eyes import eyeballs
from facetalk_hf.mesh.geometry import Surface, boundary_edges
from facetalk_hf.mesh.parts import EYES, HAIR, PUPIL
from facetalk_hf.template.baking import shaded
from facetalk_hf.template.fitting import Target
from facetalk_hf.template.starts import EXPANSES, FEATURES
from facetalk_hf.template.topology import OPENING, load_topology, split


@pytest.fixture(scope="module")
def person():
    """Somebody whose surface is finer than the template and has other triangles; red above the eyes, else blue."""
    topology = load_topology()
    shape = topology.shape.copy()
    shape = shape * [1.12, 0.95, 1.05] + 4 * np.sin(shape[:, [1, 2, 0]] / 25)
    middles = shape[topology.quads].mean(1)
    count = len(shape)
    fan = np.arange(len(middles)) + count
    a, b, c, d = topology.quads.T
    faces = np.concatenate([np.stack(pair, 1) for pair in ((a, b, fan), (b, c, fan), (c, d, fan), (d, a, fan))])
    opened = np.concatenate([shape, middles])
    jaw = np.zeros_like(opened)
    jaw[:, 1] = -30 * np.clip((-opened[:, 1] - 30) / 60, 0, 1)
    brow = np.zeros_like(opened)
    brow[:, 1] = 5 * np.exp(-(((opened - opened[topology.landmarks[19]]) / 15) ** 2).sum(1))
    level = opened[topology.landmarks[27], 1]
    colors = np.where(opened[:, 1:2] > level, [200, 40, 40], [40, 40, 200])
    return HeadAnimation(
        opened - OPENING * jaw, np.stack([jaw, brow]), np.array([[0.0, 0.0], [0.5, 1.0], [0.2, 0.4]]),
        ("jawOpen", "browOuterUp_R"), faces, colors, np.zeros(len(opened)), landmark_vertices=topology.landmarks,
    )  # fmt: skip


def test_another_head_takes_on_the_template_within_a_fraction_of_a_millimetre(person):
    head, topology = on_template(person).animation, load_topology()
    np.testing.assert_array_equal(head.faces, topology.triangles)
    places = head.base[np.searchsorted(topology.owner, np.arange(len(topology.shape)))]
    target = Target(places, split(topology.quads))
    for frame in range(3):
        posed = person.vertices(frame)
        target = Target(head.vertices(frame)[np.searchsorted(topology.owner, np.arange(len(places)))], target.faces)
        corners, shares = target.project(posed, Surface(person.faces, len(posed)).normals(posed)[0])
        off = np.linalg.norm(np.einsum("nc,ncd->nd", shares, target.vertices[corners]) - posed, axis=1)
        assert np.mean(off) < 0.04 and np.quantile(off, 0.95) < 0.15
    # Corners of eyes and mouth are where they should be, not just anywhere on the surface.
    marks = topology.landmarks[[36, 39, 42, 45, 48, 54]]
    assert np.linalg.norm(places[marks] - person.base[marks], axis=1).max() < 1.5


def test_glb_has_the_template_with_pictures_and_morph_normals(tmp_path, person):
    glb = Glb(write_glb(tmp_path / "a.glb", person).read_bytes())
    (mesh,) = glb.json["meshes"]
    assert mesh["extras"]["targetNames"] == ["jawOpen", "browOuterUp_R"]
    (primitive, *_), topology = mesh["primitives"], load_topology()
    assert all(set(target) == {"POSITION", "NORMAL"} for target in primitive["targets"])
    uv = glb.accessor(primitive["attributes"]["TEXCOORD_0"]) / 65535
    np.testing.assert_allclose(uv, topology.uv * [1, -1] + [0, 1], atol=1e-4)
    view = glb.json["bufferViews"][glb.json["images"][0]["bufferView"]]
    data = glb.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    picture = np.asarray(Image.open(io.BytesIO(data)), float)
    assert picture.shape == (1024, 1024, 3)
    for landmark, red in ((19, True), (24, True), (33, False), (8, False)):  # brows, nose, chin
        at = uv[np.searchsorted(topology.owner, topology.landmarks[landmark])] * 1023
        colour = picture[round(at[1]), round(at[0])]
        assert (colour[0] > colour[2] + 100) == red and (colour[2] > colour[0] + 100) != red


def test_a_still_head_has_the_same_shapes_and_full_detail_its_own_vertices(tmp_path, person):
    still = person.replace(weights=np.zeros((1, 2)))
    for detail, count in (("template", len(load_topology().owner)), ("full", len(person.base))):
        mesh = Glb(write_glb(tmp_path / f"{detail}.glb", still, detail=detail).read_bytes()).json["meshes"][0]
        assert mesh["extras"]["targetNames"] == ["jawOpen", "browOuterUp_R"]
        glb = Glb((tmp_path / f"{detail}.glb").read_bytes())
        assert glb.json["accessors"][mesh["primitives"][0]["attributes"]["POSITION"]]["count"] == count
    with pytest.raises(FaceTalkError, match="template, full"):
        write_glb(tmp_path / "a.glb", still, detail="fine")


def test_compressed_vertices_are_where_they_were(tmp_path, person):
    meshopt = pytest.importorskip("meshoptimizer", reason='needs meshoptimizer: pip install "facetalk_hf[web]"')
    path = write_glb(tmp_path / "a.glb", person, compress=True)
    glb = Glb(path.read_bytes())
    assert {"EXT_meshopt_compression", "KHR_mesh_quantization"} == set(glb.json["extensionsRequired"])
    accessor = glb.json["accessors"][glb.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    packed = glb.json["bufferViews"][accessor["bufferView"]]["extensions"]["EXT_meshopt_compression"]
    data = glb.binary[packed["byteOffset"] : packed["byteOffset"] + packed["byteLength"]]
    rows = meshopt.decode_vertex_buffer(packed["count"], packed["byteStride"], data)
    whole = np.frombuffer(np.ascontiguousarray(rows).tobytes(), "<i2").reshape(-1, 4)[:, :3]
    (node,) = [node for node in glb.json["nodes"] if "mesh" in node]
    expected = on_template(person).animation.base
    np.testing.assert_allclose(whole * node["scale"][0] * 1000, expected, atol=0.021)
    assert path.stat().st_size < 0.5 * write_glb(tmp_path / "b.glb", person).stat().st_size


def test_loose_hair_is_a_mesh_of_its_own_and_hides_the_template(tmp_path, person):
    # A large bun: half a ball that stands off the back of the head, in place of the skin there.
    back = person.base[person.base[:, 2].argmin()]
    far = np.linalg.norm(person.base - back, axis=1)
    swollen = person.base + np.sqrt(np.clip(3600 - far**2, 0, None))[:, None] * [0, 0, -1.0]
    parts = np.where(far < 58, HAIR, 0).astype(np.uint8)
    result = on_template(person.replace(base=swollen, parts=parts))
    head, topology = result.animation, load_topology()
    hair = head.parts == HAIR
    assert 30 < hair.sum() < 1.5 * (parts == HAIR).sum() and not hair[: len(topology.owner)].any()
    assert head.base[hair, 2].min() < back[2] - 50
    skin = head.faces[(head.faces < len(topology.owner)).all(1)]
    gone = len(topology.triangles) - len(skin)
    assert 50 < gone < 400
    assert np.linalg.norm(head.base[skin].mean(1) - back, axis=1).min() > 10
    # Nothing is open: at its rim the hair meets what is left of the skin.
    rim = np.unique(boundary_edges(head.faces[head.parts[head.faces].max(1) == HAIR]))
    assert cKDTree(head.base[np.unique(skin)]).query(head.base[rim])[0].max() < 8
    glb = Glb(write_glb(tmp_path / "a.glb", person.replace(base=swollen, parts=parts)).read_bytes())
    assert [node["name"] for node in glb.json["nodes"]] == ["facetalk", "head", "hair"]
    assert {material["name"] for material in glb.json["materials"]} >= {"skin", "hair"}


def test_nostrils_are_dark_by_colour_for_no_lamp_casts_shadows_there(person):
    colors = np.full((3, 3), 200, np.uint8)
    dark, dim, bright = shaded(colors, np.array([0.0, 0.35, 0.6]))
    assert dark.tolist() == [40, 25, 25] and 40 < dim[0] < 200 and bright.tolist() == [200] * 3
    head, topology = on_template(person), load_topology()
    marks, uv = topology.shape[topology.landmarks], np.round(topology.uv * [1, -1] * 1023 + [0, 1023]).astype(int)
    blue = head.pictures["color"][uv[:, 1], uv[:, 0], 2]
    off_nose, off_lips = (
        cKDTree(marks[rows]).query(topology.shape[topology.owner])[0] for rows in (slice(31, 36), slice(48, 68))
    )
    assert blue[(off_nose < 12) & (off_lips > 9)].min() < 90
    assert blue[off_lips < 6].min() > 150  # the mouth has its own darkness


def test_a_pupil_stays_round_when_its_eyeball_is_thinned(person):
    marks = person.base[person.landmark_vertices]
    balls = eyeballs(np.stack([marks[36:42].mean(0), marks[42:48].mean(0)]) - [0, 0, 12], np.array([12.0, 12.0]))
    count = len(person.base)
    looking = person.replace(
        base=np.concatenate([person.base, balls.vertices]), colors=np.concatenate([person.colors, balls.colors]),
        targets=np.concatenate([person.targets, np.zeros((2, len(balls.vertices), 3))], 1),
        faces=np.concatenate([person.faces, balls.faces + count]), parts=np.concatenate([person.parts, balls.parts]),
    )  # fmt: skip
    head = on_template(looking).animation
    eyes = head.parts == EYES
    assert eyes.sum() < 0.4 * len(balls.vertices)
    pupils = head.base[eyes & (head.colors == PUPIL).all(1)]
    left, right = (pupils[(pupils[:, 0] > 0) == side] for side in (True, False))
    for pupil in (left, right):
        out = pupil[:, :2] - pupil[pupil[:, 2].argmax(), :2]
        turn = np.degrees(np.arctan2(out[:, 1], out[:, 0])) // 24
        rim = [np.linalg.norm(out[turn == part], axis=1).max(initial=0) for part in range(-7, 7)]
        assert min(rim) > 1.85 and max(rim) < 2.1


def test_a_head_without_landmarks_takes_the_template_by_its_anchors(tmp_path, person):
    # Its eyes are one surface with the skin, as in NPHM: the openings of the lids are filled.
    topology, faces, base, targets = load_topology(), [person.faces], [person.base], [person.targets]
    rim = boundary_edges(person.faces)
    rim = rim[topology.shape[rim[:, 0], 1] > topology.shape[topology.landmarks, 1].min()]
    count = len(person.base)
    for number, side in enumerate((-1, 1)):
        loop = rim[side * topology.shape[rim[:, 0], 0] > 0]
        faces.append(np.stack([loop[:, 1], loop[:, 0], np.full(len(loop), count + number)], 1))
        base.append(person.base[loop[:, 0]].mean(0, keepdims=True) + [0, 0, 2])
        targets.append(person.targets[:, loop[:, 0]].mean(1, keepdims=True))
    pairs = np.array(FEATURES[39] + EXPANSES[39])
    wrong = pairs[:, 0] >= 36  # some of them predicted badly
    anchors = np.zeros(39, int)
    anchors[pairs[:, 0]] = np.where(wrong, np.roll(pairs[:, 1], 1), pairs[:, 1])
    nphm = HeadAnimation(
        np.concatenate(base), np.concatenate(targets, 1), person.weights, ("component_00", "component_01"),
        np.concatenate(faces), anchor_vertices=anchors,
    )  # fmt: skip
    found = on_template(nphm)
    head = found.animation
    assert 0 < found.error < 0.3
    where = np.searchsorted(topology.owner, topology.landmarks)
    off = np.linalg.norm(head.base[where] - person.base[topology.landmarks], axis=1)
    assert off.mean() < 1 and off[[36, 39, 42, 45, 48, 54]].max() < 2
    assert (head.parts == EYES).sum() > 20 and not (head.parts == EYES)[: len(topology.owner)].any()
    glb = Glb(write_glb(tmp_path / "a.glb", nphm).read_bytes())
    assert glb.json["asset"]["extras"]["templateErrorMillimetres"] == pytest.approx(found.error, abs=1e-3)
    with_geometry = HeadAnimation.load(nphm.save(tmp_path / "a.npz", geometry=True))
    np.testing.assert_array_equal(with_geometry.anchor_vertices, anchors)


def test_what_is_no_head_keeps_its_surface_and_one_line_says_so(tmp_path, capsys):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=100)
    animation = HeadAnimation(
        ball.vertices, np.zeros((0, len(ball.vertices), 3)), np.zeros((1, 0)), (), ball.faces,
        anchor_vertices=np.arange(39) * 5,
    )  # fmt: skip
    save(animation, Format.glb, tmp_path / "a.glb")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("  a.glb: ") and "mm from a mean head's" in line
    glb = Glb((tmp_path / "a.glb").read_bytes())
    (primitive,) = glb.json["meshes"][0]["primitives"]
    assert glb.json["accessors"][primitive["attributes"]["POSITION"]]["count"] == len(ball.vertices)


def test_a_projection_ends_at_the_nearest_point_of_the_faces_around():
    ball = trimesh.creation.icosphere(subdivisions=2, radius=50)
    target = Target(ball.vertices, ball.faces)
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(400, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    points = ways * rng.uniform(44, 60, (400, 1))
    corners, shares = target.project(points, ways)
    assert np.allclose(shares.sum(1), 1) and shares.min() >= 0
    assert {tuple(sorted(face)) for face in corners} <= {tuple(sorted(face)) for face in ball.faces}
    found = np.einsum("nc,ncd->nd", shares, ball.vertices[corners])
    nearest = trimesh.proximity.closest_point_naive(ball, points)[1]
    assert np.allclose(np.linalg.norm(found - points, axis=1), nearest, atol=1e-6)
