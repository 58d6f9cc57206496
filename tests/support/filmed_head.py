# SPDX-License-Identifier: MIT
"""Landmarks that a known head would give in front of a known camera: no tracker is needed."""

import numpy as np
import pytest

from facetalk_hf import TINY
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.fitting.video.camera import Camera, HeadPoses
from facetalk_hf.fitting.video.landmarks import SCORES, FaceLandmarks
from facetalk_hf.fitting.video.person import landmark_map, mesh_points
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.mesh.pose import axis_rotations


FRAMES, FOCAL, SIZE = 30, 900.0, (640, 480)
LOST = slice(12, 14)


@pytest.fixture(scope="module")
def filmed() -> tuple[FaceLandmarks, np.ndarray, HeadPoses, np.ndarray]:
    """Landmarks of a person who speaks, blinks once and turns; true weights, poses and lip aperture."""
    head = load_head(TINY)
    decoder, measured, at = BlendshapeDecoder(head, resolution=96), landmark_map(), np.arange(FRAMES)
    code = decoder.identity_code("random:5")
    weights = np.zeros((FRAMES, 53))
    weights[:, INDEX["jawOpen"]] = 0.25 * (1 - np.cos(2 * np.pi * at / 10)) / 2
    weights[:, INDEX["mouthPucker"]] = 0.5 * np.sin(np.pi * at / FRAMES) ** 2
    for side in "LR":
        weights[20:23, INDEX[f"eyeBlink_{side}"]] = (0.7, 1.0, 0.6)
    points = mesh_points(decoder, code, measured.places, measured.offsets)
    turn = axis_rotations(1, np.radians(20 * np.sin(at / 8))) @ axis_rotations(0, np.radians(5 * np.cos(at / 6)))
    poses = HeadPoses(turn, np.tile([20.0, -10.0, -700.0], (FRAMES, 1)))
    places = poses.place(points.base + np.tensordot(weights, points.targets, 1))
    pixels = Camera(FOCAL, (SIZE[0] / 2, SIZE[1] / 2)).project(places)
    pixels += np.random.default_rng(0).normal(0, 0.3, pixels.shape)
    marks = np.concatenate([pixels, np.zeros((FRAMES, 478, 1))], 2)
    marks[LOST] = np.nan
    confidence = np.isfinite(marks[:, 0, 0]).astype(float)
    seen = FaceLandmarks(marks, np.full((FRAMES, len(SCORES)), np.nan), confidence, at / 25, SIZE)
    codes = (weights @ head.expression_basis.float().numpy().T).astype(np.float32)
    return seen, weights, poses, decoder.lip_aperture(codes, code)
