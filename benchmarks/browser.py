"""Seconds that a browser takes to decode, beside Python's; pages are those of `tcm viewer`.

    cd viewer && npm ci && npm run build && cd ..
    python benchmarks/browser.py PICTURE ... [--browser chrome] [--quality 50] [--repeats 3]

Each picture is compressed by the embedded model, opened once to load the programs, and then `--repeats` times.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tcm_jax import cli
from tcm_jax.codec import Codec
from tcm_jax.images.pictures import decode_picture
from tcm_jax.weights.files import load_weights

OPEN = Path(__file__).parents[1] / "viewer" / "browsers" / "open.js"


def main() -> None:
    """A JSON object a picture: megapixels, and seconds for each of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--browser", default="chrome", choices=("chrome", "firefox"))
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    codec = Codec(load_weights())
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "viewer.html"
        if cli.main(["viewer", "-o", str(page)]):
            raise SystemExit(1)
        for path in args.pictures:
            picture = decode_picture(path.read_bytes(), path.name)
            pixels = picture.colour.shape[0] * picture.colour.shape[1] / 1e6
            data = codec.compress(picture, args.quality)
            seconds = {args.browser: _browser(args, page, data), "python": _python(codec, data, args.repeats)}
            each = {f"{name}_s_per_megapixel": round(s / pixels, 3) for name, s in seconds.items()}
            print(json.dumps({"picture": path.name, "megapixels": round(pixels, 3)} | each))


def _browser(args: argparse.Namespace, page: Path, data: bytes) -> float:
    """Median of what the page itself says, which is tenths of a second."""
    files = []
    for i in range(args.repeats + 1):
        files.append(page.with_name(f"{i}.tcm"))
        files[-1].write_bytes(data)
    out = page.with_name("out")
    subprocess.run(["node", str(OPEN), args.browser, page.as_uri(), str(out), *map(str, files)], check=True)
    said = [result["info"]["decoded"] for result in json.loads((out / "results.json").read_bytes())["files"]]
    return statistics.median(float(text.split()[1]) for text in said[1:])


def _python(codec: Codec, data: bytes, repeats: int) -> float:
    codec.decompress(data)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        codec.decompress(data)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
