import { PLACE_SHIFT, STRIDE } from "./frequencies.js";
import { altered } from "./layer_reader.js";

const STATE = 0; // 32 bits of whatever sign
const NEXT = 1;
const ESCAPE_BITS = 9;
const ESCAPE = 256; // an escaped symbol k is k + 256

/** A strip's words of 16 bits and the state of their decoder. */
export class Words {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    if (bytes.length < 4 || bytes.length & 1) throw altered("ends early");
    this.words = Uint16Array.from({ length: bytes.length >> 1 }, (_, i) => bytes[2 * i] | (bytes[2 * i + 1] << 8));
    this.state = Int32Array.of((this.words[0] << 16) | this.words[1], 2);
  }

  /**
   * The next symbol; behind the last word lie zeros.
   *
   * @param {import("./frequencies.js").Frequencies} frequencies
   * @param {number} table 4 * context + phase
   */
  symbol(frequencies, table) {
    const { cumulative, start } = frequencies;
    if (frequencies.made[table] === 0) frequencies.make(table);
    let x = this.state[STATE];
    const t = x & 32767;
    const begin = table * STRIDE;
    let at = begin + start[begin + (t >> PLACE_SHIFT)];
    while (cumulative[at + 1] <= t) at++;
    const from = cumulative[at];
    x = (Math.imul(cumulative[at + 1] - from, x >>> 15) + t - from) | 0;
    if (x >>> 16 === 0) x = (x << 16) | this.next();
    let symbol = frequencies.first[table] + at - begin;
    if (at - begin === frequencies.count[table]) {
      symbol = (x & ((1 << ESCAPE_BITS) - 1)) - ESCAPE;
      x >>>= ESCAPE_BITS;
      if (x >>> 16 === 0) x = (x << 16) | this.next();
    }
    this.state[STATE] = x;
    return symbol;
  }

  /** The next word. */
  next() {
    const position = this.state[NEXT]++;
    return position < this.words.length ? this.words[position] : 0;
  }

  /** Whether more words were taken than there are. */
  get overrun() {
    return this.state[NEXT] > this.words.length;
  }

  /** Whether the strip ended as an encoder ends it. */
  get finished() {
    return this.state[STATE] === 65536 && this.state[NEXT] === this.words.length;
  }
}
