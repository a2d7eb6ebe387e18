import { blockBytes } from "./blocks.js";

/** @type {string} */
const workerSource = WORKER_SOURCE;
const ZOOMS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16];
const STAGES = {
  latents: "decoding the latents",
  picture: "computing the picture",
  layer: "decoding the residual layer",
  png: "writing the PNG",
};

/**
 * @typedef {object} Item
 * @property {string} name
 * @property {Uint8Array} bytes
 * @property {[string, string][]} info
 * @property {string} status
 * @property {{done: number, all: number} | null} progress
 * @property {{url: string, width: number, height: number, alpha: boolean, note: string | null} | null} picture
 * @property {string | null} error
 */

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
/** @type {Item[]} */
const items = [];
/** @type {number[]} */
const queue = [];
let current = -1;
let busy = false;
/** @type {string | null} */
let broken = null; // why the worker cannot start
/** @type {number | null} */
let zoom = null; // null: fits
let worker = startWorker();

for (const { name, bytes } of embeddedFiles()) add(name, bytes);
$("has").textContent = $("tcm-model") ? "" : "This page has no model: it decodes exact files alone.";
document.body.dataset.ready = "yes";

$("choose").addEventListener("change", () => {
  openFiles([...($("choose").files ?? [])]); // a copy: the next line empties the list
  $("choose").value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!(/** @type {DragEvent} */ (event).relatedTarget)) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  openFiles(event.dataTransfer?.files ?? []);
});
$("in").addEventListener("click", () => step(1));
$("out").addEventListener("click", () => step(-1));
$("fit").addEventListener("click", () => setZoom(null));
$("whole").addEventListener("click", () => setZoom(1));
$("more").addEventListener("click", toggleInfo);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("shown").hidden) return;
  const keys = {
    "+": () => step(1),
    "=": () => step(1),
    "-": () => step(-1),
    0: () => setZoom(null),
    1: () => setZoom(1),
    i: toggleInfo,
    n: () => select((current + 1) % items.length),
    p: () => select((current + items.length - 1) % items.length),
  };
  keys[/** @type {keyof typeof keys} */ (event.key)]?.();
});
addEventListener("resize", layOut);
dragToScroll($("frame"));

/** Files that the page was made with. */
function embeddedFiles() {
  return [...document.querySelectorAll("script[data-name]")].map((block) => ({
    name: /** @type {HTMLElement} */ (block).dataset.name ?? "",
    bytes: blockBytes(block.textContent ?? ""),
  }));
}

function startWorker() {
  const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
  const started = new Worker(url);
  started.onmessage = ({ data }) => answered(data);
  started.onerror = (event) => failed(event.message);
  const [runtime, model] = [$("tcm-runtime"), $("tcm-model")];
  if (runtime && model) {
    const blocks = { runtime: blockBytes(runtime.textContent), model: blockBytes(model.textContent) };
    started.postMessage(blocks, [blocks.runtime.buffer, blocks.model.buffer]);
  }
  return started;
}

/** @param {Iterable<File>} files */
async function openFiles(files) {
  for (const file of files) {
    try {
      add(file.name, new Uint8Array(await file.arrayBuffer()));
    } catch {
      add(file.name, null); // a folder, or a file that is gone, locked, or larger than the memory
    }
  }
}

/**
 * @param {string} name
 * @param {Uint8Array | null} bytes null: they could not be read
 */
function add(name, bytes) {
  const item = { name, bytes: bytes ?? new Uint8Array(0), info: [], status: "", progress: null, picture: null };
  items.push({ ...item, error: bytes ? null : "this file cannot be read" });
  if (bytes) queue.push(items.length - 1);
  select(items.length - 1);
  next();
}

function next() {
  const id = busy ? undefined : queue.shift();
  if (id === undefined) return;
  busy = true;
  if (broken !== null) return answered({ id, error: broken });
  items[id].status = "loading the decoder";
  items[id].progress = { done: 0, all: 0 };
  worker.postMessage({ id, bytes: items[id].bytes });
  draw();
}

/** @param {any} message of the worker */
function answered({ id, info, progress, picture, error, fatal }) {
  const item = items[id];
  if (info) item.info = info;
  if (progress) {
    item.progress = progress;
    item.status = STAGES[/** @type {keyof typeof STAGES} */ (progress.stage)];
  }
  if (picture) {
    item.picture = { ...picture, url: URL.createObjectURL(picture.png) };
    item.info.push(["decoded", `in ${picture.seconds.toFixed(1)} s`]);
  }
  if (error) item.error = error;
  if (picture || error) finish(item, fatal);
  else if (id === current) draw();
}

/** @param {string} message */
function failed(message) {
  const item = items.find(({ progress }) => progress);
  const error = `this browser could not decode the picture: ${message || "its worker stopped"}`;
  if (item) {
    item.error = error;
    finish(item, true);
  } else broken = error;
}

