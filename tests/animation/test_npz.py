# SPDX-License-Identifier: MIT
"""Animations as npz, read back: with its head, without one, and on the head of a model."""

import numpy as np
import pytest
from animations import head

from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.animation.npz import write_npz
from facetalk_hf.errors import FaceTalkError


def same(first: HeadAnimation, second: HeadAnimation, *names: str) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


MOTION = ("weights", "target_names", "fps", "seed", "expressions", "identity", "landmarks", "lip_aperture")


def test_an_npz_with_its_head_is_the_whole_animation(tmp_path):
    animation = head().replace(audio=np.sin(np.arange(99)), sampling_rate=22050)
    found = HeadAnimation.load(animation.save(tmp_path / "a.npz", geometry=True))
    same(found, animation, *MOTION, "base", "targets", "faces", "colors", "parts", "audio", "sampling_rate")
    assert found.save(tmp_path / "b.npz", geometry=True).read_bytes() == (tmp_path / "a.npz").read_bytes()
    bare = animation.replace(audio=None, expressions=None, identity=None, landmarks=None, lip_aperture=None, seed=None)
    found = HeadAnimation.load(bare.save(tmp_path / "c.npz", geometry=True))
    assert [getattr(found, name) for name in ("audio", "expressions", "identity", "landmarks", "seed")] == [None] * 5


def test_motion_alone_can_be_saved_where_no_head_is_needed(tmp_path):
    animation = head()
    found = HeadAnimation.load(animation.save(tmp_path / "a.npz"))
    same(found, animation, *MOTION)
    assert found.base.shape == (0, 3)
    assert found.save(tmp_path / "b.npz").read_bytes() == (tmp_path / "a.npz").read_bytes()
    assert found.save(tmp_path / "a.weights.csv").read_text() == animation.save(tmp_path / "b.weights.csv").read_text()
    before = sorted(tmp_path.iterdir())
    for name in ("a.glb", "a.mp4", "a.usdc", "folder"):
        with pytest.raises(FaceTalkError, match="decode=") as caught:
            found.save(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_the_head_comes_from_the_model_and_the_motion_from_the_file(tmp_path):
    animation = head()
    animation.save(tmp_path / "a.npz")

    def decode(expressions, identity):
        np.testing.assert_array_equal(expressions, animation.expressions)
        np.testing.assert_array_equal(identity, animation.identity)
        return animation.replace(weights=animation.weights + 1, fps=24.0, seed=None)

    found = HeadAnimation.load(tmp_path / "a.npz", decode=decode)
    same(found, animation, *MOTION, "base", "targets", "faces", "colors", "parts")
    other = animation.replace(target_names=("a", "b", "c", "d", "e"))
    with pytest.raises(FaceTalkError, match="another model"):
        HeadAnimation.load(tmp_path / "a.npz", decode=lambda *codes: other)
    animation.replace(expressions=None).save(tmp_path / "b.npz")
    with pytest.raises(FaceTalkError, match="geometry=True"):
        HeadAnimation.load(tmp_path / "b.npz", decode=decode)


def test_what_is_no_animation(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", expression=np.zeros((5, 64)), fps=24.0)
    arrays = dict(np.load(head().save(tmp_path / "a.npz", geometry=True)))
    np.savez(tmp_path / "rate.npz", **arrays | {"fps": np.zeros(3)})
    np.savez(tmp_path / "zero.npz", **arrays | {"fps": 0.0})
    np.savez(tmp_path / "short.npz", **arrays | {"weights": arrays["weights"][:3]})
    np.savez(tmp_path / "nan.npz", **arrays | {"base": arrays["base"] * np.nan})
    for name, words in (
        ("missing", "no such file"), ("text", "not an .npz"), ("other", "has no 'weights'|has no 'target_names'"),
        ("rate", "not an animation"), ("zero", "fps"), ("short", "shape"), ("nan", "finite"),
    ):  # fmt: skip
        with pytest.raises(FaceTalkError, match=words) as caught:
            HeadAnimation.load(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_npz_holds_the_promised_keys_and_the_same_bytes(tmp_path, monkeypatch):
    animation = head()
    first = write_npz(tmp_path / "a.npz", animation).read_bytes()
    import time

    later = time.time() + 5e6
    monkeypatch.setattr(time, "time", lambda: later)
    assert write_npz(tmp_path / "b.npz", animation).read_bytes() == first
    assert write_npz(tmp_path / "c.npz", animation.replace(seed=4)).read_bytes() != first
    data = np.load(tmp_path / "a.npz")
    assert set(data) == {"comment", "expression", "fps", "identity", "seed", "landmarks", "lip_aperture"} | {
        "weights", "target_names",
    }  # fmt: skip
    assert "Synthetic" in str(data["comment"])
    np.testing.assert_array_equal(data["expression"], animation.expressions)
    np.testing.assert_array_equal(data["landmarks"], animation.landmarks)
    assert (data["fps"], data["seed"]) == (25.0, 3)
    assert tuple(data["target_names"]) == animation.target_names
    bare = HeadAnimation(animation.base, animation.targets, animation.weights, animation.target_names, animation.faces)
    data = np.load(write_npz(tmp_path / "d.npz", bare, geometry=True))
    assert data["seed"] == -1 and data["expression"].shape == (6, 0)
    np.testing.assert_array_equal(data["targets"], animation.targets)
