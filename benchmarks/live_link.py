# SPDX-License-Identifier: MIT
"""Packets of Live Link on the real clock: do all come, with 61 values, at the stated rate, without drift?

    python benchmarks/live_link.py --minutes 60 [--page docs/live.md]

`facetalk stream` sends a long recording to this machine; or, with --pipe, reads it from a pipe that gives 20 ms of
sound every 20 ms, as a microphone does. Drift is by how much the delay of a packet, its arrival less its own time,
changes between the medians of windows of 20 s. Ends with exit code 1 where a packet is lost or drift exceeds 20 ms.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path

import numpy as np

import facetalk_hf
from facetalk_hf import load_audio
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import conditions


RATE, WINDOW = 16000, 20.0
DEMO = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"


def packet_time(packet: bytes) -> tuple[float, int]:
    """Time in s and number of values of a packet, by Epic's layout, not by our writer."""
    at = 1
    for _ in range(2):
        at += 4 + int.from_bytes(packet[at : at + 4], "big")
    frame, part, numerator, denominator = struct.unpack_from("!ifii", packet, at)
    values = packet[at + 16]
    assert len(packet) == at + 17 + 4 * values
    return (frame + part) * denominator / numerator, values


def feed(pipe, samples: np.ndarray) -> None:
    """Write 20 ms every 20 ms, reckoned from the start."""
    start, size = time.monotonic(), RATE // 50
    for number, first in enumerate(range(0, len(samples), size)):
        time.sleep(max(0.0, start + (number + 1) / 50 - time.monotonic()))
        pipe.write(samples[first : first + size].tobytes())
        pipe.flush()
    pipe.close()


def receive(receiver: socket.socket, sender: subprocess.Popen) -> list[tuple[float, float, int]]:
    """Arrival, time and values of each packet until the sender has ended."""
    found = []
    receiver.settimeout(1.0)
    while True:
        try:
            packet, now = receiver.recv(4096), time.monotonic()
        except TimeoutError:
            if sender.poll() is not None:
                return found
        else:
            found.append((now, *packet_time(packet)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pipe", action="store_true", help="sound as it comes, in place of a file")
    parser.add_argument("--page", type=Path, help="page whose table between markers is replaced")
    options = parser.parse_args()
    machine, seconds = conditions(), round(60 * options.minutes)
    clip = (32767 * load_audio(DEMO)).astype("<i2")
    samples = np.resize(clip, seconds * RATE)
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.bind(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "long.wav"
        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        program = "import sys; from facetalk_hf.cli.main import main; sys.exit(main())"
        line = [sys.executable, "-c", program, "stream", "-" if options.pipe else str(sound)]
        line += ["--live-link", f"127.0.0.1:{receiver.getsockname()[1]}"]
        before = os.times()
        sender = subprocess.Popen(line, stdin=subprocess.PIPE if options.pipe else subprocess.DEVNULL)
        if options.pipe:
            threading.Thread(target=feed, args=(sender.stdin, samples), daemon=True).start()
        arrival, said, values = np.array(receive(receiver, sender)).T
        after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    delay, wanted = (arrival - said) - (arrival[0] - said[0]), round(seconds * 24)
    windows = [np.median(part) for part in np.array_split(delay, max(1, int(seconds / WINDOW)))]
    drift, rate = 1000 * np.ptp(windows), (len(said) - 1) / np.ptp(said)
    clock = (len(said) - 1) / np.ptp(arrival)
    rows = [
        ("packets, of frames", f"{len(said)} of {wanted}", "all"),
        ("values of a packet", f"{int(values.min())} to {int(values.max())}", "61"),
        ("frames a second, by the packets and on the clock", f"{rate:.4f}, {clock:.4f}", "24"),
        ("drift, medians of 20 s", f"{drift:.1f} ms", "20 ms"),
        ("delay against the first packet: median, 99 %, largest", ", ".join(
            f"{1000 * value:.1f}" for value in np.quantile(delay, (0.5, 0.99, 1))) + " ms", ""),
        ("processor time, with the start", f"{used / seconds:.2f} x real time", ""),
    ]  # fmt: skip
    where = f"{machine['date']}, {machine['cpu']}, load average {machine['load']} before"
    text = f"{where}. Measured by `{command()}`.\n\n{markdown_table(('', 'measured', 'bar'), rows)}"
    print(text)
    if options.page:
        write_between_markers(options.page, "live-link", text)
    raise SystemExit(0 if len(said) == wanted and (values == 61).all() and drift < 20 else 1)


if __name__ == "__main__":
    main()
