import { altered } from "./layer_reader.js";

const HALF = 32768;
const MOST = 65535;
const SLOW = 7; // decisions after which a chance is as slow to learn as it gets
const LOW = 0;
const HIGH = 1;
const CODE = 2;
const NEXT = 3; // byte of the stream

/** Chances of decisions; each is learned at two speeds. */
export class Chances {
  /** @param {number} count */
  constructor(count) {
    this.fast = new Uint16Array(count).fill(HALF);
    this.slow = new Uint16Array(count).fill(HALF);
    this.seen = new Uint8Array(count).fill(1);
  }
}

/** A stream of binary decisions. */
export class Decisions {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.state = Int32Array.of(0, -1, 0, 0); // the first three are 32 bits of whatever sign
    for (let i = 0; i < 4; i++) this.shift();
    this.state[HIGH] = -1;
  }

  /** Takes the next byte; behind the end lie zeros. */
  shift() {
    const { state, bytes } = this;
    const next = state[NEXT]++;
    state[LOW] <<= 8;
    state[HIGH] = (state[HIGH] << 8) | 255;
    state[CODE] = (state[CODE] << 8) | (next < bytes.length ? bytes[next] : 0);
  }

  /**
   * The next decision, which its chance learns.
   *
   * @param {Chances} chances
   * @param {number} which
   * @returns {number} 0 or 1
   */
  decide({ fast, slow, seen }, which) {
    const { state } = this;
    const low = state[LOW];
    const size = (state[HIGH] - low) | 0;
    const a = fast[which];
    const b = slow[which];
    const n = seen[which];
    const chance = (a + b) >> 1;
    const middle = (low + Math.imul(size >>> 16, chance) + (Math.imul(size & MOST, chance) >>> 16)) | 0;
    const quick = n < 4 ? n : 4;
    const yes = state[CODE] >>> 0 <= middle >>> 0;
    if (yes) {
      state[HIGH] = middle;
      fast[which] = a + ((MOST - a) >> quick);
      slow[which] = b + ((MOST - b) >> n);
    } else {
      state[LOW] = middle + 1;
      fast[which] = a - (a >> quick);
      slow[which] = b - (b >> n);
    }
    if (n < SLOW) seen[which] = n + 1;
    while ((state[LOW] ^ state[HIGH]) >>> 24 === 0) this.shift();
    return yes ? 1 : 0;
  }

  /**
   * A number, the highest bit first.
   *
   * @param {Chances} chances
   * @param {number} tree the first of its 2^bits chances
   * @param {number} bits
   */
  number(chances, tree, bits) {
    let node = 1; // a one and the bits so far
    for (let i = 0; i < bits; i++) node = (node << 1) | this.decide(chances, tree + node);
    return node - (1 << bits);
  }

  /** A stream that was not altered has ended two bytes behind its last. */
  get overrun() {
    return this.state[NEXT] - this.bytes.length;
  }

  finish() {
    if (this.overrun !== 2) throw altered("ends early, or late");
  }
}
