# SPDX-License-Identifier: MIT
"""More of what is fuzzed: pictures of videos, and files of timed phones and emotions; see fuzz_readers.py."""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from facetalk_hf.fitting.video.reading import read_pictures
from facetalk_hf.motion.emotions import read_emotions
from facetalk_hf.phones.files import read_phones


def video() -> tuple[dict[str, bytes], Callable[[Path], object]]:
    """Small videos of several containers and codecs; their first pictures are decoded."""
    seeds = {}
    for name, form, codec in (
        ("a.mp4", "mp4", "libx264"), ("b.mp4", "mp4", "mpeg4"), ("a.mkv", "matroska", "libx264"),
        ("a.webm", "webm", "libvpx-vp9"), ("a.avi", "avi", "mjpeg"), ("a.mov", "mov", "libx264"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=form) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(6):
                image = np.full((32, 32, 3), 40 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode(None))
        seeds[name] = buffer.getvalue()

    def read(path: Path) -> None:
        for index, picture in enumerate(read_pictures(path)):
            assert picture.image.ndim == 3
            if index > 20:
                break

    return seeds, read


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.7
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.7
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.3
            text = "B"
        intervals [2]:
            xmin = 0.3
            xmax = 0.7
            text = "AA1"
"""


def phones() -> tuple[dict[str, bytes], Callable[[Path], object]]:
    """Timed phones in all their forms, and emotions over time."""
    short = '"ooTextFile"\n"TextGrid"\n0\n0.7\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n0.7\n1\n0\n0.7\n"AA1"\n'
    seeds = {
        "long.TextGrid": TEXTGRID.encode(),
        "wide.TextGrid": TEXTGRID.encode("utf-16"),
        "short.TextGrid": short.encode(),
        "phones.csv": b"phone,start,end\nB,0,0.3\nAA1,0.3,0.7\n",
        "bare.csv": b"0 0.3 B\n0.3 0.7 AA1\n",
        "phones.json": b'{"phones": [["B", 0, 0.3], ["AA1", 0.3, 0.7]]}',
        "objects.json": b'[{"phone": "B", "start": 0, "end": 0.3}]',
        "emotions.csv": b"time,happy,energy\n0,0.5,0\n1.5,0.25,1\n",
    }

    def read(path: Path) -> None:
        from fuzz_readers import attempt  # which imports this

        attempt(lambda: read_phones(path), lambda: read_emotions(path))

    return seeds, read
