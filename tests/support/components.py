# SPDX-License-Identifier: MIT
"""Tiny real components, shared by the tests. Nothing here needs the network or the embedded checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from facetalk_hf import (
    FaceTalkDenoiser,
    FaceTalkPipeline,
    LogMelEncoder,
    LogMelEncoderConfig,
    LogMelFeatureExtractor,
    NPHMModel,
)
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.decoding import make_decoder


RATE = 16000
CODE_DIM = 64

# Two threads on two busy cores are slower than one.
torch.set_num_threads(1)
# A fine surface takes seconds to extract: a head whose resolution nobody names is coarse in tests.
for make in (make_decoder, BlendshapeDecoder.__init__):
    make.__defaults__ = (32, *(make.__defaults__ or ())[1:])


@contextmanager
def fine_heads(resolution: int = 96) -> Iterator[None]:
    """Decode heads finely for a while, where it is measured how well a face is met."""
    before = BlendshapeDecoder.__init__.__defaults__
    BlendshapeDecoder.__init__.__defaults__ = (resolution, *before[1:])
    yield
    BlendshapeDecoder.__init__.__defaults__ = before


def speech_like(seconds: float, seed: int = 0, noise: float = 0.001) -> np.ndarray:
    """(S,) float32 at 16 kHz: syllables of harmonics at a wandering pitch, pauses, and noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time + seed)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = np.clip(np.sin(2 * np.pi * 2.3 * time + seed), 0, None)
    return (0.1 * voice * loudness + noise * generator.standard_normal(len(time))).astype(np.float32)


def randomize(module: torch.nn.Module, std: float = 0.15) -> torch.nn.Module:
    """Move every weight: a new network starts as the identity, and would pass tests by doing nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    return module.eval()


def make_denoiser(audio_dim: int = 24, **config) -> FaceTalkDenoiser:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_layers": 3, "num_heads": 2, "window": 6, "film_rank": 8}
    config = FaceTalkDenoiser.tiny_config(audio_dim=audio_dim, **({"code_dim": CODE_DIM} | size | config))
    return randomize(FaceTalkDenoiser(**config))


def make_encoder(**config) -> LogMelEncoder:
    torch.manual_seed(0)
    size = {"stem_size": 16, "hidden_size": 24, "num_hidden_layers": 2, "look_ahead_frames": 4}
    return LogMelEncoder(LogMelEncoderConfig(**(size | config))).eval()


def make_wav2vec2(config_class=Wav2Vec2Config, model_class=Wav2Vec2Model, **config) -> torch.nn.Module:
    torch.manual_seed(0)
    size = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    return model_class(config_class(**(size | config))).eval()


def make_whisper(model_class=WhisperModel, **config) -> tuple[torch.nn.Module, WhisperFeatureExtractor]:
    """A Whisper model whose window is 1 s, and its feature extractor."""
    torch.manual_seed(0)
    size = {
        "vocab_size": 60, "num_mel_bins": 16, "d_model": 24, "encoder_layers": 2, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "max_source_positions": 50, "max_target_positions": 20, "pad_token_id": 1, "bos_token_id": 1,
        "eos_token_id": 1, "decoder_start_token_id": 2, "suppress_tokens": None, "begin_suppress_tokens": None,
    }  # fmt: skip
    size |= config
    extractor = WhisperFeatureExtractor(feature_size=size["num_mel_bins"], chunk_length=1)
    return randomize(model_class(WhisperConfig(**size)), 0.05), extractor


def make_scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", timestep_spacing="trailing"
    )


def make_head(**config) -> NPHMModel:
    """A head of the right shape whose surface is rubbish: enough to save, load and count numbers."""
    torch.manual_seed(0)
    size = {
        "num_anchors": 6, "num_symmetric_pairs": 2, "glob_dim": 4, "loc_dim": 2, "hidden_size": 8, "num_neighbors": 3,
        "rank": 4, "deformation_hidden_size": 8, "num_identities": 2, "expression_dim": CODE_DIM,
    }  # fmt: skip
    return NPHMModel(**(size | config)).eval()


def make_named_head(names=EXPRESSIONS) -> NPHMModel:
    """A tiny head whose codes stand for named weights, as those of facetalk-tiny do."""
    head = make_head(expression_names=list(names), rank=len(names))
    with torch.no_grad():
        head.expression_basis.copy_(torch.linalg.qr(torch.randn(CODE_DIM, len(names)))[0])
        # Rounded like a checkpoint in half precision: nothing may rely on more than that.
        head.expression_basis.copy_(head.expression_basis.half())
        head.forward_net.coefficient_map.weight.copy_(head.expression_basis.T)
    return head


def make_pipeline(**components) -> FaceTalkPipeline:
    if "audio_encoder" not in components:
        components |= {"audio_encoder": make_encoder(), "feature_extractor": LogMelFeatureExtractor()}
    components = {"denoiser": make_denoiser(), "scheduler": make_scheduler()} | components
    pipe = FaceTalkPipeline(**components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def codes(pipe, audio=None, **options):
    """Expression codes of a call in three steps from seed 0."""
    audio = speech_like(1.0) if audio is None else audio
    options = {"generator": seed(), "num_inference_steps": 3, "sampling_rate": RATE} | options
    return pipe(audio, output_type="expression", **options).expressions


class ClipStatistics:
    """The statistics of a clip that is known already, as the whole-clip pipeline has them."""

    def __init__(self, extractor, clip):
        self.extractor, self.values = extractor, extractor.statistics(extractor.log_mel(clip))

    def update(self, log_mel):
        pass

    def normalize(self, log_mel):
        return self.extractor.standardize(log_mel, *self.values)
