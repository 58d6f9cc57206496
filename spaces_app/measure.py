# SPDX-License-Identifier: MIT
"""Seconds from the click to curves, video and 3D model of a clip of 4 s: with the head in memory, with a new one.

python spaces_app/measure.py
"""

import os
import tempfile
import time
from pathlib import Path

import engine


CLIP = Path(__file__).parent / "clips" / "hello.mp3"


def main() -> None:
    engine.portrait("zero")  # app.py does this at the start
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}, {engine.PICTURE} pixels")
    print("head: seconds (processor seconds) until curves, video, everything", flush=True)
    for head in ("zero", "5"):
        wall, processor, reached = time.monotonic(), time.process_time(), {}
        with tempfile.TemporaryDirectory() as folder:
            for update in engine.animate(str(CLIP), engine.Settings(head), None, Path(folder)):
                stage = "listening"
                if update.page:
                    files = update.page["takes"][0]["files"]
                    stage = "everything" if "glb" in files else "video" if files else "curves"
                reached.setdefault(stage, (time.monotonic() - wall, time.process_time() - processor))
        times = (f"{reached[stage][0]:.1f} ({reached[stage][1]:.1f})" for stage in list(reached)[1:])
        print(f"{head}:", ", ".join(times), flush=True)


if __name__ == "__main__":
    main()
