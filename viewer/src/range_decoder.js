import { StreamError } from "./errors.js";

const MAX_ESCAPE_ZEROS = 31;
const MAX_OVERREAD = 256; // bytes of zeros past the end
const ESCAPE_WORDS = 8; // of 16 bits: more than any symbol takes
const MAX_SYMBOL = 2 ** 29;
const BAD_ESCAPE = "the coded latents hold an impossible escape code: the file is altered";

/**
 * The decoder of docs/range_coder.md.
 *
 * All numbers are integers below 2^53: the size of the range is at most 2^32, a frequency at most 2^16.
 */
export class RangeDecoder {
  /**
   * @param {import("./range_tables.js").RangeTables} tables
   * @param {Uint8Array} stream
   */
  constructor(tables, stream) {
    this.tables = tables;
    this.length = stream.length;
    this.words = new Uint16Array(((stream.length + MAX_OVERREAD) >> 1) + ESCAPE_WORDS);
    for (let i = 0; i < stream.length; i++) this.words[i >> 1] |= i & 1 ? stream[i] : stream[i] << 8;
    this.base = 0;
    this.size = 2 ** 32;
    this.value = this.words[0] * 65536 + this.words[1];
    this.position = 2; // in words
  }

  /**
   * Fills `out` with the next symbols, by their tables.
   *
   * @param {Uint8Array | Uint16Array} indexes
   * @param {Int32Array} out
   * @throws {StreamError} the stream ends early or is altered, or the tables are wrong
   */
  decode(indexes, out) {
    const { lookup, starts, sizes, offsets, likeliest, buckets } = this.tables;
    const limit = this.words.length - ESCAPE_WORDS;
    for (let i = 0; i < indexes.length; i++) {
      if (this.position > limit) break;
      const table = indexes[i];
      const start = starts[table];
      const { size } = this;
      const ahead = (this.value - this.base) >>> 0;
      let place = likeliest[table];
      let low = Math.floor((size * lookup[start + place]) / 65536);
      let high = Math.floor((size * lookup[start + place + 1]) / 65536);
      if (ahead < low || ahead >= high) {
        const target = Math.floor(((ahead + 1) * 65536 - 1) / size);
        place = buckets[(table << 10) + (target >> 6)];
        while (lookup[start + place + 1] <= target) place++;
        low = Math.floor((size * lookup[start + place]) / 65536);
        high = Math.floor((size * lookup[start + place + 1]) / 65536);
      }
      this.narrow(low, high);
      const symbol = offsets[table] + (place === sizes[table] ? this.escaped(place) : place);
      if (symbol > MAX_SYMBOL || symbol < -MAX_SYMBOL) throw new StreamError(BAD_ESCAPE);
      out[i] = symbol;
    }
    if (this.position > limit) {
      throw new StreamError("the coded latents end early: the file is truncated or altered");
    }
  }

  /**
   * @param {number} low
   * @param {number} high
   */
  narrow(low, high) {
    this.base = (this.base + low) >>> 0;
    this.size = high - low;
    if (this.size <= 65536) {
      this.base = (this.base << 16) >>> 0;
      this.size *= 65536;
      this.value = ((this.value << 16) | this.words[this.position++]) >>> 0;
    }
  }

  /**
   * An escaped symbol, counted from the table's first.
   *
   * @param {number} regular number of regular symbols
   */
  escaped(regular) {
    let zeros = 0;
    while (!this.bit()) if (++zeros > MAX_ESCAPE_ZEROS) throw new StreamError(BAD_ESCAPE);
    let gamma = 1;
    for (let i = 0; i < zeros; i++) gamma = 2 * gamma + this.bit();
    return this.bit() ? -gamma : gamma + regular - 1;
  }

  bit() {
    const half = Math.floor(this.size / 2);
    const bit = (this.value - this.base) >>> 0 >= half ? 1 : 0;
    if (bit) this.narrow(half, this.size);
    else this.narrow(0, half);
    return bit;
  }

  /** Where the decoder is, for `seek`. */
  tell() {
    const { base, size, value, position } = this;
    return { base, size, value, position };
  }

  /** @param {{base: number, size: number, value: number, position: number}} place */
  seek(place) {
    Object.assign(this, place);
  }

  /** @throws {StreamError} the stream does not end here */
  finish() {
    const last = this.base + this.size - 1;
    let expected = 0;
    if (this.base && last < 2 ** 32) {
      const unit = Math.floor((this.base - 1) / 2 ** 24) < Math.floor(last / 2 ** 24) ? 2 ** 24 : 2 ** 16;
      expected = Math.ceil(this.base / unit) * unit;
    }
    if (2 * this.position < this.length || this.value !== expected) {
      throw new StreamError("the coded latents do not end where they should: the file is altered");
    }
  }
}
