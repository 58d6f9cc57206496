# SPDX-License-Identifier: MIT
"""FaceTalk in the open: speech to the motion of a neural parametric head.

The public names are imported when they are first used (PEP 562), so that `import facetalk_hf` and the command start at
once: torch, diffusers and transformers are loaded by what needs them.
"""

from typing import TYPE_CHECKING

from .errors import FaceTalkError
from .paths import TINY, __version__


if TYPE_CHECKING:
    from .animation.head_animation import HeadAnimation
    from .audio.io import load_audio
    from .audio_features import LogMelEncoder, LogMelEncoderConfig, LogMelFeatureExtractor
    from .models.denoiser import FaceTalkDenoiser
    from .models.nphm import NPHMModel
    from .motion.controls import MotionControls
    from .motion.keyframes import Keyframes, read_keyframes
    from .pipeline.facetalk import FaceTalkPipeline
    from .pipeline.large_ear import LargeEar
    from .pipeline.output import FaceTalkPipelineOutput
    from .portable.runtime import OnnxStream


__all__ = [
    "TINY",
    "FaceTalkDenoiser",
    "FaceTalkError",
    "FaceTalkPipeline",
    "FaceTalkPipelineOutput",
    "HeadAnimation",
    "Keyframes",
    "LargeEar",
    "LogMelEncoder",
    "LogMelEncoderConfig",
    "LogMelFeatureExtractor",
    "MotionControls",
    "NPHMModel",
    "OnnxStream",
    "__version__",
    "load_audio",
    "read_keyframes",
]

_PLACES = {
    "FaceTalkDenoiser": "models.denoiser",
    "FaceTalkPipeline": "pipeline.facetalk",
    "FaceTalkPipelineOutput": "pipeline.output",
    "HeadAnimation": "animation.head_animation",
    "Keyframes": "motion.keyframes",
    "LargeEar": "pipeline.large_ear",
    "LogMelEncoder": "audio_features",
    "LogMelEncoderConfig": "audio_features",
    "LogMelFeatureExtractor": "audio_features",
    "MotionControls": "motion.controls",
    "NPHMModel": "models.nphm",
    "OnnxStream": "portable.runtime",
    "load_audio": "audio.io",
    "read_keyframes": "motion.keyframes",
}


def __getattr__(name: str) -> object:
    """Import a public name from where it is defined."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
