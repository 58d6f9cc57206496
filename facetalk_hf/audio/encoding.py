# SPDX-License-Identifier: MIT
"""Speech features at the frame rate, from log-mel and wav2vec2-family encoders, and from Whisper's."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..errors import FaceTalkError
from ..models.audio_encoder import LogMelEncoder, LogMelEncoderConfig
from .io import num_frames
from .resampling import resample_to_frames
from .whisper import MODEL_TYPE as WHISPER
from .whisper import encode_whisper


def look_ahead_frames(model: PreTrainedModel, seconds: float | None, fps: float) -> int | None:
    """Choose the look-ahead of an audio encoder: the longest that it has learnt of at most so many seconds.

    Args:
        seconds (`float`, *optional*): `None` for the encoder's own; half a frame more counts as equal.
        fps (`float`): video frames a second.

    Returns:
        `int`: frames, or `None` for the encoder's own.

    Raises:
        FaceTalkError: an encoder that cannot do with so little, or that hears the whole clip.
    """
    if seconds is None:
        return None
    if not isinstance(model, LogMelEncoder):
        raise FaceTalkError(f"{type(model).__name__} hears the whole clip at once: leave look_ahead out")
    fitting = [frames for frames in model.look_aheads if frames <= seconds * fps + 0.5]
    if not fitting:
        least = min(model.look_aheads) / fps
        raise FaceTalkError(f"this model looks at least {least:.2f} s ahead, not {seconds:g} s")
    return max(fitting)


def encode_speech(
    model: PreTrainedModel,
    feature_extractor: SequenceFeatureExtractor,
    waveforms: Sequence[np.ndarray | torch.Tensor],
    fps: float = 24.0,
    sampling_rate: int = 16000,
    look_ahead: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode clips of any lengths; each gives what it would give alone.

    A model of the wav2vec 2.0 family runs as in the paper (section 3): convolutional features of each clip, linear
    resampling to N frames, feature projection and transformer over the batch with a mask. Whisper's encoder sees one
    clip at a time, and its features are resampled (`encode_whisper`). [`LogMelEncoder`] has its own frame grid.

    Args:
        model: [`LogMelEncoder`], `Wav2Vec2Model`, `HubertModel`, `WavLMModel` or `WhisperModel`, in eval mode.
        feature_extractor: the one that belongs to it.
        waveforms: list of (S,) float in -1..1.
        fps (`float`, *optional*, defaults to 24.0): video frames a second.
        sampling_rate (`int`, *optional*, defaults to 16000): of the waveforms, Hz; must be the extractor's.
        look_ahead (`float`, *optional*): seconds, see `look_ahead_frames`; by default the encoder's own.

    Returns:
        features (B, N, A) float on the model's device, zero beyond the end of a clip, and mask (B, N) bool.

    Raises:
        FaceTalkError: another sampling rate or frame rate than the extractor's, a clip without samples, or a model
            of another kind.
    """
    if sampling_rate != feature_extractor.sampling_rate:
        raise FaceTalkError(
            f"speech at {sampling_rate} Hz was given, resample it to {feature_extractor.sampling_rate} Hz"
        )
    if not len(waveforms):
        raise FaceTalkError("no audio was given")
    if any(len(waveform) == 0 for waveform in waveforms):
        raise FaceTalkError("the audio has no samples")
    # transformers types feature extractors without __call__, and models without the parts that a family shares.
    model, extractor = cast(Any, model), cast(Any, feature_extractor)
    if model.config.model_type == LogMelEncoderConfig.model_type:
        if extractor.fps != fps:
            raise FaceTalkError(f"the audio encoder works at {extractor.fps:g} frames a second, not {fps:g}")
        ahead = look_ahead_frames(model, look_ahead, fps)
        batch = extractor(list(waveforms), sampling_rate=sampling_rate, return_tensors="pt")
        mask, padded = batch["attention_mask"].to(model.device), not batch["attention_mask"].all()
        features = batch["input_features"].to(model.device, model.dtype)
        hidden_states = model(features, mask if padded else None, look_ahead=ahead)
        hidden_states = hidden_states.last_hidden_state
        return hidden_states, mask
    look_ahead_frames(model, look_ahead, fps)
    if model.config.model_type == WHISPER:
        clips = [encode_whisper(model, extractor, waveform, fps, sampling_rate) for waveform in waveforms]
        return nn.utils.rnn.pad_sequence(clips, batch_first=True), _mask(clips)
    return _encode_wav2vec2(model, extractor, waveforms, fps, sampling_rate)


def _encode_wav2vec2(
    model: Any,
    feature_extractor: Any,
    waveforms: Sequence[np.ndarray | torch.Tensor],
    fps: float,
    sampling_rate: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode clips with a model of the wav2vec 2.0 family; results and errors as `encode_speech`."""
    if not all(hasattr(model, part) for part in ("feature_extractor", "feature_projection", "encoder")):
        raise FaceTalkError(
            f"{type(model).__name__} is no audio encoder that is known here, use a LogMelEncoder, Wav2Vec2Model, "
            "HubertModel, WavLMModel or WhisperModel"
        )
    if getattr(model, "adapter", None) is not None:
        raise FaceTalkError("audio encoders with an adapter change the frame rate, use a model without one")

    field, hop = 1, 1
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        field, hop = field + (kernel - 1) * hop, hop * stride
    clips = []
    for waveform in waveforms:
        values = feature_extractor(np.asarray(waveform, np.float32), sampling_rate=sampling_rate, return_tensors="pt")
        values = values["input_values"].to(model.device, model.dtype)
        values = F.pad(values, (0, max(0, field - values.shape[1])))
        # One clip at a time: the group norm of the first convolution averages over whatever padding it is given.
        features = model.feature_extractor(values)[0].T
        frames = num_frames(len(waveform), sampling_rate, fps)
        clips.append(resample_to_frames(features, field / 2 / sampling_rate, hop / sampling_rate, frames, fps))
    mask = _mask(clips)
    hidden_states = model.feature_projection(nn.utils.rnn.pad_sequence(clips, batch_first=True))
    hidden_states = hidden_states[0] if isinstance(hidden_states, tuple) else hidden_states
    hidden_states = model.encoder(hidden_states, attention_mask=mask).last_hidden_state
    return hidden_states * mask[..., None], mask


def _mask(clips: list[torch.Tensor]) -> torch.Tensor:
    """Make (B, N) bool, true within each of the clips (N_i, A)."""
    lengths = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
    return torch.arange(int(lengths.max()), device=clips[0].device)[None] < lengths[:, None]
