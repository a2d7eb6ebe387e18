/** Taps of a predictor, and activities of its context. */
export const TAPS = 27;
export const WEIGHTS = 14;
/** Side in pixels of the blocks that have predictors of their own. */
export const BLOCK = 16;
const CONSTANT = 16; // the last tap and the last activity

/** @typedef {import("./planes.js").Planes} Planes */
/** @typedef {import("./planes.js").Rows} Rows */

/**
 * Sums up, for a row of a channel, taps times coefficients and activities times weights, W and WW left out.
 *
 * @param {Planes} planes
 * @param {import("./predicted.js").Model} model
 * @param {number} turn of the channel in the order of decoding
 */
export function accumulate(planes, model, turn) {
  const { sums, activities, rows, hat, width } = planes;
  const { coefficients } = model;
  const weights = model.weights.subarray(turn * WEIGHTS, (turn + 1) * WEIGHTS);
  activities.fill(CONSTANT * weights[13]);
  for (let from = 0; from < width; from += BLOCK) {
    const to = Math.min(from + BLOCK, width);
    const own = model.first(planes.y, from, turn);
    sums.fill(CONSTANT * coefficients[own + 26], from, to);
    addOwn(planes, rows[turn], coefficients, own, weights, from, to);
    if (turn > 0) {
      addDecoded(planes, rows[turn - 1], coefficients, own + 9, [weights[6], weights[7], weights[12]], from, to);
    }
    if (turn > 1) addDecoded(planes, rows[turn - 2], coefficients, own + 15, [weights[8], weights[9], 0], from, to);
    if (hat) addLatents(planes, hat, turn, coefficients, own + 21, weights[10], from, to);
  }
}

/**
 * The channel's own rows above.
 *
 * @param {Planes} planes
 * @param {Rows} rows
 * @param {Int16Array} coefficients
 * @param {number} first of them
 * @param {Int16Array} weights of the channel
 * @param {number} from the first column
 * @param {number} to the one behind the last
 */
function addOwn({ sums, activities, left }, rows, coefficients, first, weights, from, to) {
  const { above, higher, errorAbove, errorHigher } = rows;
  const [cN, cNW, cNE, cNN] = [2, 3, 4, 5].map((tap) => coefficients[first + tap]);
  const [cNNE, cNNW, cNEE] = [6, 7, 8].map((tap) => coefficients[first + tap]);
  const [wN, wNW, wNE, wNN, wSlope] = [2, 3, 4, 5, 11].map((activity) => weights[activity]);
  for (let x = from, i = left + from; x < to; x++, i++) {
    const n = above[i];
    const nw = above[i - 1];
    const ne = above[i + 1];
    sums[x] +=
      Math.imul(cN, n) + Math.imul(cNW, nw) + Math.imul(cNE, ne) + Math.imul(cNN, higher[i]) +
      Math.imul(cNNE, higher[i + 1]) + Math.imul(cNNW, higher[i - 1]) + Math.imul(cNEE, above[i + 2]);
    activities[x] +=
      Math.imul(wN, errorAbove[i]) + Math.imul(wNW, errorAbove[i - 1]) + Math.imul(wNE, errorAbove[i + 1]) +
      Math.imul(wNN, errorHigher[i]) + Math.imul(wSlope, Math.abs(n - nw) + Math.abs(n - ne));
  }
}

/**
 * A channel that was decoded before in this row.
 *
 * @param {Planes} planes
 * @param {Rows} rows
 * @param {Int16Array} coefficients
 * @param {number} first of them
 * @param {[number, number, number]} weights of the error here, of those beside it, and of the slopes
 * @param {number} from the first column
 * @param {number} to the one behind the last
 */
function addDecoded({ sums, activities, left }, rows, coefficients, first, [wC, wBeside, wSlope], from, to) {
  const { now, above, error } = rows;
  const [cC, cW, cE, cN, cNW, cNE] = [0, 1, 2, 3, 4, 5].map((tap) => coefficients[first + tap]);
  for (let x = from, i = left + from; x < to; x++, i++) {
    const c = now[i];
    const w = now[i - 1];
    const e = now[i + 1];
    sums[x] +=
      Math.imul(cC, c) + Math.imul(cW, w) + Math.imul(cE, e) + Math.imul(cN, above[i]) +
      Math.imul(cNW, above[i - 1]) + Math.imul(cNE, above[i + 1]);
    activities[x] +=
      Math.imul(wC, error[i]) + Math.imul(wBeside, error[i - 1] + error[i + 1]) +
      Math.imul(wSlope, Math.abs(c - w) + Math.abs(c - e));
  }
}

/**
 * The picture of the latents, whose ends repeat.
 *
 * @param {Planes} planes
 * @param {Uint8Array} hat
 * @param {number} turn of the channel
 * @param {Int16Array} coefficients
 * @param {number} first of them
 * @param {number} weight
 * @param {number} from the first column
 * @param {number} to the one behind the last
 */
function addLatents(planes, hat, turn, coefficients, first, weight, from, to) {
  const { sums, activities, width, height, channels, offsets, y } = planes;
  const [cC, cW, cE, cN, cS] = [0, 1, 2, 3, 4].map((tap) => coefficients[first + tap]);
  const stride = width * channels;
  const up = y > 0 ? stride : 0;
  const down = y < height - 1 ? stride : 0;
  for (let x = from, i = y * stride + from * channels + offsets[turn]; x < to; x++, i += channels) {
    const w = hat[x > 0 ? i - channels : i];
    const e = hat[x < width - 1 ? i + channels : i];
    const n = hat[i - up];
    const s = hat[i + down];
    sums[x] += Math.imul(cC, hat[i]) + Math.imul(cW, w) + Math.imul(cE, e) + Math.imul(cN, n) + Math.imul(cS, s);
    activities[x] += Math.imul(weight, Math.abs(w - e) + Math.abs(n - s));
  }
}
