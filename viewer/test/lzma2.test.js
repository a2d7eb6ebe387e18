import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { crc32 } from "../src/crc32.js";
import { LzmaError, unpackLzma2 } from "../src/lzma2.js";
import { random } from "./random.js";

/** @type {[string, [string, number, number]][]} */
const cases = Object.entries(JSON.parse(readFileSync(new URL("lzma2.json", import.meta.url), "utf8")));

for (const [name, [text, size, checksum]] of cases) {
  const packed = new Uint8Array(Buffer.from(text, "base64"));
  test(`${name}: what xz packed`, () => {
    assert.equal(crc32(unpackLzma2(packed, size)), checksum);
  });
  test(`${name}: another size, an early end and more bytes are refused`, () => {
    for (const other of [size - 1, size + 1]) assert.throws(() => unpackLzma2(packed, other), LzmaError);
    for (const cut of [0, 1, packed.length - 1])
      assert.throws(() => unpackLzma2(packed.subarray(0, cut), size), LzmaError);
    assert.throws(() => unpackLzma2(new Uint8Array([...packed, 0]), size), LzmaError);
  });
  test(`${name}: altered bytes are refused, or unpack to as many`, () => {
    const next = random(1);
    for (let i = 0; i < 100; i++) {
      const altered = packed.slice();
      altered[next(packed.length)] ^= 1 << next(8);
      try {
        assert.equal(unpackLzma2(altered, size).length, size);
      } catch (error) {
        assert.ok(error instanceof LzmaError, String(error));
      }
    }
  });
}
