const NONE = -1;
const HALF = 32768;
const TAUGHT = 49152; // chance of an entry's first pixel
const MOST_SEEN = 30;

/** For each place the pixel that followed, how sure it is to follow again, and how often that was seen. */
export class Entries {
  /** @param {number} bits of a place */
  constructor(bits) {
    this.pixels = new Int32Array(1 << bits).fill(NONE);
    this.chances = new Uint16Array(1 << bits);
    this.seen = new Uint8Array(1 << bits);
  }

  /**
   * How much the entry is to be trusted, below 80.
   *
   * @param {number} place
   */
  sureness(place) {
    return (Math.min(this.seen[place], 4) << 4) | (this.chances[place] >> 12);
  }

  /**
   * @param {number} place
   * @param {number} guess a pixel or none
   * @param {number} pixel what it was
   */
  learn(place, guess, pixel) {
    const before = this.chances[place];
    const seen = this.seen[place];
    const target = guess === pixel ? 65535 : 0;
    const chance = before + Math.floor(((target - before) * 2) / (2 * seen + 3));
    this.chances[place] = chance;
    this.seen[place] = Math.min(seen + 1, MOST_SEEN);
    if (seen === 0 && guess === NONE) {
      this.pixels[place] = pixel;
      this.chances[place] = TAUGHT;
    } else if (chance < HALF) {
      this.pixels[place] = pixel;
      this.chances[place] = 65535 - chance;
      this.seen[place] = Math.min(seen + 1, 4);
    }
  }
}

/** Follows the pixels behind an earlier place with the same surroundings, as long as they are the same. */
export class Match {
  /**
   * @param {number} bits of a place
   * @param {Int32Array} pixels in the order of decoding
   */
  constructor(bits, pixels) {
    this.pixels = pixels;
    this.last = new Int32Array(1 << bits).fill(NONE); // number of the last pixel that had these surroundings
    this.length = 0;
    this.source = NONE;
  }

  /**
   * The guess, which may be none.
   *
   * @param {number} place
   */
  guess(place) {
    if (this.length === 0) this.source = this.last[place];
    return this.source === NONE ? NONE : this.pixels[this.source];
  }

  /** How much the guess is to be trusted, below 16. */
  get sureness() {
    return Math.min(32 - Math.clz32(this.length), 15);
  }

  /**
   * @param {number} place
   * @param {number} number of the pixel
   * @param {boolean} right whether the guess was the pixel
   */
  learn(place, number, right) {
    if (this.source !== NONE) {
      this.length = right ? this.length + 1 : 0;
      this.source++;
    }
    this.last[place] = number;
  }
}
