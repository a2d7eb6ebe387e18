import { StreamError } from "./errors.js";

const EARLY = "the .tcm file is altered: its corrections end early";
const OUTSIDE = "the .tcm file is altered: a correction lies outside the picture";

/** Bits of a byte string, the highest of a byte first. */
class Bits {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.position = 0;
  }

  left() {
    return 8 * this.bytes.length - this.position;
  }

  /** @param {number} count */
  read(count) {
    if (count > this.left()) throw new StreamError(EARLY);
    let value = 0;
    for (const end = this.position + count; this.position < end; this.position++) {
      value = 2 * value + ((this.bytes[this.position >> 3] >> (7 - (this.position & 7))) & 1);
    }
    return value;
  }

  /** Length of the run of zeros before the next one; reads both. */
  zeros() {
    let count = 0;
    while (!this.read(1)) count++;
    return count;
  }
}

/**
 * Section 2 of older files: flat positions of each slice, increasing, below `most` (docs/format.md, appendix).
 *
 * @param {Uint8Array} payload
 * @param {number} slices
 * @param {number} most
 * @returns {number[][]}
 */
export function parseCorrections(payload, slices, most) {
  const bits = new Bits(payload);
  const corrections = Array.from({ length: slices }, () => parsePositions(bits, most));
  if (bits.left() > 7 || bits.read(bits.left())) {
    throw new StreamError("the .tcm file is altered: its corrections end late");
  }
  return corrections;
}

/**
 * The listed positions of a slice of `symbols` symbols.
 *
 * @param {number[]} positions
 * @param {number} symbols
 */
export function listedPositions(positions, symbols) {
  if (positions.length && positions[positions.length - 1] >= symbols) throw new StreamError(OUTSIDE);
  return positions;
}

/**
 * @param {Bits} bits
 * @param {number} most
 */
function parsePositions(bits, most) {
  const length = bits.zeros();
  const count = 2 ** length + bits.read(length) - 1;
  if (count === 0) return [];
  const k = bits.read(5);
  if (count * (k + 1) > bits.left()) throw new StreamError(EARLY);
  const positions = [];
  let at = -1;
  for (let i = 0; i < count; i++) {
    at += bits.zeros() * 2 ** k + bits.read(k) + 1;
    if (at >= most) throw new StreamError(OUTSIDE);
    positions.push(at);
  }
  return positions;
}
