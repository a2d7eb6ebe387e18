const POWERS = [1, 2, 3, 4, 6, 8, 12, 20];
const ROOTS = [65536, 82570, 104032]; // 2^16 times the powers 0, 1/3 and 2/3 of 2
const FURTHEST = 126; // symbol that is kept
const TOTAL = 32768; // sum of a table's frequencies
const CONTEXTS = 78;
const PHASES = 4;

export const WIDTHS = 76;
export const EXPONENTS = POWERS.length;
/** Entries of a table: of cumulative frequencies, and of the places where to begin to look for a value. */
export const STRIDE = 256;
/** A value below 2^15 shifted by this is its place. */
export const PLACE_SHIFT = 7;

/** The tables of symbols of all contexts, each made when it is first asked for. */
export class Frequencies {
  /**
   * @param {number} step D
   * @param {Uint8Array} shapes width and exponent of each context
   */
  constructor(step, shapes) {
    this.step = step;
    this.shapes = shapes;
    this.made = new Uint8Array(CONTEXTS * PHASES);
    /** The first regular symbol of each table. */
    this.first = new Int16Array(CONTEXTS * PHASES);
    /** The number of regular symbols of each table; the escape follows them. */
    this.count = new Uint8Array(CONTEXTS * PHASES);
    this.cumulative = new Uint16Array(CONTEXTS * PHASES * STRIDE);
    /** For each place, the last symbol that begins at or before its first value. */
    this.start = new Uint8Array(CONTEXTS * PHASES * STRIDE);
  }

  /**
   * Makes a table.
   *
   * @param {number} table 4 * context + phase
   */
  make(table) {
    const context = table >> 2;
    const all = masses(this.step, this.shapes[2 * context], this.shapes[2 * context + 1], table & 3);
    const { first, kept } = regular(all);
    const frequencies = shares(kept);
    this.first[table] = first;
    this.count[table] = frequencies.length - 1;
    const begin = table * STRIDE;
    for (let i = 0, sum = 0; i < frequencies.length; i++) {
      this.cumulative[begin + i] = sum;
      const place = (sum + (1 << PLACE_SHIFT) - 1) >> PLACE_SHIFT; // the first that begins in this symbol or later
      this.start.fill(i, begin + place, begin + STRIDE);
      sum += frequencies[i];
      this.cumulative[begin + i + 1] = sum;
    }
    this.made[table] = 1;
  }
}

/**
 * The m of symbols -F .. F; all numbers stay below 2^53.
 *
 * @param {number} step
 * @param {number} width
 * @param {number} exponent
 * @param {number} phase
 */
function masses(step, width, exponent, phase) {
  const scale = Math.floor((2 ** Math.floor(width / 3) * ROOTS[width % 3]) / 65536);
  const furthest = Math.floor(256 / step) + 1;
  const result = new Float64Array(2 * furthest + 1);
  for (let k = -furthest; k <= furthest; k++) {
    const z = step * (4 * k - phase);
    const ratio = Math.floor((scale * 2 ** 24) / (scale + 16 * z * z));
    let mass = ratio;
    for (let i = 1; i < POWERS[exponent]; i++) mass = Math.floor((mass * ratio) / 2 ** 24);
    result[k + furthest] = mass;
  }
  result[furthest]++;
  return result;
}

/**
 * The first symbol that has a frequency of its own, and the m of those that have and, last, of the escape.
 *
 * @param {Float64Array} all m of symbols -F .. F
 */
function regular(all) {
  const furthest = all.length >> 1;
  const sum = all.reduce((a, b) => a + b);
  let first = Math.max(0, furthest - FURTHEST);
  let last = Math.min(all.length - 1, furthest + FURTHEST);
  while (all[first] * 2 ** 17 < sum) first++;
  while (all[last] * 2 ** 17 < sum) last--;
  const inside = all.slice(first, last + 1);
  const rest = sum - inside.reduce((a, b) => a + b);
  return { first: first - furthest, kept: [...inside, rest] };
}

/**
 * Frequencies that sum to 2^15.
 *
 * @param {number[]} kept m of symbols and, last, of the escape
 */
function shares(kept) {
  const sum = kept.reduce((a, b) => a + b);
  const result = kept.map((mass) => 1 + Math.floor((mass * (TOTAL - kept.length)) / sum));
  const largest = kept.indexOf(Math.max(...kept));
  result[largest] += TOTAL - result.reduce((a, b) => a + b);
  return result;
}
