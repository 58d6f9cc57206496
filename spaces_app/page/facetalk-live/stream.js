// SPDX-License-Identifier: MIT
// Speech in, face weights out: facetalk_hf/portable/runtime.py once more, on the same files. No DOM: page, worker, node.

export { unpacked } from "./model.js";

const FRAME = 4;  // log-mel columns in a video frame
const NATS = Math.log(10) / 10;  // in a decibel

/** Any rate to another, in pieces: the filter of facetalk_hf.audio.streaming.StreamingResampler. */
export class Resampler {
  constructor(rate, target) {
    const gcd = (a, b) => (b ? gcd(b, a % b) : a), divisor = gcd(rate, target);
    this.up = target / divisor; this.down = rate / divisor;
    this.reach = 0; this.received = 0; this.made = 0;
    if (this.up === this.down) return;
    const longest = Math.max(this.up, this.down), half = 10 * longest;
    const bessel = (x) => { let sum = 1, term = 1; for (let k = 1; k < 40; k++) sum += term *= (x / 2 / k) ** 2; return sum; };
    const taps = Float64Array.from({ length: 2 * half + 1 }, (_, i) => {
      const x = (Math.PI * (i - half)) / longest, edge = (i - half) / half;
      return (x ? Math.sin(x) / x : 1) * bessel(5 * Math.sqrt(Math.max(0, 1 - edge * edge)));
    });
    const sum = taps.reduce((a, b) => a + b, 0) / this.up;
    this.reach = Math.floor(half / this.up) + 1;
    this.width = 2 * this.reach + 1;
    this.taps = Array.from({ length: this.up }, (_, phase) => Float64Array.from({ length: this.width }, (_, i) => {
      const at = phase - this.up * (i - this.reach) + half;
      return at >= 0 && at < taps.length ? taps[at] / sum : 0;
    }));
    this.buffer = new Float32Array(this.reach);
  }

  push(samples) {
    this.received += samples.length;
    if (!this.reach) return samples;
    this.buffer = joined(this.buffer, samples);
    return this.make(Math.ceil(((this.received - this.reach) * this.up) / this.down));
  }

  finish() {
    if (!this.reach) return new Float32Array(0);
    this.buffer = joined(this.buffer, new Float32Array(this.reach + 1));
    return this.make(Math.ceil((this.received * this.up) / this.down));
  }

  make(end) {
    if (end <= this.made) return new Float32Array(0);
    const first = Math.floor((this.made * this.down) / this.up), result = new Float32Array(end - this.made);
    for (let n = this.made; n < end; n++) {
      const at = n * this.down, whole = Math.floor(at / this.up) - first, taps = this.taps[at % this.up];
      let sum = 0;
      for (let i = 0; i < this.width; i++) sum += this.buffer[whole + i] * taps[i];
      result[n - this.made] = sum;
    }
    this.made = end;
    this.buffer = this.buffer.slice(Math.floor((end * this.down) / this.up) - first);
    return result;
  }
}

/** Log-mel columns of windows of sound: facetalk_hf.audio.columns. */
class Columns {
  constructor({ layout, bank }) {
    Object.assign(this, { layout, bank, length: Math.round(layout.window_length * layout.sampling_rate) });
    this.size = 2 ** Math.ceil(Math.log2(this.length));
    this.window = Float64Array.from({ length: this.length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.length));
    this.norm = 2 / (this.size * this.window.reduce((sum, w) => sum + w * w, 0));
    const bin = (hertz) => Math.round((hertz * this.size) / layout.sampling_rate);
    this.band = [bin(layout.min_frequency), bin(layout.max_frequency) + 1];
    this.real = new Float64Array(this.size); this.imaginary = new Float64Array(this.size);
    const half = this.size / 2, bits = Math.log2(this.size);
    this.cos = Float64Array.from({ length: half }, (_, i) => Math.cos((2 * Math.PI * i) / this.size));
    this.sin = Float64Array.from({ length: half }, (_, i) => -Math.sin((2 * Math.PI * i) / this.size));
    this.order = Uint16Array.from({ length: this.size }, (_, i) => {
      let turned = 0;
      for (let b = 0; b < bits; b++) turned |= ((i >> b) & 1) << (bits - 1 - b);
      return turned;
    });
  }

