export const ENTROPY_HALO = 64; // pixels; part of the format
export const SYNTHESIS_HALO = 128;

/**
 * Values [height, width, channels], row by row.
 *
 * @template {Float32Array | Int32Array | Uint8Array} T
 * @typedef {{data: T, height: number, width: number, channels: number}} Grid
 */

/**
 * One tile along one axis, in pixels: it covers start to stop, of which first to last is kept.
 *
 * @typedef {{start: number, stop: number, first: number, last: number}} Span
 */

/**
 * Covers `length` with tiles of `side` (0: one tile) that overlap by two halos (docs/format.md, "Tiles").
 *
 * @param {number} length
 * @param {number} side
 * @param {number} halo
 * @returns {Span[]}
 */
export function spans(length, side, halo) {
  if (!side || length <= side) return [{ start: 0, stop: length, first: 0, last: length }];
  /** @type {number[]} */
  const starts = [];
  for (let start = 0; start < length - side; start += side - 2 * halo) starts.push(start);
  starts.push(length - side);
  return starts.map((start, i) => ({
    start,
    stop: start + side,
    first: i ? starts[i - 1] + side - halo : 0,
    last: i < starts.length - 1 ? start + side - halo : length,
  }));
}

/**
 * The tile of a grid whose positions are `stride` pixels apart; the grid itself if that is all of it.
 *
 * @template {Float32Array | Int32Array} T
 * @param {Grid<T>} grid
 * @param {Span} rows
 * @param {Span} columns
 * @param {number} stride
 * @returns {Grid<T>}
 */
export function cut(grid, rows, columns, stride) {
  const height = (rows.stop - rows.start) / stride;
  const width = (columns.stop - columns.start) / stride;
  if (height === grid.height && width === grid.width) return grid;
  const row = width * grid.channels;
  const data = /** @type {T} */ (new /** @type {any} */ (grid.data.constructor)(height * row));
  for (let y = 0; y < height; y++) {
    const from = ((rows.start / stride + y) * grid.width + columns.start / stride) * grid.channels;
    data.set(grid.data.subarray(from, from + row), y * row);
  }
  return { data, height, width, channels: grid.channels };
}

/**
 * Puts what is kept of a tile into its place in `whole`, as far as that goes.
 *
 * @template {Float32Array | Uint8Array} T
 * @param {Grid<T>} whole
 * @param {Grid<T>} tile
 * @param {Span} rows
 * @param {Span} columns
 * @param {number} stride
 */
export function paste(whole, tile, rows, columns, stride) {
  const { channels } = whole;
  const last = Math.min(rows.last / stride, whole.height);
  const left = columns.first / stride;
  const width = Math.min(columns.last / stride, whole.width) - left;
  for (let y = rows.first / stride; y < last; y++) {
    const from = ((y - rows.start / stride) * tile.width + left - columns.start / stride) * channels;
    whole.data.set(tile.data.subarray(from, from + width * channels), (y * whole.width + left) * channels);
  }
}
