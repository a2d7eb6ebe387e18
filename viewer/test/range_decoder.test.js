import assert from "node:assert/strict";
import { test } from "node:test";

import { StreamError } from "../src/errors.js";
import { RangeDecoder } from "../src/range_decoder.js";
import { goldenTables } from "./golden.js";
import { random } from "./random.js";

const tables = goldenTables();
const BITS = 16n;

/**
 * The encoder of docs/range_coder.md, with numbers without limit.
 *
 * @param {number[]} indexes
 * @param {number[]} symbols
 */
function encode(indexes, symbols) {
  let [base, size, shifts] = [0n, 1n << 32n, 0n];
  const code = (/** @type {number} */ lower, /** @type {number} */ upper, /** @type {bigint} */ p) => {
    const low = (size * BigInt(lower)) >> p;
    base += low;
    size = ((size * BigInt(upper)) >> p) - low;
    if (size <= 1n << BITS) [base, size, shifts] = [base << BITS, size << BITS, shifts + 1n];
  };
  symbols.forEach((symbol, i) => {
    const [start, count] = [tables.starts[indexes[i]], tables.sizes[indexes[i]]];
    const place = symbol - tables.offsets[indexes[i]];
    const regular = place >= 0 && place < count;
    const at = start + (regular ? place : count);
    code(tables.lookup[at], tables.lookup[at + 1], BITS);
    if (regular) return;
    const gamma = place < 0 ? -place : place - count + 1;
    const text = gamma.toString(2);
    for (const bit of "0".repeat(text.length - 1) + text + Number(place < 0)) code(Number(bit), Number(bit) + 1, 1n);
  });
  return written(base, size, shifts);
}

/**
 * @param {bigint} base
 * @param {bigint} size
 * @param {bigint} shifts
 */
function written(base, size, shifts) {
  const unit = 1n << 32n;
  const up = (/** @type {bigint} */ to) => ((base + to - 1n) / to) * to;
  const hex = (/** @type {bigint} */ value) => value.toString(16).padStart(Number(8n + 4n * shifts), "0");
  const mid = (base / unit + 1n) * unit;
  const bytes = (/** @type {string} */ text) => new Uint8Array(Buffer.from(text, "hex"));
  if (mid < base + size) return bytes(hex(mid).replace(/(00)+$/, ""));
  if (base % unit === 0n) return bytes(hex(base).slice(0, Number(4n * shifts)));
  const short = up(1n << 24n) < base + size;
  const length = Number(4n * shifts) + (short ? 2 : 4);
  return bytes(hex(up(short ? 1n << 24n : 1n << 16n)).slice(0, length));
}

/**
 * @param {number} seed
 * @param {number} count
 */
function drawn(seed, count) {
  const next = random(seed);
  const indexes = Array.from({ length: count }, () => next(tables.starts.length));
  const symbols = indexes.map((table) => {
    const reach = [tables.sizes[table], 40, 5000, 2 ** 29][next(20) ? 0 : next(4)];
    return reach === tables.sizes[table] ? tables.offsets[table] + next(reach) : next(2 * reach + 1) - reach;
  });
  return { indexes, symbols };
}

test("decodes what the specification's encoder wrote, to its end", () => {
  for (let seed = 0; seed < 200; seed++) {
    const { indexes, symbols } = drawn(seed, seed);
    const decoder = new RangeDecoder(tables, encode(indexes, symbols));
    const out = new Int32Array(seed);
    decoder.decode(Uint16Array.from(indexes), out);
    assert.deepEqual([...out], symbols);
    decoder.finish();
  }
});

test("goes back to where it was told", () => {
  const { indexes, symbols } = drawn(5, 300);
  const decoder = new RangeDecoder(tables, encode(indexes, symbols));
  const out = new Int32Array(150);
  decoder.decode(Uint16Array.from(indexes.slice(0, 150)), out);
  const place = decoder.tell();
  for (let i = 0; i < 2; i++) {
    decoder.seek(place);
    decoder.decode(Uint16Array.from(indexes.slice(150)), out);
    assert.deepEqual([...out], symbols.slice(150));
  }
});

test("bytes of chance end in symbols within bounds or in a StreamError", () => {
  const next = random(3);
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const stream = Uint8Array.from({ length: next(80) }, () => next(256));
    const decoder = new RangeDecoder(tables, stream);
    const { indexes } = drawn(i, next(60));
    const out = new Int32Array(indexes.length);
    try {
      decoder.decode(Uint16Array.from(indexes), out);
      decoder.finish();
    } catch (error) {
      assert.ok(error instanceof StreamError, String(error));
      refused++;
    }
    assert.ok(out.every((symbol) => Math.abs(symbol) <= 2 ** 29));
  }
  assert.ok(refused > 150, String(refused));
});
