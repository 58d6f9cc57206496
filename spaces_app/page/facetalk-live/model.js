// SPDX-License-Identifier: MIT
// Files of `facetalk export-onnx` -> sessions of onnxruntime, in as little memory as that takes. No DOM: page, worker, node.
//
// A session that is given a whole file keeps room for three copies of its weights from then on: memory of WebAssembly never
// shrinks. So weights are made here and handed over one by one, beside a graph without any.

const FLOAT = 1, INT8 = 3, HALF = 10;  // TensorProto.DataType
const LEAST = 1024;  // bytes of a tensor that is handed over apart

/** Make a session of a file's content, which is not to be used again. */
export async function openSession(ort, name, buffer, options) {
  const model = await unpacked(name, buffer), { graph, weights } = apart(model);
  forget(model.buffer);
  try {
    return await ort.InferenceSession.create(graph, { ...options, externalData: weights });
  } finally {
    weights.forEach(({ data }) => forget(data.buffer));
  }
}

/** The ONNX file in one that is packed: facetalk_hf/portable/packing.py. A plain file comes back as it is. */
export async function unpacked(name, buffer) {
  if (!name.endsWith(".onnxz")) return new Uint8Array(buffer);
  const inflated = new Response(buffer).body.pipeThrough(new DecompressionStream("deflate"));
  const plain = await new Response(inflated).arrayBuffer();
  forget(buffer);
  const first = 4 + new DataView(plain).getUint32(0, true);
  const runs = JSON.parse(new TextDecoder().decode(new Uint8Array(plain, 4, first - 4)));
  const body = new Uint8Array(plain, first), result = new Uint8Array(body.length);
  const numbers = runs.reduce((sum, [, length]) => sum + length, 0) / 2;
  let outside = 0, low = body.length - numbers, high = low - numbers, at = 0;
  for (const [start, length] of [...runs, [body.length, 0]]) {
    result.set(body.subarray(outside, outside + start - at), at);
    outside += start - at;
    for (at = start; at < start + length;) { result[at++] = body[low++]; result[at++] = body[high++]; }
  }
  forget(plain);
  return result;
}

/** Give a buffer's memory back now, not when garbage is collected next. */
function forget(buffer) { if (buffer.transfer) buffer.transfer(0); }

/** Split a model into a graph without weights and these, as onnxruntime takes them: {graph, weights: [{path, data}]}. */
export function apart(model) {
  const outer = [...fields(model)], inner = outer.find(({ number }) => number === 7).value;
  const tensors = new Map(), nodes = [], rest = [];
  for (const item of fields(inner)) {
    if (item.number === 5) { const tensor = readTensor(item); tensors.set(tensor.name, tensor); }
    else (item.number === 1 ? nodes : rest).push(item);
  }
  const kept = nodes.filter(({ value }) => {  // the nodes that make numbers of 32 bits of others: portable/compacting.py
    const { inputs, output, kind, to } = readNode(value), given = inputs.map((name) => tensors.get(name));
    if (!(kind in MAKE) || !given.every((tensor) => tensor?.values) || (kind === "Cast" && (to !== FLOAT || given[0].made))) return true;
    const read = given.map((tensor) => ({ dims: tensor.dims, data: tensor.values() })), { dims, data } = MAKE[kind](...read);
    given.forEach((tensor, i) => { if (!tensor.made && read[i].data !== data) forget(read[i].data.buffer); });
    tensors.set(output, { dims, name: output, type: FLOAT, values: () => data, made: data });
    return false;
  });
  const used = new Set(kept.flatMap(({ value }) => readNode(value).inputs)), weights = [], parts = [];
  for (const tensor of tensors.values()) {
    if (!used.has(tensor.name)) {
      if (tensor.made) forget(tensor.made.buffer);
      continue;
    }
    if (tensor.type !== FLOAT || !tensor.values) { parts.push(tensor.whole); continue; }
    const bytes = new Uint8Array(tensor.values().buffer), name = field(8, text(tensor.name)), large = bytes.length >= LEAST;
    if (large) weights.push({ path: tensor.name, data: bytes });
    const where = large ? [...field(13, ...field(1, text("location")), ...field(2, text(tensor.name))), [14 << 3, 1]] : field(9, bytes);
    parts.push(...field(5, ...tensor.dims.map((size) => [1 << 3, ...varint(size)]), [2 << 3, FLOAT], ...name, ...where));
  }
  const graph = field(7, ...[...kept, ...rest].map(({ whole }) => whole), ...parts);
  return { graph: joined(outer.flatMap((item) => (item.number === 7 ? graph : [item.whole]))), weights };
}

