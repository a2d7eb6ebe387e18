"""`tcm page` and `tcm viewer`: what they put into the page that viewer/ builds."""

import json
import os
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from golden_files import GOLDEN, WEIGHTS
from hypothesis import given
from hypothesis import strategies as st

from tcm_jax import cli
from tcm_jax.cli import page
from tcm_jax.codec.container import parse
from tcm_jax.errors import ModelMismatchError
from tcm_jax.weights import files

SOURCE = Path(__file__).parents[1] / "viewer" / "page" / "page.html"
BLOCK = re.compile(r'<script type="application/octet-stream" (?:id|data-name)="([^"]*)">(\d+):([^<]*)</script>')
RUNTIME = b"a runtime"


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A folder as `npm run build` fills it, but for the scripts."""
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "page.html").write_bytes(SOURCE.read_bytes())
    (folder / "runtime.bin").write_bytes(RUNTIME)
    monkeypatch.setattr(page, "BUILT", folder)
    return tmp_path


def read_units(text: str, size: int) -> bytes:
    """As viewer/page/blocks.js reads them."""
    plain, characters = [], iter(text)
    for character in characters:
        plain.append(ord(next(characters)) ^ 0x8080 if character == "\1" else ord(character))
    return np.array(plain, "<u2").tobytes()[:size]


def blocks(data: bytes) -> dict[str, bytes]:
    """The blocks of a page, by name."""
    return {name: read_units(text, int(size)) for name, size, text in BLOCK.findall(data.decode("utf-16"))}


@given(st.binary(max_size=300) | st.lists(st.sampled_from([0, 1, 10, 13, 60, 0xD800, 0xDFFF, 0xFEFF, 0xFFFF, 0x8080]))
       .map(lambda units: np.array(units, "<u2").tobytes()))  # fmt: skip
def test_blocks_hold_any_bytes_as_text(data):
    text = page.units(data).tobytes().decode("utf-16-le")  # raises for half of a surrogate pair
    assert read_units(text, len(data)) == data
    assert not set(text) & set("\0\r<\ufeff\ufffe\uffff")


def test_units_are_these():
    """viewer/test/blocks.test.js reads the same."""
    assert page.units(bytes([65, 0, 60, 0, 0, 216, 9])).tolist() == [65, 1, 60 ^ 0x8080, 1, 0xD800 ^ 0x8080, 9]


def test_a_file_without_latents_needs_no_model(built):
    out = built / "it's <1>.html"
    (built / "it's <1>.tcm").write_bytes((GOLDEN / "layer_palette.tcm").read_bytes())
    assert cli.main(["page", str(built / "it's <1>.tcm")]) == 0
    text = out.read_bytes().decode("utf-16")
    assert "<title>it&#x27;s &lt;1&gt;.tcm</title>" in text
    assert blocks(out.read_bytes()) == {"it&#x27;s &lt;1&gt;.tcm": (GOLDEN / "layer_palette.tcm").read_bytes()}
    assert len(out.read_bytes()) < 20_000


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_no_text(built):
    path = built / os.fsdecode(b"caf\xe9.tcm")
    path.write_bytes((GOLDEN / "layer_palette.tcm").read_bytes())
    assert cli.main(["page", str(path)]) == 0
    text = path.with_suffix(".html").read_bytes().decode("utf-16")
    assert r"<title>caf\xe9.tcm</title>" in text
    assert list(blocks(text.encode("utf-16"))) == [r"caf\xe9.tcm"]


def test_a_page_holds_the_decoder_and_the_picture(built, capsys):
    pytest.importorskip("onnx")
    out = built / "rgb.html"
    assert cli.main(["page", str(GOLDEN / "rgb.tcm"), "-o", str(out), "--weights", str(WEIGHTS)]) == 0
    assert capsys.readouterr().out == f"{out}: {out.stat().st_size:,} bytes\n"
    found = blocks(out.read_bytes())
    assert found["rgb.tcm"] == (GOLDEN / "rgb.tcm").read_bytes()
    assert found["tcm-runtime"] == RUNTIME
    model = found["tcm-model"]
    (size,) = struct.unpack_from("<I", model)
    index = json.loads(zlib.decompress(model[4 : 4 + size]))
    assert index["description"]["identity"] == files.load_weights(WEIGHTS).identity
    slices = [f"slice_{kind}_{i}" for kind in ("params", "latents") for i in range(3)]
    assert set(index["programs"]) == {"hyper_synthesis", "synthesis", *slices}
    for first, last in index["programs"].values():
        assert zlib.decompress(model[4 + size :][first:last])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["page", "{golden}/rgb.tcm"], "was written with model"),
        (["page", "{golden}/README.md"], "this is not a .tcm file"),
        (["page", "{golden}"], "a page shows one picture"),
        (["page", "{golden}/layer_palette.tcm", "-o", "{here}/there.html"], "exists; give another name"),
        (["page", "{here}/layer.html"], "exists; give another name"),
        (["page", "{here}/layer.html", "-o", "{here}/layer.html"], "exists; give another name"),
        (["viewer", "-o", "{here}/there.html"], "exists; give another name"),
        (["viewer", "-o", "{here}"], "is a folder"),
        (["viewer", "-o", "{here}/nowhere/x.html"], "no such folder"),
    ],
)
def test_errors_are_sentences(built, capsys, argv, message):
    (built / "there.html").write_text("mine")
    layer = (GOLDEN / "layer_palette.tcm").read_bytes()
    (built / "layer.html").write_bytes(layer)
    argv = [part.format(golden=GOLDEN, here=built) for part in argv]
    given = "-o" in argv or argv[1].endswith("layer.html")
    assert cli.main(argv + ([] if given else ["-o", str(built / "new.html")])) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (built / "new.html").exists()
    assert (built / "there.html").read_text() == "mine"
    assert (built / "layer.html").read_bytes() == layer


def test_other_weights_are_an_error_of_their_kind(built):
    with pytest.raises(ModelMismatchError):
        page._weights_of(parse((GOLDEN / "rgb.tcm").read_bytes()), None)


def test_without_a_build_two_commands_are_named(built, capsys, monkeypatch):
    monkeypatch.setattr(page, "BUILT", built / "nothing")
    assert cli.main(["page", str(GOLDEN / "layer_palette.tcm"), "-o", str(built / "new.html")]) == 1
    assert "run `npm ci`, then `npm run build`" in capsys.readouterr().err
