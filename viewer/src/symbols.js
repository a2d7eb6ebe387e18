import { listedPositions } from "./corrections.js";
import { symbolChecksum } from "./crc32.js";
import { ArithmeticMismatchError, StreamError } from "./errors.js";
import { RangeDecoder } from "./range_decoder.js";
import { readSides } from "./ribbon.js";
import { chosenTables, nearestBoundary, SCALES } from "./table_choice.js";

const SEARCHED = 3; // bands from a boundary in which a table is exchanged on trial
const TRIALS = 64; // at most, in a slice

/** Symbols of the latents out of a stream, z and one slice after the other, each held against its checksum. */
export class SymbolReader {
  /**
   * @param {import("./container.js").Container} file
   * @param {import("./range_tables.js").RangeTables} tables
   */
  constructor(file, tables) {
    this.file = file;
    this.decoder = new RangeDecoder(tables, file.stream);
    this.parts = 0;
    this.before = 0; // symbols of the slices so far
    this.checksum = 0;
    /** How many slices had a wrong table, which was found. */
    this.repaired = 0;
  }

  /**
   * The hyper-latents [positions, channels]: table 64 + channel.
   *
   * @param {number} positions
   * @param {number} channels
   */
  readHyper(positions, channels) {
    const indexes = new Uint16Array(positions * channels).map((_, i) => SCALES.length + (i % channels));
    const symbols = this.tried(indexes);
    if (!symbols) {
      throw new StreamError("the file is altered: its hyper-latents do not have the checksum that it states");
    }
    return symbols;
  }

  /**
   * The next slice, or field of a checkerboard, by its scales; one wrong table is searched for.
   *
   * @param {Float32Array} sigma
   * @returns {Int32Array}
   * @throws {ArithmeticMismatchError}
   */
  readSlice(sigma) {
    let trials = 0;
    for (const indexes of possibleIndexes(this.file, this.parts - 1, sigma, this.before)) {
      const symbols = this.tried(indexes);
      if (symbols) {
        this.before += sigma.length;
        this.repaired += Number(trials > 0);
        return symbols;
      }
      trials++;
    }
    throw new ArithmeticMismatchError(
      `slice ${this.parts} of ${this.file.checksums.length - 1} does not decode to what was encoded: this browser's ` +
        `arithmetic differs by more than the file allows (${this.file.guardBand.toExponential(0)} relative)`,
    );
  }

  /** @throws {StreamError} there is more in the stream */
  finish() {
    this.decoder.finish();
  }

  /**
   * The symbols by these tables; null, and the decoder stays where it is, if they are not those that were encoded.
   *
   * @param {Uint8Array | Uint16Array} indexes
   */
  tried(indexes) {
    const place = this.decoder.tell();
    const symbols = new Int32Array(indexes.length);
    try {
      this.decoder.decode(indexes, symbols);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.decoder.seek(place); // the file as a whole is intact, but wrong tables lead the decoder anywhere
      return null;
    }
    const checksum = symbolChecksum(symbols, this.checksum);
    const last = this.parts === this.file.checksums.length - 1;
    if (this.file.checksums[this.parts] !== (last ? checksum : checksum & 0xffff)) {
      this.decoder.seek(place);
      return null;
    }
    this.checksum = checksum;
    this.parts++;
    return symbols;
  }
}

/**
 * Tables that a slice was coded with, as this browser's scales and the file say.
 *
 * @param {import("./container.js").Container} file
 * @param {number} slice
 * @param {Float32Array} sigma
 * @param {number} before symbols of the slices before it
 * @returns {Uint8Array}
 */
export function decodedIndexes(file, slice, sigma, before) {
  const { indexes, near, boundary } = chosenTables(sigma, file.sides ? file.guardBand : 0);
  if (file.sides) {
    const sides = readSides(
      file.sides,
      near.map((position) => position + before),
    );
    near.forEach((position, i) => (indexes[position] = boundary[i] + sides[i]));
  } else if (file.corrections.length) {
    for (const position of listedPositions(file.corrections[slice], sigma.length)) {
      indexes[position] = nearestBoundary(sigma[position]) + 1; // the larger table of the two
    }
  }
  return indexes;
}

/**
 * `decodedIndexes`; then, of a portable file, the same with the other table of one symbol, the likeliest first: those
 * whose scale lies next to the end of a band.
 *
 * @param {import("./container.js").Container} file
 * @param {number} slice
 * @param {Float32Array} sigma
 * @param {number} before
 */
function* possibleIndexes(file, slice, sigma, before) {
  const indexes = decodedIndexes(file, slice, sigma, before);
  yield indexes;
  const { near, boundary } = chosenTables(sigma, SEARCHED * file.guardBand);
  const distance = near.map((position, i) => {
    const scale = SCALES[boundary[i]];
    return Math.abs(Math.abs(sigma[position] - scale) - file.guardBand * scale) / scale;
  });
  const order = near.map((_, i) => i).sort((a, b) => distance[a] - distance[b]);
  for (const i of order.slice(0, TRIALS)) {
    const other = indexes.slice();
    other[near[i]] = 2 * boundary[i] + 1 - indexes[near[i]]; // of the two beside the boundary
    yield other;
  }
}
