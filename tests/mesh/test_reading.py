# SPDX-License-Identifier: MIT
"""Mesh files as different programs write them, and what no mesh is."""

import numpy as np
import pytest
import trimesh

from facetalk_hf.mesh.reading import read_mesh


def write(folder, text: str):
    path = folder / "a.obj"
    path.write_text(text)
    return path


SQUARE = "v 0 0 0\nv 1 0 0\nv 9 9 9\nv\t1 1 0\nv 0 1 -1e-3\n"


@pytest.mark.parametrize(
    ("faces", "triangles"),
    [
        ("f 1 2 4\nf 1 4 5\n", [[0, 1, 3], [0, 3, 4]]),
        ("f 1 2 4 5\n", [[0, 1, 3], [0, 3, 4]]),
        ("f 1/7/3 2//3 4/1\nusemtl skin\ng more\nf -5 -2 -1\n", [[0, 1, 3], [0, 3, 4]]),
        ("", []),
    ],
)
def test_obj_files_of_all_kinds_keep_every_vertex_in_its_place(tmp_path, faces, triangles):
    mesh = read_mesh(write(tmp_path, f"# made by hand\n{SQUARE}vt 0 0\n\n{faces}"))
    np.testing.assert_array_equal(
        mesh.vertices, np.float32([[0, 0, 0], [1, 0, 0], [9, 9, 9], [1, 1, 0], [0, 1, -1e-3]])
    )
    assert mesh.faces.tolist() == triangles and mesh.faces.shape[1] == 3
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.colors, mesh.normals) == (np.float32, np.int32, None, None)


def test_negative_corners_count_from_the_vertices_so_far(tmp_path):
    mesh = read_mesh(write(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 1\nf -1 1 -2\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 0, 2]]


def test_colours_and_normals_of_an_obj_where_each_vertex_has_them(tmp_path):
    mesh = read_mesh(write(tmp_path, "v 0 0 0 0 0.5 1\nv 1 0 0 .2 .2 2\nvn 0 0 1\nvn 0 1 0\n"))
    assert mesh.colors.tolist() == [[0, 128, 255], [51, 51, 255]] and mesh.colors.dtype == np.uint8
    assert mesh.normals.tolist() == [[0, 0, 1], [0, 1, 0]]
    mesh = read_mesh(write(tmp_path, "v 0 0 0 0 0.5 1\nv 1 0 0\nvn 0 0 1\n"))
    assert mesh.colors is None and mesh.normals is None and len(mesh.vertices) == 2


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
@pytest.mark.parametrize("normals", [True, False])
def test_ply_with_and_without_normals(tmp_path, encoding, normals):
    ball = trimesh.creation.icosphere(subdivisions=1).apply_translation([3, 4, 5])
    ball.export(tmp_path / "a.ply", encoding=encoding, vertex_normal=normals)
    mesh = read_mesh(tmp_path / "a.ply")
    np.testing.assert_allclose(mesh.vertices, ball.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, ball.faces)
    assert (mesh.normals is None) == (not normals)
    if normals:
        np.testing.assert_allclose(mesh.normals, ball.vertex_normals, atol=1e-5)


def test_a_cloud_in_a_ply_has_no_faces(tmp_path):
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "a.ply")
    mesh = read_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(mesh.vertices, np.eye(3))
    assert mesh.faces.shape == (0, 3)


@pytest.mark.parametrize("text", ["v 1 2\nv 1 2 3\n", "v 1 2\n" * 3, "v one two three\n", "v 0 0 0\nf 1 x 1\n"])
def test_what_is_no_obj(tmp_path, text):
    with pytest.raises(ValueError):
        read_mesh(write(tmp_path, text))


def test_files_that_are_not_there(tmp_path):
    for name in ("a.obj", "a.ply"):
        with pytest.raises((OSError, ValueError)):
            read_mesh(tmp_path / name)
