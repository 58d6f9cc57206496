# SPDX-License-Identifier: MIT
"""Numbers and names of the parts of a head that its vertices belong to."""

SKIN, EYES, TEETH, MOUTH = range(4)

PARTS: tuple[str, ...] = ("skin", "eyes", "teeth", "mouth")
"""Their names, in the order of the numbers; teeth include gums and tongue, mouth is its dark inside."""
