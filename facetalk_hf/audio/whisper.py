# SPDX-License-Identifier: MIT
"""Speech features from the encoder of Whisper (Radford et al., 2022): 50 a second, in windows of 30 s."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import WhisperConfig, WhisperModel

from ..errors import FaceTalkError
from .io import num_frames
from .resampling import resample_to_frames


MODEL_TYPE = WhisperConfig.model_type
STRIDE = 2  # log-mel columns a feature
MARGIN = 0.5  # seconds of silence after a clip: the features of its end see an end, as they did in training
OVERLAP = 1 / 6  # of a window, that it shares with the next one: 5 of 30 s


def whisper_encoder(model: WhisperModel) -> WhisperModel:
    """Leave a Whisper model its encoder alone: the decoder, which no features need, is most of its weights.

    transformers exports no class of the encoder, so this is a `WhisperModel` whose decoder has no layers and no words.
    """
    changes = {
        "decoder_layers": 0, "vocab_size": 1, "max_target_positions": 1, "suppress_tokens": None,
        "begin_suppress_tokens": None, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
        "decoder_start_token_id": 0,
    }  # fmt: skip
    slim = WhisperModel(WhisperConfig.from_dict(model.config.to_dict() | changes)).to(dtype=model.dtype)  # type: ignore[call-arg]
    for parameter in slim.decoder.parameters():
        parameter.data.zero_()  # two encoders of the same weights are the same model, and have the same cache
    slim.encoder = model.encoder
    return slim.train(model.training).requires_grad_(False)


def encode_whisper(
    model: Any, feature_extractor: Any, waveform: np.ndarray | torch.Tensor, fps: float, sampling_rate: int
) -> torch.Tensor:
    """Encode one clip of any length with the encoder of Whisper, at a frame rate: (N, A) float.

    `whisper_features`, interpolated at the times of the frames.

    Args:
        model, feature_extractor, waveform, sampling_rate: as there.
        fps (`float`): video frames a second.
    """
    features = whisper_features(model, feature_extractor, waveform, sampling_rate)
    hop = feature_extractor.hop_length * STRIDE
    return resample_to_frames(features, 0.0, hop / sampling_rate, num_frames(len(waveform), sampling_rate, fps), fps)


def whisper_features(
    model: Any, feature_extractor: Any, waveform: np.ndarray | torch.Tensor, sampling_rate: int
) -> torch.Tensor:
    """Encode one clip of any length with the encoder of Whisper, 50 features a second.

    A clip of up to 30 s is one window. Longer ones are windows of 30 s that share at least 5 s; there the features
    fade from one window's to the next one's, and those near a window's edge, which miss what lies beyond, count
    least. The log-mel spectrogram is scaled to the loudest moment of the whole clip, so that windows agree.

    Args:
        model: `WhisperModel` in eval mode.
        feature_extractor: `WhisperFeatureExtractor`.
        waveform: (S,) float in -1..1.
        sampling_rate (`int`): of the waveform, Hz.

    Returns:
        features (L, A) float on the model's device, feature i at i / 50 s; those of half a second of silence come
        after those of the clip.
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None or not hasattr(encoder, "embed_positions"):
        raise FaceTalkError(f"{type(model).__name__} is no WhisperModel: its encoder is what is needed")
    hop = feature_extractor.hop_length * STRIDE
    limit = encoder.config.max_source_positions
    length = max(1, -(-(len(waveform) + int(MARGIN * sampling_rate)) // hop))
    values = F.pad(torch.as_tensor(np.asarray(waveform, np.float32)), (0, length * hop - len(waveform)))
    with torch.autocast("cpu", enabled=False):  # the extractor fails inside
        mel = feature_extractor(
            values.numpy(), sampling_rate=sampling_rate, padding=False, truncation=False, return_tensors="pt"
        )["input_features"].to(model.device, model.dtype)
    if length <= limit:
        return _window(encoder, mel)
    shared = max(1, int(limit * OVERLAP))
    count = -(-(length - shared) // (limit - shared))
    starts = np.round(np.linspace(0, length - limit, count)).astype(int).tolist()
    # A trapezoid over a window; its ends are not zero, because the clip's first and last have no neighbour.
    place = torch.arange(limit, device=mel.device, dtype=torch.float32)
    weight = torch.minimum(place + 1, limit - place).clamp_max(shared)[:, None]
    total = torch.zeros(length, encoder.config.d_model, device=mel.device)
    weights = torch.zeros(length, 1, device=mel.device)
    for start in starts:
        window = _window(encoder, mel[..., STRIDE * start : STRIDE * (start + limit)])
        total[start : start + limit] += weight * window
        weights[start : start + limit] += weight
    return (total / weights).to(model.dtype)


def _window(encoder: Any, mel: torch.Tensor) -> torch.Tensor:
    """Encode (1, M, 2 L) columns as (L, A) features, L up to 1500.

    As `WhisperEncoder.forward`, which insists on 30 s: a shorter window has the first positions and costs its length.
    """
    hidden_states = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
    hidden_states = hidden_states + encoder.embed_positions.weight[: hidden_states.shape[1]]
    for layer in encoder.layers:
        hidden_states = layer(hidden_states, None)
    return encoder.layer_norm(hidden_states)[0]
