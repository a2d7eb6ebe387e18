const SPAN = 8; // bytes that a mask covers
const MASK = 2n ** 64n - 1n;

/**
 * The bits of `keys` in section 2 (docs/format.md); of keys that were not packed, anything.
 *
 * @param {Uint8Array} packed
 * @param {ArrayLike<number>} keys
 * @returns {Uint8Array} 1: upper
 */
export function readSides(packed, keys) {
  const sides = new Uint8Array(keys.length);
  if (!packed.length) return sides;
  const span = Math.min(packed.length, SPAN);
  const places = BigInt(packed.length - span + 1);
  for (let i = 0; i < keys.length; i++) {
    const key = 2n * BigInt(keys[i]);
    const start = Number(((mixed(key) >> 32n) * places) >> 32n);
    let parity = 0;
    for (let mask = mixed(key + 1n) >> BigInt(64 - 8 * span), at = start; mask; mask >>= 8n, at++) {
      parity ^= packed[at] & Number(mask & 255n);
    }
    parity ^= parity >> 4;
    parity ^= parity >> 2;
    sides[i] = (parity ^ (parity >> 1)) & 1;
  }
  return sides;
}

/**
 * SplitMix64's output function.
 *
 * @param {bigint} x
 */
function mixed(x) {
  x = (x + 0x9e3779b97f4a7c15n) & MASK;
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}
