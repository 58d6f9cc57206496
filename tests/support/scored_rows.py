# SPDX-License-Identifier: MIT
"""Rows of a corpus whose scores are known."""

import numpy as np
from components import speech_like

from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus


FPS = 24.0


def make_row(index: int, frames: int) -> dict:
    """A clip of 'ba' in the middle of silence, the motion a plain rule of ours."""
    rng = np.random.default_rng(index)
    weights = np.zeros((frames, 53), np.float32)
    talking = slice(10, frames - 14)
    count = frames - 24
    jaw = 0.3 + 0.2 * np.sin(np.arange(count) * 0.7 + index)
    weights[talking, INDEX["jawOpen"]] = jaw
    weights[talking, INDEX["mouthPucker"]] = rng.random(count) * 0.5
    weights[talking, INDEX["mouthFunnel"]] = rng.random(count) * 0.5
    weights[talking, INDEX["mouthRollLower"]] = rng.random(count) * 0.5
    weights[:, INDEX["browInnerUp_L"]] = 0.5 + 0.5 * np.sin(np.arange(frames) * 0.3)
    closure = np.zeros(frames, np.float32)
    closure[14:17] = closure[frames - 20 : frames - 17] = 1
    weights[closure > 0, INDEX["mouthClose"]] = weights[closure > 0, INDEX["jawOpen"]] * 0.93
    audio = speech_like(frames / FPS, seed=index)
    phones = [{"phone": "b", "start": 10 / FPS, "end": (frames - 14) / FPS}]
    return {"id": f"v-0-{index}", "audio": corpus.encode_audio(audio, 16000), "weights": weights, "closure": closure,
            "phones": phones, "fps": FPS}  # fmt: skip
