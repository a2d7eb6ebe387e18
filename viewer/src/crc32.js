const TABLE = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/**
 * CRC-32 as zlib computes it, continued from `previous`.
 *
 * @param {Uint8Array} bytes
 * @param {number} previous
 * @returns {number} 32 bits, unsigned
 */
export function crc32(bytes, previous = 0) {
  let crc = ~previous;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * CRC-32 of symbols as little-endian int32, continued from `previous`.
 *
 * @param {Int32Array} symbols
 * @param {number} previous
 * @returns {number} 32 bits, unsigned
 */
export function symbolChecksum(symbols, previous = 0) {
  return crc32(new Uint8Array(symbols.buffer, symbols.byteOffset, symbols.byteLength), previous);
}
