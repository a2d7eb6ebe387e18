/** Places beside a row, on either side, that repeat samples. */
const MARGIN = 2;

/** Three rows of a channel and of the errors of its predictions: the one that is decoded and the two above. */
export class Rows {
  /** @param {number} width */
  constructor(width) {
    const row = () => new Int32Array(MARGIN + width + MARGIN);
    this.now = row();
    this.above = row();
    this.higher = row();
    this.error = row();
    this.errorAbove = row();
    this.errorHigher = row();
  }

  /** Makes the row that was decoded the one above. Left of the next lies the first sample of it. */
  next() {
    [this.now, this.above, this.higher] = [this.higher, this.now, this.above];
    [this.error, this.errorAbove, this.errorHigher] = [this.errorHigher, this.error, this.errorAbove];
    this.now.fill(this.above[MARGIN], 0, MARGIN);
    this.error.fill(this.errorAbove[MARGIN], 0, MARGIN);
  }

  /** Repeats the ends of the row that was decoded. */
  finish() {
    for (const row of [this.now, this.error]) {
      const end = row.length - MARGIN;
      row.fill(row[MARGIN], 0, MARGIN).fill(row[end - 1], end);
    }
  }
}

/** What the prediction of a row sees of a picture, and what it makes of that. */
export class Planes {
  /**
   * @param {import("./residual.js").Shape} shape
   * @param {Uint8Array} samples where the decoded ones go
   */
  constructor({ width, height, channels, decoded }, samples) {
    this.width = width;
    this.height = height;
    this.channels = channels;
    this.samples = samples;
    this.hat = decoded ?? null;
    this.left = MARGIN;
    this.y = 0;
    /** Of the channels in the order of decoding: green, red, blue. */
    this.offsets = channels === 1 ? [0] : [1, 0, 2];
    this.rows = Array.from({ length: channels }, () => new Rows(width));
    /** Of each sample in the row, taps times coefficients and activities times weights, W and WW left out. */
    this.sums = new Int32Array(width);
    this.activities = new Int32Array(width);
  }

  /** @param {number} y */
  startRow(y) {
    this.y = y;
    for (const rows of this.rows) rows.next();
  }
}
