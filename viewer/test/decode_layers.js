/**
 * Decodes residual layers for tests/test_viewer_layer.py: of each line a JSON object {width, height, channels, payload,
 * decoded}, bytes as base64, answered by one {samples} or {error}.
 */
import { createInterface } from "node:readline";

import { TcmError } from "../src/errors.js";
import { decodeResidual } from "../src/residual.js";

const bytes = (/** @type {string} */ text) => new Uint8Array(Buffer.from(text, "base64"));

for await (const line of createInterface({ input: process.stdin })) {
  const { payload, decoded, ...shape } = JSON.parse(line);
  let answer;
  try {
    if (decoded !== null) shape.decoded = bytes(decoded);
    const samples = await decodeResidual(bytes(payload), shape);
    answer = { samples: Buffer.from(samples).toString("base64") };
  } catch (error) {
    if (!(error instanceof TcmError)) throw error;
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
