# SPDX-License-Identifier: MIT
"""What a motion may be told beside its sound: emotions, affect and style; and the numbers of a head's pose."""

EMOTIONS: tuple[str, ...] = ("happy", "sad", "angry", "afraid", "disgusted", "surprised")
"""Ekman's six, each 0 to 1; neutral is that none is asked for. They name an expression to be shown, nothing felt."""

AFFECT: tuple[str, ...] = ("valence", "arousal")
"""Russell's two axes (1980), each -1 to 1 with 0 in the middle; they lie under the emotions and add to them."""

STYLE: tuple[str, ...] = ("energy", "articulation", "asymmetry")
"""How lively, how distinct (-1 mumbles, 1 is crisp), and which side moves more (1 the subject's left); -1 to 1."""

CONDITIONS: tuple[str, ...] = EMOTIONS + AFFECT + STYLE
"""Order of the numbers in a corpus and in a denoiser that is trained on it; all 0 is neutral, NaN is not told."""

BOUNDS: dict[str, tuple[float, float]] = {name: (0.0 if name in EMOTIONS else -1.0, 1.0) for name in CONDITIONS}
"""Lowest and highest value of each."""

POSE: tuple[str, ...] = ("yaw", "pitch", "roll", "x", "y", "z")
"""A head's pose: degrees to the subject's left, up and to the left shoulder; mm to the left, up and forward."""
