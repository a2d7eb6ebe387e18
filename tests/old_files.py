"""What wrote `.tcm` files until they had sides: a list of corrections, which decoders read for ever."""

import dataclasses
import math
import struct
import zlib

import numpy as np

from tcm_jax.codec import container
from tcm_jax.codec.container import Container


def pack_listed(file: Container) -> bytes:
    """The bytes of a file without sides, with a section for its corrections if it has any."""
    bare = container.pack(dataclasses.replace(file, corrections=()))
    if not file.corrections:
        return bare
    start = len(container._head(file))
    end = start + 2 + bare[start + 1]  # of the checksums, whose length is below 128
    payload = pack_corrections(file.corrections)
    body = bare[:end] + b"\2" + container.varint(len(payload)) + payload + bare[end:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def pack_corrections(corrections: tuple[np.ndarray, ...]) -> bytes:
    """Flat positions of every slice, int32 [n] increasing, as one string of bits, the highest of a byte first.

    For each slice its count, and if it is not 0 a Rice parameter and the gaps.
    """
    bits = []
    for positions in corrections:
        bits.append(_gamma_bits(positions.size + 1))
        if positions.size:
            gaps: np.ndarray = np.diff(positions.astype(np.int64), prepend=-1) - 1
            k = min(range(32), key=lambda k: int(np.sum(gaps >> k)) + k * gaps.size)
            bits.append(f"{k:05b}")
            bits += ["0" * (gap >> k) + f"{gap & (1 << k) - 1 | 1 << k:b}" for gap in gaps.tolist()]
    text = "".join(bits)
    size = math.ceil(len(text) / 8)
    return int(text.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _gamma_bits(value: int) -> str:
    """Elias gamma code of a positive integer."""
    return "0" * (value.bit_length() - 1) + f"{value:b}"
