"""Draws what photographs lack: `python docs/models/tiny/draw.py train_photos.tar drawn.tar`.

Pages of text, screens, line art, and darkened photographs of the first tar, as PNGs; the same each time with one
version of Pillow and of FreeType. The fonts are those that matplotlib brings. `--first 1 --sets 2` draws others.
"""

import argparse
import functools
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (1536, 1152)
COUNTS = {"page": 6, "screen": 6, "lines": 4, "dark": 6}
FONTS = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuS*.ttf"))
SYLLABLES = ("ka", "to", "mi", "ren", "sol", "est", "in", "or", "ly", "that", "per", "con", "tion", "ing", "the", "qu")
MARKS = ("", "", "", "", ",", ".", ":", "?", "(1)", " -", "=", "42", "0.137", '"')


def words(rng: np.random.Generator, count: int) -> str:
    """`count` words of syllables, some with marks or capitals."""
    made = ("".join(rng.choice(SYLLABLES, rng.integers(1, 4))) + rng.choice(MARKS) for _ in range(count))
    return " ".join(word.capitalize() if rng.random() < 0.15 else word for word in made)


def colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ground, ink): black on white, a theme with a tint, or light on dark."""
    kind = rng.random()
    if kind < 0.4:
        return (255, 255, 255), (0, 0, 0)
    pale, deep = rng.integers(215, 256, 3), rng.integers(0, 60, 3)
    return tuple(map(tuple, (pale, deep) if kind < 0.7 else (deep, pale)))


def write(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[int, int, int, int], ink, size: int) -> None:
    """Fills the box left, top, right, bottom with lines of text in one font, now and then of another colour."""
    font = ImageFont.truetype(rng.choice(FONTS), size)
    left, top, right, bottom = box
    for y in range(top, bottom - size, round(size * rng.uniform(1.15, 1.6))):
        text = words(rng, 60)
        while text and draw.textlength(text, font) > (right - left) * rng.uniform(0.7, 1):
            text = text.rpartition(" ")[0]
        draw.text((left, y), text, tuple(rng.integers(0, 256, 3)) if rng.random() < 0.1 else ink, font)


def page(rng: np.random.Generator) -> Image.Image:
    """Columns of text of several sizes."""
    ground, ink = colours(rng)
    image = Image.new("RGB", SIZE, ground)
    columns, size = int(rng.integers(1, 4)), int(rng.integers(9, 34))
    width = SIZE[0] // columns
    for column in range(columns):
        middle = int(rng.integers(300, 900))
        left, right = column * width + 12, (column + 1) * width - 8
        write(ImageDraw.Draw(image), rng, (left, 8, right, middle), ink, size)
        write(ImageDraw.Draw(image), rng, (left, middle, right, SIZE[1]), ink, int(rng.integers(9, 22)))
    return image


def screen(rng: np.random.Generator) -> Image.Image:
    """Windows over a plain ground or a gradient: bars, thin frames, buttons, cells and text."""
    ends = rng.integers(0, 256, (2, 3))
    ramp = np.linspace(0, rng.integers(2), SIZE[0])[None, :, None]
    image = Image.fromarray(np.repeat(ends[0] + (ends[1] - ends[0]) * ramp, SIZE[1], 0).round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(18):
        ground, ink = colours(rng)
        left, top = (int(rng.integers(-40, side - 200)) for side in SIZE)
        right, bottom = left + int(rng.integers(200, 520)), top + int(rng.integers(160, 420))
        grey = (int(rng.integers(100, 220)),) * 3
        draw.rectangle((left, top, right, bottom), ground, grey)
        draw.rectangle((left, top, right, top + 22), tuple(rng.integers(0, 256, 3)), grey)
        if rng.random() < 0.3:
            for y in range(top + 22, bottom, int(rng.integers(14, 30))):
                draw.line((left, y, right, y), grey)
            for x in range(left, right, int(rng.integers(30, 90))):
                draw.line((x, top + 22, x, bottom), grey)
        write(draw, rng, (left + 6, top + 28, right - 6, bottom - 30), ink, int(rng.integers(10, 18)))
        for x in range(left + 6, right - 70, 80):
            fill = tuple(rng.integers(0, 256, 3))
            draw.rounded_rectangle((x, bottom - 26, x + 66, bottom - 6), int(rng.integers(0, 9)), fill, grey)
    return image


def lines(rng: np.random.Generator) -> Image.Image:
    """Curves, shapes and hatching, drawn at twice the size so that their edges are smooth."""
    ground, ink = colours(rng)
    image = Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1]), ground)
    draw = ImageDraw.Draw(image)
    for _ in range(90):
        x, y = rng.integers(0, 2 * SIZE[0]), rng.integers(0, 2 * SIZE[1])
        colour = ink if rng.random() < 0.7 else tuple(rng.integers(0, 256, 3))
        angle = np.linspace(0, rng.uniform(2, 12), 80)
        radius = rng.uniform(40, 300) * (1 + 0.4 * np.sin(rng.integers(1, 6) * angle + rng.uniform(0, 6)))
        curve = list(zip(x + radius * np.cos(angle), y + radius * np.sin(angle), strict=True))
        if rng.random() < 0.3:
            draw.polygon(curve, colour)
        else:
            draw.line(curve, colour, int(rng.integers(1, 9)))
        if rng.random() < 0.2:
            for step in range(0, 300, int(rng.integers(6, 20))):
                draw.line((x + step, y, x + step + 120, y + 200), colour, 2)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def dark(photos: tarfile.TarFile, rng: np.random.Generator) -> Image.Image:
    """A photograph of the tar at 0.08 to 0.4 of its brightness."""
    members = photos.getmembers()
    photo = photos.extractfile(members[int(rng.integers(len(members)))])
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    return Image.fromarray((pixels * rng.uniform(0.08, 0.4)).round().astype(np.uint8))


def write_tar(output: str, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    """Writes named pictures as PNGs of a tar, and prints its SHA-256."""
    with tarfile.open(output, "w") as tar:
        for name, image in pictures:
            image.save(file := io.BytesIO(), "PNG", optimize=True)
            entry = tarfile.TarInfo(name)
            entry.size = file.tell()
            tar.addfile(entry, io.BytesIO(file.getvalue()))
    print(hashlib.sha256(Path(output).read_bytes()).hexdigest(), output)


def main(photos: str, output: str, first: int = 0, sets: int = 1) -> None:
    """Draws COUNTS of each kind for each of `sets` sets from the number `first` on."""
    with tarfile.open(photos) as source:
        makers = {"page": page, "screen": screen, "lines": lines, "dark": functools.partial(dark, source)}
        numbered = (
            (kind, 100 * number + i)
            for number in range(first, first + sets)
            for kind, count in COUNTS.items()
            for i in range(count)
        )
        seeded = ((kind, i, np.random.default_rng([sum(map(ord, kind)), i])) for kind, i in numbered)
        write_tar(output, ((f"{kind}_{i}.png", makers[kind](rng)) for kind, i, rng in seeded))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", help="tar of photographs")
    parser.add_argument("output", help="tar to write")
    parser.add_argument("--first", type=int, default=0, help="number of the first set of pictures")
    parser.add_argument("--sets", type=int, default=1, help="how many sets")
    main(**vars(parser.parse_args()))
