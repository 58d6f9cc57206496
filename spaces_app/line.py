# SPDX-License-Identifier: MIT
"""The line of visitors: how many are before somebody, and for about how long."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean


class Line:
    """What is known of the runs so far; one recording is animated at a time."""

    def __init__(self, usual: float = 15.0) -> None:
        self.seconds: deque[float] = deque([usual], maxlen=20)
        self.running = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the time of a run, from its start to its end."""
        begun, self.running = time.monotonic(), self.running + 1
        try:
            yield
        finally:
            self.running -= 1
            self.seconds.append(time.monotonic() - begun)

    def words(self, waiting: int) -> str:
        """Say to whom comes behind so many who wait what there is to expect; nothing where it is their turn."""
        ahead = waiting + self.running
        if not ahead:
            return ""
        seconds = ahead * mean(self.seconds)
        long = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
        return f"{ahead} before you, about {long}. Leave the page open: it starts by itself."
