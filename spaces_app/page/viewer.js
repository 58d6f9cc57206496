// SPDX-License-Identifier: MIT
// Draws the glb files of facetalk_hf (export.py) with plain WebGL: morph targets, vertex colours, head motion.
// It plays by the clock of the video beside it, so a head can be turned while it speaks. Nothing is loaded from elsewhere.

function readGlb(buffer) {
  const view = new DataView(buffer), size = view.getUint32(12, true);
  const json = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, size)));
  const start = 28 + size, kinds = { 5126: Float32Array, 5125: Uint32Array, 5123: Uint16Array };
  const widths = { SCALAR: 1, VEC3: 3, VEC4: 4 };
  const slice = (index, offset, kind, count) =>
    new kinds[kind](buffer, start + json.bufferViews[index].byteOffset + (offset || 0), count);
  const values = (index) => {
    const a = json.accessors[index];
    return slice(a.bufferView, a.byteOffset, a.componentType, a.count * widths[a.type]);
  };
  // A target as {at, by}: which vertices it moves, and how far; `at` is missing where it moves all of them.
  const target = (index) => {
    const sparse = json.accessors[index].sparse;
    if (!sparse) return { by: values(index) };
    return {
      at: slice(sparse.indices.bufferView, 0, sparse.indices.componentType, sparse.count),
      by: slice(sparse.values.bufferView, 0, 5126, 3 * sparse.count),
    };
  };
  const tracks = {};
  let times = new Float32Array(1);
  for (const animation of json.animations || []) for (const channel of animation.channels) {
    const sampler = animation.samplers[channel.sampler];
    times = values(sampler.input);
    tracks[channel.target.path + channel.target.node] = values(sampler.output);
  }
  const parts = [];
  json.nodes.forEach((node, number) => {
    if (node.mesh === undefined) return;
    const primitives = json.meshes[node.mesh].primitives, first = primitives[0];
    const base = values(first.attributes.POSITION), names = primitives.map((p) => json.materials[p.material]);
    const lists = primitives.map((p) => Uint32Array.from(values(p.indices)));
    const faces = new Uint32Array(lists.reduce((sum, list) => sum + list.length, 0));
    let end = 0;
    const groups = lists.map((list, i) => {
      faces.set(list, end);
      end += list.length;
      return { start: end - list.length, count: list.length, name: names[i].name,
               rough: names[i].pbrMetallicRoughness.roughnessFactor };
    });
    parts.push({ base, faces, groups, colors: values(first.attributes.COLOR_0),
                 targets: (first.targets || []).map((t) => target(t.POSITION)),
                 weights: tracks["weights" + number], shift: node.translation || [0, 0, 0] });
  });
  return { parts, times, rotation: tracks.rotation0, place: tracks.translation0 };
}

const VERTEX = `
attribute vec3 position, normal; attribute vec4 color;
uniform vec3 shift, place, middle; uniform vec4 turn; uniform vec3 eye; uniform mat3 camera; uniform vec2 lens;
varying vec3 vNormal, vColor, vPoint;
vec3 rotate(vec3 v) { return v + 2.0 * cross(turn.xyz, cross(turn.xyz, v) + turn.w * v); }
void main() {
  vec3 point = camera * (rotate(position + shift) + place - middle);
  vPoint = point - eye; vNormal = camera * rotate(normal); vColor = color.rgb;
  gl_Position = vec4(lens * vPoint.xy, -vPoint.z - 0.1, -vPoint.z);
}`;
const FRAGMENT = `
precision mediump float;
varying vec3 vNormal, vColor, vPoint; uniform float gloss, dim;
void main() {
  vec3 n = normalize(vNormal), v = normalize(-vPoint);
  if (dot(n, v) < 0.0) n = -n;
  vec3 key = normalize(vec3(-0.45, 0.55, 0.7)), fill = normalize(vec3(0.8, 0.1, 0.45)), light = vec3(0.0);
  light += vec3(1.0, 0.96, 0.9) * 0.98 * max(dot(n, key) * 0.85 + 0.15, 0.0);
  light += vec3(0.8, 0.88, 1.0) * 0.3 * max(dot(n, fill) * 0.8 + 0.2, 0.0);
  light += mix(vec3(0.10, 0.08, 0.07), vec3(0.2, 0.22, 0.26), 0.5 + 0.5 * n.y);
  float shine = pow(max(dot(n, normalize(key + v)), 0.0), mix(14.0, 220.0, gloss)) * mix(0.05, 0.9, gloss);
  float edge = pow(1.0 - max(dot(n, v), 0.0), 4.0) * 0.12;
  gl_FragColor = vec4(pow((vColor * light + shine + edge * light) * dim, vec3(1.0 / 2.2)), 1.0);
}`;

