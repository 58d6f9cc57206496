// SPDX-License-Identifier: MIT
// The results: takes side by side, one of them chosen. Its video is the clock of the 3D head and of the curves.

const find = (name) => element.querySelector(name);
const [takes, canvas, svg, hint, legend] = [".ft-takes", "canvas", "svg", ".ft-hint", ".ft-curves figcaption"].map(find);
const COLORS = { jawOpen: "#e4572e", mouthPucker: "#0d9f95", mouthSmile: "#8f6bd8", eyeBlink: "#c98a00", aperture: "#3b82f6" };
const NAMES = { jawOpen: "jaw open", mouthPucker: "pucker", mouthSmile: "smile", eyeBlink: "blink", aperture: "lips apart, mm" };
const viewer = makeViewer(canvas);
let page = null, chosen = 0, shown = "", wanted = "";

const video = () => takes.children[chosen] && takes.children[chosen].querySelector("video");
const others = () => [...takes.querySelectorAll("video")].filter((other) => other !== video());
const quiet = (promise) => promise && promise.catch(() => {});
// One that had just come to its end stands still: it has to be started again, or it would stay behind.
const bring = (other, film) => { other.currentTime = film.currentTime; if (!film.paused) follow(other); };
const follow = (film) => { if (film.paused) { film.dataset.follows = "1"; quiet(film.play()); } };

function addTake(take, index) {
  const figure = document.createElement("figure");
  figure.innerHTML = '<div class="ft-picture"><span class="ft-wait"></span></div><figcaption><button type="button"></button><span></span></figcaption>';
  const button = figure.querySelector("button");
  button.textContent = take.label;
  button.onclick = () => choose(index);
  takes.append(figure);
}

function fillTake(take, index) {
  const figure = takes.children[index], links = figure.querySelector("figcaption span");
  if (take.files.mp4 && !figure.querySelector("video")) {
    const film = document.createElement("video");
    Object.assign(film, { src: take.files.mp4.url, controls: true, playsInline: true, preload: "auto" });
    film.setAttribute("aria-label", "Video of " + take.label);
    film.onplay = () => {
      if (film.dataset.follows) { delete film.dataset.follows; return; }  // not by a visitor
      if (film !== video()) choose(index);
      others().forEach(follow);
      tick();
    };
    film.onloadedmetadata = () => {
      const lead = video();
      if (!lead || film === lead) return;
      film.currentTime = lead.currentTime;
      if (!lead.paused) follow(film);
    };
    film.onpause = () => { if (film === video() && !film.ended) others().forEach((o) => o.pause()); tick(); };
    film.onseeking = () => { if (film === video()) others().forEach((o) => bring(o, film)); tick(); };
    figure.querySelector(".ft-picture").replaceChildren(film);
    if (index === chosen) { choose(index); quiet(film.play()); } else film.muted = true;
  }
  for (const [suffix, file] of Object.entries(take.files)) if (!links.querySelector(`[data-suffix=${suffix}]`)) {
    const link = document.createElement("a");
    Object.assign(link, { href: file.url, download: file.orig_name || "", textContent: suffix });
    link.dataset.suffix = suffix;
    link.setAttribute("aria-label", `Download ${take.label} as ${suffix}`);
    links.append(link);
  }
}

function choose(index) {
  const time = video() ? video().currentTime : 0, playing = video() && !video().paused;
  chosen = index;
  [...takes.children].forEach((figure, i) => {
    figure.classList.toggle("ft-chosen", i === index && takes.children.length > 1);
    figure.querySelector("button").setAttribute("aria-pressed", i === index);
  });
  takes.querySelectorAll("video").forEach((film) => { film.muted = film !== video(); });
  if (video() && Math.abs(video().currentTime - time) > 0.1) video().currentTime = time;
  if (playing) quiet(video().play());
  drawCurves();
  loadModel();
}

async function loadModel() {
  const file = page && page.takes[chosen] && page.takes[chosen].files.glb;
  const ready = Boolean(file && viewer);
  find(".ft-play").disabled = find(".ft-reset").disabled = !ready;
  if (!ready) { hint.textContent = viewer ? "Follows the video" : "This browser shows no WebGL."; return; }
  if (file.url === wanted) return;
  wanted = file.url;
  hint.textContent = "Loading …";
  try {
    await viewer.load(file.url);
    if (file.url !== wanted) return;
    shown = file.url;
    hint.textContent = "Drag to turn";
    canvas.dataset.ready = "1";
    tick();
  } catch (error) { hint.textContent = "The 3D head could not be loaded."; }
}

// --- curves ------------------------------------------------------------------------------------------------------

