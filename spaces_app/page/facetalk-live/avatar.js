// SPDX-License-Identifier: MIT
// Weights onto any loaded avatar of three.js: shapes by ARKit's names, by ours (eyeBlink_L), or visemes (viseme_aa, vrc.v_aa).

const JOINED = ["browInnerUp", "cheekPuff"];  // ARKit has one, many heads have a left and a right one
const VISEME = /^(?:vrc\.)?(?:v|viseme)[_ .]?([a-z]{1,3}|sil)$/i;
const plain = (name) => name
  .replace(/[\s_.-]+(l|r)$/i, (_, side) => ({ l: "left", r: "right" })[side.toLowerCase()])
  .replace(/[^a-z0-9]/gi, "").toLowerCase();

/**
 * Find the shapes of an avatar.
 *
 * @param {object} root Object3D, such as `gltf.scene`.
 * @param {object} config config.json of the exported model.
 * @returns {{set: function, channels: string[], visemes: string[]}} set(arkit, pose, tongue) moves it.
 */
export function bindAvatar(root, config) {
  const index = new Map(config.arkit.map((name, i) => [plain(name), i])), direct = [], spoken = new Map();
  for (const name of JOINED) for (const side of ["left", "right"]) index.set(plain(name) + side, config.arkit.indexOf(name));
  const tip = new Map((config.tongue?.names || []).map((name, i) => [plain(name), i])), tongues = [];
  const known = new Map(Object.keys(config.visemes).map((name) => [name.toLowerCase(), name]));
  const other = { oh: "O", ou: "U", ih: "I", e: "E", aa: "aa" };  // as VRChat spells them
  root.traverse((mesh) => {
    for (const [name, place] of Object.entries(mesh.morphTargetDictionary || {})) {
      const channel = index.get(plain(name)), viseme = VISEME.exec(name);
      if (channel !== undefined) direct.push([mesh.morphTargetInfluences, place, channel]);
      else if (tip.has(plain(name))) tongues.push([mesh.morphTargetInfluences, place, tip.get(plain(name))]);
      else if (viseme) {
        const kind = known.get(viseme[1].toLowerCase()) || other[viseme[1].toLowerCase()];
        if (kind) spoken.set(kind, [...(spoken.get(kind) || []), [mesh.morphTargetInfluences, place]]);
      }
    }
  });
  const has = new Set(direct.map(([, , channel]) => config.arkit[channel]));
  const mixed = !has.has("jawOpen") && spoken.size ? new Visemes(config, [...spoken.keys()]) : null;
  const rest = root.quaternion.clone(), turn = root.quaternion.clone(), degrees = Math.PI / 180;
  return {
    channels: [...has], visemes: mixed ? mixed.names : [],
    set(arkit, pose = null, tongue = null) {
      if (tongue) for (const [influences, place, i] of tongues) influences[place] = tongue[i];
      for (const [influences, place, channel] of direct) influences[place] = arkit[channel];
      if (mixed) mixed.solve(arkit).forEach((weight, i) => {
        for (const [influences, place] of spoken.get(mixed.names[i])) influences[place] = weight;
      });
      if (!pose) return;
      const [y, x, z] = [pose[0], -pose[1], -pose[2]].map((angle) => (angle * degrees) / 2);  // yaw, then pitch, then roll
      const [cx, sx, cy, sy, cz, sz] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y), Math.cos(z), Math.sin(z)];
      turn.set(sx * cy * cz + cx * sy * sz, cx * sy * cz - sx * cy * sz, cx * cy * sz - sx * sy * cz, cx * cy * cz + sx * sy * sz);
      root.quaternion.copy(rest).multiply(turn);
    },
  };
}

/** The mixture of visemes, none below 0, whose mouth is nearest to one in ARKit's weights; starts from the last one. */
class Visemes {
  constructor(config, names) {
    this.names = names;
    this.rows = names.map((name) => Object.entries(config.visemes[name]).map(([channel, v]) => [config.arkit.indexOf(channel), v]));
    this.squares = this.rows.map((row) => row.reduce((sum, [, v]) => sum + v * v, 1e-9));
    this.weights = new Float64Array(names.length);
    this.sizes = config.arkit.length;
  }

  solve(arkit) {
    const left = Float64Array.from(arkit);
    // A jaw that lips close over is no open mouth: visemes know closed lips as PP, and nothing else.
    this.rows.forEach((row, i) => row.forEach(([c, v]) => { left[c] -= v * this.weights[i]; }));
    for (let round = 0; round < 20; round++) this.rows.forEach((row, i) => {  // coordinate descent
      const gain = row.reduce((sum, [c, v]) => sum + v * left[c], -0.002) / this.squares[i];
      const next = Math.min(Math.max(this.weights[i] + gain, 0), 1), change = next - this.weights[i];
      this.weights[i] = next;
      if (change) row.forEach(([c, v]) => { left[c] -= v * change; });
    });
    return this.weights;
  }
}
