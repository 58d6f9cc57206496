# SPDX-License-Identifier: MIT
"""What is behind a head: a backdrop that fades to its corners, a colour, a picture, or nothing."""

import os
import re
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import FaceTalkError
from .shading import srgb_to_linear


Triple: TypeAlias = tuple[int, int, int]
Background: TypeAlias = str | os.PathLike | np.ndarray | Triple | tuple[Triple, Triple]
TRANSPARENT = "transparent"
STUDIO: tuple[Triple, Triple] = ((168, 176, 186), (74, 81, 92))


def is_transparent(background: Background | None) -> bool:
    """Tell whether nothing is to be seen behind the head."""
    return isinstance(background, str) and background == TRANSPARENT


def draw_background(background: Background | None, width: int, height: int) -> np.ndarray:
    """Draw what is behind the head, (height, width, 3) float32, linear.

    Args:
        background: `"#rrggbb"` or an sRGB triple; a pair of triples, the colours at the middle and at the corners; a
            picture, as an array (h, w, 3) uint8 or a file, scaled until it covers the frame and cut to it;
            "transparent"; `None` for the backdrop of a studio.

    Raises:
        FaceTalkError: none of these, or a picture that cannot be read.
    """
    if background is None or is_transparent(background):
        return _fade(STUDIO, width, height)
    if isinstance(background, str) and background.startswith("#"):
        if not re.fullmatch("#[0-9a-fA-F]{6}", background):
            raise FaceTalkError(f"a background colour is written #rrggbb, not {background}")
        background = (int(background[1:3], 16), int(background[3:5], 16), int(background[5:7], 16))
    if isinstance(background, (str, os.PathLike)):
        return _picture(Path(background), width, height)
    try:
        value = np.asarray(background)
        fits = value.dtype.kind in "iu" and value.size and 0 <= value.min() and value.max() <= 255
    except ValueError:
        fits = False
    if fits and value.shape == (3,):
        return np.tile(srgb_to_linear(value.astype(np.uint8)), (height, width, 1))
    if fits and value.shape == (2, 3):
        return _fade(value, width, height)
    if fits and value.ndim == 3 and value.shape[2] == 3:
        return _picture(value.astype(np.uint8), width, height)
    raise FaceTalkError("a background is #rrggbb, one or two sRGB triples of 0 to 255, a picture or 'transparent'")


def _fade(colors: np.ndarray | tuple[Triple, Triple], width: int, height: int) -> np.ndarray:
    """Fade from the colour at the middle to that at the corners."""
    middle, corner = (srgb_to_linear(np.array(color, np.uint8)) for color in colors)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.44
    radius = np.clip(np.sqrt(x * x + y * y * 0.9) / 0.72, 0, 1)[..., None]
    smooth = radius * radius * (3 - 2 * radius)
    # Half a grey level of fixed noise keeps the gradient from banding in the encoder.
    noise = np.random.default_rng(0).uniform(-0.0025, 0.0025, smooth.shape)
    return (middle * (1 - smooth) + corner * smooth + noise).clip(0, 1).astype(np.float32)


def _picture(source: Path | np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale a picture until it covers the frame, and cut it to it about its middle."""
    from PIL import Image, ImageOps  # comes with diffusers; the command starts without it

    try:
        image = Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source)
        image = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (width, height))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FaceTalkError(f"the background {source} cannot be read as a picture") from error
    return srgb_to_linear(np.asarray(image))
