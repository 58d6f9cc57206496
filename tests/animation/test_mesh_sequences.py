# SPDX-License-Identifier: MIT
"""Folders of ply and obj, read back by trimesh."""

import numpy as np
import pytest
import trimesh
from animations import head

from facetalk_hf.animation.mesh_sequences import write_obj_sequence, write_ply_sequence
from facetalk_hf.errors import FaceTalkError


@pytest.mark.parametrize("kind", ["ply", "obj"])
def test_sequences_hold_every_frame(tmp_path, kind):
    write_sequence = {"ply": write_ply_sequence, "obj": write_obj_sequence}
    animation = head(3)
    folder = write_sequence[kind](tmp_path / "seq", animation)
    assert [path.name for path in sorted(folder.iterdir())] == [f"frame_0000{i}.{kind}" for i in range(3)]
    mesh = trimesh.load(folder / f"frame_00002.{kind}", process=False)
    np.testing.assert_allclose(mesh.vertices, animation.vertices(2), atol=1e-3)
    np.testing.assert_array_equal(mesh.faces, animation.faces)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], animation.colors)
    # A shorter one replaces it whole.
    write_sequence[kind](folder, animation.replace(
        weights=animation.weights[:1], expressions=None, landmarks=None, lip_aperture=None))  # fmt: skip
    assert len(list(folder.iterdir())) == 1


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "seq").mkdir()
    (tmp_path / "seq" / "thesis.txt").write_text("mine")
    with pytest.raises(FaceTalkError, match="not a folder of frames"):
        write_ply_sequence(tmp_path / "seq", head(1))
    assert (tmp_path / "seq" / "thesis.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FaceTalkError):
        write_obj_sequence(tmp_path / "file", head(1))
    with pytest.raises(FaceTalkError, match="cannot write"):
        write_ply_sequence(tmp_path / "file" / "seq", head(1))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "seq"]
