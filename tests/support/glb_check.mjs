// node glb_check.mjs FILE [FRAME_TIME ...]: prints {issues, meshes} as JSON; a part is null where its package is missing.
// gltf-validator: what it finds. three: the world positions of every mesh at the times, as GLTFLoader and the mixer play them.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url);
const find = (name) => { try { return require.resolve(name); } catch { return null; } };
const [file, ...times] = process.argv.slice(2);
const bytes = new Uint8Array(fs.readFileSync(file));
const result = { issues: null, meshes: null };
if (find('gltf-validator')) result.issues = (await require('gltf-validator').validateBytes(bytes)).issues;
const loader = find('three/examples/jsm/loaders/GLTFLoader.js');
if (loader) {
  globalThis.self = globalThis;
  globalThis.ProgressEvent = class {};
  const three = path.join(path.dirname(loader), '../../../build/three.module.js');
  const THREE = await import(pathToFileURL(three));
  const { GLTFLoader } = await import(pathToFileURL(loader));
  const gltf = await new Promise((done, fail) => new GLTFLoader().parse(bytes.buffer, '', done, fail));
  const mixer = new THREE.AnimationMixer(gltf.scene);
  mixer.clipAction(gltf.animations[0]).play();
  const point = new THREE.Vector3();
  result.meshes = times.map((time) => {
    mixer.setTime(Number(time));
    gltf.scene.updateMatrixWorld(true);
    const frame = [];
    gltf.scene.traverse((mesh) => {
      if (!mesh.isMesh) return;
      const points = [];
      for (let i = 0; i < mesh.geometry.attributes.position.count; i++) {
        mesh.getVertexPosition(i, point);
        if (!mesh.isSkinnedMesh) point.applyMatrix4(mesh.matrixWorld);
        points.push([point.x, point.y, point.z]);
      }
      frame.push({ name: mesh.material.name, points });
    });
    return frame;
  });
}
process.stdout.write(JSON.stringify(result));
