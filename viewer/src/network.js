import { cut, ENTROPY_HALO, paste, spans, SYNTHESIS_HALO } from "./tiles.js";

export const LATENT_STRIDE = 16; // pixels a position
export const HYPER_STRIDE = 64;
const PAD = 128;
const LEAST_SIDE = 512; // of a tile of g_s where it chooses
export const SYNTHESIS_PIXELS = 2 ** 20; // of such a tile, at most

/**
 * @typedef {import("./tiles.js").Grid<Float32Array>} Floats
 * @typedef {import("./tiles.js").Grid<Int32Array>} Ints
 * @typedef {import("./tiles.js").Grid<any>} AnyGrid
 */

/**
 * One program on grids of any size, to its results.
 *
 * @callback Run
 * @param {string} program
 * @param {Record<string, AnyGrid>} grids
 * @param {number | null} level
 * @returns {Promise<Record<string, AnyGrid>>}
 */

/**
 * Weights as programs; docs/onnx.md says which there are.
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} identity 64 hexadecimal digits, of which a file has the first 16
 * @property {Record<string, any>} config
 * @property {import("./range_tables.js").RangeTables} tables
 * @property {Run} run
 */

/** The network of a model, tile by tile; grids are whole, sizes [height, width] in pixels, multiples of 128. */
export class Network {
  /**
   * @param {Model} model
   * @param {number | null} level gain level of the picture
   * @param {[number, number]} size
   * @param {number} tile side of the entropy model's tiles; 0: one piece
   */
  constructor(model, level, size, tile) {
    this.model = model;
    this.level = level;
    this.size = size;
    this.tile = tile;
  }

  /**
   * Symbols of z to `latent_means` and `latent_scales`.
   *
   * @param {Ints} z
   * @returns {Promise<Record<string, Floats>>}
   */
  hyper(z) {
    return this.entropy("hyper_synthesis", { z }, HYPER_STRIDE);
  }

  /**
   * `mu`, `sigma` and maybe `support` of slice `i`.
   *
   * @param {number} i
   * @param {Record<string, Floats>} context
   * @param {Floats[]} decoded
   */
  sliceParams(i, context, decoded) {
    return this.entropy(`slice_params_${i}`, { ...context, ...numbered("y_hat", decoded) });
  }

  /**
   * `mu` and `sigma` of slice `i` from symbols of which a checkerboard's black fields are known.
   *
   * @param {number} i
   * @param {Ints} symbols
   * @param {Record<string, Floats>} params
   */
  async secondStep(i, symbols, params) {
    const { second_mu: mu, second_sigma: sigma } = await this.entropy(`second_step_${i}`, { symbols, ...params });
    return { mu, sigma };
  }

  /**
   * Decoded slice `i` from its symbols.
   *
   * @param {number} i
   * @param {Ints} symbols
   * @param {Record<string, Floats>} params
   */
  async sliceLatents(i, symbols, params) {
    return (await this.entropy(`slice_latents_${i}`, { symbols, ...params })).y_hat;
  }

  /**
   * sigma of the next detail slice.
   *
   * @param {Ints[]} symbols of y
   * @param {Floats[]} sigmas of y
   * @param {Ints[]} details before it
   */
  async detailScales(symbols, sigmas, details) {
    const grids = { ...numbered("symbols", symbols), ...numbered("sigma", sigmas), ...numbered("detail", details) };
    return (await this.entropy(`detail_scales_${details.length}`, grids)).sigma;
  }

  /**
   * All detail slices where there are any: those that a file does not have are 0.
   *
   * @param {Ints[]} details
   * @returns {Ints[]}
   */
  allDetails(details) {
    const [first] = details;
    if (!first) {
      return [];
    }
    const none = { ...first, data: new Int32Array(first.data.length) };
    const from = /** @type {number[]} */ (this.model.config.detail_from);
    return from.map((_, i) => details[i] ?? none);
  }

