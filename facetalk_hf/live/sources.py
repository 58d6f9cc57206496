# SPDX-License-Identifier: MIT
"""Sound that comes live: a microphone, or any iterator that is read in a thread of its own."""

import queue
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import FaceTalkError


class LiveSource:
    """Reads chunks in a thread, so that sound is taken when it comes, and at most `limit` seconds ahead.

    A reader that is `limit` ahead waits: a pipe is then full, and its writer waits, too.

    Args:
        chunks: of samples (S,). sampling_rate (`int`): Hz. limit (`float`, *optional*, defaults to 2.0): seconds.
    """

    def __init__(self, chunks: Iterable[np.ndarray], sampling_rate: int, limit: float = 2.0) -> None:
        self._chunks, self.sampling_rate, self.limit = chunks, sampling_rate, limit
        self._room = threading.Condition()
        self._samples, self._items = 0, queue.SimpleQueue[np.ndarray | BaseException | None]()
        self._closed = False

    @property
    def waiting(self) -> float | None:
        """Seconds of sound that were read and not taken; `None` while the reader is as far ahead as it may be.

        Sound that is always there is no live sound, and tells nothing of a clock.
        """
        seconds = self._samples / self.sampling_rate
        return seconds if seconds < self.limit / 2 else None

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for chunk in self._chunks:
                with self._room:
                    self._room.wait_for(lambda: self._closed or self._samples < self.limit * self.sampling_rate)
                    if self._closed:
                        return
                    self._samples += len(chunk)
                self._items.put(chunk)
        except Exception as error:
            last = error
        self._items.put(last)

    def __iter__(self) -> Iterator[np.ndarray]:
        threading.Thread(target=self._read, name="sound", daemon=True).start()
        try:
            while (item := self._items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                with self._room:
                    self._samples -= len(item)
                    self._room.notify()
                yield item
        finally:
            with self._room:
                self._closed = True
                self._room.notify()


def microphone(sampling_rate: int, chunk: float = 0.02) -> Iterator[np.ndarray]:
    """Iterate over chunks (S,) int16 of the default microphone, without end.

    Args:
        sampling_rate (`int`): Hz. chunk (`float`, *optional*, defaults to 0.02): seconds.

    Raises:
        FaceTalkError: sounddevice or its PortAudio is missing, or there is no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: no PortAudio
        raise FaceTalkError(
            f'a microphone needs sounddevice and PortAudio (pip install "facetalk_hf[live]"): {error}'
        ) from error
    size = round(chunk * sampling_rate)
    try:
        with sounddevice.InputStream(sampling_rate, size, channels=1, dtype="int16") as device:
            while True:
                yield device.read(size)[0][:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise FaceTalkError(f"no microphone at {sampling_rate} Hz: {error}") from error
