# SPDX-License-Identifier: MIT
"""What a stream of few steps costs, beside an older revision of the library.

    python benchmarks/stream_cost.py --old 58f729b --page docs/streaming.md

Each revision has a process of its own, and they take turns, a second of sound each, so that what else the machine does
meets both. Processor time of a portion, weights of ARKit included: the mean, and the least. One thread, seed 0.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import conditions
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
LOOK_AHEAD = 0.083
KINDS = {
    "hop 1": "stream, a frame at a time",
    "hop 2": "stream, two frames at a time",
    "idle": "conversation, a frame between turns",
}
WORKER = """
import json, sys
from itertools import count
from pathlib import Path
from time import process_time
import numpy as np, torch, facetalk_hf
from facetalk_hf import TINY, FaceTalkPipeline, load_audio
from facetalk_hf.live.conversation import Conversation
torch.set_num_threads(1)
few, out = FaceTalkPipeline.from_pretrained(TINY).few_steps(), sys.stdout
sound = load_audio(Path(facetalk_hf.__file__).parent / "assets" / "demo.wav")
face = Conversation(few, 16000)
face.say(sound[:16000])
for _ in range(100):
    face.step()

def hop(size):
    seed = torch.Generator().manual_seed(0)
    stream = few.open_stream(16000, hop=size, look_ahead=float(sys.argv[1]), generator=seed)
    for at in count(0, 320):
        start = process_time()
        codes = stream.push(np.take(sound, range(at, at + 320), mode="wrap"))
        if len(codes):
            few.arkit(codes, stream.tongue)
            yield process_time() - start

def idle():
    while True:
        start = process_time()
        face.step()
        yield process_time() - start

kinds = {"hop 1": hop(1), "hop 2": hop(2), "idle": idle()}
print("[]", flush=True)
for line in sys.stdin:
    kind, number = json.loads(line)
    print(json.dumps([next(kinds[kind]) for _ in range(number)]), flush=True)
"""


def start(place: Path) -> subprocess.Popen:
    """Start a process that measures with the library in a folder."""
    pipe = subprocess.PIPE
    program = [sys.executable, "-c", WORKER, str(LOOK_AHEAD)]
    environment = os.environ | {"PYTHONPATH": str(place)}
    return subprocess.Popen(
        program, cwd=place, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )


def ask(worker: subprocess.Popen, *what: object) -> list[float]:
    """Tell a process what to measure, and wait for its seconds."""
    assert worker.stdin and worker.stdout
    if what:
        print(json.dumps(what), file=worker.stdin, flush=True)
    return json.loads(worker.stdout.readline())


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", metavar="REV", required=True, help="git revision to compare with")
    parser.add_argument("--seconds", type=int, default=8, help="of sound, for each kind")
    parser.add_argument("--page", type=Path, help="docs/streaming.md: write the table between its markers")
    args = parser.parse_args()
    system, rows = conditions(), []
    with tempfile.TemporaryDirectory() as name:
        archive = subprocess.run(
            ["git", "archive", args.old, "facetalk_hf"], cwd=ROOT, capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(name, filter="data")
        workers = [start(place) for place in (Path(name), ROOT)]
        for worker in workers:
            ask(worker)
        for kind, label in KINDS.items():
            found: list[list[float]] = [[], []]
            for second in range(args.seconds + 1):
                for worker, times in zip(workers, found, strict=True):
                    took = ask(worker, kind, 12 if kind == "hop 2" else 24)
                    times += took if second else []  # the first one warms up
            old, now = (1e3 * np.array((np.mean(times), np.min(times))) for times in found)
            cells = [f"{value:.1f}" for value in (old[0], now[0], old[1], now[1])]
            rows.append((label, *cells, f"{100 * (now[0] / old[0] - 1):+.0f} %"))
        for worker in workers:
            worker.communicate()
    head = (
        "ms of a portion",
        f"{args.old}, mean",
        "now, mean",
        f"{args.old}, least",
        "now, least",
        "change of the mean",
    )
    where = f"{system['date']}, {system['cpu']}, load average {system['load']} before, look-ahead {LOOK_AHEAD} s"
    text = f"{where}. Measured by `{command()}`.\n\n{markdown_table(head, rows)}"
    print(text)
    if args.page:
        write_between_markers(args.page, "stream-cost", text)


if __name__ == "__main__":
    run_script(main)
