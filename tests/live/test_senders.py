# SPDX-License-Identifier: MIT
"""What leaves the machine: decoded again here, and by programs that are not ours."""

import asyncio
import base64
import contextlib
import json
import socket
import struct
import threading

import numpy as np
import pytest

from facetalk_hf.animation.arkit import ARKIT, ROTATIONS
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.live.frames import LiveFrame, SoundTrack, split_address
from facetalk_hf.live.live_link import PACKET_NAMES, LiveLinkSender


POSE = np.array([10.0, -4.0, 2.0, 1.0, 2.0, 3.0])


def frame(index=0, fps=24.0, pose=None, sound=None):
    weights = np.linspace(0.01, 0.99, 52, dtype=np.float32) * (1 + index % 3) / 3
    return LiveFrame(index, index / fps, weights, pose, sound, 16000)


@contextlib.contextmanager
def receiver(port=0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        udp.settimeout(5)
        yield udp


def decode(packet):
    """Name -> value, and (frame, part, numerator, denominator, subject), by the layout of Unreal's reader alone."""
    assert packet[0] == 6
    device = struct.unpack_from("!i", packet, 1)[0]
    at = 5 + device
    subject = struct.unpack_from("!i", packet, at)[0]
    name, at = packet[at + 4 : at + 4 + subject].decode(), at + 4 + subject
    *time, count = struct.unpack_from("!ifiiB", packet, at)
    assert count == 61 and len(packet) == at + 17 + 4 * count
    return dict(zip(PACKET_NAMES, struct.unpack_from("!61f", packet, at + 17), strict=True)), (*time, name)


def test_live_link_packets_are_those_of_the_app():
    assert len(set(PACKET_NAMES)) == 61
    assert PACKET_NAMES[14:18] == ("jawForward", "jawLeft", "jawRight", "jawOpen")
    assert PACKET_NAMES[20:23] == ("mouthPucker", "mouthLeft", "mouthRight")
    with receiver() as udp:
        sender = LiveLinkSender("127.0.0.1", udp.getsockname()[1], 24, "Ada", midnight=3600)
        for index in (0, 1, 24):
            sender.send(frame(index, pose=POSE))
            values, (number, part, *rate, name) = decode(udp.recv(2048))
            assert (number, part, rate, name) == (3600 * 24 + index, 0.0, [24, 1], "Ada")
            expected = frame(index).weights
            np.testing.assert_allclose([values[name] for name in ARKIT], expected, rtol=1e-6)
            np.testing.assert_allclose([values[name] for name in ROTATIONS[:3]], np.radians([10, 4, -2]), rtol=1e-6)
            turned = expected[ARKIT.index("eyeLookOutLeft")] - expected[ARKIT.index("eyeLookInLeft")]
            assert values["LeftEyeYaw"] == pytest.approx(np.radians(30) * turned, rel=1e-5)
        sender.close()


def test_live_link_packets_are_read_by_an_open_receiver():
    library = pytest.importorskip("pylivelinkface", reason="needs pylivelinkface")
    with receiver() as udp:
        sender = LiveLinkSender("127.0.0.1", udp.getsockname()[1], 30000 / 1001, "facetalk", midnight=0)
        sender.send(frame(30, 30000 / 1001, POSE))
        found, face = library.PyLiveLinkFace.decode(udp.recv(2048))
        sender.close()
    assert found and face.name == "facetalk" and (face.fps, face._denominator, face._frames) == (30000, 1001, 30)
    for shape in library.FaceBlendShape:
        name = shape.name[0].lower() + shape.name[1:]
        if name in ARKIT:
            assert face.get_blendshape(shape) == pytest.approx(frame(30).weights[ARKIT.index(name)], rel=1e-6)
    assert face.get_blendshape(library.FaceBlendShape.HeadYaw) == pytest.approx(np.radians(10))


def test_live_link_waits_for_no_receiver():
    with receiver() as udp:
        port = udp.getsockname()[1]
    sender = LiveLinkSender("127.0.0.1", port, 24)
    for index in range(5):  # nobody is there: the port answers that it is closed
        sender.send(frame(index))
    with receiver(port) as udp:
        sender.send(frame(5))
        assert decode(udp.recv(2048))[0]["jawOpen"] > 0
    sender._socket.close()  # as where a network went away
    with receiver(port) as udp:
        sender.send(frame(6))
        sender.send(frame(7))
        assert decode(udp.recv(2048))[0]["jawOpen"] > 0
    sender.close()


@pytest.mark.parametrize("subject", ["", "Zoë", "a\nb", "x" * 200])
def test_bad_subjects(subject):
    with pytest.raises(FaceTalkError, match="ASCII"):
        LiveLinkSender("127.0.0.1", 11111, 24, subject)


@pytest.mark.parametrize("text", ["11111", "host", "host:", ":11", "host:0", "host:70000", "host:x", "host:²"])
def test_bad_addresses(text):
    with pytest.raises(FaceTalkError, match="--osc must be HOST:PORT"):
        split_address(text, "--osc")
    assert split_address("[::1]:11111", "--osc") == ("::1", 11111)


def test_osc_is_read_by_a_dispatcher():
    pytest.importorskip("pythonosc", reason="needs python-osc")
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.osc_server import ThreadingOSCUDPServer

    from facetalk_hf.live.osc import OscSender

    heard, done = {}, threading.Event()
    dispatcher = Dispatcher()
    dispatcher.map("/VMC/Ext/Blend/Val", lambda address, name, value: heard.__setitem__(name, value))
    dispatcher.map("/VMC/Ext/Bone/Pos", lambda address, name, *values: heard.__setitem__(name, values))
    dispatcher.map("/VMC/Ext/T", lambda address, seconds: heard.__setitem__("time", seconds))
    dispatcher.map("/VMC/Ext/Blend/Apply", lambda address: done.set())
    with ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sender = OscSender("127.0.0.1", server.server_address[1])
        sender.send(frame(12, pose=np.array([90.0, 0, 0, 0, 0, 0])))
        assert done.wait(5)
        sender.close()
        server.shutdown()
    assert heard["time"] == 0.5 and [heard[name] for name in ARKIT] == pytest.approx(frame(12).weights.tolist())
    # A quarter turn to the subject's left: about +y for us, and about -y in Unity's mirrored axes.
    assert heard["Head"] == pytest.approx((0, 0, 0, 0, -(0.5**0.5), 0, 0.5**0.5))


def test_websocket_gives_sound_and_weights_together():
    pytest.importorskip("websockets", reason="needs websockets")
    from websockets.sync.client import connect

    from facetalk_hf.live.websocket import WebSocketServer

    sound = np.arange(16000, dtype=np.int16)
    track = SoundTrack(16000, 24)
    track.push(sound)
    server = WebSocketServer("127.0.0.1", 0, 24, 16000)
    received = []
    for visit in range(2):  # a client that comes back
        with connect(f"ws://127.0.0.1:{server.port}") as client:
            hello = json.loads(client.recv(5))
            assert (hello["fps"], hello["sampling_rate"], hello["names"]) == (24, 16000, list(ARKIT))
            while not server.clients:
                pass
            for index in range(12 * visit, 12 * visit + 12):
                server.send(frame(index, pose=POSE, sound=track.take(index)))
                received.append(json.loads(client.recv(5)))
    server.close()
    assert [item["frame"] for item in received] == list(range(24)) and received[5]["time"] == round(5 / 24, 6)
    assert received[4]["weights"]["jawOpen"] == pytest.approx(frame(4).weights[ARKIT.index("jawOpen")], abs=1e-5)
    assert received[0]["head"] == POSE.tolist()
    parts = [np.frombuffer(base64.b64decode(item["sound"]), "<i2") for item in received]
    np.testing.assert_array_equal(np.concatenate(parts), sound)


def test_websocket_waits_for_no_client():
    pytest.importorskip("websockets", reason="needs websockets")
    from websockets.asyncio.client import connect

    from facetalk_hf.live.websocket import BACKLOG, WebSocketServer

    server = WebSocketServer("127.0.0.1", 0, 24, 16000)
    with pytest.raises(FaceTalkError, match="cannot listen"):
        WebSocketServer("127.0.0.1", server.port, 24, 16000)

    async def sleepy():
        # A client that reads nothing for a while, on the smallest of buffers, then everything.
        async with connect(f"ws://127.0.0.1:{server.port}", max_queue=1) as client:
            await client.recv()
            while not server.clients:
                await asyncio.sleep(0.01)
            sound = np.zeros(80_000, np.int16)  # 200 kB a frame: more than any socket holds
            for index in range(120):
                server.send(frame(index, sound=sound))
            await asyncio.sleep(0.2)
            assert max(queue.qsize() for queue in server._queues) <= BACKLOG * 24
            numbers = []
            while not numbers or numbers[-1] < 119:
                numbers.append(json.loads(await asyncio.wait_for(client.recv(), 5))["frame"])
            return numbers

    numbers = asyncio.run(sleepy())
    server.close()
    assert numbers == sorted(numbers) and len(numbers) < 110 and numbers[-48:] == list(range(72, 120))


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.int32])
def test_sound_of_frames_is_complete(kind):
    full = 1 if kind is np.float32 else -float(np.iinfo(kind).min)
    clip = (0.5 * full * np.sin(np.arange(22050) / 7)).astype(kind)
    track = SoundTrack(22050, 24)
    parts, index = [], 0
    for part in track.listen(np.array_split(clip, 9)):
        assert part.dtype == kind
        while (index + 1) / 24 * 22050 <= track._first + len(track._kept):
            parts.append(track.take(index))
            index += 1
    whole = np.concatenate([*parts, *(track.take(number) for number in range(index, 25))])
    np.testing.assert_allclose(whole[:22050] / 32768, 0.5 * np.sin(np.arange(22050) / 7), atol=1e-4)
    assert not whole[22050:].any() and len(whole) == round(25 * 22050 / 24)
