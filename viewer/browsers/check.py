"""Holds the viewer in headless browsers against the codec: pictures, errors, files that were altered.

    cd viewer && npm ci && npm run build && cd ..
    python viewer/browsers/check.py [--browsers chrome firefox] [--altered 200] [--pictures FOLDER] [--output FOLDER]

Every golden file, and pictures of scikit-image and of FOLDER at several qualities, are opened in pages from file:// and
from a server. What they show must be what the codec decodes, within one level; alpha and files without latents exactly.
Files that are cut, altered or foreign must give a message, and pages must ask for nothing.
"""

import argparse
import contextlib
import functools
import http.server
import json
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from golden_files import FILES, GOLDEN, golden_codec  # noqa: E402

from tcm_jax import cli  # noqa: E402
from tcm_jax.codec import Codec  # noqa: E402
from tcm_jax.codec.container import parse  # noqa: E402
from tcm_jax.errors import StreamError  # noqa: E402
from tcm_jax.images.picture import Picture  # noqa: E402
from tcm_jax.images.pictures import decode_picture  # noqa: E402
from tcm_jax.weights import files  # noqa: E402

QUALITIES = (3, 30, 60, 94, 97, 100)
FATAL = "this browser could not decode"


def main() -> None:
    """Prints what was compared; exits with status 1 where something differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--browsers", nargs="+", default=["chrome", "firefox"])
    parser.add_argument("--altered", type=int, default=200, help="altered files in each browser")
    parser.add_argument("--pictures", type=Path, help="a folder of more pictures")
    parser.add_argument("--output", type=Path, help="keep pages and pictures there")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = args.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        cases = {name: make(work) for name, make in (("golden", _golden), ("variable", _variable))}
        cases["tiny"] = _pictures(work, args.pictures)
        server = stack.enter_context(_served(work))
        faults = []
        for browser in args.browsers:
            for name, expected in cases.items():
                base = server if name == "golden" else work.as_uri()
                faults += _check(browser, f"{base}/{name}.html", work / name, expected)
            faults += _check_altered(browser, f"{work.as_uri()}/tiny.html", work, args.altered)
    print("\n".join(faults) or "all as the codec decodes it")
    sys.exit(bool(faults))


def _golden(work: Path) -> dict[str, np.ndarray]:
    return _golden_of(work, "golden", [name for name, (_, _, quality) in FILES.items() if quality is None])


def _variable(work: Path) -> dict[str, np.ndarray]:
    return _golden_of(work, "variable", [name for name, (_, _, quality) in FILES.items() if quality is not None])


def _golden_of(work: Path, group: str, names: list[str]) -> dict[str, np.ndarray]:
    """A viewer of the golden files' weights, these files, and what the codec makes of them."""
    files.save_weights(work / f"{group}.safetensors", golden_codec(names[0]).weights)
    _make_viewer(work, group, "--weights", str(work / f"{group}.safetensors"))
    expected = {}
    for name in names:
        data = (GOLDEN / f"{name}.tcm").read_bytes()
        (work / group / f"{name}.tcm").write_bytes(data)
        expected[name] = _as_shown(golden_codec(name), data)
    return expected


def _pictures(work: Path, more: Path | None) -> dict[str, np.ndarray]:
    """A viewer of the embedded weights, and pictures at several qualities."""
    from skimage import data

    _make_viewer(work, "tiny")
    ramp = np.arange(300 * 451, dtype=np.uint32).reshape(300, 451)
    cat = data.chelsea()
    found: dict[str, np.ndarray | Picture] = {
        "coffee": data.coffee(),
        "alpha": np.dstack([cat, (ramp >> 6).astype(np.uint8)]),
        "grey": data.camera(),
        "one": cat[:1, :1],
        "thin": cat[:3, :400],
        "text": data.page(),
    }
    for path in sorted(more.iterdir()) if more else []:
        found[path.stem] = decode_picture(path.read_bytes(), path.name)
    codec, expected = Codec(files.load_weights()), {}
    for i, (name, picture) in enumerate(found.items()):
        for quality in (QUALITIES[i % len(QUALITIES)], QUALITIES[(i + 3) % len(QUALITIES)]):
            encoded = codec.compress(picture, quality)
            (work / "tiny" / f"{name}_{quality}.tcm").write_bytes(encoded)
            expected[f"{name}_{quality}"] = _as_shown(codec, encoded)
    return expected


