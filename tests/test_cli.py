"""The command `tcm`, called in this process: files in, files out, one line, and an exit status."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from unittest import mock

import jax
import numpy as np
import pytest
from conftest import drawn_weights, photograph
from PIL import Image, ImageCms

import tcm_jax
from tcm_jax import cli
from tcm_jax.codec import Codec
from tcm_jax.codec.container import parse
from tcm_jax.codec.programs import Parameters
from tcm_jax.errors import ConfigError, WeightsError
from tcm_jax.images.pictures import decode_image, read_image, write_png
from tcm_jax.weights import files, pytorch


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory, tiny_weights) -> str:
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    files.save_weights(path, tiny_weights)
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_weights_that_are_a_pipe(tmp_path, monkeypatch):
    """To open it is to wait for ever, in code that no signal ends."""
    os.mkfifo(tmp_path / "w.safetensors")
    monkeypatch.setattr("safetensors.safe_open", pytest.fail)
    with pytest.raises(WeightsError, match=r"^cannot read the weights .*w\.safetensors: this is a FIFO, and no file$"):
        files.load_weights(tmp_path / "w.safetensors")


def test_a_folder_as_weights_in_python_is_named_as_one(tmp_path):
    with pytest.raises(WeightsError, match=r"this is a folder; give a \.safetensors file$"):
        files.load_weights(tmp_path)


def test_a_warning_is_a_line(monkeypatch):
    monkeypatch.setattr(cli.signals, "prepare", lambda: None)
    monkeypatch.setattr(cli.signals, "end", lambda status: None)
    monkeypatch.setattr(cli, "main", lambda: 0)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    cli.entry()
    message = "\nEnvironment variable 'NUMBA_NUM_THREADS' is odd.\nThe parse failed with exception:\nTraceback"
    line = warnings.formatwarning(message, RuntimeWarning, "numba.py", 3)
    assert line == "RuntimeWarning: Environment variable 'NUMBA_NUM_THREADS' is odd.\n"
    assert warnings.formatwarning("", UserWarning, "a.py", 3) == "UserWarning: \n"


def test_files_that_cannot_be_used(here, tcm):
    (here / "text.tcm").write_text("not one of ours, but long enough to be")
    (here / "empty").mkdir()
    refused(tcm("compress", "empty"), "TcmError", "empty holds no files to work on")
    refused(tcm("compress", "absent.png"), "ImageError", "cannot read absent.png: No such file or directory")
    refused(tcm("compress", "text.tcm", "-o", "a.tcm"), "ImageError", "text.tcm is not a picture")
    refused(tcm("compress", "photo.png", "-o", "no/where.tcm"), "TcmError", "cannot write no/where.tcm: no such folder")
    refused(tcm("decompress", "absent.tcm"), "StreamError", "cannot read absent.tcm: No such file or directory")
    refused(tcm("decompress", "empty"), "TcmError", "empty holds no files to work on")
    for empty in ([""], ["photo.png", ""], ["photo.png", "-o", ""]):  # not the current folder
        refused(tcm("compress", *empty), "ConfigError", "the name of a file is empty; a variable of the shell")
    refused(tcm("compress", "*.gif"), "TcmError", r"no file matches \*\.gif")
    refused(tcm("decompress", "text.tcm"), "StreamError", r"not a \.tcm file")
    refused(tcm("decompress", "text.tcm", "-o", "a.jpg"), "ConfigError", r"give a\.jpg the ending \.png")
    refused(tcm("decompress", "text.tcm", "-o", "text.tcm", "--overwrite"), "ConfigError", r"the ending \.png")
    refused(tcm("compress", "photo.png", "-o", "photo.png", "--overwrite"), "ConfigError", r"the ending \.tcm")
    refused(tcm("compress", "photo.png", weights="no.safetensors"), "WeightsError", "no.safetensors")
    assert names(here) == ["empty", "photo.png", "text.tcm"]


EMPTY = ["compress a --weights @", "compress a --manifest @", "decompress @", "decompress a --weights @", "info @",
         "page @", "page a -o @", "page a --weights @", "viewer -o @", "viewer --weights @", "convert @ b",
         "convert a @", "export-onnx @", "export-onnx a --weights @", "evaluate --weights @", "evaluate --output @",
         "evaluate --report @", "evaluate --data @", "analyze bits @", "analyze bits a -o @",
         "analyze bits a --weights @"]  # fmt: skip


@pytest.mark.parametrize("argv", EMPTY)
def test_empty_names_are_refused_before_the_work(here, capsys, argv):
    assert cli.main([word.replace("@", "") for word in argv.split()]) == 1
    assert re.fullmatch(r"ConfigError: the name of (a file|the data set) is empty; .*\n", capsys.readouterr().err)
    assert names(here) == ["photo.png"]


def test_empty_names_in_python():
    for call in (lambda: tcm_jax.compress(photograph(8, 8), weights=""), lambda: tcm_jax.decompress(b"", weights=""),
                 lambda: files.load_weights("")):  # fmt: skip
        with pytest.raises(ConfigError, match=r"^the name of a file is empty"):
            call()


def test_a_file_of_other_weights(here, tcm, tiny_config):
    assert tcm("compress", "photo.png")[0] == 0
    files.save_weights(here / "other.safetensors", drawn_weights(tiny_config, seed=1))
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
    monkeypatch.setattr(pytorch, "convert", lambda path: (tiny_config, tiny_weights.params))
    assert cli.main(["convert", "model.pth.tar", "model.safetensors"]) == 0
    converted = files.load_weights("model.safetensors")
    assert converted.identity == tiny_weights.identity
    assert converted.name == "model.pth.tar"
    size = (here / "model.safetensors").stat().st_size
    assert capsys.readouterr().out == f"model.safetensors: {size:,} bytes, model {converted.identity[:16]}\n"
    refused((cli.main(["convert", "model.pth.tar", "model.safetensors"]), *capsys.readouterr()), "TcmError", "exists")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_weights_converted_from_a_name_that_is_no_text(here, monkeypatch, tiny_config, tiny_weights):
    monkeypatch.setattr(pytorch, "convert", lambda path: (tiny_config, tiny_weights.params))
    assert cli.main(["convert", os.fsdecode(b"caf\xe9.pth.tar"), "model.safetensors"]) == 0
    assert files.load_weights("model.safetensors").name == r"caf\xe9.pth.tar"


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/stdout")
def test_on_standard_output_weights_are_alone(here, capfdbinary, monkeypatch, tiny_config, tiny_weights):
    monkeypatch.setattr(pytorch, "convert", lambda path: (tiny_config, tiny_weights.params))
    assert cli.main(["convert", "model.pth.tar", "/dev/stdout"]) == 0
    out, err = capfdbinary.readouterr()
    (here / "model.safetensors").write_bytes(out)
    assert files.load_weights("model.safetensors").identity == tiny_weights.identity
    assert err.startswith(b"/dev/stdout: ")


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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "a", "--tile", "abc"], "--tile: 'abc' is no number of pixels such as 512, nor auto"),
        (["compress", "a", "--target-bpp", "abc"], "--target-bpp: abc is not a finite number above 0"),
        (["convert", "a", "b", "--lambda", "nan"], "--lambda: nan is not a finite number above 0"),
        (["evaluate", "--efforts", "nan"], "--efforts: 'nan' is no list of numbers such as 10,50,90"),
        (["evaluate", "--qualities", "10,inf"], "--qualities: '10,inf' is no list of numbers such as 10,50,90"),
    ],
)
def test_a_value_that_is_no_number_is_a_sentence(argv, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(argv)
    assert capsys.readouterr().err.endswith(f"error: argument {message}\n")


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
        (["info", "--help"], ["--json"]),
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
    heavy = "{'jax', 'numpy', 'PIL', 'rich'}"
    program = f"import sys, tcm_jax, tcm_jax.cli; sys.exit(bool({heavy} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_reader_that_leaves():
    """As in `tcm ... | true`: no traceback, and nothing on stderr when the interpreter ends."""
    program = (
        "import sys; from tcm_jax import cli; from tcm_jax.cli import commands; "
        "commands.convert = lambda _: print('x'); sys.exit(cli.main())"
    )
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", program, "convert", "a", "b"], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.fixture
def folder(here):
    """Three pictures in two folders, a file that is none, and another that only looks like one."""
    (here / "in" / "deep").mkdir(parents=True)
    write_png("in/a.png", photograph(40, 60))
    write_png("in/deep/b.png", photograph(30, 50, seed=1))
    write_png("in/deep/c.PNG", photograph(50, 30, seed=2))
    (here / "in" / "notes.txt").write_text("no picture")
    (here / "in" / "broken.jpg").write_bytes(b"no picture")
    return here


def below(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_structure_and_one_bad_file_stops_nothing(folder, tcm):
    status, out, err = tcm("compress", "in", "-o", "out")
    assert status == 1
    assert below(folder / "out") == ["a.tcm", "deep/b.tcm", "deep/c.tcm"]
    assert sorted(line.partition(":")[0] for line in out.splitlines()) == [
        "out/a.tcm",
        "out/deep/b.tcm",
        "out/deep/c.tcm",
    ]
    assert err == "ImageError: in/broken.jpg is not a picture in a format that Pillow reads\n3 done, 1 failed\n"
    (folder / "in" / "broken.jpg").unlink()
    (folder / "out" / "a.tcm").unlink()
    assert tcm("compress", "in", "-o", "out")[2] == "1 done, 2 skipped that exist (--overwrite replaces them)\n"
    assert tcm("decompress", "out", "--jobs", "1")[::2] == (0, "3 done\n")
    assert read_image("out/deep/c.png").shape == (50, 30, 3)


def test_many_names_patterns_and_clashes(folder, tcm):
    write_png("in/deep/b.bmp.png", photograph(20, 20))
    (folder / "in" / "deep" / "b.bmp.png").rename(folder / "in" / "deep" / "b.bmp")
    status, _, err = tcm("compress", "in/**/[bc].*", "in/a.png", "-o", "out")
    assert status == 1
    assert re.fullmatch(r"TcmError: in/deep/b.* would all be written to out/deep/b.tcm\n2 done, 1 failed\n", err)
    assert below(folder / "out") == ["a.tcm", "deep/c.tcm"]
    refused(tcm("compress", "in/a.png", "photo.png", "-o", "photo.png"), "TcmError", "give -o a folder")
    refused(tcm("compress", "in/a.png", "photo.png", "-o", "-"), "TcmError", "give -o a folder")


def test_json_lines(folder, tcm):
    status, out, err = tcm("compress", "in", "-o", "out", "--json")
    records = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert (status, len(records)) == (1, 4)
    assert err == records["in/broken.jpg"]["error"] + "\n"
    size = (folder / "out" / "a.tcm").stat().st_size
    assert records["in/a.png"] | {"seconds": 0} == {
        "input": "in/a.png", "output": "out/a.tcm", "width": 60, "height": 40, "bytes": size,
        "bpp": round(8 * size / 2400, 6), "quality": None, "max_error": None, "seconds": 0,
    }  # fmt: skip


def standard(monkeypatch, data: bytes) -> io.BytesIO:
    """Puts `data` on standard input; what is written to standard output."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", mock.Mock(buffer=io.BytesIO(data)))
    monkeypatch.setattr(sys, "stdout", mock.Mock(buffer=out))
    return out


