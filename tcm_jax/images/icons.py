"""Icons and cursors: the PNG in one, which Pillow gives without its transparency, and masks that Pillow misses."""

import contextlib
import io
import struct

from tcm_jax.images import png

ICO, CUR, ICNS = b"\0\0\1\0", b"\0\0\2\0", b"icns"
_BITMAP_SIZE = 40  # bytes of the header of a bitmap
_BITMAP_HEADER = struct.pack("<I", _BITMAP_SIZE)


def entries(data: bytes) -> list[tuple[int, int, int]]:
    """(place of the entry, bytes, start) of each picture of an ICO or CUR, in the order of starts."""
    places = [6 + 16 * i for i in range(int.from_bytes(data[4:6], "little"))]
    return sorted(((at, *struct.unpack_from("<II", data, at + 8)) for at in places), key=lambda entry: entry[2])


def embedded_png(data: bytes) -> bytes:
    """The PNG that Pillow picks of an ICO or ICNS, with all that follows; nothing for other pictures and files."""
    start = len(data)
    with contextlib.suppress(struct.error, IndexError, SyntaxError):  # what Pillow raises for broken ones
        if data[:4] == ICO:
            from PIL.IcoImagePlugin import IcoFile  # few pictures are icons

            start = IcoFile(io.BytesIO(data)).entry[0].offset
        elif data[:4] == ICNS:
            from PIL.IcnsImagePlugin import IcnsFile

            file = IcnsFile(io.BytesIO(data))
            kind, _ = file.SIZES[file.bestsize()][0]
            start, _ = file.dct.get(kind, (start, 0))
    return data[start:] if data.startswith(png.SIGNATURE, start) else b""


def mended(data: bytes) -> bytes:
    """An ICO whose bitmaps have the sizes that their headers mean, by which Pillow finds their masks.

    A CUR becomes an ICO, as Pillow reads no masks of a CUR. Other files are as they were.
    """
    whole_list = data[:4] in (ICO, CUR) and len(data) >= 6 + 16 * int.from_bytes(data[4:6], "little")
    icons, cursor = entries(data) if whole_list else [], data[:4] == CUR
    if cursor:  # or a TGA, which begins so too
        icons = [icon for icon in icons if data.startswith((_BITMAP_HEADER, png.SIGNATURE), icon[2])]
    changed = bytearray(data) if icons else data
    for at, size, start in icons:
        is_bitmap, cut = data.startswith(_BITMAP_HEADER, start), start + max(size, _BITMAP_SIZE) > len(data)
        if cursor:  # it has a place of the pointer where an ICO has bits a pixel
            depth = int.from_bytes(data[start + 14 : start + 16], "little") if is_bitmap else 32
            struct.pack_into("<4s", changed, 0, ICO)
            struct.pack_into("<HH", changed, at + 4, 1, depth)
        if cut or not is_bitmap:
            continue
        width, height, _, depth, _, _, _, _, colours = struct.unpack_from("<iiHHIIIII", data, start + 4)
        palette = 4 * (colours or 1 << depth) if depth <= 8 else 0
        meant = _BITMAP_SIZE + palette + height // 2 * 4 * (-(-width * depth // 32) + -(-width // 32))  # and its mask
        if size != meant and _BITMAP_SIZE < meant <= len(data) - start:
            struct.pack_into("<I", changed, at + 8, meant)
    return bytes(changed)
