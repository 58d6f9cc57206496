// SPDX-License-Identifier: MIT
// Runs the networks beside the page. In: {open} once, then sound through a port. Out: {ready}, {frames}, {error}.

import { openSession } from "./model.js";
import { FaceStream } from "./stream.js";

let stream, began = null;

const fetched = async (url, kind) => {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer[kind]();
};

async function open({ model, runtime, device, port, options }) {
  const ort = await import(runtime + (device === "webgpu" ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"));
  ort.env.wasm.wasmPaths = runtime;
  ort.env.wasm.numThreads = 1;  // pages without cross-origin isolation have no more, and one is enough
  ort.env.logLevel = "error";
  const config = await fetched(model + "config.json", "json");
  const load = async (name) => openSession(ort, name, await fetched(model + name, "arrayBuffer"), { executionProviders: [device] });
  stream = new FaceStream({ config, encoder: await load(config.files.encoder), motion: await load(config.files.motion) }, ort, options);
  await new FaceStream({ ...stream }, ort, options).push(new Float32Array(options.rate));  // the first run is slow: now
  port.onmessage = ({ data }) => data.samples && hear(data);
  postMessage({ ready: { config, delay: stream.delay } });
}

async function hear({ samples, since }) {
  began ??= since;
  const start = performance.now(), frames = await stream.push(samples);
  if (frames.length) postMessage({ frames, began, spent: performance.now() - start });
}

onmessage = async ({ data }) => {
  try {
    if (data.open) await open(data.open);
    if (data.change) Object.assign(stream, data.change);
  } catch (error) {
    postMessage({ error: String(error.message || error) });
  }
};
