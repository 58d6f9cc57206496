# SPDX-License-Identifier: MIT
"""`facetalk export`: any saved npz to any other format."""

import json

import numpy as np
import pytest
import torch
import trimesh
from animations import Glb, points
from ball_head import NAMES, head  # noqa: F401
from command import RATE, assert_one_line, facetalk, model, write_wav  # noqa: F401
from components import make_pipeline
from PIL import Image

from facetalk_hf.animation.formats import WRITERS
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import TONGUE
from facetalk_hf.cli.common import Format
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.motion.editing import rest_in_silence


@pytest.fixture(scope="module")
def headed(head, tmp_path_factory):  # noqa: F811
    """A saved pipeline with that head, and the animation that it makes of some codes."""
    folder = tmp_path_factory.mktemp("models") / "headed"
    make_pipeline(head=head).save_pretrained(folder)
    weights = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    animation = make_decoder(head)(head.expression_from_weights(weights), 1)
    return folder, animation.replace(seed=5)


def test_every_format_of_the_library_is_one_of_the_command():
    assert {str(kind) for kind in Format} == set(WRITERS)


def test_a_file_with_its_head_needs_no_model(facetalk, headed, tmp_path):  # noqa: F811
    _, animation = headed
    animation.save(tmp_path / "a.npz", geometry=True)
    nowhere = ("--model", tmp_path / "missing")
    for name in ("b.glb", "b.csv", "b.json", "b.weights.csv", "b.npz"):
        code, out, error = facetalk("export", tmp_path / "a.npz", "--output", tmp_path / name, *nowhere)
        assert code == 0 and "6 frame(s)" in out, error
    for kind in ("ply", "obj"):
        code, out, error = facetalk(
            "export", tmp_path / "a.npz", "--format", kind, "--output", tmp_path / kind, *nowhere
        )
        assert code == 0, error
        mesh = trimesh.load(tmp_path / kind / f"frame_00004.{kind}", process=False)
        np.testing.assert_allclose(mesh.vertices, animation.vertices(4), atol=1e-3)
    assert (tmp_path / "b.glb").read_bytes() == animation.save(tmp_path / "c.glb").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text())["frames"] == 6
    assert HeadAnimation.load(tmp_path / "b.npz").base.shape == (0, 3)


