# SPDX-License-Identifier: MIT
"""FaceTalk in the open: speech to the motion of a neural parametric head."""

from pathlib import Path

# diffusers finds the components of a saved pipeline only in modules that are imported already: hence all of them here.
from .animation import HeadAnimation
from .audio import load_audio
from .audio_features import LogMelEncoder, LogMelEncoderConfig, LogMelFeatureExtractor
from .errors import FaceTalkError
from .keyframe_files import read_keyframes
from .keyframes import Keyframes
from .models.denoiser import FaceTalkDenoiser
from .models.nphm import NPHMModel
from .pipeline_facetalk import FaceTalkPipeline
from .pipeline_output import FaceTalkPipelineOutput


__version__ = "0.1.0.dev0"

TINY = str(Path(__file__).parent / "checkpoints" / "facetalk-tiny")
"""Folder of the embedded checkpoint: `FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)` works offline."""

__all__ = [
    "TINY",
    "FaceTalkDenoiser",
    "FaceTalkError",
    "FaceTalkPipeline",
    "FaceTalkPipelineOutput",
    "HeadAnimation",
    "Keyframes",
    "LogMelEncoder",
    "LogMelEncoderConfig",
    "LogMelFeatureExtractor",
    "NPHMModel",
    "__version__",
    "load_audio",
    "read_keyframes",
]
