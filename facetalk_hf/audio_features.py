# SPDX-License-Identifier: MIT
"""Speech to one feature vector a video frame.

`LogMelFeatureExtractor` belongs to `LogMelEncoder`, the small encoder of the default model. `encode_speech` runs this
pair, or any encoder of the wav2vec 2.0 family (Wav2Vec2, HuBERT, WavLM) as the paper does: convolutional features,
resampled in time to the frame rate, and only then the transformer (FaceTalk, section 3).
"""

# diffusers looks for the base class in a component's module: without FeatureExtractionMixin it cannot be loaded.
from transformers import (
    FeatureExtractionMixin,  # noqa: F401
)

from .audio.encoding import encode_speech, resample_to_frames
from .audio.log_mel import LogMelFeatureExtractor, mel_filterbank
from .models.audio_encoder import LogMelEncoder, LogMelEncoderConfig, MotionPrediction


__all__ = [
    "LogMelEncoder",
    "LogMelEncoderConfig",
    "LogMelFeatureExtractor",
    "MotionPrediction",
    "encode_speech",
    "mel_filterbank",
    "resample_to_frames",
]

# The path that published checkpoints name, wherever the class is written.
LogMelFeatureExtractor.__module__ = __name__
