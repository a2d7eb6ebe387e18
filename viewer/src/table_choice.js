const MIXED = 64; // added to the table of a cell whose numbers need a closer look

// float32(exp(linspace(log 0.11, log 256, 64))), the scales of the tables (docs/format.md).
export const SCALES = new Float32Array([
  0.11, 0.124404095, 0.14069438, 0.1591178, 0.1799537, 0.20351797, 0.23016793, 0.2603076, 0.29439393, 0.33294374,
  0.37654155, 0.4258483, 0.4816116, 0.5446769, 0.6160004, 0.69666344, 0.787889, 0.89106023, 1.0077413, 1.1397015,
  1.2889413, 1.4577235, 1.6486071, 1.8644862, 2.108634, 2.384752, 2.6970267, 3.0501928, 3.4496043, 3.9013174, 4.4121814,
  4.9899406, 5.643354, 6.382331, 7.218075, 8.163255, 9.2322035, 10.441129, 11.808356, 13.354617, 15.103355, 17.081085,
  19.317795, 21.84739, 24.708223, 27.943682, 31.602804, 35.741077, 40.421238, 45.714252, 51.70038, 58.470337, 66.12683,
  74.78591, 84.578835, 95.654144, 108.17973, 122.34544, 138.36617, 156.48474, 176.9758, 200.15018, 226.35905, 256.0,
]);
const BOUNDARIES = SCALES.subarray(0, -1);

/**
 * The table of each scale, and which scales are within the guard band of a boundary.
 *
 * @param {Float32Array} sigma
 * @param {number} guardBand relative half-width; 0: none is near
 * @returns {{indexes: Uint8Array, near: number[], boundary: number[]}} positions, and the number of the boundary there
 */
export function chosenTables(sigma, guardBand) {
  const indexes = new Uint8Array(sigma.length);
  const near = [];
  const boundary = [];
  const bits = new Uint32Array(sigma.buffer, sigma.byteOffset, sigma.length);
  const cells = cellsOf(guardBand);
  for (let i = 0; i < sigma.length; i++) {
    let table = cells[bits[i] >>> 16];
    if (table >= MIXED) {
      table = tableOf(sigma[i]);
      if (isNear(sigma[i], table - 1, guardBand)) {
        near.push(i);
        boundary.push(table - 1);
      } else if (isNear(sigma[i], table, guardBand)) {
        near.push(i);
        boundary.push(table);
      }
    }
    indexes[i] = table;
  }
  return { indexes, near, boundary };
}

/**
 * How many boundaries are smaller than a scale; NaN counts as the largest.
 *
 * @param {number} scale
 */
export function tableOf(scale) {
  if (Number.isNaN(scale)) return BOUNDARIES.length;
  let table = 0;
  while (table < BOUNDARIES.length && BOUNDARIES[table] < scale) table++;
  return table;
}

/**
 * The boundary that is nearest by ratio.
 *
 * @param {number} scale
 */
export function nearestBoundary(scale) {
  const above = tableOf(scale);
  if (above === 0) return 0;
  if (above === BOUNDARIES.length) return above - 1;
  return Math.sqrt(BOUNDARIES[above - 1] * BOUNDARIES[above]) < scale ? above : above - 1;
}

/**
 * @param {number} scale
 * @param {number} boundary
 * @param {number} guardBand
 */
function isNear(scale, boundary, guardBand) {
  if (!guardBand || boundary < 0 || boundary >= BOUNDARIES.length) return false;
  return Math.abs(scale - BOUNDARIES[boundary]) <= guardBand * BOUNDARIES[boundary];
}

/** @type {{guardBand: number, cells: Uint8Array} | null} */
let known = null;

/**
 * Table of all float32 of equal upper halves, which never have two boundaries between them; MIXED where they differ.
 *
 * @param {number} guardBand
 */
function cellsOf(guardBand) {
  if (known?.guardBand === guardBand) return known.cells;
  const ends = new Float32Array(2);
  const bits = new Uint32Array(ends.buffer);
  const cells = new Uint8Array(1 << 16).map((_, cell) => {
    bits[0] = cell * 65536;
    bits[1] = bits[0] + 65535;
    const [first, last] = [tableOf(ends[0]), tableOf(ends[1])];
    const near = [0, 1].some((i) => [first - 1, first].some((boundary) => isNear(ends[i], boundary, guardBand)));
    return first !== last || near ? MIXED : first;
  });
  known = { guardBand, cells };
  return cells;
}
