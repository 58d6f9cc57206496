# SPDX-License-Identifier: MIT
"""What a head wears and its colours, chosen instead of what its identity code brings."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import FaceTalkError
from .hair_styles import HairStyle, hair_slice


Color = tuple[float, float, float]

SKIN_COLORS = {"pale": (232, 190, 166), "fair": (224, 178, 152), "medium": (214, 164, 138), "brown": (176, 124, 96),
               "dark": (126, 84, 64), "deep": (92, 60, 46)}  # fmt: skip
HAIR_COLORS = {"blond": (158, 122, 82), "red": (138, 72, 42), "light-brown": (112, 80, 56), "brown": (72, 54, 44),
               "dark": (40, 31, 28), "black": (24, 21, 21), "grey": (132, 130, 128),
               "white": (204, 202, 198)}  # fmt: skip
EYE_COLORS = {"blue": (92, 118, 148), "grey": (110, 134, 140), "green": (104, 118, 96), "hazel": (118, 92, 56),
              "brown": (98, 72, 48), "dark": (66, 46, 34)}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Hair and sRGB colours of a head; what is `None` follows from its identity code.

    Args:
        hair ([`HairStyle`], *optional*): kind, sizes and beard.
        skin, hair_color, eyes (three numbers from 0 to 255, *optional*): colours; brows have that of the hair.
    """

    hair: HairStyle | None = None
    skin: Color | None = None
    hair_color: Color | None = None
    eyes: Color | None = None

    @classmethod
    def named(
        cls, hair: str | None = None, skin: str | None = None, hair_color: str | None = None, eyes: str | None = None
    ) -> "Look":
        """Choose a kind of hair and colours by name, or colours as "#rrggbb"; "bob:0.8" is one of volume 0.8.

        Raises:
            FaceTalkError: no such kind or colour.
        """
        style = None
        if hair is not None:
            kind, _, size = hair.partition(":")
            try:
                volume = float(size or 0.5)
            except ValueError as error:
                raise FaceTalkError(f"volume of hair is a number from 0 to 1, not {size!r}") from error
            style = HairStyle(kind, volume)
        return cls(
            style, color_of(skin, SKIN_COLORS, "skin"), color_of(hair_color, HAIR_COLORS, "hair"),
            color_of(eyes, EYE_COLORS, "eyes"),
        )  # fmt: skip

    def dress(self, code: np.ndarray, glob_dim: int, hair_dim: int) -> np.ndarray:
        """Put the hair into an identity code (Z,) float32 of a head with these sizes.

        Raises:
            FaceTalkError: hair is asked for, and the head was trained without.
        """
        if self.hair is None:
            return code
        if not hair_dim:
            raise FaceTalkError("this head was trained without hair: only its colours can be chosen")
        dressed = code.copy()
        dressed[hair_slice(glob_dim)] = self.hair.vector()
        return dressed


def color_of(name: str | None, colors: Mapping[str, Color], what: str) -> Color | None:
    """Find the colour of a name, or read "#rrggbb"; FaceTalkError for anything else."""
    if name is None or name in colors:
        return None if name is None else colors[name]
    digits = name.removeprefix("#")
    if name == digits or len(digits) != 6 or set(digits.lower()) - set("0123456789abcdef"):
        raise FaceTalkError(f"no colour of {what} {name!r}: give {', '.join(colors)} or #rrggbb")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue
