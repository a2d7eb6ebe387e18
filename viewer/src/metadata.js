import { StreamError } from "./errors.js";
import { LzmaError, unpackLzma2 } from "./lzma2.js";
import { inflate } from "./zlib.js";

const MAX_METADATA = 2 ** 22; // bytes of a profile or of EXIF
const LEFT = 1;
const UP = 2;

/**
 * Section 4: the alpha plane [height, width].
 *
 * @param {Uint8Array} packed
 * @param {number} height
 * @param {number} width
 * @returns {Uint8Array}
 */
export function unpackPlane(packed, height, width) {
  const [filters] = packed;
  if (filters > (LEFT | UP)) throw new StreamError("the .tcm file is altered: its alpha has an unknown filter");
  let plane;
  try {
    plane = unpackLzma2(packed.subarray(1), height * width);
  } catch (error) {
    if (!(error instanceof LzmaError)) throw error;
    throw new StreamError("the .tcm file is altered: its alpha cannot be unpacked");
  }
  if (filters & UP) for (let i = width; i < plane.length; i++) plane[i] += plane[i - width];
  if (filters & LEFT) for (let i = 0; i < plane.length; i++) if (i % width) plane[i] += plane[i - 1];
  return plane;
}

/**
 * Sections 5 and 6; null of an empty one.
 *
 * @param {Uint8Array} packed
 * @param {string} what
 */
export async function unpackMetadata(packed, what) {
  if (!packed.length) return null;
  const unpacked = await inflate(packed, MAX_METADATA);
  if (!unpacked) throw new StreamError(`the .tcm file is altered: its ${what} cannot be unpacked`);
  return unpacked;
}
