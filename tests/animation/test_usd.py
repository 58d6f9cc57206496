# SPDX-License-Identifier: MIT
"""USD stages, reopened and skinned by pxr itself."""

import sys

import numpy as np
import pytest
from animations import head, living, points, pxr  # noqa: F401

from facetalk_hf.animation.usd import UNITS, write_usd
from facetalk_hf.errors import FaceTalkError


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize(("suffix", "blend_shapes"), [("usdc", True), ("usda", True), ("usd", False)])
def test_reopened_stage_plays_the_same_frames(tmp_path, suffix, blend_shapes, units):
    Usd, UsdGeom, *_ = pxr()
    animation = head()
    path = animation.save(tmp_path / f"a.{suffix}", blend_shapes=blend_shapes, units=units)
    found = points(path, 6, blend_shapes)
    error = np.linalg.norm(found - np.stack(list(animation)), axis=2)
    assert error.max() < 0.01
    # The motion is there to be lost: frames differ by millimetres.
    assert np.linalg.norm(found[1] - found[0], axis=1).max() > 1
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageMetersPerUnit(stage) == UNITS[units]
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert (stage.GetTimeCodesPerSecond(), stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (25.0, 0, 5)
    assert stage.GetDefaultPrim().GetName() == "facetalk"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_blend_shapes_keep_their_names_and_weights(tmp_path):
    Usd, UsdGeom, _, _, UsdSkel = pxr()
    animation = head().replace(target_names=("all", "a b", "a_b", "jawOpen", "0"))
    stage = Usd.Stage.Open(str(write_usd(tmp_path / "a.usdc", animation)))
    (motion,) = [UsdSkel.Animation(prim) for prim in stage.Traverse() if prim.IsA(UsdSkel.Animation)]
    assert tuple(motion.GetBlendShapesAttr().Get()) == animation.target_names
    weights = motion.GetBlendShapeWeightsAttr()
    assert weights.GetTimeSamples() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose([weights.Get(frame) for frame in range(6)], animation.weights, atol=1e-6)
    shapes = [UsdSkel.BlendShape(prim) for prim in stage.Traverse() if prim.IsA(UsdSkel.BlendShape)]
    assert len({shape.GetPath() for shape in shapes}) == 5
    # A target of twenty vertices has twenty offsets.
    assert sorted(len(shape.GetOffsetsAttr().Get()) for shape in shapes)[0] == 20
    extent = UsdGeom.Boundable(stage.GetDefaultPrim()).GetExtentAttr().Get()
    every = np.stack(list(animation)).reshape(-1, 3) / 1000
    assert (np.array(extent[0]) <= every.min(0) + 1e-6).all() and (np.array(extent[1]) >= every.max(0) - 1e-6).all()


def test_colours_are_linear_and_every_part_has_a_material(tmp_path):
    Usd, UsdGeom, _, UsdShade, _ = pxr()
    animation = head()
    stage = Usd.Stage.Open(str(write_usd(tmp_path / "a.usdc", animation)))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/facetalk/head"))
    color = mesh.GetDisplayColorPrimvar()
    assert color.GetInterpolation() == "vertex"
    value = animation.colors / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(np.array(color.Get()), linear, atol=1e-5)
    subsets = UsdShade.MaterialBindingAPI(mesh).GetMaterialBindSubsets()
    faces = {subset.GetPrim().GetName(): np.array(subset.GetIndicesAttr().Get()) for subset in subsets}
    part = animation.parts[animation.faces].max(1)
    for kind, name in enumerate(("skin", "eyes", "teeth", "mouth")):
        np.testing.assert_array_equal(faces[name], np.flatnonzero(part == kind))
        bound, _ = UsdShade.MaterialBindingAPI(stage.GetPrimAtPath(f"/facetalk/head/{name}")).ComputeBoundMaterial()
        assert bound.GetPath() == f"/facetalk/materials/{name}"
    np.testing.assert_array_equal(mesh.GetFaceVertexIndicesAttr().Get(), animation.faces.reshape(-1))


def test_sound_is_referred_to(tmp_path, capfd):
    Usd, _, UsdMedia, *_ = pxr()
    animation = head().replace(audio=np.zeros(100))
    sound = animation.save(tmp_path / "takes" / "a.wav")
    inside = Usd.Stage.Open(str(write_usd(tmp_path / "a.usdc", animation, audio=sound)))
    asset = UsdMedia.SpatialAudio(inside.GetPrimAtPath("/facetalk/speech")).GetFilePathAttr().Get()
    assert asset.path == "./takes/a.wav" and asset.resolvedPath == str(sound)
    assert not Usd.Stage.Open(str(write_usd(tmp_path / "b.usdc", animation))).GetPrimAtPath("/facetalk/speech")
    # The library warns on stderr of attributes that its oldest file version lacks.
    assert capfd.readouterr() == ("", "")


def test_still_head_and_head_without_targets(tmp_path):
    Usd, UsdGeom, *_ = pxr()
    animation = head(1)
    bare = animation.replace(targets=animation.targets[:0], weights=np.zeros((1, 0)), target_names=())
    for name, thing in (("a.usda", animation), ("b.usda", bare)):
        np.testing.assert_allclose(points(write_usd(tmp_path / name, thing), 1, True)[0], thing.vertices(0), atol=0.01)


@pytest.mark.parametrize("blend_shapes", [True, False])
def test_gaze_and_head_motion_pass_the_validators_of_usd(tmp_path, blend_shapes):
    Usd, UsdGeom, *_ = pxr()
    validation = pytest.importorskip("pxr.UsdValidation", reason="this usd-core has no validators: nothing checked")
    animation = living()
    path = animation.save(tmp_path / "a.usdc", blend_shapes=blend_shapes)
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    stage = Usd.Stage.Open(str(path))
    found = validation.ValidationContext(validators).Validate(stage)
    assert len(validators) > 20 and not found, [error.GetMessage() for error in found]
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/facetalk/head"))
    matrices = [np.array(mesh.ComputeLocalToWorldTransform(frame)) for frame in range(6)]
    local = points(path, 6, blend_shapes)
    for matrix, still, vertices in zip(matrices, local, animation.iterate_posed(), strict=True):
        moved = still @ matrix[:3, :3] + matrix[3, :3] * 1000
        assert np.linalg.norm(moved - vertices, axis=1).max() < 0.021
        assert np.linalg.norm(still - vertices, axis=1).max() > 0.5


def test_what_cannot_be_written(tmp_path):
    pxr()
    with pytest.raises(FaceTalkError, match=r"\.usdc"):
        write_usd(tmp_path / "a.usdz", head())
    with pytest.raises(FaceTalkError, match="centimetres"):
        write_usd(tmp_path / "a.usdc", head(), units="inches")
    with pytest.raises(FaceTalkError, match="no faces"):
        write_usd(tmp_path / "a.usdc", head().replace(faces=np.zeros((0, 3), int)))
    (tmp_path / "file").touch()
    with pytest.raises(FaceTalkError, match="cannot write"):
        write_usd(tmp_path / "file" / "a.usdc", head())
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_without_usd_core_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(FaceTalkError, match=r"pip install .*facetalk_hf\[usd\]") as caught:
        head().save(tmp_path / "a.usdc")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