  start(column) {
    const { sampling_rate: rate, fps } = this.layout;
    return Math.round((column + 0.5) * (rate / (FRAME * fps))) - Math.floor(this.length / 2);
  }

  /** One column, (M + 1) numbers, of the samples from `at` on. */
  compute(samples, at) {
    const { size, real, imaginary, cos, sin, order } = this;
    for (let i = 0; i < size; i++) {
      const j = order[i];
      real[i] = j < this.length ? samples[at + j] * this.window[j] : 0;
      imaginary[i] = 0;
    }
    for (let span = 1; span < size; span *= 2) for (let from = 0; from < size; from += 2 * span) for (let k = 0; k < span; k++) {
      const t = (k * size) / (2 * span), a = from + k, b = a + span;
      const x = real[b] * cos[t] - imaginary[b] * sin[t], y = real[b] * sin[t] + imaginary[b] * cos[t];
      real[b] = real[a] - x; imaginary[b] = imaginary[a] - y;
      real[a] += x; imaginary[a] += y;
    }
    const power = (i) => (real[i] ** 2 + imaginary[i] ** 2) * this.norm;
    const column = new Float32Array(this.layout.feature_size);
    this.bank.forEach(([first, ...shares], m) => {
      let sum = 0;
      shares.forEach((share, i) => { sum += share * power(first + i); });
      column[m] = Math.log(sum + 1e-12);
    });
    let level = 0;
    for (let i = this.band[0]; i < this.band[1]; i++) level += power(i);
    column[this.bank.length] = Math.log(level + 1e-12);
    return column;
  }
}

/** Mean, scale and loudness of the speech so far: facetalk_hf.audio.streaming.RunningStatistics. */
class Statistics {
  constructor({ layout, statistics }) {
    Object.assign(this, { layout, prior: statistics, bins: layout.feature_size - 1, recent: [], next: 0 });
    this.kept = Array.from({ length: statistics.memory }, () => null);
    this.range = layout.active_range * NATS;
    this.quiet = layout.quiet_level * NATS;
    this.measure();
  }

  update(columns) {
    for (const column of columns) {
      const level = column[this.bins];
      this.recent = [...this.recent, Math.exp(level)].slice(-8);
      const mean = this.recent.reduce((a, b) => a + b) / this.recent.length;
      const smooth = this.recent.length >= 4 ? Math.log(mean) : level;
      if (level >= Math.max(this.loudest, smooth) - this.range) {
        this.kept[this.next] = { column, smooth };
        this.next = (this.next + 1) % this.kept.length;
      }
    }
    this.measure();
  }

  measure() {
    const { needed, prior_level: level, prior_scale: scale, prior_mean: shape } = this.prior;
    const kept = this.kept.filter(Boolean), { bins, quiet } = this;
    const heard = kept.reduce((most, { smooth }) => Math.max(most, smooth), -1e4), speaks = heard >= quiet;
    const active = (loudest) => (speaks ? kept.filter(({ column }) => column[bins] >= loudest - this.range) : []);
    const missing = needed ? Math.max(0, 1 - active(heard).length / needed) : 0;
    this.loudest = Math.max(heard, quiet + missing * (level - quiet));
    const spoken = active(this.loudest), prior = Math.max(0, needed - spoken.length);
    const weight = Math.max(1, spoken.length + prior);
    this.mean = shape.map((value) => prior * (this.loudest + value));
    for (const { column } of spoken) for (let m = 0; m < bins; m++) this.mean[m] += column[m];
    this.mean = this.mean.map((value) => value / weight);
    let squares = 0, expected = scale ** 2;
    for (const { column } of spoken) for (let m = 0; m < bins; m++) squares += (column[m] - this.mean[m]) ** 2 / bins;
    for (let m = 0; m < bins; m++) expected += (this.loudest + shape[m] - this.mean[m]) ** 2 / bins;
    this.scale = Math.sqrt((squares + prior * expected) / weight);
  }

