# SPDX-License-Identifier: MIT
"""Converted heads in the product: codes to animations of one topology, in every format, and what is refused."""

import copy

import numpy as np
import pytest
import soundfile
import torch
import trimesh
from ball_head import make_backward_head
from command import facetalk  # noqa: F401
from components import CODE_DIM, make_denoiser, make_head, make_pipeline, speech_like
from official import official_head  # noqa: F401

from facetalk_hf import FaceTalkError, HeadAnimation, NPHMModel
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.vertex_decoder import GramSchmidtBasis, VertexDecoder


HEADS = {"nphm": ("nphm", False), "nphm-backward": ("nphm", True), "mononphm": ("mononphm", True)}


@pytest.fixture(scope="module")
def heads() -> dict[str, NPHMModel]:
    return {name: official_head(*kind) for name, kind in HEADS.items()}


def clip(frames: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    ends = 0.5 * torch.randn(3, CODE_DIM, generator=generator)
    time = torch.linspace(0, 2 * torch.pi, frames)
    return torch.stack([time.sin(), time.cos(), (2 * time).sin()], 1) @ ends


@pytest.mark.parametrize("name", HEADS)
def test_frames_are_where_the_head_puts_them(heads, name):
    """Every vertex of every frame, through surface, inversion and low-rank motion, within the stated 0.04 mm."""
    head = heads[name]
    decoder = make_decoder(head, resolution=24)
    assert isinstance(decoder, VertexDecoder)
    animation = decoder(clip(), 1)
    assert len(animation) == 6 and len(animation.base) > 500 and len(animation.targets) <= 6
    assert animation.landmarks is None and animation.lip_aperture is None
    radius = np.linalg.norm(animation.base, axis=1)
    assert 70 < np.median(radius) < 130
    identity = head.identity_codes[1:2]
    start = decoder.geometry(head.identity_codes[1].numpy()).canonical / 250
    moved = 0.0
    for code, vertices in zip(clip(), animation, strict=True):
        moved = max(moved, np.abs(vertices - animation.base).max())
        with torch.no_grad():
            if name == "nphm":
                canonical = torch.from_numpy(start)[None]
                error = 250 * (canonical + head.deform(canonical, identity, code[None]))[0].numpy() - vertices
            else:
                posed = torch.from_numpy(vertices / 250)[None]
                error = 250 * (head.canonical(posed, identity, code[None])[0, :, :3].numpy() - start)
        error = np.linalg.norm(error, axis=1)
        # What an error of the posed vertex becomes in canonical space is scaled by the map's slope.
        assert error.max() < (0.04 if name == "nphm" else 0.06), name
    assert moved > 2
    if name != "nphm":
        assert animation.metadata["vertices_not_found"] == "0"
        assert float(animation.metadata["inversion_residual_mm"]) < 1e-3


def test_colours_are_those_of_the_head(heads):
    animation = make_decoder(heads["mononphm"], resolution=24)(clip(1), 1)
    points = torch.from_numpy(make_decoder(heads["mononphm"], 24).geometry(
        heads["mononphm"].identity_codes[1].numpy()).canonical / 250)[None]  # fmt: skip
    with torch.no_grad():
        expected = 127.5 * (heads["mononphm"].color(points, heads["mononphm"].identity_codes[1:2])[0].numpy() + 1)
    np.testing.assert_allclose(animation.colors, expected.clip(0, 255), atol=0.51)
    assert np.ptp(animation.colors.astype(int), axis=0).max() > 3


def test_a_backward_head_of_ours_keeps_its_landmarks():
    head = make_backward_head()
    animation = make_decoder(head, resolution=24)(clip(3))
    assert animation.landmarks.shape == (3, 68, 3) and animation.lip_aperture.shape == (3,)
    posed = torch.from_numpy(animation.landmarks[1] / 250)[None]
    with torch.no_grad():
        zero = torch.zeros(1, head.identity_dim)
        back = head.canonical(posed, zero, clip(3)[1:2])
    np.testing.assert_allclose(250 * back.numpy(), 250 * head.landmarks(zero).detach().numpy(), atol=0.1)


def test_basis_keeps_its_bound():
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(50, 3)).astype(np.float32)
    frames = rest + np.tensordot(rng.normal(size=(20, 4)), rng.normal(size=(4, 50, 3)), 1).astype(np.float32)
    basis = GramSchmidtBasis(rest, 0.01)
    for frame in [rest, *frames]:
        basis.add(frame)
    assert basis.targets.shape == (4, 50, 3) and not basis.weights[0].any()
    np.testing.assert_allclose(rest + np.tensordot(basis.weights[1:], basis.targets, 1), frames, atol=0.01)


def test_half_precision_weights_decode_in_float32(heads):
    rough = copy.deepcopy(heads["nphm"]).half()
    animation = make_decoder(rough, resolution=24)(clip(2))
    expected = make_decoder(copy.deepcopy(rough).float(), resolution=24)(clip(2))
    np.testing.assert_array_equal(animation.vertices(1), expected.vertices(1))


@pytest.mark.parametrize("name", HEADS)
def test_command_generates_with_a_converted_head(tmp_path, heads, name, facetalk, capsys):  # noqa: F811
    make_pipeline(head=heads[name]).save_pretrained(tmp_path / "model")
    capsys.readouterr()
    soundfile.write(tmp_path / "a.wav", speech_like(0.2), 16000)
    kinds = ("glb", "npz", "mp4", "usdc") if name == "nphm" else ("glb", "npz")
    formats = [part for kind in kinds for part in ("--format", kind)]
    common = ("generate", tmp_path / "a.wav", "--model", tmp_path / "model", "--output-dir", tmp_path, "--steps", 2)
    code, _, error = facetalk(*common, *formats, "--size", 64)
    assert code == 0, error
    assert all((tmp_path / f"a.{kind}").stat().st_size > 1000 for kind in kinds)
    scene = trimesh.load(tmp_path / "a.glb")
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) > 500
    assert HeadAnimation.load(tmp_path / "a.npz").landmarks is None
    if name == "nphm":
        code, _, error = facetalk(*common, "--format", "csv")
        assert code == 2 and "no ARKit channel" in error and "Traceback" not in error


def test_saved_motion_finds_its_head_again(tmp_path, heads):
    decoder = make_decoder(heads["nphm"], resolution=24)
    animation = decoder(clip())
    loaded = HeadAnimation.load(animation.save(tmp_path / "a.npz"), decode=decoder)
    np.testing.assert_array_equal(loaded.vertices(4), animation.vertices(4))


def test_what_cannot_be_done_is_said(heads):
    pipe = make_pipeline(head=heads["nphm"])
    pipe.register_modules(denoiser=make_denoiser())
    other = make_pipeline(head=make_head(expression_dim=9))
    with pytest.raises(FaceTalkError, match="expression codes of 9 numbers, but the denoiser gives 64"):
        other(speech_like(0.3), sampling_rate=16000)
    with pytest.raises(FaceTalkError, match="identity must be 0 to 1"):
        pipe(speech_like(0.3), sampling_rate=16000, identity=5)
    with pytest.raises(FaceTalkError, match="shape \\(frames, 64\\)"):
        pipe.decode(torch.zeros(2, 3))
    empty = copy.deepcopy(heads["nphm"])
    with torch.no_grad():
        empty.ensemble.members.weights[-1].zero_()
        empty.ensemble.members.biases[-1].fill_(0.1)
    with pytest.raises(FaceTalkError, match="no surface"):
        make_decoder(empty, resolution=16)(clip(1))
