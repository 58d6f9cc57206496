# SPDX-License-Identifier: MIT
"""The exported stream: is it PyTorch's, how large is it, how soon does it answer, what does it cost?

    python benchmarks/portable.py [--page docs/onnx.md] [--browser 30]

Every shipped clip is streamed by PyTorch and by onnxruntime with the same noise. Start and memory are those of a fresh
process that may import neither torch nor scipy: from its first line to the first frame. `--browser` SECONDS has
headless Chromium listen to a clip through its microphone and ask for weights 60 times a second. Ends with exit code 1
where a bar is missed: 1e-4, 6 MB, 1 s of processor time, 150 MB, a late frame.
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
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import conditions
from facetalk_hf.portable.exporting import export_onnx


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
  const { openFace } = await import("./index.js"), context = new AudioContext();
  const face = await openFace(context);
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
  return { late: face.late, shown: face.shown, share: spent / 1000 / seconds, delay: face.delay };
}
"""


def parity(few: FaceTalkPipeline, folder: Path, path: Path) -> tuple[int, float]:
    """Frames of a clip, and the largest difference of an ARKit weight."""
    sound, size = load_audio(path), few.denoiser.sample_dim
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(sound) // 500, size, generator=generator)
    stream = few.open_stream(RATE)
    stream.noise = noise.clone()
    expected = few.arkit(torch.cat((stream.push(sound), stream.finish())))
    drawn = iter(noise.split(2))
    live = OnnxStream(folder, RATE, noise=lambda hop, size: next(drawn).numpy())
    found = np.stack([frame.arkit for frame in live.push(sound) + live.finish()])
    return len(found), float(np.abs(found - expected).max())


def listen(seconds: float) -> dict[str, float]:
    """What Chromium measured while it listened."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from live_page import browser_page, static_server

    with static_server() as url, browser_page(CLIPS[0]) as page:
        page.goto(f"{url}/package.json")
        return page.evaluate(f"({LISTEN})({seconds})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=facetalk_hf.TINY)
    parser.add_argument("--repeat", type=int, default=5, help="fresh processes, of which the quickest counts")
    parser.add_argument("--browser", type=float, default=0, metavar="SECONDS", help="listen in Chromium for so long")
    parser.add_argument("--page", type=Path, help="page whose table between markers is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = conditions()
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    rows: list[tuple[str, str, str, bool]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = sum(export_onnx(pipe, folder / "model").values()) / 1e6
        rows.append(("size of the files", f"{size:.2f} MB", "6 MB", size < 6))
        for path in CLIPS:
            frames, worst = parity(pipe.few_steps(), folder / "model", path)
            rows.append((f"largest difference, {path.name}, {frames} frames", f"{worst:.1e}", "1e-4", worst < 1e-4))
        np.save(folder / "sound.npy", load_audio(CLIPS[0]))
        program = [sys.executable, "-c", START, str(folder / "model"), str(folder / "sound.npy")]
        runs = [
            json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
            for _ in range(options.repeat)
        ]
        wall, used, each, peak = np.min(runs, axis=0)
        rows.append(("start to first frame, on the clock", f"{wall:.2f} s", "", True))
        rows.append(("start to first frame, processor time", f"{used:.2f} s", "1 s", used < 1))
        rows.append(("peak memory of the process", f"{peak:.0f} MB", "150 MB", peak < 150))
        share = each * pipe.config["fps"]
        rows.append(("processor time of a frame", f"{1e3 * each:.1f} ms, {share:.2f} x real time", "", True))
    if options.browser:
        heard = listen(options.browser)
        late = f"{heard['late']:.0f} of {heard['shown']:.0f}"
        rows.append(("Chromium: weights asked for that came late", late, "0", heard["late"] == 0))
        rows.append(("Chromium: time in the networks", f"{heard['share']:.2f} x real time", "", True))
        rows.append(("Chromium: behind the sound", f"{heard['delay']:.2f} s", "", True))
    table = markdown_table(("", "measured", "bar"), [row[:3] for row in rows])
    where = f"{machine['date']}, {machine['cpu']}, one thread, load average {machine['load']} before"
    text = f"{where}; python {machine['python']}. Measured by `{command()}`.\n\n{table}"
    print(text)
    if options.page:
        write_between_markers(options.page, "onnx", text)
    raise SystemExit(0 if all(held for *_, held in rows) else 1)


if __name__ == "__main__":
    main()
