import { Chances } from "./decisions.js";
import { altered } from "./layer_reader.js";

/** @typedef {import("./decisions.js").Decisions} Decisions */

const MOST_COLOURS = 256;
const CACHE_BITS = 10;
const LEVELS = 9;
const DECISIONS = 64; // of a difference, more than there are
const LONGEST = 8; // bits of a difference's size

/**
 * What codes the pixels that no guess was: their number among few colours, or a cache and differences.
 *
 * @param {import("./layer_reader.js").LayerReader} reader
 * @param {number} channels
 */
export function readColours(reader, channels) {
  const count = reader.varint();
  if (count > MOST_COLOURS) throw altered("has too many colours");
  const colours = new Int32Array(count);
  let colour = 0;
  for (let i = 0; i < count; i++) {
    colour += reader.varint();
    if (colour >= 2 ** (8 * channels)) throw altered("has a colour that is none");
    colours[i] = colour;
  }
  return count > 0 ? new Palette(colours) : new Differences(channels);
}

class Palette {
  /** @param {Int32Array} colours */
  constructor(colours) {
    this.colours = colours;
    this.bits = 32 - Math.clz32(colours.length - 1);
    this.chances = new Chances(256 << this.bits);
  }

  /**
   * @param {Decisions} decisions
   * @param {number} pattern of the neighbours, below 16
   * @param {number} w the pixel on the left
   */
  decode(decisions, pattern, w) {
    const tree = Math.imul(w, 0x2545f491) >>> 24;
    const number = decisions.number(this.chances, tree << this.bits, this.bits);
    return this.colours[Math.min(number, this.colours.length - 1)];
  }
}

class Differences {
  /** @param {number} channels */
  constructor(channels) {
    this.channels = channels;
    this.cache = new Int32Array(1 << CACHE_BITS);
    this.cached = new Chances(16);
    this.places = new Chances(64 << CACHE_BITS);
    this.chances = new Chances(channels * LEVELS * DECISIONS);
  }

  /**
   * @param {Decisions} decisions
   * @param {number} pattern of the neighbours, below 16
   * @param {number} w the pixels on the left, above, and above on the left
   * @param {number} n
   * @param {number} nw
   */
  decode(decisions, pattern, w, n, nw) {
    let pixel;
    if (decisions.decide(this.cached, pattern)) {
      const tree = Math.imul(w, 0x2545f491) >>> 26;
      pixel = this.cache[decisions.number(this.places, tree << CACHE_BITS, CACHE_BITS)];
    } else if (this.channels === 1) {
      pixel = this.sample(decisions, 0, w, n, nw, 0);
    } else {
      const green = this.sample(decisions, 0, (w >> 8) & 255, (n >> 8) & 255, (nw >> 8) & 255, 0);
      const above = green - median((w >> 8) & 255, (n >> 8) & 255, (nw >> 8) & 255);
      const red = this.sample(decisions, 1, w >> 16, n >> 16, nw >> 16, above);
      const blue = this.sample(decisions, 2, w & 255, n & 255, nw & 255, above);
      pixel = (red << 16) | (green << 8) | blue;
    }
    this.cache[Math.imul(pixel, 0x1e35a7bd) >>> (32 - CACHE_BITS)] = pixel;
    return pixel;
  }

  /**
   * A channel's sample.
   *
   * @param {Decisions} decisions
   * @param {number} turn
   * @param {number} w samples of the neighbours
   * @param {number} n
   * @param {number} nw
   * @param {number} above by how much the first channel was above its median
   */
  sample(decisions, turn, w, n, nw, above) {
    const activity = Math.abs(w - nw) + Math.abs(n - nw) + Math.abs(above);
    const level = Math.min(32 - Math.clz32(activity), LEVELS - 1);
    const guess = Math.max(0, Math.min(255, median(w, n, nw) + above));
    return (guess + this.difference(decisions, (turn * LEVELS + level) * DECISIONS)) & 255;
  }

  /**
   * @param {Decisions} decisions
   * @param {number} first of the chances
   */
  difference(decisions, first) {
    const { chances } = this;
    if (decisions.decide(chances, first)) return 0;
    const negative = decisions.decide(chances, first + 1);
    let bits = 1;
    while (bits < LONGEST && decisions.decide(chances, first + 1 + bits)) bits++;
    let size = 1;
    for (let left = bits - 2; left >= 0; left--) {
      const which = left >= bits - 3 ? 10 + 4 * bits + Math.min(size, 3) : 46 + left;
      size = (size << 1) | decisions.decide(chances, first + which);
    }
    return negative ? -size : size;
  }
}

/**
 * The median of w, n and w + n - nw.
 *
 * @param {number} w
 * @param {number} n
 * @param {number} nw
 */
function median(w, n, nw) {
  if (nw >= Math.max(w, n)) return Math.min(w, n);
  if (nw <= Math.min(w, n)) return Math.max(w, n);
  return w + n - nw;
}
