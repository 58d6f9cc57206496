# SPDX-License-Identifier: MIT
"""Types that all engines of speech share: samples with phone times, and the call that makes them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


RATE = 16000
"""Hz of all speech here."""
Phones = list[tuple[str, float, float]]
"""Name, start and end in seconds."""


class Speech(NamedTuple):
    """A spoken text: samples (S,) float32 at `RATE`, and phones, named as the engine does (see `phones.alphabets`)."""

    samples: np.ndarray
    phones: Phones


class SpeechEngine(Protocol):
    """Anything that speaks texts and knows when it says which phone."""

    def __call__(self, voice: str, texts: Sequence[str], rng: np.random.Generator) -> list[Speech | None]:
        """Speak texts with a voice of the engine, each at its own speed and pitch; `None` where that fails.

        All chance comes from `rng`. Speech has the rate `RATE`.
        """
