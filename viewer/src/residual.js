import { crc32 } from "./crc32.js";
import { ChecksumError } from "./errors.js";
import { altered, LayerReader, OTHERWISE } from "./layer_reader.js";
import { decodePredicted } from "./predicted.js";
import { decodeRepeats } from "./repeats.js";

/**
 * Of a picture: its size in pixels, 3 channels of RGB or 1 of grey, and the samples that the latents decode to, row by
 * row with the channels of a pixel side by side; null without latents.
 *
 * @typedef {{width: number, height: number, channels: number, decoded?: Uint8Array | null}} Shape
 */

const KINDS = [decodePredicted, decodeRepeats, decodeStored];
const PREDICTED = 0;

/**
 * The samples of a residual layer, the section 7 of a file; docs/residual.md specifies its bytes.
 *
 * @param {Uint8Array} payload the section
 * @param {Shape} shape
 * @returns {Promise<Uint8Array>} in the layout of `decoded`
 * @throws {StreamError} no such layer
 * @throws {ChecksumError} it does not decode to the samples that were encoded: it, or `decoded`, is another
 */
export async function decodeResidual(payload, { width, height, channels, decoded = null }) {
  const size = width * height * channels;
  if (decoded && decoded.length !== size) throw new RangeError(`decoded has ${decoded.length} samples, not ${size}`);
  const reader = new LayerReader(payload);
  const kind = reader.byte();
  if (kind >= KINDS.length || (kind !== PREDICTED && decoded)) throw altered("is of an unknown kind");
  const checksum = reader.uint(4);
  const samples = await KINDS[kind](reader, { width, height, channels, decoded });
  if (crc32(samples) !== checksum) throw new ChecksumError(OTHERWISE);
  return samples;
}

/**
 * The quantizer's step of a layer: 1 is exact, others are off by up to half of it.
 *
 * @param {Uint8Array} payload
 */
export function stepOf(payload) {
  return payload.length > 5 && payload[0] === PREDICTED ? payload[5] : 1;
}

/**
 * @param {LayerReader} reader
 * @param {Shape} shape
 */
function decodeStored(reader, { width, height, channels }) {
  if (reader.left !== width * height * channels) throw altered("is not of the picture's size");
  return reader.take(reader.left).slice();
}
