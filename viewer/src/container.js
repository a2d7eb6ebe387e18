import { parseCorrections } from "./corrections.js";
import { crc32 } from "./crc32.js";
import { StreamError } from "./errors.js";
import { Reader, TRUNCATED } from "./reader.js";

const MAGIC = [0x89, 0x54, 0x43, 0x4d];
const VERSION = 1;
const LEAST_BYTES = 32;
const FLAGS = { quality: 1, tiles: 2, grey: 4, sides: 8, layer: 16 };
const SECTIONS = { checksums: 1, sides: 2, latents: 3, alpha: 4, icc: 5, exif: 6, layer: 7 };
const MAX_GUARD_BAND = Math.fround(0.03);
const MIN_TILE = 512;
const MAX_TILE = 8192;
const MAX_SIDE = 2 ** 31 - 1;
export const PAD_MULTIPLE = 128;
export const MAX_PIXELS = 2 ** 28;
const EMPTY = new Uint8Array(0);

/**
 * What a `.tcm` file says (docs/format.md).
 *
 * @typedef {object} Container
 * @property {number} width in pixels
 * @property {number} height in pixels
 * @property {string} modelId hexadecimal, 8 bytes; zeros in a file without latents
 * @property {number} guardBand relative half-width; 0: decodes only where it was encoded
 * @property {number[]} checksums after z and after each slice; empty in a file without latents
 * @property {Uint8Array} stream the range-coded latents
 * @property {number | null} quality hundredths, 100 to 10000; null for a model of one rate
 * @property {number} tile side in pixels of the entropy model's tiles; 0: one piece
 * @property {boolean} grey
 * @property {Uint8Array} alpha packed, empty if there is none; so are the next three
 * @property {Uint8Array} icc
 * @property {Uint8Array} exif
 * @property {Uint8Array} layer
 * @property {Uint8Array | null} sides null if the file is not portable or lists corrections
 * @property {number[][]} corrections of older files, for each slice; else empty
 * @property {Record<string, number>} parts bytes of each section, and of the header with the sections' headings
 */

/**
 * Reads a file's bytes; nothing is allocated on the word of a length that the bytes do not bear out.
 *
 * @param {Uint8Array} data
 * @param {number} maxPixels counted after padding to multiples of 128
 * @returns {Container}
 * @throws {StreamError} no `.tcm` file, a newer version, truncated, altered, or too many pixels
 */
export function parse(data, maxPixels = MAX_PIXELS) {
  checkFrame(data);
  const flags = data[5];
  const reader = new Reader(data.subarray(0, -4), 6);
  const width = reader.varint();
  const height = reader.varint();
  const most = Math.min(checkSize(width, height, maxPixels), MAX_SIDE);
  const modelId = hex(reader.take(8));
  const guardBand = reader.float32();
  if (!(guardBand >= 0 && guardBand <= MAX_GUARD_BAND)) throw altered("its guard band is out of range");
  const quality = flags & FLAGS.quality ? within(reader.uint(2), 100, 10000, "its quality is out of range") : null;
  const tile = flags & FLAGS.tiles ? tileSide(reader) : 0;
  const sections = readSections(reader);
  const alone = checkSections(sections, flags);
  const checksums = alone ? [] : parseChecksums(section(sections, "checksums"));
  const near = section(sections, "sides");
  const sides = flags & FLAGS.sides ? near : null;
  const listed = sides === null && sections.has(SECTIONS.sides);
  const names = /** @type {(keyof typeof SECTIONS)[]} */ (Object.keys(SECTIONS));
  const sizes = names.map((name) => /** @type {const} */ ([name, section(sections, name).length]));
  const packed = sizes.reduce((sum, [, size]) => sum + size, 0);
  return {
    width,
    height,
    modelId,
    guardBand,
    checksums,
    stream: section(sections, "latents"),
    quality,
    tile,
    grey: Boolean(flags & FLAGS.grey),
    alpha: section(sections, "alpha"),
    icc: section(sections, "icc"),
    exif: section(sections, "exif"),
    layer: section(sections, "layer"),
    sides,
    corrections: listed ? parseCorrections(near, checksums.length - 1, most) : [],
    parts: { header: data.length - packed, ...Object.fromEntries(sizes.filter(([, size]) => size)) },
  };
}

/**
 * Height and width after padding to multiples of 128.
 *
 * @param {number} height
 * @param {number} width
 * @returns {[number, number]}
 */
export function paddedSize(height, width) {
  return [Math.ceil(height / PAD_MULTIPLE) * PAD_MULTIPLE, Math.ceil(width / PAD_MULTIPLE) * PAD_MULTIPLE];
}

