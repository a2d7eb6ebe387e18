import assert from "node:assert/strict";
import { test } from "node:test";

import { blockBytes } from "../page/blocks.js";

test("a block is its bytes, an odd one and escapes among them", () => {
  const units = [65, 1, 60 ^ 0x8080, 1, 0xd800 ^ 0x8080, 9]; // as tests/test_page.py has them
  assert.deepEqual([...blockBytes(`7:${String.fromCharCode(...units)}`)], [65, 0, 60, 0, 0, 216, 9]);
  assert.deepEqual([...blockBytes("0:")], []);
});
