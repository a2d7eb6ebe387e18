import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_PIXELS, parse } from "../src/container.js";
import { crc32 } from "../src/crc32.js";
import { StreamError } from "../src/errors.js";
import { unpackMetadata, unpackPlane } from "../src/metadata.js";
import { golden, LATENTS, LAYERS_ALONE } from "./golden.js";
import { random } from "./random.js";

const ALL = [...LATENTS, ...LAYERS_ALONE];
const TRUNCATED = /^the \.tcm file is truncated: it ends before its data does$/;
const LAYER = 16;
const SECTION = [7, 12, ...new Array(12).fill(1)]; // a layer, as far as the container goes
const GREY = 4;

/**
 * The bytes with a right checksum.
 *
 * @param {number[]} body
 */
function signed(body) {
  const data = new Uint8Array([...body, 0, 0, 0, 0]);
  new DataView(data.buffer).setUint32(body.length, crc32(data.subarray(0, -4)), true);
  return data;
}

/** @param {{version?: number, flags?: number, size?: number[], band?: number[], rest?: number[]}} parts */
function file({ version = 1, flags = LAYER, size = [3, 2], band = [0, 0, 0, 0], rest = SECTION }) {
  return signed([0x89, 84, 67, 77, version, flags, ...size, ...new Array(8).fill(0), ...band, ...rest]);
}

const LATENT_SECTIONS = [1, 6, 0, 0, 0, 0, 0, 0, 3, 1, 7];
/** @type {[string, Uint8Array, RegExp][]} */
const REFUSED = [
  ["nothing", new Uint8Array(0), /^this is not a \.tcm file$/],
  ["a PNG", new Uint8Array([0x89, 80, 78, 71, ...new Array(40).fill(0)]), /^this is not a \.tcm file$/],
  ["a newer version", file({ version: 2 }), /format version 2, not 1/],
  ["an unknown flag", file({ flags: LAYER | 32 }), /features that this viewer lacks/],
  ["no width", file({ size: [0, 2] }), /declares a picture of 0x2 pixels/],
  ["a width of 2^31", file({ size: [128, 128, 128, 128, 8, 1] }), /declares a picture of 2147483648x1 pixels/],
  ["a varint of six bytes", file({ size: [128, 128, 128, 128, 128, 1, 1] }), /a number in it is too long/],
  ["too many pixels", file({ size: [128, 128, 64, 128, 128, 64] }), /has 1048576x1048576 pixels; padded, that is over/],
  ["a negative guard band", file({ band: [0, 0, 0, 0x80 | 0x3c] }), /its guard band is out of range/],
  ["a guard band that is no number", file({ band: [0, 0, 0xc0, 0x7f] }), /its guard band is out of range/],
  ["a guard band of 0.5", file({ band: [0, 0, 0, 0x3f] }), /its guard band is out of range/],
  ["quality 0", file({ flags: LAYER | 1, rest: [99, 0, ...SECTION] }), /its quality is out of range/],
  ["quality 101", file({ flags: LAYER | 1, rest: [0x11, 0x27, ...SECTION] }), /its quality is out of range/],
  ["small tiles", file({ flags: LAYER | 2, rest: [3, ...SECTION] }), /the size of its tiles is out of range/],
  ["large tiles", file({ flags: LAYER | 2, rest: [65, ...SECTION] }), /the size of its tiles is out of range/],
  ["section 0", file({ rest: [0, 1, 1, ...SECTION] }), /a section 0 unknown/],
  ["section 8", file({ rest: [...SECTION, 8, 1, 1] }), /a section 8 unknown/],
  ["sections out of order", file({ rest: [...SECTION, 5, 1, 1] }), /its sections are out of order/],
  ["a section twice", file({ rest: [...SECTION, ...SECTION] }), /its sections are out of order/],
  ["an empty profile", file({ rest: [5, 0, ...SECTION] }), /its alpha, its layer or its metadata is empty/],
  ["a layer that is not named", file({ flags: 0 }), /lacks its residual layer, or has one that it does not name/],
  ["a named layer that is not there", file({ rest: LATENT_SECTIONS }), /lacks its residual layer/],
  [
    "checksums without latents",
    file({ rest: [1, 6, 0, 0, 0, 0, 0, 0, ...SECTION] }),
    /lacks its checksums or its latents/,
  ],
  ["no latents", file({ flags: 0, rest: [5, 8, ...new Array(8).fill(1)] }), /lacks its checksums or its latents/],
  ["checksums of 5 bytes", file({ flags: 0, rest: [1, 5, 0, 0, 0, 0, 0, 3, 1, 7] }), /an impossible length/],
  ["checksums of 3 bytes", file({ flags: 0, rest: [1, 3, 0, 0, 0, 3, 5, 7, 7, 7, 7, 7] }), /an impossible length/],
  ["a section beyond the end", file({ rest: [7, 50, 1, 2, 3] }), TRUNCATED],
  ["corrections that end early", file({ flags: 0, rest: [1, 6, 0, 0, 0, 0, 0, 0, 2, 1, 0, 3, 1, 7] }), /end early/],
  ["corrections that end late", file({ flags: 0, rest: [1, 6, 0, 0, 0, 0, 0, 0, 2, 2, 128, 0, 3, 1, 7] }), /end late/],
];