def test_standard_input_and_output(here, weights_file, tiny_codec, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        compressed = standard(patch, (here / "photo.png").read_bytes())
        assert cli.main(["compress", "-", "--weights", weights_file]) == 0
    assert compressed.getvalue() == tiny_codec.compress(photograph(40, 60))
    assert capsys.readouterr().err.startswith("-: ")
    with monkeypatch.context() as patch:
        png = standard(patch, compressed.getvalue())
        assert cli.main(["decompress", "-", "--weights", weights_file]) == 0
    np.testing.assert_array_equal(decode_image(png.getvalue(), "png"), tiny_codec.decompress(compressed.getvalue()))
    with monkeypatch.context() as patch:
        standard(patch, b"no picture")
        assert cli.main(["compress", "-", "--weights", weights_file]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("ImageError: the picture on standard input is not a picture")
    )


def test_every_local_device_is_used(folder, tcm, monkeypatch):
    used, make = [], Parameters.__init__
    monkeypatch.setattr(jax, "local_devices", lambda: ["first", "second"])
    monkeypatch.setattr(Parameters, "__init__", lambda self, tree, device: used.append(device) or make(self, tree))
    assert tcm("compress", "in", "-o", "out", "--jobs", "3")[0] == 1
    assert used == ["first", "second"]
    assert below(folder / "out") == ["a.tcm", "deep/b.tcm", "deep/c.tcm"]


def test_verify_keeps_no_wrong_file(here, tcm, monkeypatch):
    assert tcm("compress", "photo.png", "--verify")[0] == 0
    decode = Codec.decode

    def wrong(self, data, max_pixels):
        picture = decode(self, data, max_pixels)
        picture.colour[3, 4] ^= 1
        return picture

    monkeypatch.setattr(Codec, "decode", wrong)
    refused(tcm("compress", "photo.png", "-o", "a.tcm", "--verify"), "TcmError", "does not decode to what was encoded")
    assert names(here) == ["photo.png", "photo.tcm"]


def test_metadata_is_carried_or_stripped(here, tcm):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photograph(40, 60)).save("tagged.png", exif=exif, icc_profile=profile)
    assert tcm("compress", "tagged.png", "--verify")[0] == 0
    assert tcm("decompress", "tagged.tcm", "-o", "copy.png")[0] == 0
    with Image.open("copy.png") as copy:
        assert (copy.getexif()[0x010F], copy.info["icc_profile"]) == ("a camera", profile)
    assert tcm("compress", "tagged.png", "-o", "bare.tcm", "--strip")[0] == 0
    assert tcm("decompress", "tagged.tcm", "-o", "stripped.png", "--strip")[0] == 0
    assert parse((here / "bare.tcm").read_bytes()).icc == b""
    with Image.open("stripped.png") as copy:
        assert not copy.getexif()
        assert "icc_profile" not in copy.info


