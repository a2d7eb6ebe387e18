/** Raw LZMA2, as `xz --format=raw` writes it: chunks of LZMA, or of bytes as they are, up to a zero byte. */

const HALF = 1024; // a probability, in parts of 2048
const LITERALS = 0x300; // probabilities of one context
const DICTIONARY = 1 << 20; // no match is further back

/** What is wrong with the bytes; callers say it in a sentence of theirs. */
export class LzmaError extends Error {}

/**
 * All that a raw LZMA2 stream with a dictionary of 1 MiB holds.
 *
 * @param {Uint8Array} bytes
 * @param {number} size that it must unpack to
 * @returns {Uint8Array}
 * @throws {LzmaError} damaged, of another size, or followed by other bytes
 */
export function unpackLzma2(bytes, size) {
  const window = { out: new Uint8Array(size), at: 0, start: 0 }; // start: where the dictionary begins
  const lzma = new Lzma(window);
  let at = 0;
  const take = (/** @type {number} */ count) => {
    if (count > bytes.length - at) throw new LzmaError("it ends early");
    at += count;
    return bytes.subarray(at - count, at);
  };
  const uint16 = () => take(2).reduce((high, low) => high * 256 + low, 0);
  let needsDictionary = true;
  let needsProperties = true;
  for (let [control] = take(1); control; [control] = take(1)) {
    if (control >= 0xe0 || control === 1) {
      window.start = window.at;
      needsDictionary = false;
      needsProperties = true;
    } else if (needsDictionary || (control > 2 && control < 0x80)) throw new LzmaError("an impossible chunk");
    if (control >= 0x80) {
      const unpacked = (control & 0x1f) * 65536 + uint16() + 1;
      const packed = uint16() + 1;
      if (control >= 0xc0) lzma.setProperties(take(1)[0]);
      else if (needsProperties) throw new LzmaError("a chunk without properties");
      needsProperties = false;
      if (control >= 0xa0) lzma.reset();
      lzma.decode(take(packed), unpacked);
    } else {
      const raw = take(uint16() + 1);
      if (raw.length > size - window.at) throw new LzmaError("too many bytes");
      window.out.set(raw, window.at);
      window.at += raw.length;
    }
  }
  if (window.at !== size || at !== bytes.length) throw new LzmaError("another size");
  return window.out;
}

class Lzma {
  /** @param {{out: Uint8Array, at: number, start: number}} window */
  constructor(window) {
    this.window = window;
    /** @type {Uint8Array} */
    this.input = new Uint8Array(0);
    this.read = 0;
    this.range = 0;
    this.code = 0;
    this.lc = this.positionMask = this.literalMask = 0;
    this.state = 0;
    this.distances = [0, 0, 0, 0]; // of the last four matches, less 1
    this.literals = new Uint16Array(LITERALS << 4);
    this.isMatch = new Uint16Array(12 << 4);
    this.isRep = new Uint16Array(12 * 4); // any repeated distance, not the last, not the one before, not the third
    this.isLongRep = new Uint16Array(12 << 4);
    this.slots = new Uint16Array(4 << 6);
    this.specials = new Uint16Array(128);
    this.align = new Uint16Array(16);
    this.matchLength = new Uint16Array(2 + (16 << 4) + 256);
    this.repLength = new Uint16Array(2 + (16 << 4) + 256);
    this.reset();
  }

  /** @param {number} byte */
  setProperties(byte) {
    const [lc, lp, pb] = [byte % 9, Math.floor(byte / 9) % 5, Math.floor(byte / 45)];
    if (lc + lp > 4 || pb > 4) throw new LzmaError("impossible properties");
    this.lc = lc;
    this.literalMask = (1 << lp) - 1;
    this.positionMask = (1 << pb) - 1;
  }

  reset() {
    this.state = 0;
    this.distances.fill(0);
    const { literals, isMatch, isRep, isLongRep, slots, specials, align, matchLength, repLength } = this;
    const all = [literals, isMatch, isRep, isLongRep, slots, specials, align, matchLength, repLength];
    for (const probabilities of all) probabilities.fill(HALF);
  }

  /**
   * @param {Uint8Array} input one chunk
   * @param {number} count of bytes that it holds
   */
  decode(input, count) {
    const { window } = this;
    if (count > window.out.length - window.at) throw new LzmaError("too many bytes");
    if (input.length < 5 || input[0]) throw new LzmaError("an impossible start");
    this.input = input;
    this.code = new DataView(input.buffer, input.byteOffset + 1).getUint32(0);
    this.read = 5;
    this.range = 0xffffffff;
    for (const end = window.at + count; window.at < end;) {
      const position = (window.at - window.start) & this.positionMask;
      if (this.bit(this.isMatch, (this.state << 4) + position)) this.match(position, end);
      else this.literal();
    }
    if (this.read !== input.length || this.code) throw new LzmaError("it ends late");
  }

