# SPDX-License-Identifier: MIT
"""The diffusers pipeline: denoising, loading and saving, few steps, live streams.

diffusers takes the components of a checkpoint only from modules that are imported already, so all of them are here.
"""

from ..audio_features import LogMelEncoder, LogMelFeatureExtractor
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel


COMPONENTS: tuple[type, ...] = (FaceTalkDenoiser, LogMelEncoder, LogMelFeatureExtractor, NPHMModel)
"""Classes of our own that a checkpoint's model_index.json names, by the modules that they say they are of."""
