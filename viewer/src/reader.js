import { StreamError } from "./errors.js";

export const TRUNCATED = "the .tcm file is truncated: it ends before its data does";
const MAX_VARINT_BYTES = 5;

/** Takes bytes off the front; running out of them is a StreamError. */
export class Reader {
  /**
   * @param {Uint8Array} bytes
   * @param {number} position
   */
  constructor(bytes, position = 0) {
    this.bytes = bytes;
    this.position = position;
  }

  /** Bytes that were not taken. */
  get left() {
    return this.bytes.length - this.position;
  }

  /**
   * The next `size` bytes, without a copy.
   *
   * @param {number} size
   */
  take(size) {
    if (size > this.left) throw new StreamError(TRUNCATED);
    this.position += size;
    return this.bytes.subarray(this.position - size, this.position);
  }

  byte() {
    return this.take(1)[0];
  }

  /**
   * A little-endian number of `size` bytes, at most 6.
   *
   * @param {number} size
   */
  uint(size) {
    return this.take(size).reduceRight((number, byte) => number * 256 + byte, 0);
  }

  float32() {
    const bytes = this.take(4);
    return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
  }

  /** A number of seven bits a byte, the lowest first, at most 35 bits. */
  varint() {
    let value = 0;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    throw new StreamError("the .tcm file is altered: a number in it is too long");
  }
}
