import assert from "node:assert/strict";
import { test } from "node:test";
import { inflateSync } from "node:zlib";

import { crc32 } from "../src/crc32.js";
import { encodePng } from "../src/png.js";
import { random } from "./random.js";

/** @param {Uint8Array} png */
function chunks(png) {
  const found = new Map();
  const view = new DataView(png.buffer, png.byteOffset);
  for (let at = 8; at < png.length;) {
    const size = view.getUint32(at);
    const named = png.subarray(at + 4, at + 8 + size);
    assert.equal(view.getUint32(at + 8 + size), crc32(named));
    found.set(Buffer.from(named.subarray(0, 4)).toString(), named.subarray(4));
    at += 12 + size;
  }
  return found;
}

/** Samples of rows that are filtered by Paeth. @param {Uint8Array} rows @param {number} row @param {number} step */
function unfiltered(rows, row, step) {
  const out = [];
  for (let i = 0; i < rows.length; i++) {
    const [y, x] = [Math.floor(i / (row + 1)), (i % (row + 1)) - 1];
    if (x < 0) {
      assert.equal(rows[i], 4);
      continue;
    }
    const a = x >= step ? out[y * row + x - step] : 0;
    const b = y ? out[(y - 1) * row + x] : 0;
    const c = y && x >= step ? out[(y - 1) * row + x - step] : 0;
    const distance = [a, b, c].map((value) => Math.abs(a + b - c - value));
    out.push((rows[i] + [a, b, c][distance.indexOf(Math.min(...distance))]) & 255);
  }
  return out;
}

for (const [grey, alpha, type] of /** @type {[boolean, boolean, number][]} */ ([
  [true, false, 0],
  [false, false, 2],
  [true, true, 4],
  [false, true, 6],
])) {
  // prettier-ignore
  test(`a PNG of colour type ${type} has the picture's samples and metadata`, async () => {
    const [width, height] = [37, 130];
    const next = random(type);
    const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) => (next(30) + (i >> 6)) & 255);
    for (let i = 0; i < data.length; i += 4) if (grey) data[i + 1] = data[i + 2] = data[i];
    const [icc, exif] = [new Uint8Array([1, 2, 3]), new Uint8Array([73, 73, 42, 0])];
    const found = chunks(await encodePng({ width, height, data, grey, alpha, icc, exif, note: null }));
    assert.deepEqual([...found.keys()], ["IHDR", "iCCP", "eXIf", "IDAT", "IEND"]);
    assert.deepEqual([...found.get("IHDR")], [0, 0, 0, 37, 0, 0, 0, 130, 8, type, 0, 0, 0]);
    assert.deepEqual([...inflateSync(found.get("iCCP").subarray(13))], [...icc]);
    assert.deepEqual([...found.get("eXIf")], [...exif]);
    const kept = [0, ...(grey ? [] : [1, 2]), ...(alpha ? [3] : [])];
    const samples = [...data].filter((_, i) => kept.includes(i % 4));
    assert.deepEqual(unfiltered(inflateSync(found.get("IDAT")), width * kept.length, kept.length), samples);
  });
}
