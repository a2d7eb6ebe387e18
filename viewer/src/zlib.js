/**
 * A whole zlib stream; null if it is damaged, is followed by other bytes, or holds more than `most` bytes.
 *
 * @param {Uint8Array} bytes
 * @param {number} most
 * @returns {Promise<Uint8Array | null>}
 */
export async function inflate(bytes, most) {
  const chunks = [];
  let size = 0;
  try {
    const whole = new Blob([/** @type {BlobPart} */ (bytes)]).stream();
    const reader = whole.pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      size += next.value.length;
      if (size > most) {
        await reader.cancel();
        return null;
      }
      chunks.push(next.value);
    }
  } catch {
    return null;
  }
  const out = joined(chunks, size);
  // Not every engine refuses what follows the stream; the stream's last four bytes are this sum.
  return bytes.length >= 6 && adler32(out) === new DataView(bytes.slice(-4).buffer).getUint32(0) ? out : null;
}

/**
 * A zlib stream of the bytes of `parts`, one after the other.
 *
 * @param {Iterable<Uint8Array>} parts
 * @returns {Promise<Uint8Array>}
 */
export async function deflate(parts) {
  const stream = new CompressionStream("deflate");
  const read = new Response(stream.readable).arrayBuffer();
  const writer = stream.writable.getWriter();
  for (const part of parts) await writer.write(/** @type {BufferSource} */ (part));
  await writer.close();
  return new Uint8Array(await read);
}

/**
 * @param {Uint8Array[]} chunks
 * @param {number} size of all of them
 */
export function joined(chunks, size) {
  const out = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** @param {Uint8Array} bytes */
function adler32(bytes) {
  let a = 1;
  let b = 0;
  for (let start = 0; start < bytes.length; start += 4096) {
    const end = Math.min(start + 4096, bytes.length);
    for (let i = start; i < end; i++) {
      a += bytes[i];
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return b * 65536 + a;
}
