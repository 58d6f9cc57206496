# SPDX-License-Identifier: MIT
"""The geometry behind the scans that heads are trained on; the whole is built from ICT-FaceKit by build_heads.py."""

import numpy as np
import pytest
import trimesh

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.synthetic.head_scans import (
    even_surface,
    face_probability,
    fit_sphere,
    points_on_hair,
    sample_surface,
    signed_distance,
)
from facetalk_hf.synthetic.ict_template import NECK_NORMAL, NECK_POINT, Template, close_holes


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FaceTalkError, match="ICT-VGL/ICT-FaceKit"):
        Template(tmp_path)


def test_a_sphere_is_found():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(50, 3))
    points = [1, -2, 3] + 2.5 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    centre, radius = fit_sphere(points)
    assert centre == pytest.approx([1, -2, 3]) and radius == pytest.approx(2.5)


def test_holes_are_closed_for_every_shape():
    box = trimesh.creation.box().subdivide().subdivide()
    faces = box.faces[box.triangles_center[:, 1] < 0.45]  # without its lid
    doubled = np.concatenate([box.vertices, box.vertices])  # seams: the same place twice
    faces = np.where(np.arange(len(faces))[:, None] % 2, faces, faces + len(box.vertices))
    surface = close_holes(doubled, faces)
    assert len(surface.loops) == 1
    for shape in (doubled, 2 * doubled + 1):
        closed = trimesh.Trimesh(surface.vertices(shape), surface.faces, process=False)
        assert closed.is_watertight and closed.volume == pytest.approx(np.prod(np.ptp(shape, axis=0)))


def test_points_lie_on_the_surface_as_often_as_they_should():
    sphere, rng = trimesh.creation.icosphere(3), np.random.default_rng(0)
    weight = np.where(sphere.vertices[:, 2] > 0, 3.0, 1.0)
    probability = face_probability(sphere.vertices, sphere.faces, weight)
    points, chosen, barycentric = sample_surface(sphere.vertices, sphere.faces, probability, 4000, rng)
    corners = sphere.vertices[sphere.faces[chosen]]
    assert points == pytest.approx(np.einsum("nc,ncd->nd", barycentric, corners))
    assert np.linalg.norm(points, axis=1) == pytest.approx(1, abs=0.01)
    assert (points[:, 2] > 0).mean() == pytest.approx(0.75, abs=0.03)


def test_points_lie_on_the_hair_alone():
    def bald(points):
        return np.linalg.norm(points, axis=1) - 8

    def haired(points):
        return np.minimum(bald(points), np.linalg.norm(points - [0, 3, 0], axis=1) - 7)  # 2 cm on top, none below

    points, normals = points_on_hair(haired, bald, 5.0, np.random.default_rng(0))
    assert np.abs(haired(points)).max() < 1e-3 and bald(points).min() > 0.02
    cap = 2 * np.pi * 7 * (10 - points[:, 1].min())  # of a sphere
    assert len(points) == pytest.approx(5 * cap, rel=0.1)
    outward = (points - [0, 3, 0]) / 7
    assert (normals * outward).sum(1).min() > 0.9


def test_distances_are_those_of_head_and_eyes_above_the_neck():
    pytest.importorskip("igl", reason='needs libigl: pip install "facetalk_hf[train]"')
    head, eye = trimesh.creation.icosphere(4, radius=8), (np.array([0.0, 0, 9]), 2.0)
    points = np.array([[0.0, 0, 0], [0, 10, 0], [0, 0, 10.5], [0, 0, 12], [0, -14, 0]])
    distance = signed_distance(points, head.vertices, head.faces, [eye])
    assert distance[:4] == pytest.approx([-8, 2, -0.5, 1], abs=0.05)
    assert distance[4] == pytest.approx(max(6, (points[4] - NECK_POINT) @ NECK_NORMAL), abs=0.05)
    ears = head.vertices[:, 0] > 7
    surface, normals, label = even_surface(head.vertices, head.faces, [eye], 3000, np.random.default_rng(0), ears)
    assert set(label) == {0, 2} and surface[label == 2, 0].min() > 6.8
    assert np.abs(signed_distance(surface, head.vertices, head.faces, [eye])).max() < 0.004
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    on_eye = np.abs(np.linalg.norm(surface - eye[0], axis=1) - 2) < 1e-6
    centre = np.where(on_eye[:, None], eye[0], 0)
    assert np.einsum("nd,nd->n", normals, surface - centre).min() > 0 and 0.01 < on_eye.mean() < 0.1
