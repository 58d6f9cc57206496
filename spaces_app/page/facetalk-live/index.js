// SPDX-License-Identifier: MIT
// A face that listens: sound from anywhere in Web Audio -> ARKit's weights at the page's own rate, in step with that sound.

export { FaceStream, Resampler, gaussian } from "./stream.js";
export { openSession, unpacked } from "./model.js";
export { bindAvatar } from "./avatar.js";

const here = (path) => new URL(path, import.meta.url).href;

/**
 * Open a live face.
 *
 * @param {AudioContext} context of the page, at any rate.
 * @param {object} options model: address of the folder of `facetalk export-onnx`; runtime: of onnxruntime-web's dist/; device:
 *   "wasm" (the default) or "webgpu"; seed, conditions, intensity, headMotion ...: as FaceStream has them.
 * @returns {Promise<LiveFace>}
 */
export async function openFace(context, options = {}) {
  const { model = here("./model/"), runtime = here("./vendor/ort/"), device = "wasm", ...rest } = options;
  if (device === "webgpu" && !navigator.gpu) throw new Error("this browser has no WebGPU: leave device out");
  await context.audioWorklet.addModule(here("./worklet.js"));
  const worker = new Worker(here("./worker.js"), { type: "module" }), channel = new MessageChannel();
  const absolute = (path) => new URL(path, document.baseURI).href;
  const ready = new Promise((done, failed) => {
    worker.onmessage = ({ data }) => (data.ready ? done(data.ready) : failed(new Error(data.error)));
    worker.onerror = (event) => failed(new Error(event.message || "the worker could not start"));
  });
  const open = { model: absolute(model), runtime: absolute(runtime), device, port: channel.port1 };
  worker.postMessage({ open: { ...open, options: { ...rest, rate: context.sampleRate } } }, [channel.port1]);
  try {
    return new LiveFace(context, worker, channel.port2, await ready);
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** What `openFace` gives. `input` takes sound, `output` gives it again so late that it fits the face. */
export class LiveFace {
  constructor(context, worker, port, { config, delay }) {
    Object.assign(this, { context, worker, config, frames: [], playing: 0, late: 0, shown: 0, spent: [], onframes: null });
    // 20 ms are gathered, two frames are made together and then shown one after the other.
    this.delay = delay + 0.02 + 0.06;
    this.input = new AudioWorkletNode(context, "facetalk-tap");
    this.input.port.postMessage(port, [port]);
    this.output = this.input.connect(new DelayNode(context, { delayTime: this.delay, maxDelayTime: this.delay }));
    this.input.connect(new GainNode(context, { gain: 0 })).connect(context.destination);  // a node that leads nowhere sleeps
    worker.onmessage = ({ data }) => {
      if (data.error) throw new Error(data.error);
      this.began = data.began;
      this.frames.push(...data.frames);
      this.frames.splice(0, this.frames.length - 4 * config.fps);
      this.spent.push(data.spent);
      this.spent.splice(0, this.spent.length - 1000);
      if (this.onframes) this.onframes(data.frames);
    };
  }

  /** Weights by ARKit's order (`config.arkit`), pose of the head and tongue (`config.tongue.names`) or null, for what is heard at `output` now. */
  now(time = this.context.currentTime) {
    if (!this.frames.length) return { arkit: new Float32Array(this.config.arkit.length), pose: null, tongue: null };
    const { fps } = this.config, at = (time - this.began - this.delay) * fps - 0.5, first = this.frames[0].index;
    const last = this.frames.length - 1, place = Math.min(Math.max(at - first, 0), last), low = Math.floor(place);
    if (at - first > last) this.late++;  // the face stands still until the next frame comes
    this.shown++;
    const [a, b] = [this.frames[low], this.frames[Math.min(low + 1, last)]], share = place - low;
    const mix = (x, y) => x && x.map((value, i) => value + share * (y[i] - value));
    return { arkit: mix(a.arkit, b.arkit), pose: mix(a.pose, b.pose), tongue: mix(a.tongue, b.tongue) };
  }

  /** Change emotion, style and intensities of what is still to come: {conditions: {happy: 1}, intensity: 1.2}. */
  change(options) { this.worker.postMessage({ change: options }); }

  /** Listen to the microphone; the promise's value stops it. */
  async microphone(constraints = { echoCancellation: true, noiseSuppression: false }) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    const source = this.context.createMediaStreamSource(stream);
    source.connect(this.input);
    return () => { source.disconnect(); stream.getTracks().forEach((track) => track.stop()); };
  }

  /** Play a recording (ArrayBuffer of any sound file) through the face and, in step with it, the loudspeaker, to its end. */
  async play(file) {
    const source = new AudioBufferSourceNode(this.context, { buffer: await this.context.decodeAudioData(file) });
    source.connect(this.input);
    if (!this.playing++) this.output.connect(this.context.destination);
    source.start();
    await new Promise((done) => { source.onended = done; });
    source.disconnect();
    await new Promise((done) => setTimeout(done, 1000 * this.delay));  // the face is not done yet
    if (!--this.playing) this.output.disconnect(this.context.destination);  // a microphone is not to be heard
  }

  close() { this.worker.terminate(); this.input.disconnect(); this.output.disconnect(); }
}
