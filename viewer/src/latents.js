import { StreamError } from "./errors.js";
import { HYPER_STRIDE } from "./network.js";
import { SymbolReader } from "./symbols.js";

/**
 * @typedef {import("./tiles.js").Grid<Float32Array>} Floats
 * @typedef {import("./tiles.js").Grid<Int32Array>} Ints
 */

/**
 * Gain level of a quality in hundredths; null of a model of one rate.
 *
 * @param {number | null} quality
 * @param {Record<string, any>} config
 */
export function gainLevel(quality, config) {
  return quality === null ? null : ((quality - 100) / 9900) * (config.levels - 1);
}

/**
 * How many detail slices follow those of y.
 *
 * @param {number | null} level
 * @param {Record<string, any>} config
 */
function detailCount(level, config) {
  const first = /** @type {number[]} */ (config.detail_from ?? []);
  return level === null ? 0 : first.filter((from) => level > from).length;
}

/**
 * Slices of y and symbols of detail slices, each held against its checksum (docs/format.md, "What is coded").
 *
 * @param {import("./container.js").Container} file one that has latents
 * @param {import("./network.js").Network} network
 * @param {(done: number, all: number) => void} onSlice
 * @returns {Promise<{decoded: Floats[], details: Ints[]}>}
 */
export async function decodeLatents(file, network, onSlice) {
  const { config, tables } = network.model;
  const details = detailCount(network.level, config);
  const steps = config.checkerboard_width > 0 ? 2 : 1;
  const parts = config.num_slices * steps + details;
  if (file.checksums.length - 1 !== parts) {
    throw new StreamError(`the file is altered: it has ${file.checksums.length - 1} slices, its model ${parts}`);
  }
  const reader = new SymbolReader(file, tables);
  const [height, width] = network.size.map((length) => length / HYPER_STRIDE);
  const channels = config.hyper_channels;
  const context = await network.hyper({ data: reader.readHyper(height * width, channels), height, width, channels });
  /** @type {{decoded: Floats[], symbols: Ints[], sigmas: Floats[], details: Ints[]}} */
  const known = { decoded: [], symbols: [], sigmas: [], details: [] };
  for (let i = 0; i < config.num_slices; i++) {
    onSlice(i, config.num_slices + details);
    const params = await network.sliceParams(i, context, known.decoded);
    const { symbols, sigma } = await readSlice(i, params, steps, network, reader);
    if (details) {
      known.symbols.push(symbols);
      known.sigmas.push(sigma);
    }
    known.decoded.push(await network.sliceLatents(i, symbols, params));
  }
  while (known.details.length < details) {
    onSlice(config.num_slices + known.details.length, config.num_slices + details);
    const sigma = await network.detailScales(known.symbols, known.sigmas, known.details);
    known.details.push({ ...sigma, data: reader.readSlice(sigma.data) });
  }
  reader.finish();
  return known;
}

/**
 * Symbols and scales of a slice; of a checkerboard `params` become those of the second step.
 *
 * @param {number} i
 * @param {Record<string, Floats>} params
 * @param {number} steps
 * @param {import("./network.js").Network} network
 * @param {SymbolReader} reader
 */
async function readSlice(i, params, steps, network, reader) {
  const { sigma } = params;
  if (steps === 1) return { symbols: { ...sigma, data: reader.readSlice(sigma.data) }, sigma };
  const symbols = { ...sigma, data: new Int32Array(sigma.data.length) };
  readField(0, symbols, sigma, reader);
  Object.assign(params, await network.secondStep(i, symbols, { mu: params.mu, sigma }));
  readField(1, symbols, params.sigma, reader);
  return { symbols, sigma: params.sigma };
}

/**
 * Reads the symbols at positions whose row and column add up to an even (0) or odd (1) number.
 *
 * @param {number} parity
 * @param {Ints} symbols
 * @param {Floats} sigma
 * @param {SymbolReader} reader
 */
function readField(parity, symbols, sigma, reader) {
  const { height, width, channels } = sigma;
  const places = [];
  for (let y = 0; y < height; y++) {
    for (let x = (y + parity) % 2; x < width; x += 2) places.push((y * width + x) * channels);
  }
  const scales = new Float32Array(places.length * channels);
  places.forEach((place, n) => scales.set(sigma.data.subarray(place, place + channels), n * channels));
  const read = reader.readSlice(scales);
  places.forEach((place, n) => symbols.data.set(read.subarray(n * channels, (n + 1) * channels), place));
}
