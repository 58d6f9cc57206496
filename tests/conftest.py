# SPDX-License-Identifier: MIT
"""Fixtures of all tests. Nothing here needs the network or the embedded checkpoint."""

import os


os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of huggingface_hub: a test that goes online must fail
os.environ["FACETALK_CACHE"] = "off"  # what is tested is made, not found in somebody's cache
os.environ["HF_HUB_DISABLE_XET"] = "1"  # the loopback Hub of support/fake_hub.py takes files by LFS

import pytest
import torch
from components import make_denoiser, make_encoder, make_pipeline, make_wav2vec2
from transformers import Wav2Vec2FeatureExtractor

from facetalk_hf import FaceTalkDenoiser, FaceTalkPipeline, LogMelEncoder


# Files that take longest, by processor time, the longest first: whoever runs them in several processes waits for
# none of them at the end (`make test` keeps this order).
LONG = (
    "hub/test_space.py", "portable/test_onnx.py", "repository/test_code_blocks.py", "hub/test_end_to_end.py",
    "evaluation/test_comparisons.py", "repository/test_wheel.py", "cli/test_export.py", "cli/test_startup.py",
    "learning/test_train_launch.py", "cli/test_generate.py", "fitting/test_fit_many.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest files."""
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get("/".join(item.path.parts[-2:]), len(LONG)))


@pytest.fixture
def denoiser() -> FaceTalkDenoiser:
    return make_denoiser()


@pytest.fixture
def log_mel_encoder() -> LogMelEncoder:
    return make_encoder()


@pytest.fixture
def wav2vec2() -> tuple[torch.nn.Module, Wav2Vec2FeatureExtractor]:
    return make_wav2vec2(), Wav2Vec2FeatureExtractor()


@pytest.fixture
def pipe() -> FaceTalkPipeline:
    return make_pipeline()
