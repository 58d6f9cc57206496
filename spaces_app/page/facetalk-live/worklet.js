// SPDX-License-Identifier: MIT
// Hands the sound that passes, as one channel in pieces of 20 ms, to the port it was given. It never waits for anybody.

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 50));
    this.filled = 0;
    this.port.onmessage = ({ data }) => { this.out = data; };
  }

  process([channels], [output]) {
    const count = channels.length ? channels[0].length : 128;
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      if (!this.filled) this.since = currentFrame + i;
      this.piece[this.filled++] = channels.length ? sum / channels.length : 0;
      if (this.filled === this.piece.length) {
        if (this.out) this.out.postMessage({ samples: this.piece, since: this.since / sampleRate }, [this.piece.buffer]);
        this.piece = new Float32Array(Math.round(sampleRate / 50));
        this.filled = 0;
      }
    }
    output.forEach((channel, c) => channels.length && channel.set(channels[Math.min(c, channels.length - 1)]));
    return true;
  }
}

registerProcessor("facetalk-tap", Tap);
