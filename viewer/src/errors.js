/** A file that cannot be decoded; the message is one sentence for the person who opened it. */
export class TcmError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = this.constructor.name;
  }
}

/** A `.tcm` file that is truncated, altered, or not a `.tcm` file. */
export class StreamError extends TcmError {}

/** A `.tcm` file written with other weights than those that are loaded. */
export class ModelMismatchError extends StreamError {}

/** A `.tcm` file whose latents were coded with an arithmetic that differs by more than the file allows. */
export class ArithmeticMismatchError extends StreamError {}

/** A residual layer whose samples do not have the checksum that it states. */
export class ChecksumError extends StreamError {}
