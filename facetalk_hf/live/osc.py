# SPDX-License-Identifier: MIT
"""OSC in the words of the Virtual Motion Capture protocol, which avatar programs and engines listen to.

https://protocol.vmc.info: `/VMC/Ext/Blend/Val` name value, once a shape, then `/VMC/Ext/Blend/Apply`. The names are
ARKit's ("perfect sync"). Axes there are Unity's: left-handed, +x is the subject's right.
"""

import contextlib

import numpy as np

from ..animation.arkit import ARKIT
from ..errors import FaceTalkError
from .frames import LiveFrame


PART = 18
"""Shapes in a bundle, so that it fits into one packet of a network."""


class OscSender:
    """Sends frames as OSC bundles over UDP, whether anybody listens or not.

    Args:
        host (`str`), port (`int`): of the receiver, which is often at 39539 or 39540.

    Raises:
        FaceTalkError: python-osc is not installed, or a host that is not known.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            from pythonosc.udp_client import UDPClient
        except ImportError as error:
            raise FaceTalkError('--osc needs python-osc: pip install "facetalk_hf[live]"') from error
        try:
            self._client = UDPClient(host, port)
        except OSError as error:
            raise FaceTalkError(f"no way to {host}: {error.strerror or error}") from error

    def send(self, frame: LiveFrame) -> None:
        """Send a frame: its time in s, all shapes, the turn of the head where there is one."""
        rows: list[tuple[str, list]] = [("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [float(frame.time)])]
        if frame.pose is not None:
            rows.append(("/VMC/Ext/Bone/Pos", ["Head", 0.0, 0.0, 0.0, *head_quaternion(frame.pose)]))
        self._bundle(rows)
        values = [(name, float(value)) for name, value in zip(ARKIT, frame.weights, strict=True)]
        for start in range(0, len(values), PART):
            self._bundle([("/VMC/Ext/Blend/Val", list(pair)) for pair in values[start : start + PART]])
        self._bundle([("/VMC/Ext/Blend/Apply", [])])

    def _bundle(self, rows: list[tuple[str, list]]) -> None:
        from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
        from pythonosc.osc_message_builder import OscMessageBuilder

        bundle = OscBundleBuilder(IMMEDIATELY)
        for address, values in rows:
            message = OscMessageBuilder(address)
            for value in values:
                message.add_arg(value)
            bundle.add_content(message.build())
        with contextlib.suppress(OSError):  # nobody listens yet, or the network is away for a while
            self._client.send(bundle.build())

    def close(self) -> None:
        """Close the socket."""
        self._client._sock.close()


def head_quaternion(pose: np.ndarray) -> list[float]:
    """Turn yaw, pitch and roll of a pose (6,) in degrees into x, y, z, w of Unity's axes.

    Yaw turns about +y towards the subject's left, pitch up about -x, roll about -z, in the order of
    `HeadAnimation.poses`; the mirror image in x has the signs of y and z turned.
    """
    from scipy.spatial.transform import Rotation

    yaw, pitch, roll = (float(value) for value in pose[:3])
    x, y, z, w = Rotation.from_euler("YXZ", [yaw, -pitch, -roll], degrees=True).as_quat()
    return [float(x), -float(y), -float(z), float(w)]
