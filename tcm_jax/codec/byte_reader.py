"""Numbers of any size as bytes, and a reader that takes them and other bytes off the front."""

from tcm_jax.errors import StreamError

_MAX_VARINT_BYTES = 5


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def counted(data: bytes) -> bytes:
    """`data` behind the number of its bytes."""
    return varint(len(data)) + data


class ByteReader:
    """Takes bytes off the front of `data` from `position` on; running out of them is a StreamError that says `ends`."""

    def __init__(self, data: bytes, position: int, ends: str):
        self.data, self.position, self._ends = data, position, ends

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise StreamError(self._ends)
        self.position += size
        return self.data[self.position - size : self.position]

    def varint(self) -> int:
        """The next number that `varint` wrote."""
        value = 0
        for i in range(_MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value
        raise StreamError("the .tcm file is altered: a number in it is too long")

    def counted(self) -> bytes:
        """The next bytes that `counted` wrote."""
        return self.take(self.varint())
