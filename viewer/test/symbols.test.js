import assert from "node:assert/strict";
import { test } from "node:test";

import { paddedSize, parse } from "../src/container.js";
import { ArithmeticMismatchError, StreamError } from "../src/errors.js";
import { SymbolReader } from "../src/symbols.js";
import { chosenTables, SCALES } from "../src/table_choice.js";
import { golden, goldenScales, goldenTables, LATENTS } from "./golden.js";

const HYPER_CHANNELS = 8; // of the golden files' network
const tables = goldenTables();
const scales = goldenScales();

/**
 * @param {import("../src/container.js").Container} file
 * @param {Float32Array[]} slices
 */
function read(file, slices) {
  const [rows, columns] = paddedSize(file.height, file.width);
  const reader = new SymbolReader(file, tables);
  reader.readHyper((rows * columns) / 64 ** 2, HYPER_CHANNELS);
  const symbols = slices.map((sigma) => reader.readSlice(sigma));
  reader.finish();
  return { symbols, repaired: reader.repaired };
}

for (const name of LATENTS) {
  test(`${name}: every symbol is the one that was encoded, as the file's checksums say`, () => {
    const { symbols, repaired } = read(parse(golden(name)), scales[name]);
    assert.equal(repaired, 0);
    assert.ok(symbols.some((slice) => slice.some((symbol) => symbol)));
  });
}

for (const name of ["rgb", "sides", "tiles"]) {
  test(`${name}: scales that differ by less than the guard band change nothing`, () => {
    const file = parse(golden(name));
    for (const factor of [1 - 0.9 * file.guardBand, 1 + 0.9 * file.guardBand]) {
      const differing = scales[name].map((slice) => slice.map((sigma) => sigma * factor));
      assert.equal(read(file, differing).repaired, 0);
    }
  });
}

test("one scale that differs by more is found; many are told", () => {
  const file = parse(golden("sides"));
  const [first, ...others] = scales.sides;
  const below = [...chosenTables(first, 0).indexes].map((table) => SCALES[table - 1]);
  const at = first.findIndex((sigma, i) => sigma > 1.01 * below[i] && sigma < 1.012 * below[i]); // outside the band
  const wrong = first.with(at, 0.989 * below[at]); // and so on its other side
  assert.ok(read(file, [wrong, ...others]).repaired > 0);
  assert.throws(() => read(file, [first.map((sigma) => 1.1 * sigma), ...others]), ArithmeticMismatchError);
});

test("a stream that was altered under a right checksum of the file is refused", () => {
  const file = parse(golden("sides"));
  for (const at of [0, 5, file.stream.length - 1]) {
    const stream = file.stream.slice();
    stream[at] ^= 1;
    assert.throws(() => read({ ...file, stream }, scales.sides), StreamError);
  }
  const longer = new Uint8Array([...file.stream, 1]);
  assert.throws(() => read({ ...file, stream: longer }, scales.sides), /do not end where they should/);
});

test("tables are those of comparisons in float32", () => {
  const steps = [-1e-3, -6e-8, 0, 6e-8, 1e-3];
  const sigma = Float32Array.from([...SCALES].flatMap((scale) => steps.map((step) => scale * (1 + step))));
  const special = Float32Array.of(NaN, Infinity, -Infinity, -1, 0, -0, 1e-40, 3e38);
  const all = Float32Array.of(...sigma, ...special);
  const expected = [...all].map((s) => (s === s ? SCALES.slice(0, -1).filter((scale) => scale < s).length : 63));
  for (const guardBand of [0, 4e-5, 0.01, 0.03, 0.09]) {
    const { indexes, near, boundary } = chosenTables(all, guardBand);
    assert.deepEqual([...indexes], expected);
    const within = (/** @type {number} */ s) => (/** @type {number} */ scale) =>
      Math.abs(s - scale) <= guardBand * scale;
    const nearOnes = [...all].flatMap((s, i) => (guardBand && SCALES.slice(0, -1).some(within(s)) ? [i] : []));
    assert.deepEqual(near, nearOnes);
    near.forEach((position, i) => assert.ok(within(all[position])(SCALES[boundary[i]])));
  }
});
