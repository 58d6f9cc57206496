# SPDX-License-Identifier: MIT
"""HeadAnimation: frames, decomposition, compaction, saving by suffix."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.errors import FaceTalkError


def ball(frames: int = 9, targets: int = 3, seed: int = 0, **fields) -> HeadAnimation:
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=80)
    return HeadAnimation(
        base=mesh.vertices,
        targets=rng.normal(size=(targets, len(mesh.vertices), 3)) * 4,
        weights=rng.random((frames, targets)),
        target_names=[f"shape_{i}" for i in range(targets)],
        faces=mesh.faces,
        **fields,
    )


def test_a_frame_is_the_weighted_sum_of_the_targets():
    animation = ball(frames=40)
    assert (animation.num_frames, len(animation), animation.duration) == (40, 40, 40 / 24)
    every = animation.base + np.einsum("tr,rvc->tvc", animation.weights, animation.targets)
    np.testing.assert_allclose(np.stack(list(animation)), every, atol=1e-4)
    np.testing.assert_allclose(animation.vertices(-1), every[-1], atol=1e-4)
    np.testing.assert_allclose(np.stack(list(animation.iterate([3, 39, 3], chunk=2))), every[[3, 39, 3]], atol=1e-4)
    with pytest.raises(IndexError):
        animation.vertices(40)


def test_a_sparse_frame_equals_the_dense_one():
    animation = ball(frames=3, targets=8)
    animation.weights[:, 2:] = 0
    expected = animation.base + np.einsum("r,rvc->vc", animation.weights[1], animation.targets)
    np.testing.assert_allclose(animation.vertices(1), expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(frames=st.integers(1, 12), rank=st.integers(0, 4), seed=st.integers(0, 99))
def test_from_vertices_finds_few_targets_within_the_tolerance(frames, rank, seed):
    vertices = np.stack(list(ball(frames, rank, seed)))
    found = HeadAnimation.from_vertices(vertices, ball().faces, fps=30.0)
    error = np.linalg.norm(np.stack(list(found)) - vertices, axis=2).max()
    assert error < 0.02 + 1e-3
    assert len(found.targets) <= min(rank, frames - 1)
    assert found.fps == 30.0


def test_compact_keeps_the_motion_and_drops_what_is_redundant():
    animation = ball(frames=30, targets=3)
    doubled = animation.replace(
        targets=np.concatenate([animation.targets, animation.targets * 0.5]),
        weights=np.tile(animation.weights, (1, 2)),
        target_names=[f"t{i}" for i in range(6)],
    )
    small = doubled.compact(tolerance=0.02)
    assert len(small.targets) == 3
    assert np.abs(small.weights).max() == pytest.approx(1.0)
    assert np.linalg.norm(np.stack(list(small)) - np.stack(list(doubled)), axis=2).max() < 0.03
    assert len(doubled.compact(tolerance=1e4).targets) == 0
    # A target of a twentieth of a millimetre is above the tolerance, one of a hundredth below.
    for size, kept in ((0.05, 3), (0.008, 2)):
        tiny = animation.targets * [[[1]], [[1]], [[size]]] / np.linalg.norm(animation.targets, axis=2).max()
        tiny[:2] *= 50
        assert len(animation.replace(targets=tiny).compact(tolerance=0.02).targets) == kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": np.zeros((4, 2))}, "weights"),
        ({"targets": np.zeros((3, 5, 3))}, "targets"),
        ({"base": np.full((162, 3), np.nan)}, "not finite"),
        ({"faces": np.array([[0, 1, 162]])}, "162 vertices"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"target_names": ["a", "a", "b"]}, "different names"),
        ({"colors": np.zeros((3, 3))}, "colors"),
        ({"lip_aperture": np.zeros(3)}, "lip_aperture"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, said):
    with pytest.raises(FaceTalkError, match=said) as caught:
        ball().replace(**change)
    assert "\n" not in str(caught.value)


def test_save_chooses_the_writer_by_suffix(tmp_path):
    animation = ball(frames=2)
    for name in ("a.npz", "a.weights.csv", "a.glb"):
        assert animation.save(tmp_path / name).stat().st_size > 0
    assert sorted(p.name for p in animation.save(tmp_path / "seq").iterdir()) == ["frame_00000.ply", "frame_00001.ply"]
    assert len(list(animation.save(tmp_path / "objects", format="obj").glob("*.obj"))) == 2
    with pytest.raises(FaceTalkError, match="fbx"):
        animation.save(tmp_path / "a.fbx")
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
