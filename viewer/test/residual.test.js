import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import { parse } from "../src/container.js";
import { crc32 } from "../src/crc32.js";
import { ChecksumError, StreamError } from "../src/errors.js";
import { EXPONENTS, Frequencies, STRIDE, WIDTHS } from "../src/frequencies.js";
import { Reader } from "../src/reader.js";
import { decodeResidual, stepOf } from "../src/residual.js";
import { golden, goldenSamples, LAYERS_ALONE, sampled } from "./golden.js";
import { random } from "./random.js";

/** @typedef {import("../src/residual.js").Shape & {payload: Uint8Array, samples: Uint8Array}} Case */

const bytes = (/** @type {string} */ text) => new Uint8Array(Buffer.from(text, "base64"));
/** @type {Record<string, Case>} */
const CASES = JSON.parse(readFileSync(new URL("layers.json", import.meta.url), "utf8"), (key, value) =>
  ["payload", "decoded", "samples"].includes(key) && value !== null ? bytes(value) : value,
);

for (const [name, { payload, samples, ...shape }] of Object.entries(CASES)) {
  test(`${name}: the encoder's samples`, async () => {
    const before = shape.decoded?.slice();
    const found = await decodeResidual(payload, shape);
    assert.deepEqual(found, samples);
    assert.notEqual(found.buffer, payload.buffer);
    assert.deepEqual(shape.decoded?.slice(), before); // what was given is not changed
  });
}

for (const name of LAYERS_ALONE) {
  test(`${name}: the golden file`, async () => {
    const { width, height, grey, layer } = parse(golden(name));
    const decoded = await decodeResidual(layer, { width, height, channels: grey ? 1 : 3 });
    const expected = goldenSamples(name);
    assert.deepEqual(sampled(decoded, expected.length), expected);
  });
}

test("the golden tables of symbols", () => {
  const shapes = Array.from({ length: WIDTHS * EXPONENTS }, (_, i) => [Math.floor(i / EXPONENTS), i % EXPONENTS]);
  let checksum = 0;
  for (const step of [1, 2, 3, 8]) {
    const phases = [0, 1, 2, 3];
    const all = shapes.flatMap(([width, exponent]) => phases.map((phase) => oneTable(step, width, exponent, phase)));
    for (const part of /** @type {const} */ (["start", "cumulative", "first", "count"])) {
      checksum = crc32(new Uint8Array(Int32Array.from(all.flatMap((table) => table[part])).buffer), checksum);
    }
  }
  assert.equal(checksum, 2774182582); // GOLDEN_TABLES of tests/test_residual.py
});

/**
 * @param {number} step
 * @param {number} width
 * @param {number} exponent
 * @param {number} phase
 */
function oneTable(step, width, exponent, phase) {
  const tables = new Frequencies(step, Uint8Array.of(width, exponent));
  tables.make(phase);
  const count = tables.count[phase];
  const cumulative = [...tables.cumulative.subarray(phase * STRIDE, phase * STRIDE + count + 2)];
  return {
    start: [...tables.start.subarray(phase * STRIDE, (phase + 1) * STRIDE)],
    cumulative: [...cumulative, ...new Array(STRIDE - 1 - cumulative.length).fill(1 << 15)],
    first: [tables.first[phase]],
    count: [count],
  };
}

test("the step is read without decoding", () => {
  const steps = Object.fromEntries(Object.entries(CASES).map(([name, { payload }]) => [name, stepOf(payload)]));
  assert.equal(steps["exact over latents"], 1);
  assert.equal(steps["near over latents"], 6);
  assert.equal(steps["few colours"], 1);
  assert.equal(stepOf(new Uint8Array(0)), 1);
});

const MODEL_SIZE = 2 * (27 + 14) + 52 + 1; // of a grey picture of one block with one class
const HEAD = [0, 0, 0, 0, 0, 1, 1];

/** @param {(number | number[])[]} parts */
const layer = (...parts) => Uint8Array.from(parts.flat());

/**
 * A packed model of zeros but for one byte, and its length.
 *
 * @param {number} size
 * @param {number} at
 * @param {number} value of that byte
 */
function model(size, at = 0, value = 0) {
  const data = new Uint8Array(size);
  data[at] = value;
  return counted([...deflateSync(data)]);
}

/**
 * Bytes behind their number.
 *
 * @param {number[]} data
 */
function counted(data) {
  return [(data.length & 127) | 128, ((data.length >> 7) & 127) | 128, data.length >> 14, ...data];
}

