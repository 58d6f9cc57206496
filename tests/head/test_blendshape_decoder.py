# SPDX-License-Identifier: MIT
"""From codes to a head: surface, motion, parts, identities, and what is refused."""

import numpy as np
import pytest
import torch
import trimesh
from ball_head import NAMES, head  # noqa: F401

from facetalk_hf import TINY, FaceTalkError, NPHMModel
from facetalk_hf.blendshapes import TONGUE
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.decoder import aperture
from facetalk_hf.mesh.isosurface import triangulate
from facetalk_hf.mesh.topology import genus


@pytest.fixture(scope="module")
def decoder(head) -> BlendshapeDecoder:
    return BlendshapeDecoder(head, resolution=48)


def codes(head, **weights: float) -> torch.Tensor:
    row = torch.tensor([[weights.get(name, 0.0) for name in NAMES]])
    return head.expression_from_weights(row)


def test_animation_has_skin_eyes_and_teeth_in_millimetres(head, decoder):
    animation = decoder(torch.cat([codes(head), codes(head, jawOpen=1.0)]))
    assert animation.num_frames == 2 and animation.target_names == (*NAMES, *TONGUE)
    assert set(np.unique(animation.parts)) >= {0, 1, 2}
    skin = animation.base[animation.parts == 0]
    assert 70 < np.abs(skin).max() < 160
    assert np.isfinite(animation.base).all() and np.isfinite(animation.targets).all()


def test_frames_equal_the_network_evaluated_directly(head, decoder):
    """Base, targets and weights are only another way to write canonical point + deform(point, identity, code)."""
    plain = BlendshapeDecoder(head, resolution=48, facial_smoothing=False)
    expression = codes(head, jawOpen=0.7, mouthClose=0.3)
    animation = plain(expression)
    zero = torch.zeros(1, head.identity_dim)
    with torch.no_grad():
        landmarks = head.landmarks(zero)
        expected = (landmarks + head.deform(landmarks, zero, expression))[0].numpy() * 250.0
    np.testing.assert_allclose(animation.landmarks[0], expected, atol=1e-3)


def test_facial_smoothing_damps_motion_away_from_the_mouth_only(head):
    raw = BlendshapeDecoder(head, resolution=48, facial_smoothing=False)(codes(head, jawOpen=1.0))
    smooth = BlendshapeDecoder(head, resolution=48)(codes(head, jawOpen=1.0))
    np.testing.assert_allclose(raw.base, smooth.base, atol=1e-4)
    skin = raw.parts == 0
    move = [np.linalg.norm(animation.targets[0][skin], axis=1) for animation in (raw, smooth)]
    far = raw.base[skin][:, 2] < -50
    near = np.linalg.norm(raw.base[skin] - raw.landmarks[0, 48:68].mean(0), axis=1) < 40
    assert move[1][far].max() < 0.2 * move[0][far].max()
    np.testing.assert_allclose(move[1][near], move[0][near], rtol=0.05)


def test_aperture_is_zero_at_rest(head, decoder):
    animation = decoder(codes(head))
    assert animation.lip_aperture[0] == pytest.approx(0.0, abs=1e-4)
    assert aperture(animation.landmarks)[0] != pytest.approx(0.0, abs=1e-4)


def test_neck_ends_along_its_plane_and_eyes_are_open(head, decoder):
    animation = decoder(codes(head))
    skin = animation.parts == 0
    mesh = trimesh.Trimesh(animation.base, animation.faces[skin[animation.faces].all(1)], process=False)
    assert not mesh.is_watertight
    lowest = animation.base[skin][:, 1].min()
    assert -73 < lowest < -66  # 5 mm above the plane, which is at -75; the ball would go on to -100


def test_named_identities_codes_and_cache(head, decoder):
    zero = decoder(codes(head), "zero")
    assert decoder(codes(head), 0).base is zero.base  # the first named head is the mean one
    one = decoder(codes(head), 1)
    np.testing.assert_array_equal(one.base, decoder(codes(head), np.full(head.identity_dim, 0.1, np.float32)).base)
    assert one.base.shape != zero.base.shape or not np.allclose(one.base, zero.base)


def test_random_identities_are_seeded(head, decoder):
    one, again, other = (decoder.identity_code(f"random:{seed}") for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other) and one.shape == (head.identity_dim,)
    expected = head.sample_identity(torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(one, expected.numpy())


@pytest.mark.parametrize(
    ("identity", "message"),
    [("random", '"random:SEED"'), ("random:x", '"random:SEED"'), ("random:-1", '"random:SEED"'),
     (99, "identity must be 0 to 1"), (np.zeros(3), "identity must hold"), ("bob", '"zero", a number'),
     (np.full(18, np.nan), "not finite")],
)  # fmt: skip
def test_bad_identities_get_one_line(head, decoder, identity, message):
    with pytest.raises(FaceTalkError, match=message):
        decoder(codes(head), identity)


def test_bad_codes_get_one_line(head, decoder):
    with pytest.raises(FaceTalkError, match="shape \\(frames, 64\\)"):
        decoder(torch.zeros(2, 10))


def test_a_named_head_with_a_pierced_nose_comes_whole():
    decoder = BlendshapeDecoder(NPHMModel.from_pretrained(TINY, subfolder="head"), resolution=128)
    code = torch.from_numpy(decoder.identity_code(9))[None]
    assert genus(*triangulate(*decoder.sample_grid(code))) == 2  # through the wings
    assert genus(*decoder.canonical_surface(code)) == 0