def _as_shown(codec: Codec, data: bytes) -> np.ndarray:
    """What the codec decodes, int16."""
    return codec.decode(data).array.astype(np.int16)


def _make_viewer(work: Path, name: str, *options: str) -> None:
    (work / name).mkdir(exist_ok=True)
    if cli.main(["viewer", "-o", str(work / f"{name}.html"), "--overwrite", *options]):
        sys.exit(1)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The folder by HTTP, with a charset in its headers that is not the pages'; the address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {".html": "text/html; charset=utf-8"}  # noqa: RUF012 - the base class has one

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def _open(browser: str, page: str, out: Path, paths: list[Path]) -> dict:
    command = ["node", str(Path(__file__).with_name("open.js")), browser, page, str(out), *map(str, paths)]
    subprocess.run(command, check=True)
    return json.loads((out / "results.json").read_bytes())


def _check(browser: str, page: str, folder: Path, expected: dict[str, np.ndarray]) -> list[str]:
    """What a page shows of a group's files that it should not."""
    out = folder / browser
    results = _open(browser, page, out, [folder / f"{name}.tcm" for name in expected])
    faults = [f"{browser}: {page} asked for {request}" for request in results["requests"]]
    two = [f"{name}.tcm" for name in list(expected)[:2]]
    faults += [] if results["chosen"] == two else [f"{browser}: {page}: of {two} a dialog opened {results['chosen']}"]
    for result in results["files"]:
        name = result["file"].removesuffix(".tcm")
        fault = result["error"] or _difference(
            folder / f"{name}.tcm", out / f"{name}.png", expected[name], result["note"]
        )
        if result["error"] and name == "not_portable":
            fault = None if "differs by more than the file allows" in result["error"] else result["error"]
        faults += [f"{browser}: {page}: {name}: {fault}"] if fault else []
    print(f"{browser}: {page}: {len(expected)} files")
    return faults


def _difference(source: Path, shown: Path, expected: np.ndarray, note: str | None) -> str | None:
    file = parse(source.read_bytes())
    picture = decode_picture(shown.read_bytes(), shown.name).array.astype(np.int16)
    if picture.shape != expected.shape:
        return f"its shape is {picture.shape}, not {expected.shape}"
    difference = np.abs(picture - expected)
    if file.alpha and difference[..., -1].any():
        return "its alpha differs"
    if bool(note) and not (file.has_latents and file.layer):
        return f"a note: {note}"
    exact = not file.has_latents or (file.layer and not note)
    allowed = 0 if exact else 255 if note else 1
    return f"off by {difference.max()}" if difference.max() > allowed else None


def _check_altered(browser: str, page: str, work: Path, count: int) -> list[str]:
    """Files that are cut, altered or foreign: each must be refused or, if its checksum is mended, may be a picture."""
    generator = np.random.default_rng(0)
    sources = [path.read_bytes() for path in sorted((work / "tiny").glob("*.tcm")) if path.stat().st_size < 60_000]
    folder = work / "altered"
    folder.mkdir(exist_ok=True)
    paths, must_fail = [], set()
    for i in range(count):
        data, kind = bytearray(sources[i % len(sources)]), i % 4
        if kind == 0:
            data = data[: generator.integers(len(data))]
        elif kind == 1:
            data[generator.integers(len(data))] ^= 1 << generator.integers(8)
        elif kind == 2:
            data = bytearray(generator.bytes(generator.integers(1, 300)))
        else:
            for _ in range(generator.integers(1, 4)):
                data[generator.integers(6, min(len(data) - 4, 200))] = generator.integers(256)
            data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
        path = folder / f"{i}.tcm"
        path.write_bytes(data)
        paths.append(path)
        if _refused(bytes(data)):
            must_fail.add(path.name)
    results = _open(browser, page, folder / browser, paths)["files"]
    faults = [f"{browser}: {r['file']}: {r['error']}" for r in results if r["error"] and FATAL in r["error"]]
    faults += [f"{browser}: {r['file']}: {r['error']}" for r in results if r["error"] and "nothing was" in r["error"]]
    faults += [f"{browser}: {r['file']} was shown" for r in results if r["file"] in must_fail and not r["error"]]
    print(f"{browser}: {count} altered files, {len(must_fail)} of which the reader refuses")
    return faults


def _refused(data: bytes) -> bool:
    try:
        parse(data)
    except StreamError:
        return True
    return False


if __name__ == "__main__":
    main()