const line = (values, top, height, most) => values
  .map((v, i) => `${((1000 * (i + 0.5)) / values.length).toFixed(1)},${(top + height * (1 - v / most)).toFixed(1)}`).join(" ");

function drawCurves() {
  if (!page || !page.takes[chosen]) return;
  const curves = page.takes[chosen].curves, { sound } = page;
  const upper = sound.map((v, i) => `${(1000 * i) / sound.length},${24 - 22 * v}`);
  const lower = sound.map((v, i) => `${(1000 * i) / sound.length},${24 + 22 * v}`).reverse();
  let text = `<polygon class="ft-sound" points="${upper.concat(lower).join(" ")}"></polygon>`;
  for (let s = 1; s < page.seconds; s++) {
    const x = (1000 * s) / page.seconds;
    text += `<line class="ft-second" x1="${x}" x2="${x}" y1="0" y2="190"></line>`;
  }
  legend.replaceChildren();
  for (const name of Object.keys(COLORS)) if (curves[name]) {
    const lips = name === "aperture", most = lips ? Math.max(10, ...curves[name]) : 1;
    const points = line(curves[name].map((v) => Math.max(v, 0)), lips ? 56 : 122, 60, most);
    text += `<polyline points="${points}" stroke="${COLORS[name]}"></polyline>`;
    const entry = document.createElement("span");
    entry.innerHTML = `<i style="background:${COLORS[name]}"></i>${NAMES[name]} <b data-name="${name}"></b>`;
    legend.append(entry);
  }
  svg.innerHTML = text + '<line class="ft-now" y1="0" y2="190"></line>';
  tick();
}

function seek(event) {
  const film = video(), box = svg.getBoundingClientRect();
  if (film && film.duration) film.currentTime = ((event.clientX - box.left) / box.width) * film.duration;
}
svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); seek(event); });
svg.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });

// --- the clock ---------------------------------------------------------------------------------------------------

let queued = false;
function tick() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    if (!element.isConnected || !page) return;
    const film = video(), time = film ? film.currentTime : 0, now = svg.querySelector(".ft-now");
    if (now) { now.setAttribute("x1", (1000 * time) / page.seconds); now.setAttribute("x2", (1000 * time) / page.seconds); }
    const curves = page.takes[chosen] ? page.takes[chosen].curves : {};
    legend.querySelectorAll("b").forEach((b) => {
      const values = curves[b.dataset.name] || [];
      const value = values[Math.min(Math.floor((time / page.seconds) * values.length), values.length - 1)];
      if (value !== undefined) b.textContent = Math.max(value, 0).toFixed(b.dataset.name === "aperture" ? 1 : 2);
    });
    if (viewer && shown) viewer.show(time);
    const playing = film && !film.paused && !film.ended;
    find(".ft-play").textContent = playing ? "Pause" : "Play";
    if (playing) tick();
  });
}

// --- turning -----------------------------------------------------------------------------------------------------

find(".ft-play").onclick = () => { const film = video(); if (film) film.paused ? quiet(film.play()) : film.pause(); };
if (viewer) {
  find(".ft-reset").onclick = viewer.reset;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); canvas.focus(); });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) viewer.turn(-event.movementX * 0.012, event.movementY * 0.008);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0.12, 0], ArrowRight: [-0.12, 0], ArrowUp: [0, -0.08], ArrowDown: [0, 0.08] }[event.key];
    if (step) { viewer.turn(...step); event.preventDefault(); }
    if (event.key === " ") { find(".ft-play").click(); event.preventDefault(); }
  });
  new ResizeObserver(() => viewer.draw()).observe(canvas);
}

// --- what Python sends -------------------------------------------------------------------------------------------

function update() {
  const next = props.value;
  find(".ft-empty").hidden = Boolean(next);
  find(".ft-panels").hidden = !next;
  if (!next) { page = null; takes.replaceChildren(); return; }
  if (!page || page.run !== next.run) {
    chosen = 0;
    shown = wanted = "";
    delete canvas.dataset.ready;
    takes.replaceChildren();
    next.takes.forEach(addTake);
    const top = element.getBoundingClientRect().top;
    if (top < 0 || top > 0.7 * window.innerHeight) element.scrollIntoView();  // below the controls on narrow screens
  }
  page = next;
  find(".ft-panels").classList.toggle("ft-even", page.takes.length % 2 === 0);
  page.takes.forEach(fillTake);
  takes.querySelectorAll(".ft-wait").forEach((wait) => { wait.textContent = "Drawing …"; });
  drawCurves();
  loadModel();
}
watch("value", update);
update();
