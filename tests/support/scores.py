# SPDX-License-Identifier: MIT
"""Scores as evaluation gives them."""

SCORES = {
    "rms": {"regression": {"aperture": 0.9, "f1": 0.7}, "diffusion": {"aperture": 0.8, "f1": 0.75, "mve_min": 0.25}},
    "lj": {"diffusion": {"aperture": 0.6, "f1": 0.5, "made_up": 3.0}},
}
