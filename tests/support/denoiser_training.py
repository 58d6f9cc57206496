# SPDX-License-Identifier: MIT
"""training/train_denoiser.py, run in one process on a tiny corpus."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripts import load_script

from facetalk_hf.audio.log_mel import LogMelFeatureExtractor
from facetalk_hf.audio_features import LogMelEncoder, LogMelEncoderConfig
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.data import corpus


SCRIPT = Path(__file__).parents[2] / "training" / "train_denoiser.py"


MODEL = {"hidden_size": 16, "num_layers": 3, "num_heads": 2, "ff_mult": 2, "window": 4, "film_rank": 8}


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A corpus of noise whose loudness opens the jaw, and an untrained encoder."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(5):
        frames = 20 + 5 * index
        loudness = rng.random(frames)
        samples = np.repeat(loudness, 667)[: frames * 16000 // 24] * 0.1 * rng.standard_normal(frames * 16000 // 24)
        weights = np.zeros((frames, len(EXPRESSIONS)), np.float32)
        weights[:, EXPRESSIONS.index("jawOpen")] = loudness
        row = {"id": str(index), "audio": corpus.encode_audio(samples, 16000), "sampling_rate": 16000}
        row |= {"weights": weights, "closure": np.zeros(frames, np.float32), "expression": weights[:, 20:30]}
        row |= {"fps": 24.0, "speaker": "none", "language": "en", "engine": "none", "text": "", "phones": []}
        rows.append(row | {"split": "train" if index else "validation", "licence": "MIT"})
    corpus.write_shard(rows, folder / "corpus" / "part-0.parquet", code_dim=10)
    torch.manual_seed(0)
    LogMelEncoder(LogMelEncoderConfig(stem_size=8, hidden_size=12, num_hidden_layers=2)).save_pretrained(
        folder / "encoder"
    )
    LogMelFeatureExtractor().save_pretrained(folder / "encoder")
    return folder


def arguments(data, output, *more: str, steps: int = 6) -> list[str]:
    options = {"corpus": data / "corpus", "audio_encoder": data / "encoder", "output_dir": output}
    options |= {"cache_dir": data / "cache", "preset": "tiny", "model_config": json.dumps(MODEL)}
    options |= {"segment_frames": 24, "batch_size": 4, "max_train_steps": steps, "learning_rate": 1e-2}
    options |= {"lr_scheduler": "cosine", "ema_decay": 0.9, "checkpointing_steps": 2, "validation_steps": 3}
    return [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))] + [
        "--cpu",
        *more,
    ]


def weights(output) -> dict[str, torch.Tensor]:
    return load_file(output / "denoiser" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def trained(script, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    script.main(arguments(data, output))
    return output
