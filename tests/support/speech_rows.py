# SPDX-License-Identifier: MIT
"""Rows of a corpus with seconds of sound."""

import numpy as np

from facetalk_hf.data import corpus


RNG = np.random.default_rng(0)


def make_row(index: int, frames: int = 30, split: str = "train", code_dim: int | None = None) -> dict:
    samples = RNG.uniform(-0.5, 0.5, frames * 16000 // 24).astype(np.float32)
    row = {
        "id": f"voice-000-{index:03d}", "audio": corpus.encode_audio(samples, 16000), "sampling_rate": 16000,
        "weights": RNG.random((frames, 53)).astype(np.float32), "closure": RNG.random(frames).astype(np.float32),
        "fps": 24.0, "speaker": "voice", "language": "en", "engine": "none", "text": "Bob.", "split": split,
        "phones": [{"phone": "b", "start": 0.0, "end": 0.1}], "licence": "MIT",
    }  # fmt: skip
    if code_dim:
        row["expression"] = RNG.random((frames, code_dim)).astype(np.float32)
    return row
