# SPDX-License-Identifier: MIT
"""The type that everything about timed phones shares."""

from typing import NamedTuple


class Segment(NamedTuple):
    """One phone: its name and the seconds it lasts from and to."""

    phone: str
    start: float
    end: float
