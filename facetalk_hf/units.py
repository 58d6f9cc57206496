# SPDX-License-Identifier: MIT
"""Units of length."""

MILLIMETRES = 250.0
"""Millimetres in a model unit."""


UNITS: dict[str, float] = {"m": 4.0, "cm": 0.04, "mm": 0.004, "model": 1.0}
"""Model units in one of each."""
