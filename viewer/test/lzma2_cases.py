"""Writes lzma2.json: what xz makes of some byte strings.

python viewer/test/lzma2_cases.py
"""

import base64
import json
import lzma
import zlib
from pathlib import Path

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]


def noise(count: int, values: int) -> bytes:
    """Values 0 ... values - 1 of a linear congruential generator."""
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append((state >> 24) % values)
    return bytes(out)


CASES = {
    "one byte": b"x",
    "zeros, more than the dictionary": bytes(3 << 20),
    "noise, stored": noise(4000, 256),
    "noise of three values": noise(9000, 3),
    "ramps": bytes((i * i >> 7) & 255 for i in range(40000)),
    "stored, packed, stored": noise(3000, 256) + bytes(100_000) + noise(3000, 256),
    "far repeats": (noise(500, 256) + bytes(200_000)) * 4,
}


def main() -> None:
    """The packed bytes, with size and CRC-32 of what they hold."""
    found = {}
    for name, data in CASES.items():
        packed = lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)
        found[name] = [base64.b64encode(packed).decode(), len(data), zlib.crc32(data)]
    Path(__file__).with_name("lzma2.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