def test_info(here, tcm, tiny_codec, capsys):
    rgba = np.dstack([photograph(40, 60), photograph(40, 60)[..., :1]])
    portable, bare = Codec(tiny_codec.weights, "native", 0.01), Codec(tiny_codec.weights, "native", 0.0)
    (here / "a.tcm").write_bytes(portable.compress(rgba))
    (here / "b.tcm").write_bytes(bare.compress(rgba))
    assert cli.main(["info", "a.tcm", "b.tcm", "--json"]) == 0
    a, b = map(json.loads, capsys.readouterr().out.splitlines())
    assert a["bytes"] - b["bytes"] == a["portable_bytes"] > 20
    assert (a["portable"], b["portable"], b["portable_bytes"]) == (True, False, 0)
    assert (a["width"], a["height"], a["alpha"], a["grey"], a["quality"]) == (60, 40, True, False, None)
    assert a["model"] == tiny_codec.weights.identity[:16]
    assert sum(a["parts"].values()) == a["bytes"] == (here / "a.tcm").stat().st_size
    assert a["parts"]["alpha"] == len(parse((here / "a.tcm").read_bytes()).alpha)
    assert cli.main(["info", "a.tcm"]) == 0
    text = capsys.readouterr().out
    assert f"a.tcm: 60x40 RGB and alpha, {a['bytes']:,} bytes" in text
    assert f"portable  yes, for {a['portable_bytes']} bytes: guard band 1e-02" in text
    for name in ("a.tcm", "a"):  # the sentence has an "a"
        (here / name).write_bytes(b"?")
        for names in ([name], [name, "b.tcm"]):
            assert cli.main(["info", *names]) == 1
            assert capsys.readouterr().err == f"StreamError: {name}: this is not a .tcm file\n"


