import assert from "node:assert/strict";
import { test } from "node:test";

import { ArithmeticMismatchError, decode, describe, ModelMismatchError, parse, StreamError } from "../src/index.js";
import { golden, goldenSamples, goldenScales, goldenTables, LAYERS_ALONE, sampled } from "./golden.js";

const CHANNELS = 4; // of a slice of the golden files' network
const scales = goldenScales();

/**
 * A model that has the golden network's scales and tables, and a picture of its own.
 *
 * @param {string} name of the golden file
 * @param {(row: number, column: number, channel: number) => number} sample
 */
function modelOf(name, sample = () => 0) {
  const file = parse(golden(name));
  const config = { hyper_channels: 8, num_slices: 3, levels: file.quality === null ? 0 : 3 };
  const seen = [];
  const run = async (program, grids, level) => {
    seen.push([program, level]);
    const { height, width } = Object.values(grids)[0];
    if (program === "hyper_synthesis") return { latent_means: { height: 4 * height, width: 4 * width, channels: 12 } };
    const slice = (data) => ({ data, height, width, channels: CHANNELS });
    if (program.startsWith("slice_params")) return { sigma: slice(scales[name][program.at(-1)].slice()) };
    if (program.startsWith("slice_latents")) return { y_hat: slice(new Float32Array(grids.symbols.data)) };
    const data = new Uint8Array(height * 16 * width * 16 * 3);
    for (let i = 0; i < data.length; i++) {
      data[i] = sample(Math.floor(i / 3 / (16 * width)), Math.floor(i / 3) % (16 * width), i % 3);
    }
    return { picture: { data, height: 16 * height, width: 16 * width, channels: 3 } };
  };
  return { name: "golden", identity: file.modelId.padEnd(64, "0"), config, tables: goldenTables(), run, seen };
}

const pattern = (row, column, channel) => (row * 7 + column * 3 + channel * 50) & 255;

test("the picture is cut to the file's size, with its alpha, profile and EXIF", async () => {
  const picture = await decode(golden("rgb_alpha"), { model: modelOf("rgb_alpha", pattern) });
  assert.deepEqual([picture.width, picture.height, picture.grey, picture.alpha], [90, 60, false, true]);
  const at = 4 * (59 * 90 + 89);
  assert.deepEqual(
    [...picture.data.slice(at, at + 3)],
    [0, 1, 2].map((channel) => pattern(59, 89, channel)),
  );
  assert.ok(new Set(picture.data.filter((_, i) => i % 4 === 3)).size > 50);
  const { icc, exif } = await decode(golden("metadata"), { model: modelOf("metadata") });
  assert.deepEqual([icc?.length, exif?.length], [14 * 9, 9 * 9]);
});

test("grey is the rounded mean of three channels", async () => {
  const picture = await decode(golden("grey"), {
    model: modelOf("grey", (_, column, channel) => column + channel * channel),
  });
  assert.ok(picture.grey && !picture.alpha);
  for (const column of [0, 1, 50]) {
    const mean = Math.round((3 * column + 5) / 3);
    assert.deepEqual([...picture.data.slice(4 * column, 4 * column + 4)], [mean, mean, mean, 255]);
  }
});

test("programs get the gain level of the quality", async () => {
  const model = modelOf("quality");
  await decode(golden("quality"), { model });
  assert.equal(model.seen.length, 8);
  for (const [, level] of model.seen) assert.equal(level, ((62.5 - 1) / 99) * 2);
});

test("progress goes from the first slice to the picture", async () => {
  const stages = [];
  await decode(golden("rgb"), {
    model: modelOf("rgb"),
    onProgress: ({ stage, done, all }) => stages.push(`${stage} ${done}/${all}`),
  });
  assert.deepEqual(stages, ["latents 0/3", "latents 1/3", "latents 2/3", "picture 0/1", "picture 1/1"]);
});

test("a layer over another picture than the encoder's is left out, and a note says so", async () => {
  const picture = await decode(golden("layer"), { model: modelOf("layer", pattern) });
  assert.match(picture.note ?? "", /residual layer .* shown without it/);
  assert.equal(picture.data[4 * (90 + 1)], pattern(1, 1, 0));
});

for (const name of LAYERS_ALONE) {
  test(`${name}: exact, without a model`, async () => {
    const picture = await decode(golden(name));
    const channels = picture.grey ? [0] : [0, 1, 2];
    const samples = picture.data.filter((_, i) => channels.includes(i % 4));
    const expected = goldenSamples(name);
    assert.deepEqual(sampled(samples, expected.length), expected);
    assert.equal(picture.note, null);
  });
}

test("what does not fit together is refused", async () => {
  await assert.rejects(decode(golden("rgb")), ModelMismatchError);
  const model = modelOf("rgb");
  await assert.rejects(
    decode(golden("rgb"), { model: { ...model, identity: "0".repeat(64) } }),
    /but this viewer has 0{16}/,
  );
  const gained = { ...model, config: { ...model.config, levels: 3 } };
  await assert.rejects(decode(golden("rgb"), { model: gained }), /only files of variable-rate models have a quality/);
  const fewer = { ...model, config: { ...model.config, num_slices: 2 } };
  await assert.rejects(decode(golden("rgb"), { model: fewer }), /it has 3 slices, its model 2/);
  const other = { ...model, run: async (...all) => shifted(await model.run(...all)) };
  await assert.rejects(decode(golden("rgb"), { model: other }), ArithmeticMismatchError);
  await assert.rejects(decode(golden("rgb"), { model, maxPixels: 16383 }), StreamError);
});

/** @param {Record<string, any>} results */
function shifted(results) {
  results.sigma?.data.forEach((sigma, i) => (results.sigma.data[i] = 2 * sigma));
  return results;
}

test("information is what tcm info prints", () => {
  const lines = (name, model) => Object.fromEntries(describe(golden(name), model));
  const sides = lines("sides", { name: "golden", identity: parse(golden("sides")).modelId });
  assert.equal(sides.picture, "90x60 RGB");
  assert.match(sides.file, /^720 bytes, 1\.0667 bpp$/);
  assert.match(sides.model, /^[0-9a-f]{16} \(golden\)$/);
  assert.equal(sides.rate, "quality 62.5");
  assert.equal(sides.portable, "yes, for 30 bytes: guard band 1e-2");
  assert.match(lines("tiles", null).portable, /^yes, for 507 bytes/);
  assert.match(lines("not_portable", null).portable, /^no: /);
  assert.deepEqual([lines("layer_near", null).rate, lines("layer_alone", null).rate], ["off by at most 3", "exact"]);
  assert.equal(lines("layer_alone", null).model, "none: any decodes it");
  assert.equal(lines("tiles", null).tiles, "512 pixels a side");
  assert.match(lines("rgb_alpha", null).bytes, /^header \d+, checksums 10, corrections \d+, latents \d+, alpha \d+$/);
});
