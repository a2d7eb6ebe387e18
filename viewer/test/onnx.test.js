import assert from "node:assert/strict";
import { test } from "node:test";

import { openModel } from "../src/onnx.js";

const GRIDS = { y_hat_0: { data: new Float32Array(32 * 24 * 2).fill(7), height: 32, width: 24, channels: 2 } };
const DESCRIPTION = { name: "a", identity: "b", config: {}, lookup: [-16, 0, 9, 65536], offsets: [0] };

class Tensor {
  /** @param {string} type @param {any} data @param {number[]} dims */
  constructor(type, data, dims) {
    Object.assign(this, { type, data, dims });
  }
}

/**
 * A runtime whose GPU adds `offset` to the pixels, and fails from its run number `works` on.
 *
 * @param {number} offset
 * @param {number} works
 */
function runtime(offset, works = Infinity) {
  /** @type {any[]} */
  const runs = [];
  const create = async (/** @type {any} */ bytes, /** @type {any} */ { executionProviders: [provider] }) => ({
    inputNames: ["y_hat_0", "level"],
    async run(/** @type {any} */ feeds) {
      const [height, width] = feeds.y_hat_0.dims;
      if (provider === "webgpu" && works-- <= 0) throw new Error("device lost");
      runs.push({ provider, height, width, level: feeds.level.data[0], bytes });
      const value = 100 + (provider === "webgpu" ? offset : 0);
      const data = new Uint8Array(height * width * 3).fill(value);
      return { picture: new Tensor("uint8", data, [height, width, 3]) };
    },
  });
  return { ort: { Tensor, InferenceSession: { create } }, runs };
}

/** @param {any} ort @param {boolean} webgpu */
const opened = (ort, webgpu) =>
  openModel(ort, DESCRIPTION, async (program) => new TextEncoder().encode(program), { webgpu });

test("a program gets its grids and the gain level, and gives grids", async () => {
  const { ort, runs } = runtime(0);
  const { picture } = await opened(ort, false).run("synthesis", GRIDS, 1.5);
  assert.deepEqual([picture.height, picture.width, picture.channels, picture.data[5]], [32, 24, 3, 100]);
  const [{ provider, level, bytes }] = runs;
  assert.deepEqual([provider, level, new TextDecoder().decode(bytes), runs.length], ["wasm", 1.5, "synthesis", 1]);
});

for (const [offset, expected] of [
  [0, "webgpu"],
  [-2, "webgpu"],
  [2, "webgpu"],
  [3, "wasm"],
  [-3, "wasm"],
]) {
  // prettier-ignore
  test(`a GPU whose pixels are off by ${offset}: g_s runs on ${expected}`, async () => {
    const { ort, runs } = runtime(Number(offset));
    const model = opened(ort, true);
    for (let i = 0; i < 2; i++) await model.run("synthesis", GRIDS, 0);
    assert.deepEqual(runs.map(({ provider }) => provider), ["webgpu", "wasm", expected, expected]); // prettier-ignore
    assert.deepEqual(runs.map(({ height, width }) => [height, width]), [[16, 16], [16, 16], [32, 24], [32, 24]]); // prettier-ignore
  });
}

test("the entropy model never runs on a GPU", async () => {
  const { ort, runs } = runtime(0);
  await opened(ort, true).run("slice_params_0", GRIDS, 0);
  assert.deepEqual(runs.map(({ provider }) => provider), ["wasm"]); // prettier-ignore
});

for (const works of [0, 1]) {
  test(`a GPU that fails at run ${works} is left`, async () => {
    const { ort, runs } = runtime(0, works);
    const model = opened(ort, true);
    for (let i = 0; i < 2; i++) assert.equal((await model.run("synthesis", GRIDS, 0)).picture.data[0], 100);
    assert.deepEqual(runs.slice(-2).map(({ provider }) => provider), ["wasm", "wasm"]); // prettier-ignore
  });
}
