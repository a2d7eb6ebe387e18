"""Writes golden_scales.json: the scales that the codec computed for the files of tests/golden, as base64 of float32.

    python viewer/test/golden_scales.py

With them the reader's JavaScript is held against the files' own checksums where no network runs.
"""

import base64
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from golden_files import FILES, GOLDEN, golden_codec  # noqa: E402

from tcm_jax.codec.container import parse  # noqa: E402
from tcm_jax.codec.symbols import SymbolReader  # noqa: E402


def scales(name: str) -> list[str]:
    """Base64 of the scales of each slice of a golden file."""
    codec, file = golden_codec(name), parse((GOLDEN / f"{name}.tcm").read_bytes())
    parts: list[list[np.ndarray]] = [[]]

    def read_rows(self, sigma):
        parts[-1].append(np.array(sigma))
        return real_rows(self, sigma)

    def end_part(self, complete):
        parts.append([])
        return real_end(self, complete)

    def read_part(self, sigma):
        parts[-1:] = [[np.array(sigma)], []]
        return real_part(self, sigma)

    real_rows, real_end, real_part = SymbolReader.read_rows, SymbolReader.end_part, SymbolReader.read_part
    with mock.patch.multiple(SymbolReader, read_rows=read_rows, end_part=end_part, read_part=read_part):
        codec.slice_decoder.decode(file)
    arrays = [np.concatenate(rows).astype("<f4") for rows in parts[:-1]]
    assert len(arrays) == file.slices
    return [base64.b64encode(array.tobytes()).decode() for array in arrays]


def main() -> None:
    """Every golden file that has latents."""
    found = {}
    for name in FILES:
        file = parse((GOLDEN / f"{name}.tcm").read_bytes())
        if file.has_latents:
            found[name] = scales(name)
    path = Path(__file__).with_name("golden_scales.json")
    path.write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