  /**
   * The picture, uint8 [height, width, 3] of any size, from decoded slices and symbols of detail slices.
   *
   * @param {Floats[]} decoded
   * @param {Ints[]} details
   * @param {[number, number]} size of the picture
   * @param {number | null} side of tiles; null: chosen
   * @param {(done: number, all: number) => void} onTile
   * @returns {Promise<Uint8Array>}
   */
  async synthesize(decoded, details, size, side, onTile) {
    const [height, width] = size;
    const program = details.length ? "detailed_synthesis" : "synthesis";
    const grids = { ...numbered("y_hat", decoded), ...numbered("detail", this.allDetails(details)) };
    const picture = { data: new Uint8Array(height * width * 3), height, width, channels: 3 };
    const tiles = tilesOf(this.size, side === null ? chosenSides(this.size) : [side, side], SYNTHESIS_HALO);
    for (const [i, { rows, columns }] of tiles.entries()) {
      onTile(i, tiles.length);
      const result = await this.model.run(program, cutAll(grids, rows, columns, LATENT_STRIDE), this.level);
      paste(picture, result.picture, rows, columns, 1);
    }
    onTile(tiles.length, tiles.length);
    return picture.data;
  }

  /**
   * A program of the entropy model over whole grids, whose results have the stride of y.
   *
   * @param {string} program
   * @param {Record<string, AnyGrid>} grids
   * @param {number} stride of these
   * @returns {Promise<Record<string, Floats>>}
   */
  async entropy(program, grids, stride = LATENT_STRIDE) {
    const tiles = tilesOf(this.size, [this.tile, this.tile], ENTROPY_HALO);
    if (tiles.length === 1) return this.model.run(program, grids, this.level);
    const [height, width] = this.size.map((length) => length / LATENT_STRIDE);
    /** @type {Record<string, Floats>} */
    const whole = {};
    for (const { rows, columns } of tiles) {
      const results = await this.model.run(program, cutAll(grids, rows, columns, stride), this.level);
      for (const [name, result] of Object.entries(results)) {
        const { channels } = result;
        whole[name] ??= { data: new Float32Array(height * width * channels), height, width, channels };
        paste(whole[name], result, rows, columns, LATENT_STRIDE);
      }
    }
    return whole;
  }
}

/**
 * @param {[number, number]} size
 * @param {[number, number]} sides
 * @param {number} halo
 */
function tilesOf(size, sides, halo) {
  const across = spans(size[1], sides[1], halo);
  return spans(size[0], sides[0], halo).flatMap((rows) => across.map((columns) => ({ rows, columns })));
}

/**
 * Height and width of the tiles of g_s that cost least.
 *
 * @param {[number, number]} size
 * @returns {[number, number]}
 */
export function chosenSides(size) {
  const [rows, columns] = size.map((length) => balanced(length));
  let best = { cost: Infinity, sides: /** @type {[number, number]} */ ([0, 0]) };
  for (const row of rows) {
    for (const column of columns) {
      const cost = row.cost * column.cost;
      if (row.side * column.side <= SYNTHESIS_PIXELS && cost < best.cost)
        best = { cost, sides: [row.side, column.side] };
    }
  }
  return best.sides;
}

/**
 * The smallest sides that cover `length` with 1, 2, 3 ... tiles, with the pixels computed for each one of it.
 *
 * @param {number} length
 */
function balanced(length) {
  const found = [{ side: length, cost: 1 }];
  for (let count = 2; ; count++) {
    const inner = Math.ceil((length - 2 * SYNTHESIS_HALO) / count);
    const side = Math.ceil((inner + 2 * SYNTHESIS_HALO) / PAD) * PAD;
    if (side < LEAST_SIDE) return found;
    found.push({ side, cost: (spans(length, side, SYNTHESIS_HALO).length * side) / length });
  }
}

/**
 * @template T
 * @param {string} name
 * @param {T[]} values
 * @returns {Record<string, T>}
 */
function numbered(name, values) {
  return Object.fromEntries(values.map((value, i) => [`${name}_${i}`, value]));
}

/**
 * @param {Record<string, AnyGrid>} grids
 * @param {import("./tiles.js").Span} rows
 * @param {import("./tiles.js").Span} columns
 * @param {number} stride
 */
function cutAll(grids, rows, columns, stride) {
  return Object.fromEntries(Object.entries(grids).map(([name, grid]) => [name, cut(grid, rows, columns, stride)]));
}
