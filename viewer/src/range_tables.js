const BUCKET_BITS = 6;

/** Tables of the range coder: frequencies of 16 bits, the escape last (docs/format.md, "Tables"). */
export class RangeTables {
  /**
   * @param {ArrayLike<number>} lookup for each table -16, then its cumulative frequencies 0 ... 65536
   * @param {ArrayLike<number>} offsets smallest regular symbol of each table
   */
  constructor(lookup, offsets) {
    this.lookup = Int32Array.from(lookup);
    this.offsets = Int32Array.from(offsets);
    /** @type {number[]} */
    const starts = [];
    this.lookup.forEach((value, i) => value < 0 && starts.push(i + 1));
    /** Position of each table's first cumulative frequency. */
    this.starts = Int32Array.from(starts);
    /** Number of regular symbols of each table, which is the place of its escape. */
    this.sizes = this.starts.map((start, i) => (this.starts[i + 1] ?? this.lookup.length + 1) - start - 3);
    /** Place of the widest interval of each table. */
    this.likeliest = this.starts.map((start, i) => widest(this.lookup, start, this.sizes[i]));
    /** Place of the interval that holds the cumulative frequency 64 b, where a search begins: [tables, 1024]. */
    this.buckets = new Uint16Array(this.starts.length << (16 - BUCKET_BITS));
    this.starts.forEach((start, i) => {
      const row = i << (16 - BUCKET_BITS);
      for (let bucket = 0, place = 0; bucket < 1 << (16 - BUCKET_BITS); bucket++) {
        while (this.lookup[start + place + 1] <= bucket << BUCKET_BITS) place++;
        this.buckets[row + bucket] = place;
      }
    });
  }
}

/**
 * @param {Int32Array} lookup
 * @param {number} start
 * @param {number} size
 */
function widest(lookup, start, size) {
  let best = 0;
  const width = (/** @type {number} */ place) => lookup[start + place + 1] - lookup[start + place];
  for (let place = 1; place <= size; place++) if (width(place) > width(best)) best = place;
  return best;
}