  literal() {
    const { window, literals, state } = this;
    const before = window.at > window.start ? window.out[window.at - 1] : 0;
    const place = (window.at - window.start) & this.literalMask;
    const base = LITERALS * ((place << this.lc) + (before >> (8 - this.lc)));
    let symbol = 1;
    if (state >= 7) {
      let other = this.back(this.distances[0]);
      for (let like = 0x100; symbol < 0x100;) {
        other <<= 1;
        const expected = other & like;
        const bit = this.bit(literals, base + like + expected + symbol);
        symbol = (symbol << 1) | bit;
        like &= bit ? expected : ~expected;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.bit(literals, base + symbol);
    window.out[window.at++] = symbol;
    this.state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
  }

  /**
   * @param {number} position
   * @param {number} end of the chunk
   */
  match(position, end) {
    const { state, distances } = this;
    let length = 1;
    if (!this.bit(this.isRep, 4 * state)) {
      length = this.length(this.matchLength, position);
      distances.unshift(this.distance(length));
      distances.pop();
      this.state = state < 7 ? 7 : 10;
    } else {
      let which = 0;
      while (which < 3 && this.bit(this.isRep, 4 * state + 1 + which)) which++;
      const short = which === 0 && !this.bit(this.isLongRep, (state << 4) + position);
      distances.unshift(...distances.splice(which, 1));
      if (!short) length = this.length(this.repLength, position);
      this.state = state < 7 ? (short ? 9 : 8) : 11;
    }
    this.copy(length, end);
  }

  /**
   * @param {number} length
   * @param {number} end
   */
  copy(length, end) {
    const { window } = this;
    const [distance] = this.distances;
    this.back(distance);
    if (length > end - window.at) throw new LzmaError("a match beyond its chunk");
    for (let i = 0; i < length; i++, window.at++) window.out[window.at] = window.out[window.at - distance - 1];
  }

  /** @param {number} distance */
  back(distance) {
    const { window } = this;
    if (distance >= Math.min(window.at - window.start, DICTIONARY)) throw new LzmaError("a match before the start");
    return window.out[window.at - distance - 1];
  }

  /**
   * @param {Uint16Array} probabilities two choices, then 16 trees of 8 low and of 8 middle lengths, one of 256
   * @param {number} position
   */
  length(probabilities, position) {
    if (!this.bit(probabilities, 0)) return 2 + this.tree(probabilities, 2 + (position << 4), 3);
    if (!this.bit(probabilities, 1)) return 10 + this.tree(probabilities, 10 + (position << 4), 3);
    return 18 + this.tree(probabilities, 2 + (16 << 4), 8);
  }

  /** @param {number} length */
  distance(length) {
    const slot = this.tree(this.slots, Math.min(length - 2, 3) << 6, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    let distance = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return distance + this.reversed(this.specials, distance - slot, bits);
    for (let place = bits - 1; place >= 4; place--) {
      this.range >>>= 1;
      const bit = this.code >= this.range;
      if (bit) {
        this.code -= this.range;
        distance += 2 ** place;
      }
      this.normalize();
    }
    return distance + this.reversed(this.align, 0, 4);
  }

  /**
   * @param {Uint16Array} probabilities
   * @param {number} base
   * @param {number} bits
   */
  tree(probabilities, base, bits) {
    let node = 1;
    for (let i = 0; i < bits; i++) node = (node << 1) | this.bit(probabilities, base + node);
    return node - (1 << bits);
  }

  /**
   * @param {Uint16Array} probabilities
   * @param {number} base
   * @param {number} bits
   */
  reversed(probabilities, base, bits) {
    let node = 1;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.bit(probabilities, base + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  /**
   * @param {Uint16Array} probabilities
   * @param {number} at
   * @returns {number}
   */
  bit(probabilities, at) {
    const probability = probabilities[at];
    const bound = (this.range >>> 11) * probability;
    const bit = this.code >= bound ? 1 : 0;
    if (bit) {
      this.range -= bound;
      this.code -= bound;
      probabilities[at] = probability - (probability >> 5);
    } else {
      this.range = bound;
      probabilities[at] = probability + ((2048 - probability) >> 5);
    }
    this.normalize();
    return bit;
  }

  normalize() {
    if (this.range < 0x1000000) {
      if (this.read === this.input.length) throw new LzmaError("a chunk ends early");
      this.range *= 256;
      this.code = ((this.code << 8) | this.input[this.read++]) >>> 0;
    }
  }
}
