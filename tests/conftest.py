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
