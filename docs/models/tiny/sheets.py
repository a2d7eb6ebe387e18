"""Draws what photographs lack: `python docs/models/tiny/sheets.py train_photos.tar sheets.tar --assets FOLDER...`.

Each sheet is cut into panels, each of another kind: prose, code, plots, icons, tables, screens, line art, pixel art,
photographs with captions. Prose and code are those of Python's own library; fonts (.ttf, .otf) and icons (.png) are
whatever the folders hold, such as Debian's fonts-liberation, fonts-lato, fonts-firacode and tango-icon-theme unpacked.
A sheet depends on its number, the fonts, the icons, and the versions of Pillow, FreeType, matplotlib and Pygments.
"""

import argparse
import ast
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

import draw
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pygments import lexers, styles

matplotlib.use("Agg")
from matplotlib import pyplot

SMALLEST = 320  # pixels a side of a panel that is not cut again
COUNT = 67  # beside 469 photographs: one picture in eight


class Material:
    """What panels are made of: paths of fonts, of icons and of Python's library, and a tar of photographs."""

    def __init__(self, folders: list[str], photos: tarfile.TarFile):
        files = sorted(file for folder in folders for file in Path(folder).rglob("*") if file.is_file())
        self.fonts = [file for file in files if file.suffix in (".ttf", ".otf") and readable(file)]
        self.icons = [file for file in files if file.suffix == ".png"]
        self.sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        self.photos, self.members = photos, [member for member in photos.getmembers() if member.isfile()]

    def font(self, rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
        """Any font."""
        return ImageFont.truetype(self.fonts[rng.integers(len(self.fonts))], size)

    def source(self, rng: np.random.Generator) -> str:
        """A module of the library."""
        return self.sources[rng.integers(len(self.sources))].read_text(encoding="utf-8", errors="replace")

    def prose(self, rng: np.random.Generator) -> str:
        """Docstrings of a module, as one paragraph."""
        for _ in range(100):
            nodes = [n for n in ast.walk(ast.parse(self.source(rng))) if isinstance(n, ast.FunctionDef | ast.Module)]
            text = " ".join(" ".join((ast.get_docstring(node) or "").split()) for node in nodes)
            if len(text) > 2000:
                return text[rng.integers(len(text) - 1500) :]
        raise SystemExit("Python's library has no docstrings here")

    def photo(self, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
        """A photograph of this size."""
        member = self.photos.extractfile(self.members[rng.integers(len(self.members))])
        return Image.open(member).convert("RGB").resize(size, Image.Resampling.LANCZOS)


def readable(path: Path) -> bool:
    """Whether Pillow opens the font and it has Latin letters."""
    try:
        return ImageFont.truetype(path, 20).getlength("The quick brown fox") > 60
    except OSError:
        return False


def prose(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Paragraphs in one font, with smooth, hard or subpixel edges."""
    ground, ink = draw.colours(rng)
    kind, points = rng.random(), int(rng.integers(9, 40))
    scale = 3 if kind < 0.3 else 1
    image = Image.new("RGB", (size[0] * scale, size[1]), ground)
    pen, text, font = ImageDraw.Draw(image), material.prose(rng), material.font(rng, points)
    pen.fontmode = "1" if 0.3 <= kind < 0.45 else "L"
    if scale == 3:  # subpixels: letters three times as wide, whose columns become red, green and blue
        tall = Image.new("RGB", size, ground)
        pen = ImageDraw.Draw(tall)
    y = int(rng.integers(2, 20))
    while y < size[1]:
        count = max(4, int(size[0] / max(1.0, font.getlength("n")) * rng.uniform(0.8, 1)))
        line, text = text[:count], text[count:] or material.prose(rng)
        pen.text((8, y), line, ink, font)
        y += round(points * rng.uniform(1.15, 1.5))
    if scale == 1:
        return image
    wide = np.asarray(tall.resize((size[0] * 3, size[1]), Image.Resampling.BICUBIC))
    return Image.fromarray(np.stack([wide[:, i::3, i] for i in range(3)], axis=-1))


def code(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Python as an editor shows it, in one of Pygments' styles."""
    names = sorted(styles.get_all_styles())
    style = styles.get_style_by_name(names[rng.integers(len(names))])
    image, points = Image.new("RGB", size, style.background_color), int(rng.integers(10, 24))
    pen = ImageDraw.Draw(image)
    mono = [path for path in material.fonts if "Mono" in path.name or "Code" in path.name] or material.fonts
    font = ImageFont.truetype(mono[rng.integers(len(mono))], points)
    text = material.source(rng)
    text = text[int(rng.integers(max(1, len(text) - 4000))) :]
    plain = "#dddddd" if sum(image.getpixel((0, 0))) < 384 else "#222222"
    x, y = 6.0, 4
    for token, value in lexers.PythonLexer().get_tokens(text):
        colour = style.style_for_token(token)["color"]
        for i, piece in enumerate(value.split("\n")):
            if i:
                x, y = 6.0, y + round(points * 1.25)
            pen.text((x, y), piece, f"#{colour}" if colour else plain, font)
            x += font.getlength(piece)
        if y > size[1]:
            break
    return image


def plot(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A figure of matplotlib in one of its styles."""
    names = [name for name in pyplot.style.available if not name.startswith("_")]
    with pyplot.style.context(names[rng.integers(len(names))]):
        dpi = int(rng.integers(60, 130))
        figure, axes = pyplot.subplots(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
        n, kind = int(rng.integers(4, 60)), int(rng.integers(8))
        x = np.sort(rng.random(n)) * 10.0 ** rng.integers(-2, 5)
        for i in range(int(rng.integers(1, 5))):
            y = np.cumsum(rng.standard_normal(n))
            match kind:
                case 0 | 1:
                    axes.plot(x, y, "-o" if rng.random() < 0.4 else "-", label=f"series {i}")
                case 2:
                    axes.scatter(x, y, s=rng.uniform(2, 80, n), label=f"group {i}")
                case 3:
                    axes.bar(np.arange(n) + i / 5, np.abs(y), 0.2, label=f"year {1990 + i}")
                case 4:
                    axes.hist(rng.standard_normal(400) + i, bins=n, alpha=0.6, label=f"sample {i}")
                case 5:
                    axes.fill_between(x, y, y - 1, alpha=0.5, label=f"band {i}")
        if kind == 6:
            axes.imshow(rng.random((12, 12)).cumsum(0), cmap=str(rng.choice(["viridis", "gray", "coolwarm", "tab20"])))
        if kind == 7:
            axes.contour(
                np.add.outer(np.sin(x / x.max() * 5), np.cos(x / x.max() * 7)), levels=int(rng.integers(4, 14))
            )
        axes.set_title(material.prose(rng)[: int(rng.integers(8, 40))].replace("$", ""))
        axes.grid(bool(rng.random() < 0.5))
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        figure.canvas.draw()
        image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB").resize(size)
        pyplot.close(figure)
    return image


def icons(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A grid of icons at their size or another, some with labels; or enlarged without smoothing, as pixel art."""
    ground, ink = draw.colours(rng)
    image, side = Image.new("RGB", size, ground), int(rng.choice([16, 24, 32, 48, 64, 96]))
    pen, font = ImageDraw.Draw(image), material.font(rng, int(rng.integers(9, 14)))
    pixels = rng.random() < 0.3
    step = side + int(rng.integers(4, 30))
    for y in range(4, size[1], step + 14):
        for x in range(4, size[0], step):
            icon = Image.open(material.icons[rng.integers(len(material.icons))]).convert("RGBA")
            icon.thumbnail((side // 2, side // 2) if pixels else (side, side), Image.Resampling.LANCZOS)
            if pixels:
                icon = icon.resize((2 * icon.width, 2 * icon.height), Image.Resampling.NEAREST)
            image.paste(icon, (x, y), icon)
            pen.text((x, y + side), draw.words(rng, 1)[: side // 6], ink, font)
    return image


def table(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Numbers and words in cells, with rules, stripes and a head."""
    ground, ink = draw.colours(rng)
    image, points = Image.new("RGB", size, ground), int(rng.integers(9, 20))
    pen, font = ImageDraw.Draw(image), material.font(rng, points)
    width, height = int(rng.integers(50, 140)), round(points * rng.uniform(1.3, 2))
    stripe, rule = (tuple((np.array(ground) * a + np.array(ink) * (1 - a)).astype(int)) for a in (0.93, 0.7))
    lined, striped = rng.random() < 0.6, rng.random() < 0.5
    for row, y in enumerate(range(0, size[1], height)):
        if striped and row % 2:
            pen.rectangle((0, y, size[0], y + height), stripe)
        for x in range(0, size[0], width):
            value = f"{rng.standard_normal() * 10 ** rng.integers(0, 5):,.2f}" if x and row else draw.words(rng, 1)
            pen.text((x + 4, y + 2), value, ink, font)
            if lined:
                pen.rectangle((x, y, x + width, y + height), None, rule)
    return image


def screen(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A piece of a desktop of windows."""
    return draw.screen(rng).crop((0, 0, *size))


def art(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Curves, shapes and hatching."""
    return draw.lines(rng).crop((0, 0, *size))


def caption(material: Material, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A photograph with text and a logo over it."""
    image = material.photo(rng, size)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 7))):
        points, ink = int(rng.integers(10, 60)), tuple(int(v) for v in rng.choice([0, 255], 3))
        place = int(rng.integers(size[0])) - 60, int(rng.integers(size[1]))
        line = material.prose(rng)[: int(rng.integers(5, 60))]
        stroke = (int(rng.integers(1, 4)), tuple(255 - v for v in ink)) if rng.random() < 0.5 else (0, None)
        pen.text(place, line, ink, material.font(rng, points), stroke_width=stroke[0], stroke_fill=stroke[1])
    icon = Image.open(material.icons[rng.integers(len(material.icons))]).convert("RGBA")
    image.paste(icon, (int(rng.integers(size[0])), int(rng.integers(size[1]))), icon)
    return image


PANELS: dict[Callable[..., Image.Image], float] = {
    prose: 0.22, code: 0.15, plot: 0.16, icons: 0.14, table: 0.1, screen: 0.09, art: 0.05, caption: 0.09
}  # fmt: skip


def sheet(material: Material, rng: np.random.Generator, size: tuple[int, int] = draw.SIZE) -> Image.Image:
    """Panels side by side: cut in two until they are small, each of a kind that is drawn by PANELS' shares."""
    width, height = size
    if max(size) >= 2 * SMALLEST and (width * height > 480_000 or rng.random() < 0.5):
        image, across = Image.new("RGB", size), width >= height
        at = int(rng.integers(SMALLEST, max(size) - SMALLEST + 1))
        sizes = [(at, height), (width - at, height)] if across else [(width, at), (width, height - at)]
        image.paste(sheet(material, rng, sizes[0]), (0, 0))
        image.paste(sheet(material, rng, sizes[1]), (at, 0) if across else (0, at))
        return image
    shares = np.array(list(PANELS.values()))
    return list(PANELS)[rng.choice(len(shares), p=shares / shares.sum())](material, rng, size)


def main(photos: str, output: str, assets: list[str], count: int) -> None:
    """Draws `count` sheets."""
    with tarfile.open(photos) as source:
        material = Material([*assets, str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")], source)
        if not material.icons:
            raise SystemExit("no icons (.png) in --assets")
        draw.FONTS[:] = [path for path in material.fonts if path.suffix == ".ttf"]
        numbered = ((i, np.random.default_rng([i, 28])) for i in range(count))
        draw.write_tar(output, ((f"sheet_{i:03}.png", sheet(material, rng)) for i, rng in numbered))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", help="tar of photographs")
    parser.add_argument("output", help="tar to write")
    parser.add_argument("--assets", nargs="+", default=["/usr/share/fonts", "/usr/share/icons"], help="fonts and icons")
    parser.add_argument("--count", type=int, default=COUNT, help="sheets")
    main(**vars(parser.parse_args()))
