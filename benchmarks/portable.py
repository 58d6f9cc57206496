# SPDX-License-Identifier: MIT
"""The exported stream: is it PyTorch's, how large is it, how soon does it answer, what does it cost?

    python benchmarks/portable.py [--page docs/onnx.md] [--browser 30] [--recordings aligned.json]

Every shipped clip is streamed by PyTorch and by onnxruntime with the same noise. Start and memory are those of a fresh
process that may import neither torch nor scipy: from its first line to the first frame. `--browser` SECONDS has
headless Chromium listen to a clip through its microphone and ask for weights 60 times a second. `--recordings`, a list
of training/align_speech.py, tells whether lips close where they should. Ends with exit code 1 where half precision
misses a bar: 1e-4, 6 MB, 1 s of processor time, 150 MB, a late frame.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, OnnxStream, load_audio
from facetalk_hf.evaluation.recordings import RecordingScorer, read_recordings
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import conditions
from facetalk_hf.portable.exporting import PRECISIONS, export_onnx


ROOT = Path(__file__).resolve().parents[1]
CLIPS = [ROOT / "facetalk_hf" / "assets" / "demo.wav", *sorted((ROOT / "spaces_app" / "clips").glob("*.mp3"))]
RATE = 16000
START = """
import json, sys, time
began = time.perf_counter()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "diffusers", "transformers", "scipy", "av", "soundfile", "trimesh"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from facetalk_hf import OnnxStream
stream, sound, at = OnnxStream(sys.argv[1], 16000), np.load(sys.argv[2]), 0
frames = []
while not frames:
    frames, at = stream.push(sound[at : at + 320]), at + 320
first, used = time.perf_counter() - began, time.process_time()
frames += stream.push(sound[at:]) + stream.finish()
each = (time.process_time() - used) / (len(frames) - 2)
# Not ru_maxrss, which a child begins with the size of its parent.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([first, used, each, int(peak) / 1024]))
"""
LISTEN = """
async (seconds) => {
  const { openFace } = await import("./index.js"), context = new AudioContext(), start = performance.now();
  const face = await openFace(context), open = (performance.now() - start) / 1000;
  await context.resume();
  await face.microphone();
  while (!face.frames.length) await new Promise((done) => setTimeout(done, 20));
  await new Promise((done) => setTimeout(done, 1000 * face.delay));
  face.late = face.shown = 0;
  face.spent = [];
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    face.now();
    await new Promise((done) => setTimeout(done, 1000 / 60));
  }
  const spent = face.spent.reduce((sum, ms) => sum + ms, 0);
  return { late: face.late, shown: face.shown, share: spent / 1000 / seconds, delay: face.delay, open };
}
"""


def parity(few: FaceTalkPipeline, folder: Path, path: Path) -> tuple[int, float]:
    """Frames of a clip, and the largest difference of an ARKit weight."""
    sound, size = load_audio(path), few.denoiser.sample_dim
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(sound) // 500, size, generator=generator)
    stream = few.open_stream(RATE)
    stream.noise = noise.clone()
    begun, first = stream.push(sound), stream.tongue
    ended = stream.finish()
    tongue = None if first is None or stream.tongue is None else np.concatenate((first, stream.tongue))
    expected = few.arkit(torch.cat((begun, ended)), tongue)
    drawn = iter(noise.split(2))
    live = OnnxStream(folder, RATE, noise=lambda hop, size: next(drawn).numpy())
    found = np.stack([frame.arkit for frame in live.push(sound) + live.finish()])
    return len(found), float(np.abs(found - expected).max())


def listen(seconds: float) -> dict[str, float]:
    """What Chromium measured while it listened, and by how many MB its page grew: all, and all but files."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from live_page import browser_page, static_server

    def used() -> np.ndarray:
        """MB that are resident of all processes that show pages, and those that are theirs alone."""
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        pids = [item["id"] for item in processes if item["type"] == "renderer"]
        status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        rows = [[int(text.split(f"{name}:")[1].split()[0]) for name in ("VmRSS", "RssAnon")] for text in status]
        return np.sum(rows, axis=0) / 1024

    with static_server() as url, browser_page(CLIPS[0]) as page:
        session = page.context.browser.new_browser_cdp_session()
        page.goto(f"{url}/package.json")
        page.wait_for_timeout(2000)  # a page without anything grows for a while, too
        before = used()
        found = page.evaluate(f"({LISTEN})({seconds})")
        grown = used() - before
        return found | {"grown": grown[0], "own": grown[1]}


