# SPDX-License-Identifier: MIT
"""spaces_app/page/facetalk-live in headless Chromium: Python's weights, and a head that a microphone moves."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from command import write_wav
from components import RATE
from live_page import FOLDER, browser_page, static_server
from portable_models import ACTING, make

import facetalk_hf
from facetalk_hf import OnnxStream, load_audio
from facetalk_hf.audio.io import resample
from facetalk_hf.portable import compacting
from facetalk_hf.portable.exporting import export_onnx


DEMO = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
PROGRAM = """
async ({ sound, noise, rate, options, device = "wasm" }) => {
  const numbers = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const { FaceStream, openSession } = await import("./index.js");
  const ort = await import(`./vendor/ort/ort.${device}.min.mjs`);
  const executionProviders = [device];
  if (device === "webgpu" && !await navigator.gpu?.requestAdapter()) return [[], 0];
  let memory = null;
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory { constructor(size) { super(size); memory = this; } };
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./vendor/ort/", document.baseURI).href;
  const load = async (name) =>
    openSession(ort, name, await (await fetch("./model/" + name)).arrayBuffer(), { executionProviders });
  const config = await (await fetch("./model/config.json")).json();
  const drawn = numbers(noise), samples = numbers(sound), frames = [];
  let next = 0;
  const files = { config, encoder: await load(config.files.encoder), motion: await load(config.files.motion) };
  const stream = new FaceStream(files, ort, { ...options, rate, noise: () => drawn[next++] });
  for (let at = 0; at < samples.length; at += 1001) frames.push(...await stream.push(samples.slice(at, at + 1001)));
  frames.push(...await stream.finish());
  return [frames.map(({ arkit, pose, tongue }) => [...arkit, ...tongue, ...(pose || [])]), memory.buffer.byteLength];
}
"""

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("rate", "acts", "precision"),
    [(RATE, False, "fp16"), (44100, False, "fp16"), (RATE, True, "fp16"), (RATE, True, "int8")],
)
def test_weights_are_those_of_python(rate, acts, precision, tmp_path, monkeypatch):
    """Of the exported default model, and of one that acts, moves its head and hears lips close.

    Memory of WebAssembly never shrinks: what the networks' weights take while they are loaded counts for ever.
    """
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install facetalk_hf[onnx]")
    folder, options, told = FOLDER / "model", {}, {}
    if acts:
        pytest.importorskip("onnx", reason="needs onnx: pip install facetalk_hf[onnx]")
        folder = tmp_path
        monkeypatch.setattr(compacting, "MATRIX", 256)
        export_onnx(make(ACTING), folder, precision=precision)
        options = {"emotion": {"happy": 0.8}, "energy": 0.5, "head_motion": 0.6, "upper_face_intensity": 0.7}
        told = {"conditions": {"happy": 0.8, "energy": 0.5}, "headMotion": 0.6, "upperIntensity": 0.7}
    clip = resample(load_audio(DEMO)[: 2 * RATE], RATE, rate).astype(np.float32)
    with static_server() as url, browser_page(DEMO) as page:
        noise = np.random.default_rng(0).standard_normal((64, 256), np.float32)
        left = noise.ravel().copy()

        def draw(hop, size):
            nonlocal left
            drawn, left = left[: hop * size].reshape(hop, size), left[hop * size :]
            return drawn

        stream = OnnxStream(folder, rate, noise=draw, **options)
        frames = stream.push(clip) + stream.finish()
        expected = [
            np.concatenate([frame.arkit, frame.tongue, [] if frame.pose is None else frame.pose]) for frame in frames
        ]
        page.route("**/model/*", lambda route: route.fulfill(path=folder / route.request.url.rpartition("/")[2]))
        page.goto(f"{url}/package.json")  # any page of the folder: the modules need no other
        sound = {"sound": base64.b64encode(clip).decode(), "noise": base64.b64encode(noise).decode()}
        found, memory = page.evaluate(f"({PROGRAM})({json.dumps(sound | {'rate': rate, 'options': told})})")
    found = np.array(found)
    assert memory < 40e6  # the default model's: 34.9 MB, or 50.3 with each file given whole
    assert found.shape == (48, 63) and 0.05 < np.std(expected)
    np.testing.assert_allclose(found[:, :57], np.array(expected)[:, :57], atol=1e-4)
    np.testing.assert_allclose(found[:, 57:], np.array(expected)[:, 57:], atol=1e-3)  # degrees and mm


def test_weights_of_webgpu():
    """By SwiftShader, as Chromium does where there is no graphics card: slow, and the same arithmetic."""
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install facetalk_hf[onnx]")
    if not (FOLDER / "vendor" / "ort" / "ort.webgpu.min.mjs").is_file():
        pytest.skip("needs onnxruntime's WebGPU build: python spaces_app/prepare_live.py --webgpu fetches it")
    clip = load_audio(DEMO)[: RATE // 6].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal((4, OnnxStream(FOLDER / "model", RATE).config["sample_size"]))
    noise = noise.astype(np.float32)
    pairs = iter(noise.reshape(2, 2, -1))
    stream = OnnxStream(FOLDER / "model", RATE, noise=lambda hop, size: next(pairs))
    expected = np.array([frame.arkit for frame in stream.push(clip) + stream.finish()])
    switches = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with static_server() as url, browser_page(DEMO, *switches) as page:
        page.goto(f"{url}/package.json")
        sound = {"sound": base64.b64encode(clip).decode(), "noise": base64.b64encode(noise).decode()}
        found, _ = page.evaluate(PROGRAM, sound | {"rate": RATE, "options": {}, "device": "webgpu"})
    if not found:
        pytest.skip("needs WebGPU in Chromium, by a graphics card or SwiftShader's Vulkan")
    np.testing.assert_allclose(np.array(found)[:, :52], expected, atol=1e-4)


def test_a_microphone_moves_a_head(tmp_path):
    """From a folder of plain files, and no request goes anywhere else."""
    recording = write_wav(tmp_path / "voice.wav", load_audio(DEMO))
    elsewhere, errors = [], []
    with static_server() as url, browser_page(recording) as page:
        # Textures of a glb are blobs of the page's own.
        page.on(
            "request",
            lambda request: (
                elsewhere.append(request.url) if not request.url.removeprefix("blob:").startswith(url) else None
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_viewport_size({"width": 200, "height": 200})  # pictures are drawn in software here
        page.goto(f"{url}/live.html")
        page.wait_for_function("window.avatar")
        page.click("#microphone")
        page.wait_for_function("window.facetalk && facetalk.frames.length")
        page.evaluate("""() => {
          const jaw = facetalk.config.arkit.indexOf("jawOpen");
          window.heard = []; window.seen = [];
          facetalk.onframes = (made) => made.forEach(({ index, arkit }) => heard.push([index, arkit[jaw]]));
          setInterval(() => avatar.traverse(({ morphTargetDictionary: names, morphTargetInfluences: weights }) => {
            if (names && "jawOpen" in names) seen.push(weights[names.jawOpen]);
          }), 40);
        }""")
        # A busy machine draws a picture a second: the recording comes again and again.
        page.wait_for_function("heard.length > 60 && Math.max(...seen) - Math.min(...seen) > 0.1")
        heard, seen = np.array(page.evaluate("heard")), page.evaluate("seen")
        page.evaluate("""() => {
          window.before = avatar;
          const lost = document.querySelector("canvas").getContext("webgl2").getExtension("WEBGL_lose_context");
          lost.loseContext();
          setTimeout(() => lost.restoreContext(), 100);
        }""")
        page.wait_for_function("avatar !== before")  # the card forgot its shapes: it is given them again
    assert not elsewhere and not errors
    assert (np.diff(heard[:, 0]) == 1).all()  # no frame was left out
    assert heard[:, 1].max() > 0.15 and np.ptp(seen) > 0.1


def test_avatars_by_names():
    """ARKit's names, ours and visemes find their shapes; closed lips are the viseme PP, an open mouth is aa."""
    program = """
    async () => {
      const { bindAvatar } = await import("./avatar.js");
      const config = await (await fetch("./model/config.json")).json();
      const quaternion = { clone() { return this; } };
      const make = (...names) => ({
        quaternion, morphTargetDictionary: Object.fromEntries(names.map((name, i) => [name, i])),
        morphTargetInfluences: names.map(() => 0), traverse(visit) { visit(this); },
      });
      const row = (weights) => config.arkit.map((name) => weights[name] || 0);
      const mine = make("jawOpen", "eyeBlink_L", "browInnerUp_R", "body", "tongueOut", "tongueTipUp");
      const other = make("JawOpen", "Eye_Blink.R"), known = Object.keys(config.visemes);
      const shown = row({ jawOpen: 0.5, eyeBlinkLeft: 1, browInnerUp: 0.2, tongueOut: 0.3 });
      for (const avatar of [mine, other]) bindAvatar(avatar, config).set(shown, null, [0.3, 0.6, 0, 0, 0]);
      const visemes = make(...known.map((name) => "viseme_" + name)), bound = bindAvatar(visemes, config);
      const say = (viseme) => {
        bound.set(row(config.visemes[viseme]));
        const weights = visemes.morphTargetInfluences;
        return known[weights.indexOf(Math.max(...weights))];
      };
      return [mine.morphTargetInfluences, other.morphTargetInfluences, ["aa", "U", "PP", "FF"].map(say)];
    }
    """
    with static_server() as url, browser_page(DEMO) as page:
        page.goto(f"{url}/package.json")
        mine, other, said = page.evaluate(program)
    assert mine == pytest.approx([0.5, 1, 0.2, 0, 0.3, 0.6]) and other == pytest.approx([0.5, 0])
    assert said == ["aa", "U", "PP", "FF"]