const GREY = { width: 3, height: 2, channels: 1 };
/** @type {[string, Uint8Array, RegExp][]} */
const REFUSED = [
  ["nothing", layer(), /ends early$/],
  ["a kind alone", layer(0, 1, 2), /ends early$/],
  ["kind 3", layer(3, 0, 0, 0, 0), /is of an unknown kind$/],
  ["no step", layer(0, 0, 0, 0, 0, 0, 1, 0), /lacks its model$/],
  ["no classes", layer(0, 0, 0, 0, 0, 1, 0, 0), /lacks its model$/],
  ["no zlib stream", layer(HEAD, 1, 9), /has a model that cannot be unpacked$/],
  ["a model that is cut", layer(HEAD, 200, 1, 9), /ends early$/],
  ["a small model", layer(HEAD, model(MODEL_SIZE - 1)), /has a model of another size$/],
  ["a large model", layer(HEAD, model(1 << 26)), /has a model that cannot be unpacked$/],
  ["a width of 76", layer(HEAD, model(MODEL_SIZE, 82, 76)), /has a model that is out of range$/],
  ["an exponent of 8", layer(HEAD, model(MODEL_SIZE, 83, 8)), /has a model that is out of range$/],
  ["class 1 of 1", layer(HEAD, model(MODEL_SIZE, MODEL_SIZE - 1, 1)), /has a model that is out of range$/],
  ["no strip", layer(HEAD, model(MODEL_SIZE)), /ends early$/],
  ["a strip of 2 bytes", layer(HEAD, model(MODEL_SIZE), 2, 0, 0), /ends early$/],
  ["a strip of 5 bytes", layer(HEAD, model(MODEL_SIZE), 5, 1, 0, 0, 0, 0), /ends early$/],
  ["257 colours", layer(1, 0, 0, 0, 0, 0x81, 2), /has too many colours$/],
  ["colour 256 of grey", layer(1, 0, 0, 0, 0, 2, 255, 1, 1), /has a colour that is none$/],
  ["a colour of six bytes", layer(1, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 1), /a number in it is too long$/],
  ["decisions without end", layer(1, 0, 0, 0, 0, 1, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9), /ends early, or late$/],
  ["decisions that are missing", layer(1, 0, 0, 0, 0, 1, 7), /ends early, or late$/],
  ["five of six samples", layer(2, 0, 0, 0, 0, 1, 2, 3, 4, 5), /is not of the picture's size$/],
];

for (const [name, payload, message] of REFUSED) {
  test(`refused: ${name}`, async () => {
    await assert.rejects(decodeResidual(payload, GREY), (error) => {
      assert.ok(error instanceof StreamError && !(error instanceof ChecksumError), String(error));
      assert.match(error.message, /^the \.tcm file is altered: /);
      assert.match(error.message, message);
      return true;
    });
  });
}

test("refused: a byte behind the layer, a word behind a strip", async () => {
  const { payload, samples, ...shape } = CASES["exact, grey"];
  await assert.rejects(decodeResidual(layer([...payload], 0), shape), /is too long$/);
  const reader = new Reader(payload, 7);
  reader.take(reader.varint());
  const head = [...payload.subarray(0, reader.position)];
  const strip = [...reader.take(reader.varint()), 0, 0];
  const longer = layer(head, counted(strip));
  await assert.rejects(decodeResidual(longer, shape), ChecksumError);
  assert.deepEqual(await decodeResidual(layer(head, counted(strip.slice(0, -2))), shape), samples);
});

test("refused: repeats over latents, stored over latents", async () => {
  for (const name of ["few colours", "stored"]) {
    const { payload, samples, ...shape } = CASES[name];
    await assert.rejects(decodeResidual(payload, { ...shape, decoded: samples }), /is of an unknown kind$/);
  }
});

test("other samples than the encoder's are noticed: the latents differ by one, or a stored sample does", async () => {
  const { payload, samples, ...shape } = CASES["exact over latents"];
  for (const at of [0, 1000, samples.length - 1]) {
    const decoded = Uint8Array.from(/** @type {Uint8Array} */ (shape.decoded));
    decoded[at] ^= 1;
    await assert.rejects(decodeResidual(payload, { ...shape, decoded }), ChecksumError);
  }
  const stored = CASES.stored;
  const altered = stored.payload.slice();
  altered[20] ^= 1;
  await assert.rejects(decodeResidual(altered, stored), ChecksumError);
});

test("latents of another size are the caller's error", async () => {
  const { payload, ...shape } = CASES["exact over latents"];
  await assert.rejects(decodeResidual(payload, { ...shape, decoded: new Uint8Array(7) }), RangeError);
});

/**
 * Payloads with one bit, nine bytes or the end another, or with bytes taken out or put in.
 *
 * @param {Uint8Array} payload
 * @param {(below: number) => number} next
 */
function damaged(payload, next) {
  const at = next(payload.length);
  const noise = Array.from({ length: 1 + next(9) }, () => next(256));
  const kind = next(5);
  if (kind === 0) return payload.slice(0, at);
  if (kind === 1) return payload.map((byte, i) => (i === at ? byte ^ (1 << next(8)) : byte));
  if (kind === 2) return payload.map((byte, i) => noise[i - at] ?? byte);
  const after = payload.subarray(kind === 3 ? at + noise.length : at);
  return Uint8Array.of(...payload.subarray(0, at), ...(kind === 3 ? [] : noise), ...after);
}

test("5,000 damaged payloads: an error, or the encoder's samples", async () => {
  const next = random(7);
  const cases = Object.values(CASES);
  let refused = 0;
  for (let i = 0; i < 5000; i++) {
    const { payload, samples, ...shape } = cases[i % cases.length];
    try {
      assert.deepEqual(await decodeResidual(damaged(payload, next), shape), samples);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      refused++;
    }
  }
  assert.ok(refused > 4800, `${refused} refused`);
});
