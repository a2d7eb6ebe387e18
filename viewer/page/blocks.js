/**
 * Bytes out of a page's data block: UTF-16 code units of two bytes each, the low one first, and those that no text may
 * have behind an escape (tcm_jax/cli/page.py writes them).
 *
 * @param {string} text digits, the number of bytes; a colon; the units
 */
export function blockBytes(text) {
  const colon = text.indexOf(":");
  const size = Number(text.slice(0, colon));
  const units = new Uint16Array(Math.ceil(size / 2));
  let at = colon + 1;
  for (let i = 0; i < units.length; i++) {
    const unit = text.charCodeAt(at++);
    units[i] = unit === ESCAPE ? text.charCodeAt(at++) ^ FLIP : unit;
  }
  return new Uint8Array(units.buffer, 0, size);
}

const ESCAPE = 1;
const FLIP = 0x8080; // makes a unit of every forbidden one that is not forbidden
