# SPDX-License-Identifier: MIT
"""Numbers and names of the parts of a head that its vertices belong to."""

SKIN, EYES, TEETH, MOUTH, HAIR = range(5)

PARTS: tuple[str, ...] = ("skin", "eyes", "teeth", "mouth", "hair")
"""Their names, in the order of the numbers; teeth include gums and tongue, mouth is its dark inside,
hair is what hangs, is tied or stands far off; hair near the skin, and beards, are skin of another colour."""

PUPIL = (9, 8, 9)
"""The colour (sRGB) of a pupil, and of nothing else in an eye."""