def test_a_file_without_one_gets_the_head_of_its_model(facetalk, headed, tmp_path):  # noqa: F811
    folder, animation = headed
    animation.save(tmp_path / "a.npz")
    arguments = ("export", tmp_path / "a.npz", "--model", folder, "--output")
    code, _, error = facetalk(*arguments, tmp_path / "b.npz", "--geometry")
    assert code == 0, error
    found = HeadAnimation.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(found.faces, animation.faces)
    np.testing.assert_allclose(found.vertices(3), animation.vertices(3), atol=0.01)
    sound = write_wav(tmp_path / "sound.wav", np.zeros(RATE // 4))
    code, _, error = facetalk(*arguments, tmp_path / "b.mp4", "--size", "64", "--audio", sound, "--fps", "30")
    assert code == 0 and (tmp_path / "b.mp4").stat().st_size > 500, error
    film = ("--size", "64x96", "--yaw", "30", "--zoom", "1.5", "--background", "#102030")
    code, _, error = facetalk(*arguments, tmp_path / "b-png", "--format", "png", *film)
    assert code == 0, error
    picture = Image.open(tmp_path / "b-png" / "frame_00000.png")
    assert picture.size == (64, 96) and picture.getpixel((0, 0)) == (16, 32, 48)
    # Motion alone asks for no model at all.
    code, _, error = facetalk(*arguments, tmp_path / "b.csv", "--model", tmp_path / "missing")
    assert code == 0, error
    assert_one_line(facetalk(*arguments, tmp_path / "b.glb", "--model", tmp_path / "missing"), "no model folder")


def test_usd_with_its_sound(facetalk, headed, tmp_path):  # noqa: F811
    Usd = pytest.importorskip("pxr.Usd", reason='needs usd-core: pip install "facetalk_hf[usd]"')
    _, animation = headed
    animation.save(tmp_path / "a.npz", geometry=True)
    sound = write_wav(tmp_path / "sound.wav", np.zeros(RATE // 4))
    code, _, error = facetalk("export", tmp_path / "a.npz", "--output", tmp_path / "b.usdc", "--audio", sound)
    assert code == 0, error
    assert np.linalg.norm(points(tmp_path / "b.usdc", 6, True) - np.stack(list(animation)), axis=2).max() < 0.02
    stage = Usd.Stage.Open(str(tmp_path / "b.usdc"))
    assert stage.GetPrimAtPath("/facetalk/speech").GetAttribute("filePath").Get().path == "./sound.wav"


def test_another_rate_and_calmer(facetalk, headed, tmp_path):  # noqa: F811
    _, animation = headed
    animation.save(tmp_path / "a.npz")
    export = ("export", tmp_path / "a.npz", "--output", tmp_path / "b.npz")
    code, out, _ = facetalk(*export, "--fps", "60", "--smoothing", "0.05")
    assert code == 0 and "15 frame(s) at 60 fps" in out
    found = HeadAnimation.load(tmp_path / "b.npz")
    assert (found.fps, found.num_frames, found.seed) == (60, 15, 5)
    assert np.ptp(found.weights, axis=0).max() < 0.7 * np.ptp(animation.weights, axis=0).max()


def test_the_mouth_rests_in_silence_and_the_lids_go_on(head):  # noqa: F811
    decoder = make_decoder(head, resolution=48)
    animation = decoder(head.expression_from_weights(torch.full((48, 3), 0.5)), 1)
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * RATE) * (np.arange(2 * RATE) < RATE)
    animation = animation.replace(audio=sound, sampling_rate=RATE, seed=3)
    result = rest_in_silence(animation, head, decoder)
    mouth = [NAMES.index("jawOpen"), NAMES.index("mouthClose")]
    np.testing.assert_allclose(result.weights[:24], animation.weights[:24], atol=1e-5)
    np.testing.assert_allclose(result.weights[34:, mouth], 0, atol=1e-5)
    np.testing.assert_allclose(result.weights[:, 1], animation.weights[:, 1], atol=1e-5)
    # All that is measured on the head is measured anew.
    rest = decoder(head.expression_from_weights(torch.tensor([[0.0, 0.5, 0.0]])), 1)
    np.testing.assert_allclose(result.landmarks[-1], rest.landmarks[0], atol=1e-3)
    assert np.abs(animation.landmarks[-1] - rest.landmarks[0]).max() > 0.01
    np.testing.assert_array_equal(result.identity, animation.identity)
    assert (result.seed, len(result.audio), result.sampling_rate) == (3, 2 * RATE, RATE)


def test_what_cannot_be_done(facetalk, headed, model, tmp_path):  # noqa: F811
    _, animation = headed
    file = animation.save(tmp_path / "a.npz")
    before = file.read_bytes()
    (tmp_path / "folder.glb").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    export = ("export", file, "--output")
    assert_one_line(facetalk("export", tmp_path / "none.npz", "--output", tmp_path / "b.csv"), "no such file")
    assert_one_line(facetalk("export", tmp_path / "text.npz", "--output", tmp_path / "b.csv"), "text.npz")
    assert_one_line(facetalk(*export, tmp_path / "b.fbx"), "--format", "glb")
    assert_one_line(facetalk(*export, tmp_path / "b.csv", "--format", "avi"), "avi")
    assert_one_line(facetalk(*export, file), "replaced")
    assert_one_line(facetalk(*export, tmp_path / "folder.glb"), "in the way")
    assert_one_line(facetalk(*export, tmp_path / "b.csv", "--fps", "0"), "--fps", "between 1 and 1000")
    assert_one_line(facetalk(*export, tmp_path / "b.csv", "--smoothing", "-1"), "--smoothing")
    assert_one_line(facetalk(*export, tmp_path / "b.mp4", "--size", "65"), "--size")
    assert_one_line(facetalk(*export, tmp_path / "b.wav"), "no sound")
    assert_one_line(facetalk(*export, tmp_path / "b.wav", "--audio", tmp_path / "none.wav"), "none.wav")
    assert_one_line(facetalk(*export, tmp_path / "b.glb", "--model", model), "no head")
    assert_one_line(facetalk(*export, file / "b.csv"), "cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "folder.glb", "text.npz"]
    assert file.read_bytes() == before and set(animation.target_names) == {*NAMES, *TONGUE}


def test_another_head(facetalk, headed, tmp_path):  # noqa: F811
    _, animation = headed
    file = animation.save(tmp_path / "a.npz")
    rig = tmp_path / "rig"
    rig.mkdir()
    (rig / "neutral.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (rig / "jawOpen.obj").write_text("v 0 0 0\nv 1 -2 0\nv 0 1 0\nf 1 2 3\n")
    nowhere = ("--model", tmp_path / "missing")
    export = ("export", file, *nowhere, "--rig")
    code, out, error = facetalk(*export, rig, "--rig-unit", "cm", "--output", tmp_path / "b.glb")
    assert code == 0 and "6 frame(s)" in out and "mouthClose" in error
    glb = Glb((tmp_path / "b.glb").read_bytes())
    jaw = glb.accessor(glb.json["animations"][0]["samplers"][0]["output"])[:, 0]
    np.testing.assert_allclose(jaw, animation.weights[:, NAMES.index("jawOpen")].clip(0, 1), atol=1e-5)
    target = glb.json["meshes"][0]["primitives"][0]["targets"][0]["POSITION"]
    np.testing.assert_allclose(glb.accessor(target)[1], [0, -0.02, 0], atol=1e-6)
    # The same again on the glb that was just made.
    code, _, error = facetalk(*export, tmp_path / "b.glb", "--output", tmp_path / "c.glb", "--fps", "48")
    assert code == 0, error
    assert len(Glb((tmp_path / "c.glb").read_bytes()).json["animations"]) == 2
    assert_one_line(facetalk(*export, tmp_path / "b.glb", "--output", tmp_path / "d.usdc"), "glb only")
    assert_one_line(facetalk(*export, tmp_path / "b.glb", "--output", tmp_path / "b.glb"), "replaced")
    assert_one_line(facetalk(*export, tmp_path / "none.glb", "--output", tmp_path / "d.glb"), "none.glb")
    (rig / "jawOpen.obj").write_text("v 0 0 0\n")
    assert_one_line(facetalk(*export, rig, "--output", tmp_path / "d.glb"), "jawOpen.obj", "1 vertices")
    assert not (tmp_path / "d.glb").exists()
