import { readColours } from "./colours.js";
import { Chances, Decisions } from "./decisions.js";
import { Entries, Match } from "./guesses.js";
import { altered } from "./layer_reader.js";

const LEFT = 6; // pixels beside a row that contexts see
const RIGHT = 3;
const GUESSES = 8;
const SURENESSES = 128; // more than there are

/** The three rows that contexts see: the one that is decoded and the two above. */
class Rows {
  /** @param {number} width */
  constructor(width) {
    const row = () => new Int32Array(LEFT + width + RIGHT);
    this.now = row();
    this.above = row();
    this.higher = row();
  }

  /** Goes on to the row below: beside it lie the ends of the one above it. */
  next() {
    [this.now, this.above, this.higher] = [this.higher, this.now, this.above];
    const end = this.now.length - RIGHT;
    this.now.fill(this.above[LEFT], 0, LEFT).fill(this.above[end - 1], end);
  }
}

/**
 * Samples of a residual layer of kind 1, which docs/repeats.md specifies.
 *
 * @param {import("./layer_reader.js").LayerReader} reader
 * @param {import("./residual.js").Shape} shape
 */
export function decodeRepeats(reader, { width, height, channels }) {
  const colours = readColours(reader, channels);
  const decisions = new Decisions(reader.take(reader.left));
  const samples = new Uint8Array(width * height * channels);
  const decoder = new PixelDecoder(decisions, colours, new Int32Array(width * height));
  const rows = new Rows(width);
  for (let y = 0, out = 0; y < height; y++) {
    for (let x = 0, i = LEFT; x < width; x++, i++) {
      const pixel = decoder.decode(rows, i);
      rows.now[i] = pixel;
      for (let shift = 8 * channels - 8; shift >= 0; shift -= 8) samples[out++] = pixel >> shift;
    }
    if (decisions.overrun > 2) throw altered("ends early, or late");
    rows.next();
  }
  decisions.finish();
  return samples;
}

/** Decodes one pixel after the other, and learns from each. */
class PixelDecoder {
  /**
   * @param {Decisions} decisions
   * @param {ReturnType<typeof readColours>} colours
   * @param {Int32Array} pixels where they go
   */
  constructor(decisions, colours, pixels) {
    this.decisions = decisions;
    this.colours = colours;
    this.pixels = pixels;
    this.count = 0; // of decoded pixels
    this.history = 0; // of the last six, whether one of the first two guesses was the pixel
    this.guesses = new Int32Array(GUESSES);
    this.surenesses = new Uint8Array(GUESSES);
    this.chances = new Chances(GUESSES * SURENESSES * 64);
    this.match = new Match(16, pixels);
    this.high = new Entries(18); // by many neighbours
    this.low = new Entries(16); // by four
    this.pair = new Entries(14); // by two
  }

  /**
   * @param {Rows} rows
   * @param {number} i the pixel's place in them
   */
  decode({ now, above, higher }, i) {
    const { guesses, surenesses, match, high, low, pair } = this;
    const w = now[i - 1];
    const n = above[i];
    const nw = above[i - 1];
    const ne = above[i + 1];

    const two = mix(Math.imul(w, 0x3c6ef372) + Math.imul(n, 0x1b873593), 0x2c1b3c6d) >>> 18;
    const four =
      Math.imul(w, 0x2545f491) + Math.imul(n, 0x1b873593) + Math.imul(nw, 0x27d4eb2f) + Math.imul(ne, 0x165667b1);
    const hash = hashOfMany(four | 0, now, above, higher, i);
    const many = hash >>> 14;
    const all = hashOfAll(hash, now, above, higher, i) >>> 16;
    const few = mix(four | 0, 0x2c1b3c6d) >>> 16;

    guesses[0] = match.guess(all);
    guesses[1] = high.pixels[many];
    guesses[2] = low.pixels[few];
    guesses[3] = pair.pixels[two];
    guesses[4] = w;
    guesses[5] = n;
    guesses[6] = ne;
    guesses[7] = nw;
    surenesses[0] = match.sureness;
    surenesses[1] = high.sureness(many);
    surenesses[2] = low.sureness(few);
    surenesses[3] = pair.sureness(two);
    surenesses.fill(this.history, 4);

    const pattern = (w === n ? 1 : 0) | (w === nw ? 2 : 0) | (n === ne ? 4 : 0) | ((this.history & 1) << 3);
    const hit = this.rightGuess(w, n, pattern);
    const pixel = hit < 0 ? this.colours.decode(this.decisions, pattern, w, n, nw) : guesses[hit];

    this.pixels[this.count] = pixel;
    match.learn(all, this.count++, guesses[0] === pixel);
    high.learn(many, guesses[1], pixel);
    low.learn(few, guesses[2], pixel);
    pair.learn(two, guesses[3], pixel);
    this.history = ((this.history << 1) & 63) | (hit === 0 || hit === 1 ? 0 : 1);
    high.learn(many, guesses[0], pixel);
    low.learn(few, guesses[1], pixel);
    return pixel;
  }

  /**
   * The number of the guess that is the pixel, or -1.
   *
   * @param {number} w
   * @param {number} n
   * @param {number} pattern
   */
  rightGuess(w, n, pattern) {
    const { guesses, surenesses } = this;
    for (let g = 0; g < GUESSES; g++) {
      const guess = guesses[g];
      if (guess < 0 || guesses.indexOf(guess) < g) continue;
      const equal = (guess === w ? 2 : 0) | (guess === n ? 1 : 0);
      const which = ((g * SURENESSES + surenesses[g]) << 6) | (equal << 4) | pattern;
      if (this.decisions.decide(this.chances, which)) return g;
    }
    return -1;
  }
}

/**
 * 32 bits of whatever sign.
 *
 * @param {number} x
 * @param {number} factor
 */
function mix(x, factor) {
  return Math.imul(x ^ (x >>> 15), factor);
}

/**
 * @param {number} four the sum over the nearest four
 * @param {Int32Array} now the rows
 * @param {Int32Array} above
 * @param {Int32Array} higher
 * @param {number} i place in them
 */
function hashOfMany(four, now, above, higher, i) {
  const sum =
    Math.imul(four, 0x85ebca6b) +
    Math.imul(now[i - 2], 0x45d9f3b) +
    Math.imul(now[i - 3], 0x119de1f3) +
    Math.imul(higher[i], 0x344b5409) +
    Math.imul(above[i + 2], 0x1c69b3f5) +
    Math.imul(above[i - 2], 0xe2ad7a9) +
    Math.imul(higher[i + 1], 0x1e35a7bd);
  return mix(sum | 0, 0x297a2d39);
}

/**
 * @param {number} hash of many
 * @param {Int32Array} now the rows
 * @param {Int32Array} above
 * @param {Int32Array} higher
 * @param {number} i place in them
 */
function hashOfAll(hash, now, above, higher, i) {
  const sum =
    Math.imul(hash, 0x85ebca6b) +
    Math.imul(now[i - 4], 0x45d9f3b) +
    Math.imul(now[i - 5], 0x119de1f3) +
    Math.imul(now[i - 6], 0x344b5409) +
    Math.imul(above[i + 3], 0x1c69b3f5) +
    Math.imul(higher[i - 1], 0xe2ad7a9);
  return mix(sum | 0, 0x297a2d39);
}