function makeViewer(canvas) {
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true, preserveDrawingBuffer: true });
  if (!gl || !gl.getExtension("OES_element_index_uint")) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const at = (name) => gl.getUniformLocation(program, name), place = {};
  for (const name of ["shift", "place", "middle", "turn", "eye", "camera", "lens", "gloss", "dim"]) place[name] = at(name);
  const spots = ["position", "normal", "color"].map((name) => gl.getAttribLocation(program, name));
  let model = null, frame = 0, yaw = 0.35, pitch = 0.05, middle = [0, 0, 0], away = 1;

  function upload(part) {
    part.buffers = ["position", "normal", "color", "faces"].map(() => gl.createBuffer());
    gl.bindBuffer(gl.ARRAY_BUFFER, part.buffers[2]);
    gl.bufferData(gl.ARRAY_BUFFER, part.colors, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.buffers[3]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, part.faces, gl.STATIC_DRAW);
    part.points = new Float32Array(part.base.length);
    part.normals = new Float32Array(part.base.length);
  }

  function pose(part, mix) {
    const { base, points, normals, faces, targets, weights } = part, count = targets.length;
    points.set(base);
    const low = Math.floor(mix), high = Math.min(low + 1, model.times.length - 1), share = mix - low;
    for (let k = 0; k < count && weights; k++) {
      const w = weights[low * count + k] * (1 - share) + weights[high * count + k] * share, { at, by } = targets[k];
      if (!w) continue;
      if (!at) for (let i = 0; i < by.length; i++) points[i] += w * by[i];
      else for (let i = 0, j = 0; i < at.length; i++, j += 3) {
        const p = 3 * at[i];
        points[p] += w * by[j]; points[p + 1] += w * by[j + 1]; points[p + 2] += w * by[j + 2];
      }
    }
    normals.fill(0);
    for (let f = 0; f < faces.length; f += 3) {
      const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
      const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
      const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      normals[a] += x; normals[a + 1] += y; normals[a + 2] += z;
      normals[b] += x; normals[b + 1] += y; normals[b + 2] += z;
      normals[c] += x; normals[c + 1] += y; normals[c + 2] += z;
    }
    for (const [index, data] of [[0, points], [1, normals]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, part.buffers[index]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    }
  }

  function draw() {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, canvas.clientWidth * scale);
    canvas.height = Math.max(1, canvas.clientHeight * scale);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!model) return;
    const aspect = canvas.width / canvas.height, zoom = 1 / Math.tan(0.21);
    const [s, c, t, u] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    gl.uniformMatrix3fv(place.camera, false, [c, -t * s, u * s, 0, u, t, -s, -t * c, u * c]);
    gl.uniform2f(place.lens, zoom / Math.max(aspect, 1), zoom * Math.min(aspect, 1));
    gl.uniform3fv(place.middle, middle);
    gl.uniform3f(place.eye, 0, 0, away);
    const near = Math.min(Math.round(frame), model.times.length - 1);
    gl.uniform4fv(place.turn, model.rotation ? model.rotation.subarray(4 * near, 4 * near + 4) : [0, 0, 0, 1]);
    gl.uniform3fv(place.place, model.place ? model.place.subarray(3 * near, 3 * near + 3) : [0, 0, 0]);
    for (const part of model.parts) {
      gl.uniform3fv(place.shift, part.shift);
      spots.forEach((spot, i) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, part.buffers[i]);
        gl.enableVertexAttribArray(spot);
        gl.vertexAttribPointer(spot, i < 2 ? 3 : 4, i < 2 ? gl.FLOAT : gl.UNSIGNED_SHORT, i === 2, 0, 0);
      });
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.buffers[3]);
      for (const group of part.groups) {
        gl.uniform1f(place.gloss, Math.max(0, 1 - 1.9 * group.rough));
        gl.uniform1f(place.dim, { mouth: 0.3, teeth: 0.75 }[group.name] || 1);  // there is no shadow in the mouth
        gl.drawElements(gl.TRIANGLES, group.count, gl.UNSIGNED_INT, 4 * group.start);
      }
    }
  }

  function show(seconds) {
    if (!model) return;
    const { times } = model, step = times.length > 1 ? times[1] - times[0] : 1;
    frame = Math.min(Math.max(seconds / step, 0), times.length - 1);
    model.parts.forEach((part) => pose(part, frame));
    draw();
  }

  async function load(url) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error("no model");
    const next = readGlb(await answer.arrayBuffer());
    for (const part of model ? model.parts : []) part.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
    model = next;
    model.parts.forEach(upload);
    const low = [9, 9, 9], high = [-9, -9, -9], base = model.parts[0].base, shift = model.parts[0].shift;
    for (let i = 0; i < base.length; i++) {
      low[i % 3] = Math.min(low[i % 3], base[i]);
      high[i % 3] = Math.max(high[i % 3], base[i]);
    }
    const rest = model.place ? model.place.subarray(0, 3) : [0, 0, 0];
    middle = low.map((value, i) => (value + high[i]) / 2 + shift[i] + rest[i]);
    away = (0.56 * (high[1] - low[1])) / Math.tan(0.21) + (high[2] - low[2]) / 4;
    show(0);
  }

  function turn(right, up) {
    yaw += right;
    pitch = Math.min(Math.max(pitch + up, -1.2), 1.2);
    draw();
  }
  function reset() { yaw = 0.35; pitch = 0.05; draw(); }
  return { load, show, draw, turn, reset };
}