  normalize(column, out, at) {
    const { bins, loudest, quiet } = this, { max_value: most, min_scale: least } = this.layout;
    const clamp = (value) => Math.min(Math.max(value, -most), most), lacking = Math.max(0, quiet - loudest);
    const scale = Math.max(this.scale, least);
    for (let m = 0; m < bins; m++) out[at + m] = clamp((column[m] - this.mean[m] - lacking) / scale);
    out[at + bins] = clamp((column[bins] - Math.max(loudest, quiet)) / (20 * NATS) + 1);
  }
}

/** Normal random numbers from a seed (mulberry32, Box and Muller). */
export function gaussian(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/**
 * State of one stream. `push` and `finish` give frames {index, time, weights, arkit, pose, tongue}.
 *
 * @param {object} files {config, encoder, motion}: config.json of `facetalk export-onnx`, and two InferenceSessions.
 * @param {object} ort onnxruntime-web, or onnxruntime-node.
 * @param {object} options rate: of the sound in Hz; seed, or noise() for normal numbers; conditions: {happy: 0.5, energy: 1};
 *   intensity, upperIntensity, blinkContrast, headMotion: factors.
 */
export class FaceStream {
  constructor(files, ort, options = {}) {
    const { config } = files;
    Object.assign(this, files, { ort, conditions: {}, intensity: 1, headMotion: 0, blinkContrast: 1, ...options });
    this.rate = options.rate || config.layout.sampling_rate;
    this.noise = options.noise || gaussian(options.seed || 0);
    this.resampler = new Resampler(this.rate, config.layout.sampling_rate);
    this.columns = new Columns(config);
    this.statistics = new Statistics(config);
    const width = config.layout.feature_size;
    this.kept = Array.from({ length: FRAME * config.past }, () => new Float32Array(width));
    this.numColumns = 0; this.numFrames = 0; this.end = null;
    this.first = this.columns.start(0);
    this.samples = new Float32Array(-this.first);
    this.cache = new Float32Array(config.cache.reduce((a, b) => a * b));
    this.said = new Float64Array(5);  // the tongue, before it is fitted to the mouth
    this.lids = { mean: 0, shut: false, reopening: false };
    this.at = Object.fromEntries(config.names.map((name, i) => [name, i]));
    this.queue = Promise.resolve();
  }

  /** Seconds of sound after the start of a frame that it needs. */
  get delay() {
    return this.samplesFor(this.config.hop) / this.config.layout.sampling_rate + this.resampler.reach / this.rate;
  }

  push(samples) { return this.inTurn(() => this.take(this.resampler.push(samples))); }

  finish() {
    return this.inTurn(async () => {
      this.samples = joined(this.samples, this.resampler.finish());
      const { sampling_rate: rate, fps } = this.config.layout, count = this.first + this.samples.length;
      this.end = count ? Math.max(1, Math.ceil((count * fps) / rate - 1e-6)) : 0;
      return (await this.take(new Float32Array(0))).filter(({ index }) => index < this.end);
    });
  }

  inTurn(work) {  // pushes may overlap: the networks run one after another
    const done = this.queue.then(work);
    this.queue = done.catch(() => {});
    return done;
  }

  async take(samples) {
    this.samples = joined(this.samples, samples);
    const frames = [], { hop } = this.config;
    while (this.end === null ? this.first + this.samples.length >= this.samplesFor(this.numFrames + hop) : this.numFrames < this.end) {
      frames.push(...await this.advance());
    }
    return frames;
  }

  columnsFor(frames) { return FRAME * (frames + this.config.ahead) - 1; }
  samplesFor(frames) { return this.columns.start(this.columnsFor(frames) - 1) + this.columns.length; }

  read(count) {
    const { columns, numColumns } = this, last = columns.start(numColumns + count - 1) - this.first + columns.length;
    if (last > this.samples.length) this.samples = joined(this.samples, new Float32Array(last - this.samples.length));
    const made = Array.from({ length: count }, (_, i) => columns.compute(this.samples, columns.start(numColumns + i) - this.first));
    this.statistics.update(made.slice(0, this.end === null ? count : Math.max(0, FRAME * this.end - numColumns)));
    this.kept.push(...made);
    this.numColumns += count;
    const next = columns.start(this.numColumns);
    this.samples = this.samples.slice(next - this.first);
    this.first = next;
  }

  async advance() {
    const { config, ort, numFrames: first } = this, { hop, past, ahead, window } = config, width = config.layout.feature_size;
    const tensor = (data, ...shape) => new ort.Tensor("float32", data, shape);
    if (!this.numColumns) this.read(this.columnsFor(0));
    this.read(FRAME * hop);
    const total = past + hop + ahead, values = new Float32Array(FRAME * total * width), mask = new Float32Array(total);
    this.kept.forEach((column, i) => this.statistics.normalize(column, values, i * width));
    for (let i = 0; i < total; i++) mask[i] = Number(first - past + i >= 0 && (this.end === null || first - past + i < this.end));
    const differs = (name, now) => now.some((value, i) => value !== this.heard[name][i]);
    if (!this.heard || differs("values", values) || differs("mask", mask)) {
      const told = { columns: tensor(values, FRAME * total, width), mask: tensor(mask, total) };
      this.heard = { values, mask, made: await this.encoder.run(told) };  // silence goes on and on: once will do
    }
    const heard = this.heard.made;
    this.kept.splice(0, FRAME * hop);

    const pairs = config.frequencies.length, turn = new Float32Array(2 * hop * pairs);
    const bias = new Float32Array(hop * (window + hop)).fill(-Infinity);
    for (let row = 0; row < hop; row++) {
      config.frequencies.forEach((frequency, i) => {
        turn[row * pairs + i] = Math.cos((first + row) * frequency);
        turn[(hop + row) * pairs + i] = Math.sin((first + row) * frequency);
      });
      for (let i = row; i <= window + row; i++) if (first - window + i >= 0) bias[row * (window + hop) + i] = 0;
    }
    const told = {
      features: heard.features, turn: tensor(turn, 2, hop, 1, pairs), bias: tensor(bias, hop, window + hop),
      noise: tensor(Float32Array.from({ length: hop * config.sample_size }, () => this.noise()), hop, config.sample_size),
      cache: tensor(this.cache, ...config.cache),
    };
    for (const name of config.heard) if (name !== "phones") told[name] = heard[name];
    const names = Object.keys(config.conditions);
    if (names.length) {
      const row = names.map((name) => Math.min(Math.max(this.conditions[name] || 0, config.conditions[name][0]), config.conditions[name][1]));
      told.conditions = tensor(Float32Array.from({ length: hop * names.length }, (_, i) => row[i % names.length]), hop, names.length);
    }
    const made = await this.motion.run(told), size = config.names.length, number = config.poses.length;
    this.cache = made.next_cache.data;
    this.numFrames += hop;
    return Array.from({ length: hop }, (_, row) => {
      const learnt = number ? made.poses.data.slice(row * number, (row + 1) * number) : null;
      const weights = this.decide(made.weights.data.slice(row * size, (row + 1) * size), learnt);
      const pose = learnt && learnt.map((value) => value * this.headMotion);
      const arkit = this.toArkit(weights), tongue = config.tongue && this.tongue(heard.phones, row, weights);
      if (tongue) arkit[config.arkit.indexOf("tongueOut")] = tongue[0];
      return { index: first + row, time: (first + row) / config.fps, weights, arkit, pose, tongue };
    });
  }

  /** Lids, intensities and gaze: facetalk_hf.motion.eyes and MotionProcessor. */
  decide(weights, learnt) {
    const { at, config, lids } = this, { rest, decision, softness, companions } = config.lids;
    if (this.blinkContrast && "eyeBlink_L" in at && "eyeBlink_R" in at) {
      const mean = (weights[at.eyeBlink_L] + weights[at.eyeBlink_R]) / 2;
      const x = Math.min(Math.max((mean - decision) / softness + 0.5, 0), 1), rise = x * x * x * (x * (6 * x - 15) + 10);
      lids.reopening = (lids.shut || lids.reopening) && mean < lids.mean;
      lids.mean = mean;
      lids.shut = rise > 0.5;
      for (const side of "LR") {
        const old = weights[at["eyeBlink_" + side]], low = lids.reopening ? old : Math.min(old, rest);
        const change = this.blinkContrast * (low + (Math.max(old, 1) - low) * rise - old);
        for (const [name, share] of Object.entries(companions)) {
          const column = at[`${name}_${side}`];
          if (column !== undefined) weights[column] += share * change;
        }
      }
    }
    const upper = this.upperIntensity ?? this.intensity;
    for (let i = 0; i < weights.length; i++) weights[i] *= config.mouth[i] ? this.intensity : upper;
    if (learnt && this.headMotion !== 1 && "eyeLookUp_L" in at) {
      const ways = [["Up", "Down", "L", 1], ["Out", "In", "L", 0], ["Up", "Down", "R", 1], ["In", "Out", "R", 0]];
      for (const [plus, minus, side, axis] of ways) {
        const [a, b] = [at[`eyeLook${plus}_${side}`], at[`eyeLook${minus}_${side}`]];
        const [up, down] = [config.look_degrees[plus], config.look_degrees[minus]];
        const angle = weights[a] * up - weights[b] * down + (1 - this.headMotion) * learnt[axis];
        weights[a] = Math.max(angle, 0) / up;
        weights[b] = Math.max(-angle, 0) / down;
      }
    }
    return weights;
  }

  /** The tongue in what was heard of a frame, within the mouth: facetalk_hf.phones.tongue. */
  tongue({ data, dims }, row, weights) {
    const { target, dominance, overbite, drop } = this.config.tongue, size = dims[1], wanted = new Float64Array(5);
    const clip = (value) => Math.min(Math.max(value, 0), 1);
    let pull = 0;
    for (const half of [0, 1]) {
      const logits = data.subarray((2 * row + half) * size, (2 * row + half + 1) * size), most = Math.max(...logits);
      const shares = Array.from(logits, (value) => Math.exp(value - most)), sum = shares.reduce((a, b) => a + b);
      shares.forEach((share, i) => {
        const strength = (share / sum / 2) * dominance[i];
        pull += strength;
        target[i].forEach((value, j) => { wanted[j] += strength * value; });
      });
    }
    const share = Math.min(0.9 * pull, 0.9);
    this.said = this.said.map((value, j) => value + share * (wanted[j] / (pull + 1e-9) - value));
    let [out, up, down, ...others] = this.said;
    const weight = (name) => (name in this.at ? weights[this.at[name]] : 0), jaw = weight("jawOpen");
    const gap = Math.max(drop * jaw - overbite, 0), lips = clip((drop * (jaw - weight("mouthClose")) - 1) / 3);
    out = Math.min(out, clip((gap - 2.5) / 9) * lips);
    const between = clip(out / 0.1);
    up += between * (clip((gap / 2 + 4.2 - 4.5 * out) / 11) - up);
    return Float32Array.of(out, Math.min(up, 0.45 + gap / 12), down * (1 - between), ...others);
  }

  toArkit(weights) {
    const result = new Float32Array(this.config.arkit.length);
    for (const [row, column, share] of this.config.to_arkit) result[column] += share * weights[row];
    return result.map((value) => Math.min(Math.max(value, 0), 1));
  }
}

function joined(first, second) {
  const result = new Float32Array(first.length + second.length);
  result.set(first);
  result.set(second, first.length);
  return result;
}
