# SPDX-License-Identifier: MIT
"""CPU time of a film: `facetalk generate` as a whole, and a frame stage by stage, beside an older revision if asked.

    python benchmarks/film.py --old 1a6026a --page docs/performance.md
    python benchmarks/film.py --old 1a6026a --whole-old 3   # also the whole commands of both in turn, three times

The command runs in processes of its own: the first compiles numba's kernels into an empty cache, the second
finds them there (`--once` leaves the first out), with an empty cache of heads, and a third what the second kept
in that. Both revisions then draw the same frames of its npz, in one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from facetalk_hf.evaluation.studies import revision, write_between_markers
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
CLIP = "facetalk_hf/assets/demo.wav"
# Run by either revision: only what both have is called, and what one lacks is not timed.
PROBE = """
import json, sys, time
import numpy as np
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.rendering import renderer, video
clock, spent = time.process_time, {}
def timed(place, name, label=None):
    function = getattr(place, name, None)
    if function is not None:
        def call(*arguments):
            start = clock(); result = function(*arguments)
            spent.setdefault(label or name, []).append(clock() - start); return result
        setattr(place, name, call)
animation = HeadAnimation.load(sys.argv[1])
frames = np.linspace(0, animation.num_frames - 1, int(sys.argv[2])).astype(int).tolist()
renderer.HeadRenderer(animation, 64, key_poses=1).render(0)  # compiles, or finds what was compiled
start = clock(); head = renderer.HeadRenderer(animation, 512); bake = clock() - start
for name in ("project", "rasterize", "light_vertices", "resolve"):
    timed(renderer, name)
timed(head._light, "at", "blend light")
head.render(0); spent.clear()
start = clock(); vertices = list(animation.iterate(frames)); spent["vertices"] = [(clock() - start) / len(frames)]
images, times = [], []
for item in vertices:
    start = clock(); images.append(head.render(item)); times.append(clock() - start)
spent["picture"] = times
start = clock(); video.write_mp4(sys.argv[3], images, animation.fps)
spent["encode"] = [(clock() - start) / len(images)]
ms = {name: 1000 * float(np.median(values)) for name, values in spent.items()}
ms["frame"] = ms["vertices"] + ms["picture"] + ms["encode"]
print(json.dumps({"ms": ms, "bake": bake, "triangles": len(animation.faces)}))
"""
ROWS = {
    "vertices": "vertices from weights",
    "project": "projection, normals",
    "rasterize": "who is in front",
    "blend light": "light of the key poses, blended",
    "light_vertices": "light at vertices",
    "resolve": "light at pixels, edges, sRGB",
    "picture": "a picture, all of it",
    "encode": "x264",
    "frame": "**a frame of film**",
}


def spent_by(command: list[str], code: Path, **changes: str) -> tuple[float, str]:
    """CPU seconds of a command that takes the library from the folder `code`, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=code,
        env=os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"} | changes,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", metavar="REV", help="git revision to compare with")
    parser.add_argument("--whole-old", type=int, default=0, metavar="N", help="run both commands in turn, N times")
    parser.add_argument("--once", action="store_true", help="do not measure the first run, which compiles")
    parser.add_argument("--frames", type=int, default=24, help="frames of the demo that are drawn")
    parser.add_argument("--page", type=Path, help="write the table between the marks of this page")
    args = parser.parse_args(argv)
    words = ["benchmarks/film.py", *(sys.argv[1:] if argv is None else argv)]
    lines = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = ["-m", "facetalk_hf.cli", "generate", CLIP, "--geometry", "--output-dir"]
        if not args.once:
            empty = {"NUMBA_CACHE_DIR": str(folder / "cache"), "FACETALK_CACHE": str(folder / "first")}
            first, _ = spent_by([*command, str(folder / "out")], ROOT, **empty)
            lines.append(f"`facetalk generate` of the demo, the first time, which compiles: {first:.1f} s of CPU time")
        cache = {} if args.once else {"NUMBA_CACHE_DIR": str(folder / "cache")}
        cache["FACETALK_CACHE"] = str(folder / "heads")
        for which in ("with a head that is new to the machine", "from then on"):
            whole, _ = spent_by([*command, str(folder / "out")], ROOT, **cache)
            lines.append(f"`facetalk generate` of the demo (mp4, glb and npz), {which}: {whole:.1f} s of CPU time")
        probe = ["-c", PROBE, str(folder / "out" / "demo.npz"), str(args.frames), str(folder / "probe.mp4")]
        new, old = json.loads(spent_by(probe, ROOT, **cache)[1].splitlines()[-1]), None
        if args.old:
            older = stack.enter_context(revision(args.old, ROOT))
            old = json.loads(spent_by(probe, older)[1].splitlines()[-1])
            both = {"old": older, "now": ROOT}
            spent: dict[str, list[float]] = {name: [] for name in both}
            for number in range(args.whole_old + 1 if args.whole_old else 0):
                for name, code in both.items():
                    own = {
                        "NUMBA_CACHE_DIR": str(folder / f"{name}-loops"),
                        "FACETALK_CACHE": str(folder / f"{name}-kept"),
                    }
                    seconds, _ = spent_by([*command, str(folder / f"{name}-out")], code, **own)
                    spent[name] += [seconds] if number else []  # the first of each fills the caches
            if args.whole_old:
                words_of = {name: ", ".join(f"{value:.1f}" for value in values) for name, values in spent.items()}
                ratio = float(np.median(spent["old"]) / np.median(spent["now"]))
                lines.append(
                    f"the same at {args.old} and now, in turn: {words_of['old']} s and {words_of['now']} s, "
                    f"{ratio:.2f} times as much by medians"
                )
    table = ["| CPU ms a frame, 512 x 512 | now |", "| --- | ---: |"]
    if old:
        table = [f"| CPU ms a frame, 512 x 512 | {args.old} | now | old / now |", "| --- | ---: | ---: | ---: |"]
    for key, label in ROWS.items():
        if key in new["ms"]:
            value = new["ms"][key]
            past = old and old["ms"].get(key)
            middle = f" {past:.1f} |" if past else " |"
            ratio = f" {past / value:.1f} |" if past else " |"
            table.append(f"| {label} |" + (f"{middle} {value:.1f} |{ratio}" if old else f" {value:.1f} |"))
    baked = [old["bake"], new["bake"], old["bake"] / new["bake"]] if old else [new["bake"]]
    table.append(" | ".join(["| light, baked once a clip, s", *(f"{value:.2f}" for value in baked)]) + " |")
    load = os.getloadavg()[0]
    about = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {load:.1f}, "
        f"{new['triangles']} triangles; medians of {args.frames} frames. "
        f"Two cores make {2000 / new['ms']['frame']:.0f} frames a second. Measured by `python {' '.join(words)}`."
    )
    text = "\n".join([about, "", *table, "", *(f"- {line}" for line in lines)])
    print(text)
    if args.page:
        write_between_markers(args.page, "film", text)


if __name__ == "__main__":
    run_script(main)