/**
 * @param {Item} item
 * @param {boolean} fatal whether the worker may be in no state to go on
 */
function finish(item, fatal) {
  item.progress = null;
  item.status = "";
  busy = false;
  if (fatal) {
    worker.terminate();
    worker = startWorker();
  }
  draw();
  next();
}

/** @param {number} id */
function select(id) {
  if (id !== current) zoom = null;
  current = id;
  draw();
}

function draw() {
  const item = items[current];
  $("empty").hidden = Boolean(item);
  $("shown").hidden = !item;
  if (!item) return;
  drawFiles();
  $("title").textContent = document.title = item.name;
  $("status").textContent = queue.includes(current) ? "waiting" : item.status;
  $("progress").hidden = !item.progress;
  $("bar").removeAttribute("value");
  if (item.progress?.all) {
    $("bar").max = item.progress.all;
    $("bar").value = item.progress.done;
  }
  drawText("error", item.error && `${item.name}: ${item.error}`);
  drawText("note", item.picture?.note);
  $("info").replaceChildren(...item.info.flatMap(([label, text]) => [element("dt", label), element("dd", text)]));
  drawPicture(item);
}

function drawFiles() {
  const buttons = items.map((item, id) => {
    const button = element("button", item.name);
    button.setAttribute("type", "button");
    button.setAttribute("aria-current", String(id === current));
    button.classList.toggle("bad", Boolean(item.error));
    button.addEventListener("click", () => select(id));
    return button;
  });
  const focused = [...$("files").children].indexOf(document.activeElement);
  $("files").replaceChildren(...buttons);
  $("files").hidden = items.length < 2;
  buttons[focused]?.focus();
}

/** @param {Item} item */
function drawPicture({ picture, name, error }) {
  $("frame").hidden = Boolean(error);
  $("picture").hidden = !picture;
  for (const id of ["in", "out", "fit", "whole"]) $(id).disabled = !picture;
  $("save").setAttribute("aria-disabled", String(!picture));
  if (!picture) {
    $("picture").removeAttribute("src");
    $("save").removeAttribute("href");
    $("zoom").textContent = "";
    return;
  }
  if ($("picture").src !== picture.url) $("picture").src = picture.url;
  $("picture").alt = name;
  $("picture").classList.toggle("clear", picture.alpha);
  $("save").href = picture.url;
  $("save").download = name.replace(/\.tcm$/i, "") + ".png";
  layOut();
}

/** The picture's size on the screen. */
function layOut() {
  const picture = items[current]?.picture;
  if (!picture) return;
  const scale = zoom ?? fitting(picture);
  $("picture").style.width = `${picture.width * scale}px`;
  $("picture").style.height = `${picture.height * scale}px`;
  $("picture").classList.toggle("pixels", scale * devicePixelRatio >= 2);
  $("frame").classList.toggle("large", zoom !== null);
  const percent = 100 * scale;
  $("zoom").textContent = `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

/** @param {{width: number, height: number}} picture */
function fitting({ width, height }) {
  return Math.min(1, $("frame").clientWidth / width, $("frame").clientHeight / height);
}

/** @param {number} direction 1: in; -1: out */
function step(direction) {
  const picture = items[current]?.picture;
  if (!picture) return;
  const scale = zoom ?? fitting(picture);
  const beyond = ZOOMS.filter((z) => (direction > 0 ? z > 1.001 * scale : z < 0.999 * scale));
  if (beyond.length) setZoom(direction > 0 ? beyond[0] : beyond[beyond.length - 1]);
}

/**
 * Keeps the middle of what is seen in the middle.
 *
 * @param {number | null} value
 */
function setZoom(value) {
  const frame = $("frame");
  const [x, y] = [
    (frame.scrollLeft + frame.clientWidth / 2) / frame.scrollWidth,
    (frame.scrollTop + frame.clientHeight / 2) / frame.scrollHeight,
  ];
  zoom = value;
  layOut();
  frame.scrollTo(x * frame.scrollWidth - frame.clientWidth / 2, y * frame.scrollHeight - frame.clientHeight / 2);
}

function toggleInfo() {
  $("info").hidden = !$("info").hidden;
  $("more").setAttribute("aria-expanded", String(!$("info").hidden));
  layOut();
}

/** @param {HTMLElement} frame */
function dragToScroll(frame) {
  frame.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1 || event.pointerType !== "mouse") return;
    frame.scrollBy(-event.movementX, -event.movementY);
  });
  frame.addEventListener("dragstart", (event) => event.preventDefault());
}

/**
 * @param {string} id
 * @param {string | null | undefined} text
 */
function drawText(id, text) {
  if ($(id).textContent !== (text ?? "")) $(id).textContent = text ?? "";
  $(id).hidden = !text;
}

/**
 * @param {string} tag
 * @param {string} text
 */
function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
