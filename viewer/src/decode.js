import { MAX_PIXELS, paddedSize, parse } from "./container.js";
import { ChecksumError, ModelMismatchError, StreamError } from "./errors.js";
import { decodeLatents, gainLevel } from "./latents.js";
import { unpackMetadata, unpackPlane } from "./metadata.js";
import { Network, SYNTHESIS_PIXELS } from "./network.js";
import { decodeResidual } from "./residual.js";

/**
 * A decoded picture.
 *
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray} data R, G, B, A of each pixel, row by row, as ImageData takes them
 * @property {boolean} grey whether the file has one channel; R, G and B are equal then
 * @property {boolean} alpha whether the file has alpha; A is 255 otherwise
 * @property {Uint8Array | null} icc profile of the samples; without one they are sRGB
 * @property {Uint8Array | null} exif from the TIFF header on; its orientation was applied when the file was written
 * @property {string | null} note what a viewer should be told about the picture
 */

/**
 * @typedef {object} Options
 * @property {import("./network.js").Model} [model] the weights; files without latents need none
 * @property {number} [maxPixels] refuse larger pictures, counted after padding to multiples of 128
 * @property {(progress: {stage: "latents" | "picture" | "layer", done: number, all: number}) => void} [onProgress]
 */

const NO_LAYER =
  "This file has a residual layer over its latents, which this browser's arithmetic cannot apply exactly; " +
  "the picture is shown without it. `tcm decompress` applies it.";

/**
 * The picture of a `.tcm` file.
 *
 * @param {Uint8Array} bytes
 * @param {Options} options
 * @returns {Promise<Picture>}
 * @throws {StreamError} no intact file, one of other weights, or one that this browser's arithmetic cannot decode
 */
export async function decode(bytes, { model, maxPixels = MAX_PIXELS, onProgress = () => {} } = {}) {
  const file = parse(bytes, maxPixels);
  const { width, height, grey } = file;
  if (file.checksums.length) checkModel(file, model);
  const plane = file.alpha.length ? unpackPlane(file.alpha, height, width) : null;
  const icc = await unpackMetadata(file.icc, "ICC profile");
  const exif = await unpackMetadata(file.exif, "EXIF");
  const { samples, note } = await colour(file, model, onProgress);
  return { width, height, data: pixels(samples, plane, width * height), grey, alpha: plane !== null, icc, exif, note };
}

/**
 * @param {import("./container.js").Container} file
 * @param {import("./network.js").Model | undefined} model
 */
function checkModel(file, model) {
  if (!model || !model.identity.startsWith(file.modelId)) {
    const loaded = model ? `this viewer has ${model.identity.slice(0, 16)} (${model.name})` : "this viewer has none";
    throw new ModelMismatchError(`this file was written with model ${file.modelId}, but ${loaded}`);
  }
  if ((file.quality === null) !== !model.config.levels) {
    throw new StreamError("the file is altered: only files of variable-rate models have a quality");
  }
}

/**
 * Samples [height, width, 1 or 3] of what latents and layer decode to.
 *
 * @param {import("./container.js").Container} file
 * @param {import("./network.js").Model | undefined} model
 * @param {NonNullable<Options["onProgress"]>} onProgress
 * @returns {Promise<{samples: Uint8Array, note: string | null}>}
 */
async function colour(file, model, onProgress) {
  const form = { width: file.width, height: file.height, channels: file.grey ? 1 : 3 };
  let decoded;
  if (file.checksums.length) {
    decoded = await latentPicture(file, /** @type {import("./network.js").Model} */ (model), onProgress);
    if (!file.layer.length) return { samples: decoded, note: null };
  }
  onProgress({ stage: "layer", done: 0, all: 1 });
  try {
    return { samples: await decodeResidual(file.layer, { ...form, decoded }), note: null };
  } catch (error) {
    if (!decoded || !(error instanceof ChecksumError)) throw error;
    return { samples: decoded, note: NO_LAYER };
  }
}

/**
 * What the latents alone decode to.
 *
 * @param {import("./container.js").Container} file
 * @param {import("./network.js").Model} model
 * @param {NonNullable<Options["onProgress"]>} onProgress
 */
async function latentPicture(file, model, onProgress) {
  const level = gainLevel(file.quality, model.config);
  const network = new Network(model, level, paddedSize(file.height, file.width), file.tile);
  const onSlice = (/** @type {number} */ done, /** @type {number} */ all) =>
    onProgress({ stage: "latents", done, all });
  const onTile = (/** @type {number} */ done, /** @type {number} */ all) => onProgress({ stage: "picture", done, all });
  const { decoded, details } = await decodeLatents(file, network, onSlice);
  // Below a layer g_s has the file's tiles; where one is too large, the layer's checksum will say so.
  const side = file.layer.length && file.tile ** 2 <= SYNTHESIS_PIXELS ? file.tile || null : null;
  const rgb = await network.synthesize(decoded, details, [file.height, file.width], side, onTile);
  return file.grey ? means(rgb) : rgb;
}

/**
 * Rounded means of three channels.
 *
 * @param {Uint8Array} rgb
 */
function means(rgb) {
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < grey.length; i++) grey[i] = (rgb[3 * i] + rgb[3 * i + 1] + rgb[3 * i + 2] + 1) / 3;
  return grey;
}

/**
 * @param {Uint8Array} samples
 * @param {Uint8Array | null} plane
 * @param {number} count of pixels
 */
function pixels(samples, plane, count) {
  const data = new Uint8ClampedArray(4 * count);
  const step = samples.length / count;
  const [green, blue] = step === 3 ? [1, 2] : [0, 0];
  for (let i = 0; i < count; i++) {
    data[4 * i] = samples[step * i];
    data[4 * i + 1] = samples[step * i + green];
    data[4 * i + 2] = samples[step * i + blue];
    data[4 * i + 3] = plane ? plane[i] : 255;
  }
  return data;
}
