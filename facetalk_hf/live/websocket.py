# SPDX-License-Identifier: MIT
"""Frames to web pages and scripts over WebSocket: JSON of named weights, with the sound of the same moment inside."""

import asyncio
import base64
import contextlib
import json
import threading
from typing import Any

from ..animation.arkit import ARKIT
from ..errors import FaceTalkError
from .frames import LiveFrame


BACKLOG = 2.0
"""Seconds that wait for a slow client at most; older frames are dropped, and their numbers tell the client so."""


def frame_message(frame: LiveFrame) -> str:
    """Write a frame as one JSON object: frame, time, weights by name, head, and sound as base64 of 16-bit mono."""
    weights = {name: round(float(value), 5) for name, value in zip(ARKIT, frame.weights, strict=True)}
    facts: dict[str, Any] = {"type": "frame", "frame": frame.index, "time": round(frame.time, 6), "weights": weights}
    if frame.pose is not None:
        facts["head"] = [round(float(value), 4) for value in frame.pose]
    if frame.sound is not None:
        facts["sound"] = base64.b64encode(frame.sound.astype("<i2").tobytes()).decode("ascii")
    return json.dumps(facts)


class WebSocketServer:
    """Serves frames to any number of clients, which may come and go; the face waits for none of them.

    A client first gets {"type": "hello", "fps", "sampling_rate", "names"}, then every frame from now on
    (`frame_message`). Sound and weights are of the same moment: who plays the sound of a frame when the one before has
    ended, and shows its weights then, has lips and voice together.

    Args:
        host (`str`), port (`int`): to listen at; port 0 takes a free one.
        fps (`float`), sampling_rate (`int`, Hz): of the frames.

    Attributes:
        port (`int`): that is listened at.
        clients (`int`): that are connected.

    Raises:
        FaceTalkError: websockets is not installed, or the port is taken.
    """

    def __init__(self, host: str, port: int, fps: float, sampling_rate: int) -> None:
        try:
            from websockets.asyncio.server import serve
        except ImportError as error:
            raise FaceTalkError('--websocket needs websockets: pip install "facetalk_hf[live]"') from error
        hello = {"type": "hello", "fps": fps, "sampling_rate": sampling_rate, "names": list(ARKIT)}
        self._hello, self._limit = json.dumps(hello), max(1, round(BACKLOG * fps))
        self._queues: set[asyncio.Queue[str]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="websocket", daemon=True)
        self._thread.start()

        async def start() -> Any:
            # A deflated frame costs more time than it saves; sound does not shrink.
            return await serve(self._client, host, port, compression=None, max_size=2**16)

        try:
            self._server = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except OSError as error:
            self._stop()
            raise FaceTalkError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]

    @property
    def clients(self) -> int:
        """Count of clients."""
        return len(self._queues)

    async def _client(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        queue: asyncio.Queue[str] = asyncio.Queue(self._limit)
        with contextlib.suppress(ConnectionClosed):
            await connection.send(self._hello)
            self._queues.add(queue)
            reader = asyncio.create_task(connection.wait_closed())
            try:
                while not reader.done():
                    waiting = asyncio.create_task(queue.get())
                    await asyncio.wait((waiting, reader), return_when=asyncio.FIRST_COMPLETED)
                    if not waiting.done():
                        waiting.cancel()
                        break
                    await connection.send(waiting.result())
            finally:
                self._queues.discard(queue)
                reader.cancel()

    def send(self, frame: LiveFrame) -> None:
        """Give a frame to all clients, without waiting for any."""
        if self._queues:
            self._loop.call_soon_threadsafe(self._spread, frame_message(frame))

    def _spread(self, message: str) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    def close(self) -> None:
        """Let clients have what waits for them for up to a second, then say goodbye to them."""

        async def stop() -> None:
            for _ in range(20):
                if not any(queue.qsize() for queue in self._queues):
                    break
                await asyncio.sleep(0.05)
            self._server.close()
            await self._server.wait_closed()

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result(5)
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