for (const [what, data, message] of REFUSED) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => parse(data),
      (error) => error instanceof StreamError && message.test(error.message),
    );
  });
}

test("what is refused above is taken without its fault", () => {
  assert.equal(parse(file({})).layer.length, 12);
  assert.equal(parse(file({ flags: LAYER | GREY | 3, rest: [100, 0, 4, ...SECTION] })).tile, 512);
  assert.deepEqual(parse(file({ flags: 0, rest: LATENT_SECTIONS })).checksums, [0, 0]);
});

for (const name of ALL) {
  test(`${name}: cut anywhere it is refused, mostly as truncated; altered anywhere as altered`, () => {
    const data = golden(name);
    const cuts = Array.from({ length: 200 }, (_, i) => Math.floor((i * data.length) / 200));
    let truncated = 0;
    for (const cut of cuts.slice(1)) {
      assert.throws(
        () => parse(data.subarray(0, cut)),
        (error) => {
          truncated += Number(TRUNCATED.test(/** @type {Error} */ (error).message));
          return error instanceof StreamError;
        },
      );
    }
    assert.ok(truncated > 150, String(truncated));
    const next = random(7);
    for (let i = 0; i < 200; i++) {
      const altered = data.slice();
      altered[next(data.length)] ^= 1 << next(8);
      assert.throws(() => parse(altered), StreamError);
    }
  });

  test(`${name}: altered under a right checksum it is read or refused`, () => {
    const next = random(8);
    for (let i = 0; i < 300; i++) {
      const altered = [...golden(name).subarray(0, -4)];
      altered[5 + next(Math.min(60, altered.length - 5))] = next(256);
      try {
        const { width, height } = parse(signed(altered));
        assert.ok(width * height <= MAX_PIXELS);
      } catch (error) {
        assert.ok(error instanceof StreamError, String(error));
      }
    }
  });
}

test("alpha, profile and EXIF come back byte by byte", async () => {
  const alpha = Uint8Array.from({ length: 60 * 90 }, (_, i) => {
    const distance = Math.hypot(Math.floor(i / 90) - 30, (i % 90) - 45);
    return Math.min(Math.max(distance * 9 - 100, 0), 255);
  });
  for (const name of ["rgb_alpha", "grey_alpha", "layer"]) {
    assert.deepEqual(unpackPlane(parse(golden(name)).alpha, 60, 90), alpha);
  }
  const { icc, exif } = parse(golden("metadata"));
  const text = (/** @type {Uint8Array | null} */ bytes) => Buffer.from(bytes ?? []).toString("latin1");
  assert.equal(text(await unpackMetadata(icc, "ICC profile")), "an ICC profile".repeat(9));
  assert.equal(text(await unpackMetadata(exif, "EXIF")), "II*\0 EXIF".repeat(9));
  assert.equal(await unpackMetadata(new Uint8Array(0), "EXIF"), null);
});

test("damaged alpha, profile and EXIF are refused", async () => {
  const { alpha } = parse(golden("rgb_alpha"));
  assert.throws(() => unpackPlane(alpha, 60, 91), /its alpha cannot be unpacked/);
  assert.throws(() => unpackPlane(alpha.with(0, 4), 60, 90), /an unknown filter/);
  const { icc } = parse(golden("metadata"));
  const longer = new Uint8Array([...icc, 0]);
  for (const bad of [icc.subarray(0, -1), longer, icc.with(icc.length - 1, 1), icc.with(0, 1)]) {
    await assert.rejects(unpackMetadata(bad, "ICC profile"), /its ICC profile cannot be unpacked/);
  }
});
