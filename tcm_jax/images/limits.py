"""How much is taken of a picture; nothing is imported, so that the command line knows it at once."""

MAX_PIXELS = 2**28  # of a picture, counted after padding, unless a caller says otherwise
MAX_METADATA = 1 << 22  # bytes of an ICC profile or of EXIF
