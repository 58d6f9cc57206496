# SPDX-License-Identifier: MIT
"""The regions lie where their names say, on every identity and at every resolution."""

import numpy as np
import pytest
import torch

import facetalk_hf
from facetalk_hf import FaceTalkError, NPHMModel
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.regions import LIP_LANDMARKS, UPPER_LANDMARKS, region_masks


@pytest.fixture(scope="module")
def head() -> NPHMModel:
    return NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head", torch_dtype=torch.float32)


@pytest.mark.parametrize(("identity", "resolution"), [(None, 32), (None, 64), (5, 48)])
def test_regions_are_where_they_should_be(head, identity, resolution):
    decoder = make_decoder(head, resolution=resolution)
    geometry = decoder.geometry(decoder.identity_code(identity))
    base, landmarks = geometry.base, geometry.landmarks
    masks = region_masks(base, landmarks, geometry.parts)
    assert (masks["upper_face"] <= masks["face"]).all() and (masks["face"] <= masks["skin"]).all()
    assert (masks["lips"] <= masks["skin"]).all() and not (masks["lips"] & masks["upper_face"]).any()
    assert masks["skin"].sum() < len(base)

    def gap(points: np.ndarray, region: str) -> float:
        """Largest distance, mm, of some landmarks from a region."""
        return np.linalg.norm(points[:, None] - base[masks[region]][None], axis=-1).min(1).max()

    edge = 9 if resolution < 64 else 5  # a coarse mesh has no vertex nearer
    assert gap(landmarks[48:60], "lips") < edge and gap(landmarks[17:27], "upper_face") < edge
    lips = base[masks["lips"]]
    mouth = landmarks[list(LIP_LANDMARKS)]
    assert (lips > mouth.min(0) - 8).all() and (lips < mouth.max(0) + 8).all()
    # Both lips, both sides.
    seam = landmarks[[62, 66]].mean(0)
    assert min((lips[:, 1] > seam[1]).sum(), (lips[:, 1] < seam[1]).sum()) > 0.2 * len(lips)
    assert abs((base[masks["upper_face"], 0] > 0).mean() - 0.5) < 0.08
    assert base[masks["upper_face"], 2].min() > landmarks[[0, 16], 2].mean()
    assert not set(LIP_LANDMARKS) & set(UPPER_LANDMARKS)


def test_regions_follow_the_mouth_and_the_brows(head):
    """What opening the jaw moves most is lips, not the upper face; brows the other way round."""
    decoder = make_decoder(head, resolution=32)
    geometry = decoder.geometry(decoder.identity_code(None))
    masks = region_masks(geometry.base, geometry.landmarks, geometry.parts)
    motion = {name: np.linalg.norm(geometry.targets[geometry.names.index(name)], axis=-1) for name in
              ("jawOpen", "browInnerUp_L")}  # fmt: skip
    assert motion["jawOpen"][masks["lips"]].mean() > 10 * motion["jawOpen"][masks["upper_face"]].mean()
    assert motion["browInnerUp_L"][masks["upper_face"]].mean() > 5 * motion["browInnerUp_L"][masks["lips"]].mean()


def test_a_mesh_without_lips_is_told_so():
    points = np.random.default_rng(0).uniform(-1, 1, (30, 3)) + [500, 0, 0]
    landmarks = np.random.default_rng(1).uniform(-50, 50, (68, 3))
    with pytest.raises(FaceTalkError, match="resolution"):
        region_masks(points, landmarks, np.zeros(30, np.uint8))
