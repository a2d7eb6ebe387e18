"""The command `tcm`, called in this process: files in, files out, one line, and an exit status."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import drawn_weights, photograph

from tcm_jax import checkpoint, cli, convert
from tcm_jax.codec import Codec
from tcm_jax.image import read_image, write_png


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory, tiny_weights) -> str:
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    checkpoint.save_weights(path, tiny_weights)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, with one picture in it."""
    monkeypatch.chdir(tmp_path)
    write_png("photo.png", photograph(40, 60))
    return tmp_path


@pytest.fixture
def tcm(weights_file, capsys):
    """Runs a command with the small weights: (exit status, stdout, stderr)."""

    def run(*argv: str, weights: str = weights_file):
        status = cli.main([*argv, "--weights", weights])
        return status, *capsys.readouterr()

    return run


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(result, kind: str, message: str) -> None:
    status, out, err = result
    assert (status, out) == (1, "")
    assert re.fullmatch(f"{kind}: .*{message}.*\n", err)


def test_compress_and_decompress(here, tcm, tiny_codec):
    status, out, err = tcm("compress", "photo.png", "--coder", "native")
    data = (here / "photo.tcm").read_bytes()
    bpp = 8 * len(data) / (40 * 60)
    assert (status, err) == (0, "")
    assert re.fullmatch(rf"photo\.tcm: {len(data):,} bytes, {bpp:.4f} bpp, \d+\.\d s\n", out)
    assert data == tiny_codec.compress(photograph(40, 60))

    status, out, err = tcm("decompress", "photo.tcm", "-o", "copy.png")
    assert (status, err) == (0, "")
    assert re.fullmatch(rf"copy\.png: 60x40 from {len(data):,} bytes, {bpp:.4f} bpp, \d+\.\d s\n", out)
    np.testing.assert_array_equal(read_image("copy.png"), tiny_codec.decompress(data))
    assert names(here) == ["copy.png", "photo.png", "photo.tcm"]


def test_existing_files_are_kept(here, tcm):
    (here / "photo.tcm").write_bytes(b"precious")
    refused(tcm("compress", "photo.png"), "TcmError", r"photo\.tcm exists.*--overwrite")
    assert (here / "photo.tcm").read_bytes() == b"precious"
    assert tcm("compress", "photo.png", "--overwrite")[0] == 0
    before = (here / "photo.png").read_bytes()
    refused(tcm("decompress", "photo.tcm"), "TcmError", r"photo\.png exists")
    assert (here / "photo.png").read_bytes() == before
    assert tcm("decompress", "photo.tcm", "--overwrite")[0] == 0
    assert (here / "photo.png").read_bytes() != before


def test_files_that_cannot_be_used(here, tcm):
    (here / "text.tcm").write_text("not one of ours, but long enough to be")
    refused(tcm("compress", "."), "ImageError", "cannot read .: Is a directory")
    refused(tcm("compress", "absent.png"), "ImageError", "cannot read absent.png: No such file or directory")
    refused(tcm("compress", "text.tcm", "-o", "a.tcm"), "ImageError", "text.tcm is not a picture")
    refused(tcm("compress", "photo.png", "-o", "no/where.tcm"), "TcmError", "cannot write no/where.tcm: no such folder")
    refused(tcm("decompress", "absent.tcm"), "StreamError", "cannot read absent.tcm: No such file or directory")
    refused(tcm("decompress", "."), "StreamError", "cannot read .: Is a directory")
    refused(tcm("decompress", "text.tcm"), "StreamError", r"not a \.tcm file")
    refused(tcm("decompress", "text.tcm", "-o", "a.jpg"), "ConfigError", r"give a\.jpg the ending \.png")
    refused(tcm("compress", "photo.png", weights="no.safetensors"), "WeightsError", "no.safetensors")
    assert names(here) == ["photo.png", "text.tcm"]


def test_a_file_of_other_weights(here, tcm, tiny_config):
    assert tcm("compress", "photo.png")[0] == 0
    checkpoint.save_weights(here / "other.safetensors", drawn_weights(tiny_config, seed=1))
    refused(
        tcm("decompress", "photo.tcm", "-o", "a.png", weights="other.safetensors"), "ModelMismatchError", "--weights"
    )


def test_ctrl_c_leaves_nothing_behind(here, tcm, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Codec, "compress", interrupted)
        assert tcm("compress", "photo.png")[0] == 130
    monkeypatch.setattr(os, "fsync", interrupted)
    assert tcm("compress", "photo.png")[0] == 130
    assert names(here) == ["photo.png"]


def test_convert(here, capsys, monkeypatch, tiny_config, tiny_weights, weights_file):
    monkeypatch.setattr(convert, "convert", lambda path: (tiny_config, tiny_weights.params))
    assert cli.main(["convert", "model.pth.tar", "model.safetensors"]) == 0
    converted = checkpoint.load_weights("model.safetensors")
    assert converted.identity == tiny_weights.identity
    assert converted.name == "model.pth.tar"
    size = (here / "model.safetensors").stat().st_size
    assert capsys.readouterr().out == f"model.safetensors: {size:,} bytes, model {converted.identity[:16]}\n"
    refused((cli.main(["convert", "model.pth.tar", "model.safetensors"]), *capsys.readouterr()), "TcmError", "exists")


def test_convert_reports_what_it_cannot_read(here, capsys):
    pytest.importorskip("torch")
    status = cli.main(["convert", "photo.png", "model.safetensors"])
    refused((status, *capsys.readouterr()), "WeightsError", r"photo\.png is damaged or no PyTorch checkpoint")
    assert names(here) == ["photo.png"]


def test_evaluate(here, tcm):
    status, out, err = tcm("evaluate", "--data", ".", "--output", "results", "--coder", "native")
    assert (status, err) == (0, "")
    assert "photo.png" in out
    result = json.loads((here / "results" / "results.json").read_text())
    images = result["sets"][0]["curves"][0]["points"][0]["images"]
    assert [(row["name"], row["width"], row["height"]) for row in images] == [("photo.png", 60, 40)]
    refused(tcm("evaluate", "--data", "nowhere"), "DataError", "nowhere")


@pytest.mark.parametrize("argv", [[], ["compress"], ["shrink", "a"], ["compress", "a", "--coder", "cabac"]])
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: tcm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--help"], ["tcm compress photo.jpg", "compress", "decompress", "convert", "evaluate"]),
        (["compress", "--help"], ["--weights", "--overwrite", "--coder"]),
        (["decompress", "--help"], ["cross-checks and trusted files"]),
        (["convert", "--help"], ["IN.pth.tar OUT.safetensors"]),
        (["evaluate", "--help"], ["--data", "kodak"]),
    ],
)
def test_help(argv, parts, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in parts:
        assert part in text


def test_help_does_not_wait_for_jax():
    program = "import sys, tcm_jax, tcm_jax.cli; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_reader_that_leaves():
    """As in `tcm ... | true`: no traceback, and nothing on stderr when the interpreter ends."""
    program = "import sys; from tcm_jax import cli; cli._convert = lambda _: print('x'); sys.exit(cli.main())"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", program, "convert", "a", "b"], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
