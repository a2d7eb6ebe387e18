import { readFileSync } from "node:fs";

import { RangeTables } from "../src/range_tables.js";

const GOLDEN = new URL("../../tests/golden/", import.meta.url);

/** Every feature of the format, each in a file (tests/golden_files.py). */
export const LATENTS = "rgb not_portable quality grey grey_alpha rgb_alpha metadata sides tiles all layer".split(" ");
export const LAYERS_ALONE = "layer_alone layer_repeats layer_palette layer_stored layer_near".split(" ");

/** @param {string} name */
export function golden(name) {
  return new Uint8Array(readFileSync(new URL(`${name}.tcm`, GOLDEN)));
}

/**
 * Evenly spaced values of the decoded picture, int16, as tests/golden_files.py takes them.
 *
 * @param {string} name
 */
export function goldenSamples(name) {
  const bytes = new Uint8Array(readFileSync(new URL(`${name}.npy`, GOLDEN)));
  return new Int16Array(bytes.slice(10 + new DataView(bytes.buffer).getUint16(8, true)).buffer);
}

/**
 * The same values of a picture decoded here.
 *
 * @param {ArrayLike<number>} values
 * @param {number} count
 */
export function sampled(values, count) {
  return Int16Array.from({ length: count }, (_, i) => values[Math.floor((i * (values.length - 1)) / (count - 1))]);
}

/**
 * The codec's scales for each slice of each golden file that has latents.
 *
 * @returns {Record<string, Float32Array[]>}
 */
export function goldenScales() {
  const stored = JSON.parse(readFileSync(new URL("golden_scales.json", import.meta.url), "utf8"));
  const floats = (/** @type {string} */ text) => new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
  return Object.fromEntries(Object.entries(stored).map(([name, slices]) => [name, slices.map(floats)]));
}

/** Tables of the range coder out of the golden files' weights. */
export function goldenTables() {
  const bytes = new Uint8Array(readFileSync(new URL("tiny.safetensors", GOLDEN)));
  const start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const [lookup, offsets] = ["lookup", "offsets"].map((name) => {
    const [first, last] = header[`tables/${name}`].data_offsets;
    return new Int32Array(bytes.slice(start + first, start + last).buffer);
  });
  return new RangeTables(lookup, offsets);
}
