import { crc32 } from "./crc32.js";
import { deflate, joined } from "./zlib.js";

const SIGNATURE = Uint8Array.of(0x89, 80, 78, 71, 13, 10, 26, 10);
const PAETH = 4;
const ROWS = 64; // filtered at a time

/**
 * A picture as the bytes of a PNG, with as many channels as its file has, its ICC profile and its EXIF.
 *
 * @param {import("./decode.js").Picture} picture
 * @returns {Promise<Uint8Array>}
 */
export async function encodePng(picture) {
  const { width, height, grey, alpha, icc, exif } = picture;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, (grey ? 0 : 2) + (alpha ? 4 : 0)], 8);
  const chunks = [SIGNATURE, ...chunk("IHDR", header)];
  if (icc) {
    const name = [...new TextEncoder().encode("ICC profile"), 0, 0];
    chunks.push(...chunk("iCCP", Uint8Array.of(...name), await deflate([icc])));
  }
  if (exif) chunks.push(...chunk("eXIf", exif));
  chunks.push(...chunk("IDAT", await deflate(filtered(picture))), ...chunk("IEND"));
  return joined(
    chunks,
    chunks.reduce((size, part) => size + part.length, 0),
  );
}

/**
 * @param {string} kind
 * @param {Uint8Array[]} parts of its data
 */
function chunk(kind, ...parts) {
  const frame = new Uint8Array(8);
  const view = new DataView(frame.buffer);
  view.setUint32(
    0,
    parts.reduce((size, part) => size + part.length, 0),
  );
  frame.set(new TextEncoder().encode(kind), 4);
  const checksum = new Uint8Array(4);
  const named = crc32(frame.subarray(4));
  new DataView(checksum.buffer).setUint32(
    0,
    parts.reduce((crc, part) => crc32(part, crc), named),
  );
  return [frame, ...parts, checksum];
}

/**
 * Rows with their filter bytes, some at a time: each sample less the Paeth predictor of its neighbours.
 *
 * @param {import("./decode.js").Picture} picture
 */
function* filtered({ width, height, data, grey, alpha }) {
  const places = [0, ...(grey ? [] : [1, 2]), ...(alpha ? [3] : [])]; // of the channels in RGBA
  const step = places.length;
  const row = 1 + width * step;
  for (let top = 0; top < height; top += ROWS) {
    const bottom = Math.min(top + ROWS, height);
    const out = new Uint8Array((bottom - top) * row);
    for (let y = top; y < bottom; y++) {
      const start = (y - top) * row;
      out[start] = PAETH;
      for (let channel = 0; channel < step; channel++) {
        let left = 0;
        let corner = 0;
        for (let x = 0; x < width; x++) {
          const at = 4 * (y * width + x) + places[channel];
          const above = y ? data[at - 4 * width] : 0;
          out[start + 1 + x * step + channel] = data[at] - paeth(left, above, corner);
          left = data[at];
          corner = above;
        }
      }
    }
    yield out;
  }
}

/**
 * @param {number} a left
 * @param {number} b above
 * @param {number} c above on the left
 */
function paeth(a, b, c) {
  const pa = Math.abs(b - c);
  const pb = Math.abs(a - c);
  const pc = Math.abs(a + b - 2 * c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}
