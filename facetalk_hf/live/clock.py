# SPDX-License-Identifier: MIT
"""Frames leave at their time: a clock that neither drifts from the sound nor waits for a late network."""

import time
from collections import deque
from collections.abc import Callable


KEPT = 0.01
"""Seconds that frames of live sound are ready before they are due: unevenness of chunks is not to be seen."""


class FrameClock:
    """Waits until a frame is due: frame i at start + i / fps, reckoned anew for each, so that no error adds up.

    Where sound comes live, its own clock leads: it may be some parts in a million faster or slower than this
    machine's. If all of the last frames could have left earlier, the start is moved forward; if a frame is late
    because its sound was, the start is moved back. So the delay between sound and face stays what it was.

    Args:
        fps (`float`): frames a second.
        now, sleep: as in `time`; tests have their own.
        memory (`float`, *optional*, defaults to 2.0): seconds of frames that are watched.

    Attributes:
        late (`float`): seconds by which the last frame was late.
    """

    def __init__(
        self,
        fps: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        memory: float = 2.0,
    ) -> None:
        self.fps, self.now, self.sleep = fps, now, sleep
        self.start: float | None = None
        self.late = 0.0
        self._spare: deque[float] = deque(maxlen=max(1, round(memory * fps)))

    def wait(self, index: int, waiting: float | None = None) -> None:
        """Wait until frame `index` is due.

        Args:
            index (`int`): of the frame, from 0.
            waiting (`float`, *optional*): seconds of live sound that have come and were not looked at yet; `None` for
                sound that was there from the beginning, as in a file.
        """
        now = self.now()
        if self.start is None:
            self.start = now - index / self.fps
        early = self.start + index / self.fps - now
        self.late = max(0.0, -early)
        if waiting is not None:
            self._spare.append(waiting + early)
            if early < 0:
                self.start -= early - KEPT
            elif len(self._spare) == self._spare.maxlen and min(self._spare) > KEPT:
                self.start -= min(self._spare) - KEPT
                self._spare.clear()
        if early > 0:
            self.sleep(early)
