// SPDX-License-Identifier: MIT
// Draws the glb files of facetalk_hf (animation/glb.py) with plain WebGL: morph targets, textures, head motion.
// It plays by the clock of the video beside it, so a head can be turned while it speaks. Nothing is loaded from elsewhere.

function readGlb(buffer) {
  const view = new DataView(buffer), size = view.getUint32(12, true);
  const json = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, size)));
  const start = 28 + size, kinds = { 5126: Float32Array, 5125: Uint32Array, 5123: Uint16Array };
  const widths = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4 };
  const slice = (index, offset, kind, count) =>
    new kinds[kind](buffer, start + json.bufferViews[index].byteOffset + (offset || 0), count);
  const values = (index) => {
    const a = json.accessors[index];
    return slice(a.bufferView, a.byteOffset, a.componentType, a.count * widths[a.type]);
  };
  // A target as {at, by}: which vertices it moves, and how far; `at` is missing where it moves all of them.
  const target = (index) => {
    const sparse = json.accessors[index].sparse;
    if (!sparse) return json.accessors[index].bufferView === undefined ? null : { by: values(index) };
    return {
      at: slice(sparse.indices.bufferView, 0, sparse.indices.componentType, sparse.count),
      by: slice(sparse.values.bufferView, 0, 5126, 3 * sparse.count),
    };
  };
  // Each track has times of its own: frames that lie between others are left out.
  const tracks = {};
  for (const animation of json.animations || []) for (const channel of animation.channels) {
    const sampler = animation.samplers[channel.sampler], times = values(sampler.input);
    const track = values(sampler.output), whole = json.accessors[sampler.output].normalized ? 65535 : 1;
    tracks[channel.target.path + channel.target.node] = { times, values: track, whole, width: track.length / times.length };
  }
  const picture = (texture) => {
    if (!texture) return null;
    const image = json.images[json.textures[texture.index].source], view = json.bufferViews[image.bufferView];
    return { type: image.mimeType, data: new Uint8Array(buffer, start + view.byteOffset, view.byteLength) };
  };
  // Textures of the first material that has them: skin and mouth share theirs.
  const material = (json.materials || []).find((m) => m.pbrMetallicRoughness.baseColorTexture) || null;
  const pictures = material && [material.pbrMetallicRoughness.baseColorTexture, material.normalTexture,
                                material.occlusionTexture].map(picture);
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
    const { COLOR_0: color, TEXCOORD_0: uv, NORMAL: normal } = first.attributes, targets = first.targets || [];
    parts.push({ base, faces, groups, colors: color === undefined ? null : values(color),
                 uv: uv === undefined ? null : values(uv), still: values(normal),
                 targets: targets.map((t) => target(t.POSITION)),
                 turns: targets.length && targets[0].NORMAL !== undefined ? targets.map((t) => target(t.NORMAL)) : null,
                 weights: tracks["weights" + number], shift: node.translation || [0, 0, 0] });
  });
  return { parts, pictures, rotation: tracks.rotation0, place: tracks.translation0 };
}

// The values of a track at a time, between its keys as glTF says, turns nearly so.
function sample({ times, values, whole, width }, seconds) {
  let high = times.findIndex((time) => time > seconds);
  if (high < 0) high = times.length - 1;
  const low = Math.max(high - 1, 0), span = times[high] - times[low];
  const share = span > 0 ? Math.min(Math.max((seconds - times[low]) / span, 0), 1) : 1;
  const result = new Float32Array(width);
  for (let i = 0; i < width; i++)
    result[i] = (values[low * width + i] * (1 - share) + values[high * width + i] * share) / whole;
  return result;
}

const VERTEX = `
attribute vec3 position, normal; attribute vec4 color; attribute vec2 uv;
uniform vec3 shift, place, middle; uniform vec4 turn; uniform vec3 eye; uniform mat3 camera; uniform vec2 lens;
varying vec3 vNormal, vColor, vPoint; varying vec2 vPlace;
vec3 rotate(vec3 v) { return v + 2.0 * cross(turn.xyz, cross(turn.xyz, v) + turn.w * v); }
void main() {
  vec3 point = camera * (rotate(position + shift) + place - middle);
  vPoint = point - eye; vNormal = camera * rotate(normal); vColor = color.rgb;
  vPlace = uv;
  gl_Position = vec4(lens * vPoint.xy, -vPoint.z - 0.1, -vPoint.z);
}`;
const FRAGMENT = `#extension GL_OES_standard_derivatives : enable
precision highp float;
varying vec3 vNormal, vColor, vPoint; varying vec2 vPlace; uniform float gloss, dim, textured;
uniform sampler2D paint, relief, shade;
void main() {
  vec3 n = normalize(vNormal), v = normalize(-vPoint), base = vColor;
  if (!gl_FrontFacing) n = -n;
  float open = 1.0;
  if (textured > 0.5) {
    base = pow(texture2D(paint, vPlace).rgb, vec3(2.2));
    open = texture2D(shade, vPlace).r;
    // The directions of growing u and v on the screen's surface; glTF's green points up, its v down.
    vec3 px = dFdx(vPoint), py = dFdy(vPoint), bent = texture2D(relief, vPlace).xyz * 2.0 - 1.0;
    vec2 ux = dFdx(vPlace), uy = dFdy(vPlace);
    float side = ux.x * uy.y - uy.x * ux.y;
    if (side != 0.0) {
      vec3 t = (px * uy.y - py * ux.y) * sign(side), b = -(py * ux.x - px * uy.x) * sign(side);
      n = normalize(normalize(t) * bent.x + normalize(b) * bent.y + n * bent.z);
    }
  }
  vec3 key = normalize(vec3(-0.45, 0.55, 0.7)), fill = normalize(vec3(0.8, 0.1, 0.45)), light = vec3(0.0);
  light += vec3(1.0, 0.96, 0.9) * 0.98 * max(dot(n, key) * 0.85 + 0.15, 0.0);
  light += vec3(0.8, 0.88, 1.0) * 0.3 * max(dot(n, fill) * 0.8 + 0.2, 0.0);
  light += mix(vec3(0.10, 0.08, 0.07), vec3(0.2, 0.22, 0.26), 0.5 + 0.5 * n.y);
  light *= mix(0.35, 1.0, open);
  float shine = pow(max(dot(n, normalize(key + v)), 0.0), mix(14.0, 220.0, gloss)) * mix(0.05, 0.9, gloss);
  float edge = pow(1.0 - max(dot(n, v), 0.0), 4.0) * 0.12;
  gl_FragColor = vec4(pow((base * light + shine + edge * light) * dim, vec3(1.0 / 2.2)), 1.0);
}`;

