import { ChecksumError } from "./errors.js";
import { EXPONENTS, Frequencies, WIDTHS } from "./frequencies.js";
import { altered, OTHERWISE } from "./layer_reader.js";
import { Planes } from "./planes.js";
import { accumulate, BLOCK, TAPS, WEIGHTS } from "./predictors.js";
import { Words } from "./words.js";
import { inflate } from "./zlib.js";

const STRIP = 128; // rows
const LEVELS = 26;
const THRESHOLDS = [
  1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 51, 64, 81, 102, 128, 161, 203, 256, 323, 406, 512,
];
const LEVEL_OF = Uint8Array.from({ length: 1024 }, (_, u) => THRESHOLDS.filter((threshold) => threshold <= u).length);

/** @typedef {import("./layer_reader.js").LayerReader} LayerReader */
/** @typedef {import("./residual.js").Shape} Shape */

/**
 * What predicts a picture's samples, and the frequencies of the symbols that correct them.
 *
 * @typedef {object} Model
 * @property {number} step
 * @property {Int16Array} coefficients of taps
 * @property {Int16Array} weights of activities
 * @property {(y: number, x: number, turn: number) => number} first where a pixel's coefficients begin
 * @property {Frequencies} frequencies
 * @property {Int16Array} bases of the symbols, and the phases of their tables, for a prediction
 * @property {Uint8Array} phases
 */

/**
 * Samples of a residual layer of kind 0.
 *
 * @param {LayerReader} reader at the step
 * @param {Shape} shape
 */
export async function decodePredicted(reader, shape) {
  const model = await readModel(reader, shape);
  const modelOfRow0 = forRow0(model, shape);
  const samples = new Uint8Array(shape.height * shape.width * shape.channels);
  const planes = new Planes(shape, samples);
  for (let top = 0; top < shape.height; top += STRIP) {
    const words = new Words(reader.take(reader.varint()));
    for (let y = top; y < Math.min(top + STRIP, shape.height); y++) {
      planes.startRow(y);
      for (let turn = 0; turn < shape.channels; turn++) {
        accumulate(planes, y === 0 ? modelOfRow0 : model, turn);
        decodeRow(planes, y === 0 ? modelOfRow0 : model, turn, words);
        planes.rows[turn].finish();
      }
      if (words.overrun) throw new ChecksumError(OTHERWISE);
    }
    if (!words.finished) throw new ChecksumError(OTHERWISE);
  }
  if (reader.left) throw altered("is too long");
  return samples;
}

/**
 * @param {LayerReader} reader
 * @param {Shape} shape
 * @returns {Promise<Model>}
 */
async function readModel(reader, { width, height, channels, decoded }) {
  const step = reader.byte();
  const classes = reader.byte();
  if (step === 0 || classes === 0) throw altered("lacks its model");
  const numbers = channels * (TAPS * classes + WEIGHTS);
  const shapes = 2 * channels * LEVELS;
  const columns = Math.ceil(width / BLOCK);
  const size = 2 * numbers + shapes + columns * Math.ceil(height / BLOCK);
  const bytes = await inflate(reader.take(reader.varint()), size);
  if (!bytes) throw altered("has a model that cannot be unpacked");
  if (bytes.length !== size) throw altered("has a model of another size");
  const values = Int16Array.from({ length: numbers }, (_, i) => bytes[i] | (bytes[numbers + i] << 8));
  const contexts = bytes.subarray(2 * numbers, 2 * numbers + shapes);
  const classOf = bytes.subarray(2 * numbers + shapes);
  if (contexts.some((value, i) => value >= (i & 1 ? EXPONENTS : WIDTHS)) || classOf.some((value) => value >= classes)) {
    throw altered("has a model that is out of range");
  }
  return {
    step,
    coefficients: values.subarray(0, channels * classes * TAPS),
    weights: values.subarray(channels * classes * TAPS),
    first: (y, x, turn) => TAPS * (turn * classes + classOf[(y >> 4) * columns + (x >> 4)]),
    frequencies: new Frequencies(step, contexts),
    ...lattice(step, Boolean(decoded)),
  };
}

/**
 * Row 0 predicts by W and the step from W to C of the picture of the latents, or of the channel before.
 *
 * @param {Model} model
 * @param {Shape} shape
 * @returns {Model}
 */
function forRow0(model, { channels, decoded }) {
  const coefficients = new Int16Array(channels * TAPS);
  for (let turn = 0; turn < channels; turn++) {
    const [w, c] = [turn * TAPS, turn * TAPS + (decoded ? 21 : 9)];
    coefficients[w] = coefficients[c] = 256;
    coefficients[c + 1] = -256;
  }
  return { ...model, coefficients, first: (y, x, turn) => TAPS * turn };
}

/**
 * Where the symbol 0 lies, and the phase of its table, for 1020 + P - 4 * x_hat.
 *
 * @param {number} step
 * @param {boolean} withLatents
 */
function lattice(step, withLatents) {
  const bases = new Int16Array(2041);
  const phases = new Uint8Array(2041);
  for (let i = 0, fine = -1020; fine <= 1020; i++, fine++) {
    if (step === 1 || withLatents) {
      bases[i] = Math.floor(fine / (4 * step)) * step;
      phases[i] = Math.floor((fine - 4 * bases[i]) / step);
    } else {
      bases[i] = (fine + 2) >> 2;
    }
  }
  return { bases, phases };
}

/**
 * Decodes a row of a channel from what `accumulate` made of its surroundings.
 *
 * @param {Planes} planes
 * @param {Model} model
 * @param {number} turn of the channel in the order of decoding
 * @param {Words} words
 */
function decodeRow(planes, model, turn, words) {
  const { width, channels, offsets, left, y, samples, hat, sums, activities } = planes;
  const { step, coefficients, weights, frequencies, bases, phases } = model;
  const { now, error } = planes.rows[turn];
  const weightW = weights[turn * WEIGHTS];
  const weightWW = weights[turn * WEIGHTS + 1];
  let own = 0;
  let w = now[left - 1];
  let ww = now[left - 2];
  let errorW = error[left - 1];
  let errorWW = error[left - 2];
  let out = y * width * channels + offsets[turn];
  for (let x = 0; x < width; x++, out += channels) {
    if (x % BLOCK === 0) own = model.first(y, x, turn);
    const sum = sums[x] + Math.imul(coefficients[own], w) + Math.imul(coefficients[own + 1], ww);
    const predicted = clamp((sum + 32) >> 6, 1020);
    const activity = activities[x] + Math.imul(weightW, errorW) + Math.imul(weightWW, errorWW);
    const level = LEVEL_OF[clamp(activity >> 8, 1023)];
    const anchor = hat ? hat[out] : 0;
    const fine = 1020 + predicted - 4 * anchor;
    const symbol = words.symbol(frequencies, ((turn * LEVELS + level) << 2) | phases[fine]);
    const sample = clamp(anchor + bases[fine] + symbol * step, 255);
    [ww, errorWW] = [w, errorW];
    w = now[left + x] = samples[out] = sample;
    errorW = error[left + x] = Math.abs(4 * sample - predicted);
  }
}

/**
 * @param {number} value
 * @param {number} most
 */
function clamp(value, most) {
  return value < 0 ? 0 : value > most ? most : value;
}
