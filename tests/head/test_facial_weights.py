# SPDX-License-Identifier: MIT
"""How much of the expression each point of a head takes part in."""

import numpy as np

from facetalk_hf.head.facial_weights import facial_weights


MOUTH = np.array([0.0, -34.0, 51.0])


def test_the_face_moves_fully_and_scalp_and_nape_hardly():
    face = np.array([[0, -34, 52], [0, -76, 44], [25, -35, 42], [35, 62, 40], [31, 40, 34], [60, 5, 0], [0, 20, 60]])
    assert facial_weights(face, MOUTH).min() > 0.98
    still = np.array([[0, 145, 0], [0, -40, -100], [0, 60, -146], [85, 20, -60]])
    assert facial_weights(still, MOUTH).max() < 0.3
    assert facial_weights(np.array([0, 60, -146.0]), MOUTH) < 1e-3


def test_facial_weights_fall_steadily_and_know_units():
    line = MOUTH + np.linspace(0, 1, 50)[:, None] * np.array([0, 10, -220])
    weights = facial_weights(line, MOUTH)
    assert weights.dtype == np.float32
    assert (np.diff(weights) <= 1e-6).all()
    np.testing.assert_allclose(
        facial_weights(line / 250, MOUTH / 250, sigma=np.array([75, 48, 75]) / 250), weights, atol=1e-5
    )