const MAKE = {
  Cast: ({ dims, data }) => ({ dims, data: data instanceof Float32Array ? data : new Float32Array(data) }),
  Add: (a, b) => elementwise(a, b, (x, y) => x + y),
  Mul: (a, b) => elementwise(a, b, (x, y) => x * y),
  MatMul(a, b) {
    const [rows, size] = a.dims, columns = b.dims[1], data = new Float32Array(rows * columns);
    for (let i = 0; i < rows; i++) for (let k = 0; k < size; k++) {
      const share = a.data[i * size + k];
      for (let j = 0; j < columns; j++) data[i * columns + j] += share * b.data[k * columns + j];
    }
    return { dims: [rows, columns], data };
  },
};

/** With the smaller one stretched to the other's shape. */
function elementwise(a, b, make) {
  if (a.data.length < b.data.length) [a, b] = [b, a];
  const steps = [];
  let step = 1;
  for (let axis = a.dims.length - 1, own = b.dims.length - 1; axis >= 0; axis--, own--) {
    steps[axis] = own >= 0 && b.dims[own] > 1 ? step : 0;
    step *= own >= 0 ? b.dims[own] : 1;
  }
  const at = a.dims.map(() => 0), data = new Float32Array(a.data.length);
  let other = 0;
  for (let i = 0; i < data.length; i++) {
    data[i] = make(a.data[i], b.data[other]);
    for (let axis = at.length - 1; axis >= 0; axis--) {
      other += steps[axis];
      if (++at[axis] < a.dims[axis]) break;
      other -= steps[axis] * a.dims[axis];
      at[axis] = 0;
    }
  }
  return { dims: a.dims, data };
}

let halves = null;  // the float of every half

function fromHalves(numbers) {
  if (!halves) {
    halves = new Float32Array(65536);
    for (let h = 0; h < 65536; h++) {
      const power = (h >> 10) & 31, part = h & 1023, size = power ? (1 + part / 1024) * 2 ** (power - 15) : part * 2 ** -24;
      halves[h] = (h >> 15 ? -1 : 1) * (power === 31 ? (part ? NaN : Infinity) : size);
    }
  }
  const result = new Float32Array(numbers.length);  // not `from`, which makes an object of every number
  for (let i = 0; i < result.length; i++) result[i] = halves[numbers[i]];
  return result;
}

function readTensor({ value, whole }) {
  const dims = [], tensor = { dims, whole, raw: null, values: null };
  for (const item of fields(value)) {
    if (item.number === 1) dims.push(...(item.value.length === undefined ? [item.value] : numbers(item.value)));
    if (item.number === 2) tensor.type = item.value;
    if (item.number === 8) tensor.name = string(item.value);
    if (item.number === 9) tensor.raw = item.value;
  }
  const kind = { [FLOAT]: Float32Array, [INT8]: Int8Array, [HALF]: Uint16Array }[tensor.type];
  if (kind && tensor.raw) tensor.values = () => {
    const plain = new kind(tensor.raw.slice().buffer);
    if (tensor.type !== HALF) return plain;
    const values = fromHalves(plain);
    forget(plain.buffer);
    return values;
  };
  return tensor;
}

function readNode(value) {
  const node = { inputs: [], output: "", kind: "", to: 0 };
  for (const item of fields(value)) {
    if (item.number === 1) node.inputs.push(string(item.value));
    if (item.number === 2) node.output ||= string(item.value);
    if (item.number === 4) node.kind = string(item.value);
    if (item.number === 5) for (const part of fields(item.value)) if (part.number === 3) node.to = part.value;
  }
  return node;
}

// Protocol buffers: what is read and written of them here.

const string = (bytes) => new TextDecoder().decode(bytes), text = (value) => new TextEncoder().encode(value);

function* fields(bytes) {
  const place = { at: 0 };
  while (place.at < bytes.length) {
    const start = place.at, key = number(bytes, place), kind = key & 7;
    let value = kind === 0 ? number(bytes, place) : null;
    if (kind) {
      const length = kind === 2 ? number(bytes, place) : kind === 5 ? 4 : 8;
      value = bytes.subarray(place.at, place.at += length);
    }
    yield { number: key >> 3, value, whole: bytes.subarray(start, place.at) };
  }
}

function number(bytes, place) {
  let value = 0, unit = 1, byte;
  do { byte = bytes[place.at++]; value += (byte & 127) * unit; unit *= 128; } while (byte & 128);
  return value;
}

function numbers(bytes) {
  const place = { at: 0 }, found = [];
  while (place.at < bytes.length) found.push(number(bytes, place));
  return found;
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

/** A field with a length, in pieces. */
function field(number, ...parts) {
  return [[...varint(8 * number + 2), ...varint(parts.reduce((sum, part) => sum + part.length, 0))], ...parts];
}

function joined(parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { result.set(part, at); at += part.length; }
  return result;
}
