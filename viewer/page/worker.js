import { decode, describe, encodePng, openModel, parse, TcmError } from "../src/index.js";
import { unpackLzma2 } from "../src/lzma2.js";
import { inflate } from "../src/zlib.js";
import { Reader } from "../src/reader.js";

const MAX_PIXELS = 2 ** 26; // padded; what browsers show
const MAX_PROGRAM = 2 ** 28; // bytes

/** @type {Promise<import("../src/network.js").Model> | null} */
let model = null;

self.onmessage = async ({ data }) => {
  if (data.model) model = opened(data.runtime, data.model);
  else await show(data.id, data.bytes);
};

/**
 * @param {number} id
 * @param {Uint8Array} bytes
 */
async function show(id, bytes) {
  const post = (/** @type {object} */ message) => self.postMessage({ id, ...message });
  try {
    const loaded = parse(bytes, MAX_PIXELS).stream.length ? ((await model) ?? undefined) : undefined;
    post({ info: describe(bytes, loaded ?? null, MAX_PIXELS) });
    const start = performance.now();
    const onProgress = (/** @type {object} */ progress) => post({ progress });
    const picture = await decode(bytes, { model: loaded, maxPixels: MAX_PIXELS, onProgress });
    const seconds = (performance.now() - start) / 1000;
    const { width, height, alpha, note } = picture;
    post({ progress: { stage: "png", done: 0, all: 1 } });
    const png = new Blob([/** @type {BlobPart} */ (await encodePng(picture))], { type: "image/png" });
    post({ picture: { png, width, height, alpha, note, seconds } });
  } catch (error) {
    const known = error instanceof TcmError;
    const text = error instanceof Error ? error.message : String(error);
    post({ error: known ? text : `this browser could not decode the picture: ${text}`, fatal: !known });
  }
}

/**
 * @param {Uint8Array} runtime size, LZMA2 of: size of the JavaScript, it, the WebAssembly (build.js)
 * @param {Uint8Array} packed size of the index, its zlib stream, those of the programs (tcm_jax/cli/page.py)
 */
async function opened(runtime, packed) {
  const unpacked = unpackLzma2(runtime.subarray(4), new Reader(runtime).uint(4));
  const code = new Reader(unpacked);
  const script = new Blob([code.take(code.uint(4))], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(script));
  ort.env.wasm.wasmBinary = unpacked.slice(code.position).buffer;
  ort.env.wasm.numThreads = 1;
  const reader = new Reader(packed);
  const index = await inflate(reader.take(reader.uint(4)), MAX_PROGRAM);
  const { description, programs } = JSON.parse(new TextDecoder().decode(index ?? undefined));
  const start = reader.position;
  return openModel(ort, description, async (program) => {
    const [first, last] = programs[program];
    const bytes = await inflate(packed.subarray(start + first, start + last), MAX_PROGRAM);
    if (!bytes) throw new Error("the page is damaged");
    return bytes;
  });
}