def test_no_portable(here, tcm):
    assert tcm("compress", "photo.png", "--no-portable")[0] == 0
    assert parse((here / "photo.tcm").read_bytes()).guard_band == 0


def test_the_limit_on_pixels(here, tcm):
    refused(tcm("compress", "photo.png", "--max-pixels", "2399"), "ImageError", "60x40 pixels, over the limit of 2,399")
    assert tcm("compress", "photo.png", "--max-pixels", "16384")[0] == 0
    refused(tcm("decompress", "photo.tcm", "-o", "a.png", "--max-pixels", "16383"), "StreamError", "over the limit")


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
@pytest.mark.parametrize("limit", ["-5", "0", "1e6", "many"])
def test_a_limit_on_pixels_that_is_none(command, limit, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "a", "--max-pixels", limit])
    assert capsys.readouterr().err.endswith(f"argument --max-pixels: {limit} is not a whole number above 0\n")


def test_settings_that_make_no_sense(here, tcm):
    for flags in (["--quality", "50"], ["--target-bpp", "1"], ["--target-psnr", "30"]):
        refused(tcm("compress", "photo.png", *flags), "ConfigError", "drawn-0 have one rate")
    refused(tcm("compress", "photo.png", "--tile", "1000"), "ConfigError", "multiples of 128")
    refused(tcm("compress", "photo.png", "--jobs", "0"), "ConfigError", "--jobs must be at least 1")
    assert names(here) == ["photo.png"]


def test_stages(here, tcm):
    err = tcm("compress", "photo.png", "--verbose")[2]
    assert re.fullmatch(r"imports [\d.]+ s, weights .*reading .*coding .*writing [\d.]+ s\n", err)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("compress", "--target-bpp", "evaluate", "--qualities"):
        assert word in script
