// SPDX-License-Identifier: MIT
// The page: our head, or an avatar from a file, moved by the microphone or a recording.

import * as THREE from "three";
import { GLTFLoader } from "three/GLTFLoader";
import { bindAvatar, openFace } from "./index.js";

const find = (name) => document.querySelector(name), said = find("#said"), canvas = find("canvas");
const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(24, 1, 0.01, 100), holder = new THREE.Group();
scene.add(holder, new THREE.HemisphereLight(0xffffff, 0x99887a, 2.2));
const key = new THREE.DirectionalLight(0xffffff, 2);
key.position.set(1, 1.5, 2.5);
scene.add(key);
const SHADE = { mouth: 0.12, teeth: 0.5 };  // of our head: no shadow falls into its mouth
let face = null, avatar = null, stop = null, root = null, again = null;

/** Leave out the vertices that no triangle has, such as all of the skin's for the mouth: three.js keeps every shape of each. */
function compact(geometry) {
  const { index, attributes, morphAttributes } = geometry;
  if (!index) return;
  const used = [...new Set(index.array)].sort((a, b) => a - b), place = new Map(used.map((old, i) => [old, i]));
  const take = (attribute) => {
    const { itemSize } = attribute, array = new Float32Array(used.length * itemSize);
    used.forEach((old, i) => { for (let c = 0; c < itemSize; c++) array[i * itemSize + c] = attribute.getComponent(old, c); });
    return new THREE.BufferAttribute(array, itemSize);
  };
  geometry.setIndex(new THREE.BufferAttribute(Uint32Array.from(index.array, (old) => place.get(old)), 1));
  for (const name of Object.keys(attributes)) geometry.setAttribute(name, take(attributes[name]));
  for (const name of Object.keys(morphAttributes)) morphAttributes[name] = morphAttributes[name].map(take);
}

/** Show what a function reads: an ArrayBuffer of a glb. */
async function show(read) {
  const gltf = await new GLTFLoader().parseAsync(await read(), "");
  again = read;
  if (root) {
    holder.remove(root);
    root.traverse(({ geometry, material }) => { geometry?.dispose(); material?.map?.dispose(); });
  }
  root = gltf.scene;
  holder.add(root);
  const box = new THREE.Box3();
  root.updateMatrixWorld(true);
  root.traverse((mesh) => {  // a whole body is looked in the face: at what speech moves
    if (!mesh.morphTargetInfluences) return;
    compact(mesh.geometry);
    mesh.frustumCulled = false;
    mesh.material.color.multiplyScalar(SHADE[mesh.material.name] || 1);
    box.union(new THREE.Box3().setFromBufferAttribute(mesh.geometry.attributes.position).applyMatrix4(mesh.matrixWorld));
  });
  const size = box.getSize(new THREE.Vector3()), middle = box.getCenter(new THREE.Vector3());
  root.position.sub(middle);
  camera.position.set(0, 0, (0.62 * size.y) / Math.tan(Math.PI * 12 / 180) + size.z / 4);
  renderer.render(scene, camera);
  root.traverse(({ geometry }) => {  // the graphics card has them now
    for (const shapes of Object.values(geometry?.morphAttributes || {})) for (const shape of shapes) shape.array = new Float32Array(0);
  });
  avatar = null;
  window.avatar = root;  // for the curious, and for tests
}

async function listen() {
  if (face) return face;
  const context = new AudioContext();
  said.textContent = "Loading";
  const start = performance.now();
  face = await openFace(context);
  await context.resume();
  window.facetalk = face;
  said.textContent = `Ready after ${((performance.now() - start) / 1000).toFixed(1)} s`;
  return face;
}

const tell = (work) => async (event) => {
  try { await work(event); } catch (error) { said.textContent = `That did not work: ${error.message}`; }
};

find("#microphone").onclick = tell(async ({ currentTarget: button }) => {
  if (stop) { stop(); stop = null; } else stop = await (await listen()).microphone();
  button.setAttribute("aria-pressed", Boolean(stop));
});
find("#recording").onchange = tell(async ({ target }) => {
  const [file] = target.files;
  if (file) await (await listen()).play(await file.arrayBuffer());
  target.value = "";
});
find("#avatar").onchange = tell(async ({ target: { files: [file] } }) => file && show(() => file.arrayBuffer()));
canvas.addEventListener("webglcontextrestored", tell(() => again && show(again)));  // shapes were the card's alone

let last = 0, drawn = 0;
function draw(time) {
  requestAnimationFrame(draw);
  const { clientWidth: width, clientHeight: height } = canvas.parentElement;
  if (canvas.width !== Math.round(width * renderer.getPixelRatio()) || canvas.height !== Math.round(height * renderer.getPixelRatio())) {
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
  }
  if (face && root) {
    avatar ??= bindAvatar(root, face.config);
    const { arkit, pose, tongue } = face.now();
    avatar.set(arkit, pose, tongue);
    drawn++;
    if (time > last + 1000) {
      const spent = face.spent.slice(-50).reduce((sum, ms) => sum + ms, 0) / Math.max(1, face.spent.slice(-50).length);
      const share = (spent * face.config.fps) / face.config.hop / 10;
      if (stop) said.textContent = `${Math.round((drawn * 1000) / (time - last))} pictures a second, networks ${share.toFixed(0)} % of a core, ${face.delay.toFixed(2)} s behind the sound`;
      [last, drawn] = [time, 0];
    }
  }
  renderer.render(scene, camera);
}

const box = canvas.parentElement;
const turn = (x, y) => { holder.rotation.y += x; holder.rotation.x = Math.min(Math.max(holder.rotation.x + y, -0.8), 0.8); };
box.onpointerdown = (event) => box.setPointerCapture(event.pointerId);
box.onpointermove = (event) => event.buttons && turn(event.movementX / 200, event.movementY / 200);
requestAnimationFrame(draw);
tell(() => show(async () => (await fetch("./model/head.glb")).arrayBuffer()))();
