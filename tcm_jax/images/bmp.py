"""Alpha of BMP files that Pillow leaves out: by a mask in the header, of 16 or 32 bits a pixel."""

import struct

import numpy as np

_MASKED = (3, 6)  # BI_BITFIELDS, BI_ALPHABITFIELDS
_WITH_ALPHA = 56  # bytes of the least header with a mask for alpha
_MASK = 66  # where it stands


def alpha(data: bytes) -> np.ndarray | None:
    """Alpha, uint8 [H, W], of a BMP file whose header has a mask for it, scaled to 0 .. 255.

    None for other files, and where it is 0 everywhere: programs leave so what they do not use.
    """
    if data[:2] != b"BM" or len(data) < _MASK + 4:
        return None
    start, header, width, height = struct.unpack_from("<IIii", data, 10)
    depth, compression = struct.unpack_from("<HI", data, 28)
    (mask,) = struct.unpack_from("<I", data, _MASK)
    if compression not in _MASKED or depth not in (16, 32) or (header < _WITH_ALPHA and compression == _MASKED[0]):
        return None
    lowest = (mask & -mask).bit_length() - 1
    most, row = mask >> max(lowest, 0), -(-width * depth // 32) * 4
    if not 0 < most <= 0xFFFF or len(data) < start + row * abs(height):
        return None
    pixels = np.frombuffer(data, f"<u{depth // 8}", row * abs(height) * 8 // depth, start).reshape(abs(height), -1)
    to_8_bits = np.rint(np.arange(most + 1) * (255 / most)).astype(np.uint8)
    found = to_8_bits[(pixels[:, :width] & mask) >> lowest]
    return (found[::-1] if height > 0 else found) if found.any() else None