def lips(few: FaceTalkPipeline, folders: dict[str, Path], path: Path, clips: int) -> dict[str, float]:
    """F1 of stops, of the first recordings of a list."""
    recordings = read_recordings(path)[:clips]
    scorer, result = RecordingScorer(few.head, recordings), {}
    for name, folder in folders.items():
        codes = []
        for recording in recordings:
            stream = OnnxStream(folder, RATE)
            frames = stream.push(recording.samples()) + stream.finish()
            codes.append(few.head.expression_from_weights(torch.from_numpy(np.stack([f.weights for f in frames]))))
        result[name] = scorer(codes).scores.f1
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=facetalk_hf.TINY)
    parser.add_argument("--repeat", type=int, default=5, help="fresh processes, of which the quickest counts")
    parser.add_argument("--browser", type=float, default=0, metavar="SECONDS", help="listen in Chromium for so long")
    parser.add_argument("--only-browser", action="store_true", help="nothing but --browser")
    parser.add_argument("--recordings", type=Path, help="list of aligned recordings, for lip closures")
    parser.add_argument("--clips", type=int, default=6, help="of --recordings")
    parser.add_argument("--page", type=Path, help="page whose table between markers is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = conditions()
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    few, rows, missed = pipe.few_steps(), {}, []

    def say(name: str, shown: str, bar: str = "", held: bool = True, column: int = 0) -> None:
        rows.setdefault(name, ["", "", bar])[column] = shown
        if not held and not column:
            missed.append(name)

    with tempfile.TemporaryDirectory() as name:
        folders = {precision: Path(name) / precision for precision in PRECISIONS}
        for column, (precision, folder) in enumerate(() if options.only_browser else folders.items()):
            size = sum(export_onnx(pipe, folder, precision=precision).values()) / 1e6
            say("size of the files", f"{size:.2f} MB", "6 MB", size < 6, column)
            for path in CLIPS:
                frames, worst = parity(few, folder, path)
                label = f"largest difference of a weight, {path.name}, {frames} frames"
                say(label, f"{worst:.1e}", "1e-4", worst < 1e-4, column)
            np.save(Path(name) / "sound.npy", load_audio(CLIPS[0]))
            program = [sys.executable, "-c", START, str(folder), str(Path(name) / "sound.npy")]
            runs = [
                json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
                for _ in range(options.repeat)
            ]
            wall, used, each, peak = np.min(runs, axis=0)
            say("start to first frame, on the clock", f"{wall:.2f} s", column=column)
            say("start to first frame, processor time", f"{used:.2f} s", "1 s", used < 1, column)
            say("peak memory of the process", f"{peak:.0f} MB", "150 MB", peak < 150, column)
            share = each * pipe.config["fps"]
            say("processor time of a frame", f"{1e3 * each:.1f} ms, {share:.2f} x real time", column=column)
        if options.recordings:
            for column, f1 in enumerate(lips(few, folders, options.recordings, options.clips).values()):
                say(f"F1 of m, b, p in {options.clips} recordings of people", f"{f1:.3f}", column=column)
    if options.browser:
        heard = listen(options.browser)
        late = f"{heard['late']:.0f} of {heard['shown']:.0f}"
        say("Chromium: weights asked for that came late", late, "0", heard["late"] == 0)
        say("Chromium: load and first frames, on the clock", f"{heard['open']:.2f} s", "1 s")
        say("Chromium: memory of the page", f"+{heard['grown']:.0f} MB", "150 MB", heard["grown"] < 150)
        say("Chromium: of it not Chromium's own files", f"+{heard['own']:.0f} MB")
        say("Chromium: time in the networks", f"{heard['share']:.2f} x real time")
        say("Chromium: behind the sound", f"{heard['delay']:.2f} s")
    table = markdown_table(("", *PRECISIONS, "bar"), [(name, *row) for name, row in rows.items()])
    where = f"{machine['date']}, {machine['cpu']}, one thread, load average {machine['load']} before"
    text = f"{where}; python {machine['python']}. Measured by `{command()}`.\n\n{table}"
    print(text)
    if options.page:
        write_between_markers(options.page, "onnx", text)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
