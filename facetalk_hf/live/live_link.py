# SPDX-License-Identifier: MIT
"""Epic's Live Link Face over UDP: packets that Unreal takes for those of its app on a phone.

A packet, version 6, all numbers big-endian: uint8 version; int32 length and characters of the device's id; the same of
the subject's name; the time as int32 frame and float32 part of a frame, at int32 / int32 frames a second; uint8 61 and
as many float32. Their order is that of Unreal's EARFaceBlendShape, which is not that of the app's csv: left comes
before right in jaw and mouth. Checked against PyLiveLinkFace (github.com/JimWest/PyLiveLinkFace).
"""

import contextlib
import socket
import struct
import uuid
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np

from ..animation.arkit import ARKIT, ROTATIONS, rotations
from ..errors import FaceTalkError
from .frames import LiveFrame


VERSION = 6
_SWAPPED = {"jawRight": "jawLeft", "jawLeft": "jawRight", "mouthRight": "mouthLeft", "mouthLeft": "mouthRight"}
PACKET_NAMES: tuple[str, ...] = (*(_SWAPPED.get(name, name) for name in ARKIT), *ROTATIONS)
"""Names of the 61 values in the order of a packet."""
_ORDER = [ARKIT.index(_SWAPPED.get(name, name)) for name in ARKIT]


def live_link_packet(
    weights: np.ndarray, angles: np.ndarray, seconds: float, fps: float, subject: str, device: str
) -> bytes:
    """Write one frame as a packet of Live Link Face.

    Args:
        weights ((52,) float): in the order of `ARKIT`. angles ((9,) float): of `animation.arkit.rotations`.
        seconds (`float`): since midnight. fps (`float`): frames a second.
        subject, device (`str`): name of the subject, id of the device, ASCII.
    """
    rate = Fraction(fps).limit_denominator(1001)
    frame, part = divmod(round(seconds * fps, 4), 1)
    values = (*np.asarray(weights, np.float64)[_ORDER], *np.asarray(angles, np.float64))
    head = struct.pack("!B", VERSION)
    for text in (device, subject):
        head += struct.pack("!i", len(text)) + text.encode("ascii")
    time = struct.pack("!ifii", int(frame), part, rate.numerator, rate.denominator)
    return head + time + struct.pack(f"!B{len(values)}f", len(values), *values)


class LiveLinkSender:
    """Sends frames to Unreal's Live Link plugin, or to any receiver of the app's packets.

    Packets go out whether anybody listens or not, so a receiver may come, go and come back at any time.

    Args:
        host (`str`), port (`int`): of the receiver; the app's port is 11111.
        fps (`float`): frames a second.
        subject (`str`): name under which Live Link lists the face.
        midnight (`float`, *optional*): seconds since midnight of frame 0; by default of when it is sent.

    Raises:
        FaceTalkError: a host that is not known, or a subject that cannot be written.
    """

    def __init__(
        self, host: str, port: int, fps: float, subject: str = "facetalk", midnight: float | None = None
    ) -> None:
        if not subject or not subject.isascii() or not subject.isprintable() or len(subject) > 128:
            raise FaceTalkError(f"a subject of Live Link is a name of up to 128 ASCII letters, not {subject!r}")
        self.fps, self.subject, self.midnight = fps, subject, midnight
        self.device = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{socket.gethostname()}.{subject}")).upper()
        self.place = (host, port)
        self._address: Any = None
        self._open()

    def _open(self) -> None:
        try:
            family, kind, *_, self._address = socket.getaddrinfo(*self.place, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise FaceTalkError(f"no way to {self.place[0]}: {error.strerror or error}") from error
        self._socket = socket.socket(family, kind)
        self._socket.setblocking(False)

    def send(self, frame: LiveFrame) -> None:
        """Send a frame; what the network does not take is lost, as UDP is."""
        if self.midnight is None:
            now = datetime.now()
            self.midnight = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() - frame.time
        poses = None if frame.pose is None else frame.pose[None]
        angles = rotations(frame.weights[None], poses)[0]
        seconds = (self.midnight + frame.time) % 86400
        packet = live_link_packet(frame.weights, angles, seconds, self.fps, self.subject, self.device)
        try:
            self._socket.sendto(packet, self._address)
        except (BlockingIOError, ConnectionError):
            pass
        except OSError:  # the network has changed: another address, another interface
            self._socket.close()
            with contextlib.suppress(FaceTalkError):
                self._open()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
