# SPDX-License-Identifier: MIT
"""Units of length, and of time in sound."""

from typing import Literal


MILLIMETRES = 250.0
"""Millimetres in a model unit."""

Unit = Literal["m", "cm", "mm", "model"]
UNITS: dict[Unit, float] = {"m": 1000 / MILLIMETRES, "cm": 10 / MILLIMETRES, "mm": 1 / MILLIMETRES, "model": 1.0}
"""Model units in one of each."""

COLUMNS_PER_FRAME = 4
"""Log-mel columns in a video frame; the strides of [`~facetalk_hf.models.audio_encoder.LogMelEncoder`]."""
