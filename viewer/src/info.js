import { parse } from "./container.js";
import { stepOf } from "./residual.js";

/**
 * What `tcm info` says of a file, as (label, text) of each line; nothing is decoded.
 *
 * @param {Uint8Array} bytes
 * @param {{name: string, identity: string} | null} model the one that is loaded
 * @param {number} [maxPixels]
 * @returns {[string, string][]}
 * @throws {import("./errors.js").StreamError}
 */
export function describe(bytes, model, maxPixels) {
  const file = parse(bytes, maxPixels);
  const { width, height, parts } = file;
  const channels = (file.grey ? "grey" : "RGB") + (file.alpha.length ? " and alpha" : "");
  const bpp = (8 * bytes.length) / (width * height);
  const sections = Object.entries(parts).map(([name, size]) => `${partName(name, file)} ${size.toLocaleString("en")}`);
  return [
    ["picture", `${width}x${height} ${channels}`],
    ["file", `${bytes.length.toLocaleString("en")} bytes, ${bpp.toFixed(4)} bpp`],
    ["model", modelText(file, model)],
    ["rate", rateText(file)],
    ["tiles", file.tile ? `${file.tile} pixels a side` : "one piece"],
    ["portable", portableText(file)],
    ["bytes", sections.join(", ")],
  ];
}

/**
 * @param {string} name
 * @param {import("./container.js").Container} file
 */
function partName(name, file) {
  return name === "sides" && !file.sides ? "corrections" : name;
}

/**
 * @param {import("./container.js").Container} file
 * @param {{name: string, identity: string} | null} model
 */
function modelText(file, model) {
  if (!file.checksums.length) return "none: any decodes it";
  return model?.identity.startsWith(file.modelId) ? `${file.modelId} (${model.name})` : file.modelId;
}

/** @param {import("./container.js").Container} file */
function rateText(file) {
  if (file.layer.length) {
    const error = Math.floor(stepOf(file.layer) / 2);
    return error ? `off by at most ${error}` : "exact";
  }
  return file.quality === null ? "one rate" : `quality ${file.quality / 100}`;
}

/** @param {import("./container.js").Container} file */
function portableText(file) {
  if (!file.checksums.length) return "yes: no network";
  if (!file.guardBand) return "no: decodes only on the machine and software that wrote it";
  const { sides = 0 } = file.parts;
  const heading = sides ? 1 + Math.ceil(Math.log2(sides + 1) / 7) : 0;
  return `yes, for ${sides + heading} bytes: guard band ${file.guardBand.toExponential(0)}`;
}
