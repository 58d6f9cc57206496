# SPDX-License-Identifier: MIT
"""An animation as a USD stage: a coloured mesh with UsdSkel blend shapes, or with time-sampled points."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FaceTalkError
from ..files import SYNTHETIC_NOTE, atomic_path
from ..mesh.parts import PARTS
from ..rendering.shading import srgb_to_linear
from .formats import register_writer
from .glb import ROUGHNESS
from .head_animation import HeadAnimation
from .sparse_targets import needed_displacements


if TYPE_CHECKING:
    from pxr import Usd, UsdGeom, Vt

UNITS: dict[str, float] = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
"""Metres in a unit of the stage, `metersPerUnit`."""


@register_writer("usd", "usda", "usdc")
def write_usd(
    path: str | os.PathLike,
    animation: HeadAnimation,
    blend_shapes: bool = True,
    units: str = "metres",
    audio: str | os.PathLike | None = None,
    tolerance: float = 0.02,
) -> Path:
    """Write a USD stage, y up, whose time codes are the frames 0 to T - 1: `timeCodesPerSecond` is the frame rate.

    The mesh keeps the animation's vertices in their order; vertex colours are `displayColor`, linear light. Eyes,
    teeth and mouth are subsets of its faces with a material each.

    Args:
        path (`str` or `os.PathLike`): .usdc and .usd are binary, .usda is text.
        animation (`HeadAnimation`): what to write.
        blend_shapes (`bool`, *optional*, defaults to `True`): all targets as blend shapes with their weights over
            time; otherwise the points of every frame, which any reader plays, and which take (T, V, 3) floats.
        units (`str`, *optional*, defaults to `"metres"`): one of `UNITS`; the stage says which.
        audio (`str` or `os.PathLike`, *optional*): a sound file to refer to, relative to the stage where it lies
            below the same folder.
        tolerance (`float`, mm): what leaving the smallest offsets out of the blend shapes may cost a vertex.

    Raises:
        FaceTalkError: usd-core is not installed, an unknown suffix or unit, no faces, or no place to write.
    """
    try:
        from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdMedia, UsdSkel, Vt
    except ImportError as error:
        raise FaceTalkError('USD needs the package usd-core: pip install "facetalk_hf[usd]"') from error
    path = Path(path)
    if path.suffix not in (".usd", ".usda", ".usdc"):
        raise FaceTalkError(f"{path.name} must end with .usdc, .usda or .usd")
    if units not in UNITS:
        raise FaceTalkError(f"units must be one of {', '.join(UNITS)}, not {units!r}")
    if not len(animation.faces):
        raise FaceTalkError("there is nothing to write: the animation has no faces")
    scale = np.float32(0.001 / UNITS[units])

    def vectors(values: np.ndarray) -> "Vt.Vec3fArray":
        return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values * scale, np.float32))

    stage = Usd.Stage.CreateInMemory()
    stage.GetRootLayer().comment = SYNTHETIC_NOTE
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, UNITS[units])
    stage.SetTimeCodesPerSecond(float(animation.fps))
    stage.SetFramesPerSecond(float(animation.fps))
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(max(animation.num_frames - 1, 0))
    root = (UsdSkel.Root if blend_shapes else UsdGeom.Xform).Define(stage, "/facetalk")
    stage.SetDefaultPrim(root.GetPrim())
    matrices = animation.pose_matrices()
    if matrices is not None:
        # USD multiplies row vectors from the left, and measures in units of the stage.
        matrices = matrices.transpose(0, 2, 1)
        matrices[:, 3, :3] *= scale
        place = UsdGeom.Xformable(root.GetPrim()).AddTransformOp()
        for frame, matrix in enumerate(matrices):
            place.Set(Gf.Matrix4d(matrix.tolist()), frame)

    mesh = UsdGeom.Mesh.Define(stage, "/facetalk/head")
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(animation.faces), 3))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(animation.faces.reshape(-1)))
    colors = Vt.Vec3fArray.FromNumpy(srgb_to_linear(animation.colors))
    mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(colors)
    mesh.CreatePointsAttr(vectors(animation.base))
    mesh.CreateExtentAttr(vectors(np.stack([animation.base.min(0), animation.base.max(0)])))
    _add_materials(stage, mesh, animation)
    if blend_shapes:
        # No vertex leaves the box that the largest weights together could push it to.
        reach = np.tensordot(np.abs(animation.weights).max(0, initial=0.0), np.abs(animation.targets), 1)
        low, high = (animation.base - reach).min(0), (animation.base + reach).max(0)
        root.CreateExtentAttr(vectors(np.stack([low, high])))
        _add_blend_shapes(stage, mesh, animation, vectors, tolerance)
    else:
        for frame, vertices in enumerate(animation):
            mesh.GetPointsAttr().Set(vectors(vertices), frame)
            mesh.GetExtentAttr().Set(vectors(np.stack([vertices.min(0), vertices.max(0)])), frame)
    if audio is not None:
        sound = UsdMedia.SpatialAudio.Define(stage, "/facetalk/speech")
        sound.CreateFilePathAttr(Sdf.AssetPath(_relative(Path(audio), path.parent)))
        sound.CreateAuralModeAttr(UsdMedia.Tokens.nonSpatial)
    with atomic_path(path) as temporary:
        try:
            written = stage.GetRootLayer().Export(str(temporary))
        except Tf.ErrorException as error:
            raise FaceTalkError(f"cannot write {path}: is there room left on the disk?") from error
        if not written:
            raise FaceTalkError(f"cannot write {path}")
    return path


def _add_blend_shapes(
    stage: "Usd.Stage",
    mesh: "UsdGeom.Mesh",
    animation: HeadAnimation,
    vectors: Callable[[np.ndarray], "Vt.Vec3fArray"],
    tolerance: float,
) -> None:
    """Define every target as a sparse blend shape, and their weights as time samples of one animation."""
    from pxr import Gf, Tf, UsdSkel, Vt

    # Readers hang blend shapes on a skeleton: one joint that never moves.
    skeleton = UsdSkel.Skeleton.Define(stage, "/facetalk/skeleton")
    skeleton.CreateJointsAttr(["root"])
    skeleton.CreateBindTransformsAttr([Gf.Matrix4d(1)])
    skeleton.CreateRestTransformsAttr([Gf.Matrix4d(1)])
    motion = UsdSkel.Animation.Define(stage, "/facetalk/skeleton/motion")
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(True, 1).Set(Vt.IntArray([0]))
    binding.CreateJointWeightsPrimvar(True, 1).Set(Vt.FloatArray([1.0]))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([motion.GetPath()])

    names, paths = list(animation.target_names), []
    largest = np.maximum(np.abs(animation.weights).max(0, initial=0.0), 1.0)
    kept, _ = needed_displacements(animation.targets, largest, tolerance)
    used: set[str] = set()
    for name, target, moves in zip(names, animation.targets, kept, strict=True):
        place = Tf.MakeValidIdentifier(name)
        while place in used:
            place += "_"
        used.add(place)
        shape = UsdSkel.BlendShape.Define(stage, mesh.GetPath().AppendChild(place))
        moved = np.flatnonzero(moves)
        shape.CreateOffsetsAttr(vectors(target[moved]))
        shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moved.astype(np.int32)))
        paths.append(shape.GetPath())
    binding.CreateBlendShapesAttr(names)
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)
    motion.CreateBlendShapesAttr(names)
    weights = motion.CreateBlendShapeWeightsAttr()
    for frame, row in enumerate(animation.weights):
        weights.Set(Vt.FloatArray.FromNumpy(row), frame)


def _add_materials(stage: "Usd.Stage", mesh: "UsdGeom.Mesh", animation: HeadAnimation) -> None:
    """Define a preview surface for each part, coloured by the vertices, and bind it to the part's faces."""
    from pxr import Sdf, UsdGeom, UsdShade, Vt

    UsdGeom.Scope.Define(stage, "/facetalk/materials")
    part = animation.parts[animation.faces].max(1)
    for kind in np.unique(part):
        material = UsdShade.Material.Define(stage, f"/facetalk/materials/{PARTS[kind]}")
        surface = UsdShade.Shader.Define(stage, material.GetPath().AppendChild("surface"))
        surface.CreateIdAttr("UsdPreviewSurface")
        reader = UsdShade.Shader.Define(stage, material.GetPath().AppendChild("color"))
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        color = reader.CreateOutput("result", Sdf.ValueTypeNames.Float3)
        surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(color)
        surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(ROUGHNESS[kind])
        output = surface.CreateOutput("surface", Sdf.ValueTypeNames.Token)
        material.CreateSurfaceOutput().ConnectToSource(output)
        binding = UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim())
        faces = Vt.IntArray.FromNumpy(np.flatnonzero(part == kind).astype(np.int32))
        subset = binding.CreateMaterialBindSubset(PARTS[kind], faces)
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(material)


def _relative(path: Path, folder: Path) -> str:
    """Write a path as USD does: relative to the stage's folder where it can be, with forward slashes."""
    try:
        return "./" + path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return path.resolve().as_posix()
