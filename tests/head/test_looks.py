# SPDX-License-Identifier: MIT
"""Hair and colours in place of those that an identity brings."""

import numpy as np
import pytest
import torch

from facetalk_hf import NPHMModel
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.head.appearance import palette
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.hair_styles import (
    HAIR_DIM,
    HAIR_KINDS,
    HairStyle,
    even_stubble,
    hair_slice,
    loose_hair,
    random_style,
    without_flecks,
    without_patches,
)
from facetalk_hf.head.looks import Look


def test_every_kind_of_hair_has_numbers_of_its_own_and_the_plain_one_is_zero():
    vectors = np.stack([HairStyle(kind).vector() for kind in HAIR_KINDS])
    assert vectors.shape == (8, HAIR_DIM) and not vectors[0].any()
    assert len(np.unique(vectors, axis=0)) == 8
    drawn = [random_style(np.random.default_rng(seed)) for seed in range(60)]
    assert {style.kind for style in drawn} == set(HAIR_KINDS) and 0.1 < np.mean([s.beard > 0 for s in drawn]) < 0.6


@pytest.mark.parametrize("wrong", [{"hair": "mohawk"}, {"hair": "bob:big"}, {"hair": "bob:2"}, {"skin": "#12345"}])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(FaceTalkError):
        Look.named(**wrong)


def test_a_look_has_the_last_word_on_colours():
    code = np.random.default_rng(0).normal(size=50)
    own, chosen = palette(code), palette(code, Look.named(hair_color="red", eyes="#0080ff"))
    assert chosen["skin"] == own["skin"] and chosen["hair"] != own["hair"] and chosen["iris"] == (0, 128, 255)


def test_a_style_is_read_from_its_numbers():
    rng = np.random.default_rng(0)
    for kind in HAIR_KINDS:
        style = random_style(rng, kind)
        again = HairStyle.of_vector(style.vector())
        assert again.kind == kind and again.vector() == pytest.approx(style.vector(), abs=1e-6)


def test_the_hair_of_a_code_is_exchanged_and_nothing_else():
    head = NPHMModel(num_identities=3, glob_dim=20 + HAIR_DIM, hair_dim=HAIR_DIM, loc_dim=4)
    head.identity_codes.copy_(torch.randn(head.identity_codes.shape, generator=torch.Generator().manual_seed(0)))
    decoder, hair = BlendshapeDecoder(head), hair_slice(20 + HAIR_DIM)
    before = decoder.identity_code(1)
    decoder.look = Look.named(hair="bob")
    after = decoder.identity_code(1)
    assert np.array_equal(after[hair], HairStyle("bob").vector())
    assert np.array_equal(np.delete(before, hair), np.delete(after, hair))
    # A drawn identity wears the hair of one of the named ones, never a mixture.
    drawn = head.sample_identity(torch.Generator().manual_seed(5))
    assert (head.identity_codes[:, hair] == drawn[hair]).all(1).any()
    without = BlendshapeDecoder(NPHMModel())
    without.look = Look.named(hair="bob")
    with pytest.raises(FaceTalkError, match="without hair"):
        without.identity_code()


def test_loose_hair_is_what_hangs_together_with_the_longest_and_no_beard():
    depth = np.array([0, 2, 30, 25, 0, 5, 5, 5.0])
    faces = np.array([[0, 1, 2], [1, 2, 3], [3, 4, 0], [5, 6, 7], [4, 5, 6]])  # the last three: a beard
    assert loose_hair(depth, faces).tolist() == [False, True, True, True, False, False, False, False]
    assert not loose_hair(depth.clip(0, 12), faces).any()  # all of it lies close: a coat on the skin


def test_other_hair_keeps_the_colour_of_the_skin():
    head = NPHMModel(num_identities=2, glob_dim=20 + HAIR_DIM, hair_dim=HAIR_DIM, loc_dim=4, expression_names=["a"])
    code = torch.randn(head.identity_dim, generator=torch.Generator().manual_seed(1)).numpy()
    seen = []

    def paint(base, *_, skin, **__):
        seen.append(skin)
        raise KeyboardInterrupt

    decoder = BlendshapeDecoder(head, resolution=32)
    decoder.canonical_surface = lambda _: (np.eye(3, dtype=np.float32) * 0.1, np.array([[0, 1, 2]], np.int32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facetalk_hf.head.blendshape_decoder.paint_head", paint)
        patch.setattr("facetalk_hf.head.blendshape_decoder.cut_eye_openings", lambda v, f, *_: (v, f, None, None))
        for kind in ("none", "bob"):
            with pytest.raises(KeyboardInterrupt):
                decoder._build(Look.named(hair=kind).dress(code, 20 + HAIR_DIM, HAIR_DIM))
    assert seen[0] == seen[1] != palette(np.zeros(5))["skin"]


def test_thin_flecks_are_no_hair_unless_there_is_a_beard():
    depth = np.array([0.1, 6, 1.2, 0, 1.4, 1.1, 0.6])
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 4, 5], [4, 5, 6]])
    assert without_flecks(depth, faces, np.zeros(7, bool)).tolist() == [0, 6, 1.2, 0, 0, 0, 0]
    assert without_flecks(depth, faces, np.arange(7) > 3).tolist() == [0, 6, 1.2, 0, 1.4, 1.1, 0.6]


def strip(length: int) -> tuple[np.ndarray, np.ndarray]:
    """A strip of two rows of vertices, 2 mm apart, upwards: vertices (2 length, 3) mm, row after row, and faces."""
    vertices = np.array([[2.0 * side, 2.0 * row, 0] for row in range(length) for side in range(2)])
    start = 2 * np.arange(length - 1)[:, None]
    return vertices, np.concatenate([start + [0, 1, 2], start + [1, 3, 2]])


def test_a_bald_crown_keeps_thin_hair_at_the_edge_of_thick_hair_only():
    vertices, faces = strip(40)
    height = vertices[:, 1]
    depth = np.where(height < 30, 5.0, 2.0)
    left = without_patches(depth, faces, vertices, height > 10)
    assert (left[height < 31.5] == depth[height < 31.5]).all()  # thick hair, and the first 3 mm of its rim
    assert (left[height > 36] == 0).all()
    cropped = without_patches(np.full(80, 2.0), faces, vertices, height > 10)
    assert (cropped == 2.0).all()  # as thin as that all over
    assert (without_patches(depth, faces, vertices, height > 100) == depth).all()
    assert not without_patches(np.zeros(80), faces, vertices, height > 10).any()


def test_stubble_fades_on_bare_cheeks_and_goes_on_where_it_has_a_rest_above():
    vertices, faces = strip(60)
    height = vertices[:, 1]
    beard = height < 60
    ragged = np.where(np.arange(120) % 3, 1.3, 0.4)
    fading = even_stubble(np.where(beard, ragged, 0), faces, beard)
    whole = even_stubble(np.where(height < 66, ragged, 6.0), faces, beard)
    inside, end = height < 30, (height > 54) & beard
    assert np.ptp(fading[inside]) < 0.2 * np.ptp(ragged)
    assert fading[end].max() < 0.7 < 0.9 < whole[end].min()
    assert (whole[~beard] == np.where(height < 66, ragged, 6.0)[~beard]).all()
    assert whole[beard].max() < 1.3  # the hair above lends it nothing