/** @param {Uint8Array} data */
function checkFrame(data) {
  if (!data.length || MAGIC.some((byte, i) => i < data.length && data[i] !== byte)) {
    throw new StreamError("this is not a .tcm file");
  }
  if (data.length < LEAST_BYTES) throw new StreamError(TRUNCATED);
  if (data[4] !== VERSION) {
    throw new StreamError(`the .tcm file has format version ${data[4]}, not ${VERSION}; use a newer viewer`);
  }
  const stated = new DataView(data.buffer, data.byteOffset + data.length - 4).getUint32(0, true);
  if (crc32(data.subarray(0, -4)) !== stated) {
    throw endsEarly(data) ? new StreamError(TRUNCATED) : altered("its checksum does not match");
  }
  if (data[5] & ~Object.values(FLAGS).reduce((all, flag) => all | flag)) {
    throw new StreamError("the .tcm file uses features that this viewer lacks; use a newer one");
  }
}

/**
 * @param {number} width
 * @param {number} height
 * @param {number} maxPixels
 */
function checkSize(width, height, maxPixels) {
  if (!(width >= 1 && width <= MAX_SIDE && height >= 1 && height <= MAX_SIDE)) {
    throw altered(`it declares a picture of ${width}x${height} pixels`);
  }
  const [rows, columns] = paddedSize(height, width);
  if (rows * columns > maxPixels) {
    throw new StreamError(`the picture has ${width}x${height} pixels; padded, that is over the limit of ${maxPixels}`);
  }
  return rows * columns;
}

/** @param {Reader} reader */
function tileSide(reader) {
  return within(reader.byte() * PAD_MULTIPLE, MIN_TILE, MAX_TILE, "the size of its tiles is out of range");
}

/** @param {Reader} reader */
function readSections(reader) {
  /** @type {Map<number, Uint8Array>} */
  const sections = new Map();
  let last = 0;
  while (reader.left) {
    const tag = reader.byte();
    const payload = reader.take(reader.varint());
    if (tag < SECTIONS.checksums || tag > SECTIONS.layer) {
      throw new StreamError(`the .tcm file has a section ${tag} unknown to this viewer; use a newer one`);
    }
    if (tag <= last) throw altered("its sections are out of order");
    if (tag > SECTIONS.latents && !payload.length) throw altered("its alpha, its layer or its metadata is empty");
    sections.set(tag, payload);
    last = tag;
  }
  return sections;
}

/**
 * Whether the file has a layer and no latents.
 *
 * @param {Map<number, Uint8Array>} sections
 * @param {number} flags
 */
function checkSections(sections, flags) {
  const hasLayer = sections.has(SECTIONS.layer);
  if (hasLayer !== Boolean(flags & FLAGS.layer)) {
    throw altered("it lacks its residual layer, or has one that it does not name");
  }
  const { checksums, sides, latents } = SECTIONS;
  if (hasLayer && ![checksums, sides, latents].some((tag) => sections.has(tag))) return true;
  if (!sections.has(checksums) || !sections.has(latents)) throw altered("it lacks its checksums or its latents");
  return false;
}

/** @param {Uint8Array} payload */
function parseChecksums(payload) {
  const first = (payload.length - 4) / 2;
  if (first < 0 || !Number.isInteger(first)) throw altered("its checksums have an impossible length");
  const reader = new Reader(payload);
  return [...Array.from({ length: first }, () => reader.uint(2)), reader.uint(4)];
}

/**
 * Whether a file whose checksum is wrong lacks bytes, by its own lengths.
 *
 * @param {Uint8Array} data
 */
function endsEarly(data) {
  const reader = new Reader(data, 6);
  try {
    reader.varint();
    reader.varint();
    reader.take(12 + (data[5] & FLAGS.quality ? 2 : 0) + (data[5] & FLAGS.tiles ? 1 : 0));
    let tag = 0;
    const later = () => data[reader.position] > SECTIONS.latents && data[reader.position] <= SECTIONS.layer;
    while (tag < SECTIONS.latents || (reader.position < data.length - 4 && later())) {
      tag = reader.byte();
      reader.take(reader.varint());
    }
    reader.take(4);
  } catch (error) {
    if (error instanceof StreamError) return error.message === TRUNCATED;
    throw error;
  }
  return false;
}

/**
 * @param {Map<number, Uint8Array>} sections
 * @param {keyof typeof SECTIONS} name
 */
function section(sections, name) {
  return sections.get(SECTIONS[name]) ?? EMPTY;
}

/**
 * @param {number} value
 * @param {number} least
 * @param {number} most
 * @param {string} what
 */
function within(value, least, most, what) {
  if (value < least || value > most) throw altered(what);
  return value;
}

/** @param {string} what */
function altered(what) {
  return new StreamError(`the .tcm file is altered: ${what}`);
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
