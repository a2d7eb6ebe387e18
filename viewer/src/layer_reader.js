import { StreamError } from "./errors.js";
import { Reader } from "./reader.js";

const ALTERED = "the .tcm file is altered: its residual layer ";

/** What a `ChecksumError` of a layer says: it, or the picture below it, is another than the encoder's. */
export const OTHERWISE = `${ALTERED}does not decode to the picture that was encoded`;

/**
 * The error of a residual layer that is not as one was written.
 *
 * @param {string} what a predicate
 */
export function altered(what) {
  return new StreamError(ALTERED + what);
}

/** Takes bytes off the front of a residual layer. */
export class LayerReader extends Reader {
  /** @param {number} size */
  take(size) {
    if (size > this.left) throw altered("ends early");
    return super.take(size);
  }
}
