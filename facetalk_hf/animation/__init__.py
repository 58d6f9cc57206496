# SPDX-License-Identifier: MIT
"""Finished motion: `HeadAnimation`, gaze and pose, and the files that it is written to and read from."""

# Importing these registers their formats, in the order in which a user is shown them.
from . import glb, video, npz, arkit, sound, usd, tables, visemes, mesh_sequences, vrm  # isort: skip
from .head_animation import HeadAnimation


__all__ = [
    "HeadAnimation", "arkit", "glb", "mesh_sequences", "npz", "sound", "tables", "usd", "video", "visemes", "vrm",
]  # fmt: skip