function makeViewer(canvas) {
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true, preserveDrawingBuffer: true });
  if (!gl || !gl.getExtension("OES_element_index_uint") || !gl.getExtension("OES_standard_derivatives")) return null;
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
  for (const name of ["shift", "place", "middle", "turn", "eye", "camera", "lens", "gloss", "dim", "textured"]) place[name] = at(name);
  const spots = ["position", "normal", "color", "uv"].map((name) => gl.getAttribLocation(program, name));
  ["paint", "relief", "shade"].forEach((name, unit) => gl.uniform1i(at(name), unit));
  let model = null, now = 0, yaw = 0.35, pitch = 0.05, middle = [0, 0, 0], away = 1;

  function upload(part) {
    part.buffers = ["position", "normal", "look", "faces"].map(() => gl.createBuffer());
    gl.bindBuffer(gl.ARRAY_BUFFER, part.buffers[2]);
    gl.bufferData(gl.ARRAY_BUFFER, part.uv || part.colors, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.buffers[3]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, part.faces, gl.STATIC_DRAW);
    part.points = new Float32Array(part.base.length);
    part.normals = new Float32Array(part.base.length);
  }

  async function texture({ type, data }, unit) {
    const image = await createImageBitmap(new Blob([data], { type }), { colorSpaceConversion: "none" });
    const result = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, result);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    return result;
  }

  // Add what a target moves, or turns, times its weight.
  function add(result, target, w) {
    if (!target) return;
    const { at, by } = target;
    if (!at) for (let i = 0; i < by.length; i++) result[i] += w * by[i];
    else for (let i = 0, j = 0; i < at.length; i++, j += 3) {
      const p = 3 * at[i];
      result[p] += w * by[j]; result[p + 1] += w * by[j + 1]; result[p + 2] += w * by[j + 2];
    }
  }

  function pose(part, seconds) {
    const { base, points, normals, targets, turns, weights } = part;
    points.set(base);
    normals.set(part.still);
    if (weights) sample(weights, seconds).forEach((w, k) => {
      if (!w) return;
      add(points, targets[k], w);
      if (turns) add(normals, turns[k], w);
    });
    if (!turns) turned(part);
    for (const [index, data] of [[0, points], [1, normals]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, part.buffers[index]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    }
  }

  // Normals of a file that has no morph normals.
  function turned({ points, normals, faces }) {
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
    gl.uniform4fv(place.turn, model.rotation ? sample(model.rotation, now) : [0, 0, 0, 1]);
    gl.uniform3fv(place.place, model.place ? sample(model.place, now) : [0, 0, 0]);
    for (const part of model.parts) {
      gl.uniform3fv(place.shift, part.shift);
      gl.uniform1f(place.textured, part.uv ? 1 : 0);
      const attribute = (spot, buffer, width, kind) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.enableVertexAttribArray(spot);
        gl.vertexAttribPointer(spot, width, kind, kind !== gl.FLOAT, 0, 0);
      };
      attribute(spots[0], part.buffers[0], 3, gl.FLOAT);
      attribute(spots[1], part.buffers[1], 3, gl.FLOAT);
      gl.disableVertexAttribArray(spots[part.uv ? 2 : 3]);
      attribute(spots[part.uv ? 3 : 2], part.buffers[2], part.uv ? 2 : 4, gl.UNSIGNED_SHORT);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.buffers[3]);
      for (const group of part.groups) {
        gl.uniform1f(place.gloss, Math.max(0, 1 - 1.9 * group.rough));
        gl.uniform1f(place.dim, (part.uv ? { mouth: 0.6 } : { mouth: 0.3, teeth: 0.75 })[group.name] || 1);  // there is no shadow in the mouth
        gl.drawElements(gl.TRIANGLES, group.count, gl.UNSIGNED_INT, 4 * group.start);
      }
    }
  }

  function show(seconds) {
    if (!model) return;
    now = seconds;
    model.parts.forEach((part) => pose(part, now));
    draw();
  }

  async function load(url) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error("no model");
    const next = readGlb(await answer.arrayBuffer());
    for (const part of model ? model.parts : []) part.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
    for (const old of (model && model.textures) || []) gl.deleteTexture(old);
    next.textures = next.pictures && (await Promise.all(next.pictures.map(texture)));
    model = next;
    model.parts.forEach(upload);
    const low = [9, 9, 9], high = [-9, -9, -9], base = model.parts[0].base, shift = model.parts[0].shift;
    for (let i = 0; i < base.length; i++) {
      low[i % 3] = Math.min(low[i % 3], base[i]);
      high[i % 3] = Math.max(high[i % 3], base[i]);
    }
    const rest = model.place ? sample(model.place, 0) : [0, 0, 0];
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
