import assert from "node:assert/strict";
import { test } from "node:test";

import { chosenSides, Network } from "../src/network.js";
import { spans } from "../src/tiles.js";
import { random } from "./random.js";

/** Sums of 3x3 neighbours, zeros outside: a network of small reach. @param {any} grid */
function blurred({ data, height, width, channels }) {
  const out = new Float32Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let dy = Math.max(y - 1, 0); dy <= Math.min(y + 1, height - 1); dy++) {
        for (let dx = Math.max(x - 1, 0); dx <= Math.min(x + 1, width - 1); dx++) {
          for (let c = 0; c < channels; c++)
            out[(y * width + x) * channels + c] += data[(dy * width + dx) * channels + c];
        }
      }
    }
  }
  return { data: out, height, width, channels };
}

/** @param {any} grid @param {number} factor */
function enlarged({ data, height, width, channels }, factor) {
  const out = new Float32Array(data.length * factor * factor);
  const wide = width * factor;
  for (let i = 0; i < out.length; i++) {
    const [y, x] = [Math.floor(i / channels / wide), Math.floor(i / channels) % wide];
    out[i] = data[(Math.floor(y / factor) * width + Math.floor(x / factor)) * channels + (i % channels)];
  }
  return { data: out, height: height * factor, width: wide, channels };
}

const sizes = [];
const model = {
  name: "", identity: "", config: {}, tables: /** @type {any} */ (null),
  /** @param {string} program @param {any} grids */
  async run(program, grids) {
    const [grid] = Object.values(grids);
    sizes.push([grid.height, grid.width]);
    if (program === "synthesis") return { picture: enlarged(blurred(grid), 16) };
    return program === "hyper_synthesis" ? { latent_means: enlarged(blurred(grid), 4) } : { mu: blurred(grid) };
  },
}; // prettier-ignore

/** @param {number} height @param {number} width @param {number} channels @param {number} seed */
function drawn(height, width, channels, seed) {
  const next = random(seed);
  return { data: Float32Array.from({ length: height * width * channels }, () => next(20)), height, width, channels };
}

/** @type {[number, number][]} */
const SIZES = [[128, 128], [512, 640], [640, 512], [1152, 896], [2176, 640]]; // prettier-ignore

for (const size of SIZES) {
  test(`tiles of ${size} are one piece, where nothing reaches over their halos`, async () => {
    const [h, w] = size;
    const whole = new Network(model, null, size, 0);
    const tiled = new Network(model, null, size, 512);
    const z = /** @type {any} */ (drawn(h / 64, w / 64, 2, 1));
    assert.deepEqual(await tiled.hyper(z), await whole.hyper(z));
    const y = drawn(h / 16, w / 16, 3, 2);
    assert.deepEqual(await tiled.sliceParams(0, { y }, []), await whole.sliceParams(0, { y }, []));
    sizes.length = 0;
    const cut = /** @type {[number, number]} */ ([h - 5, w - 77]);
    const picture = await whole.synthesize([y], [], cut, 512, () => {});
    assert.deepEqual(picture, await whole.synthesize([y], [], cut, 0, () => {}));
    const [down, across] = size.map((length) => spans(length, 512, 128).length);
    assert.equal(sizes.length, down * across + 1); // g_s has a halo of 128
    assert.ok(sizes.slice(0, -1).every(([rows, columns]) => rows <= 32 && columns <= 32));
  });
}

test("tiles are those of the format's example", () => {
  const [first, second, third] = spans(2176, 1024, 64);
  assert.deepEqual(first, { start: 0, stop: 1024, first: 0, last: 960 });
  assert.deepEqual(second, { start: 896, stop: 1920, first: 960, last: 1856 });
  assert.deepEqual(third, { start: 1152, stop: 2176, first: 1856, last: 2176 });
});

test("tiles of g_s are bounded and cover any picture", () => {
  for (const size of [
    [128, 128],
    [3072, 4096],
    [128, 2 ** 19],
    [8192, 8192],
  ]) {
    const sides = chosenSides(/** @type {[number, number]} */ (size));
    assert.ok(sides[0] * sides[1] <= 2 ** 20 && sides[0] > 0, `${size}: ${sides}`);
  }
  assert.deepEqual(chosenSides([512, 768]), [512, 768]);
});
