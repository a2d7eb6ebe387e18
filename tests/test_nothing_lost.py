"""An option that took a name by mistake costs no file, and outputs that cannot be are refused before the work."""

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS

from tcm_jax import cli
from tcm_jax.cli import one_file, page
from tcm_jax.errors import TcmError
from tcm_jax.evaluation import command as evaluation
from tcm_jax.images.pictures import write_png
from tcm_jax.system.files import check_writable

MODEL = ("--weights", str(WEIGHTS))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two pictures, a .tcm file, and a text."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("a.png", "b.png")):
        write_png(name, photograph(40, 60, seed=i))
    (tmp_path / "c.tcm").write_bytes((GOLDEN / "layer_palette.tcm").read_bytes())
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


@pytest.fixture
def unread(monkeypatch):
    """Fails a test in which a picture is read, or or a page is made."""

    def fail(*_, **__):
        pytest.fail("this came after the work")

    for module, name in ((one_file.files, "read"), (page, "html_page")):
        monkeypatch.setattr(module, name, fail)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(here, capsys, argv: list[str]) -> str:
    """The one sentence that refuses a command, which leaves every file as it was."""
    before = contents(here)
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), contents(here)) == ("", 1, before)
    return err


NO_LIST = "exists and is no list of failures; give --manifest another name"
USED = "is an input or output of this command; give --manifest another name"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("compress --lossless --manifest a.png b.png", f"a.png {NO_LIST}"),
        ("compress b.png --manifest notes.txt", f"notes.txt {NO_LIST}"),
        ("decompress c.tcm --manifest ./c.tcm", f"./c.tcm {USED}"),
        ("compress a.png b.png --manifest b.tcm", f"b.tcm {USED}"),
        ("compress a.png -o /dev/stdout --manifest -", f"- {USED}"),
        ("page c.tcm -o c.tcm --overwrite", "this writes .html files; give c.tcm the ending .html"),
        ("viewer -o c.tcm --overwrite", "this writes .html files; give c.tcm the ending .html"),
        ("viewer -o a.png --overwrite", "this writes .html files; give a.png the ending .html"),
        ("convert x.pth.tar a.png --overwrite", "this writes .safetensors files; give a.png the ending .safetensors"),
        ("convert x.pth.tar y.pth.tar --overwrite", "give y.pth.tar the ending .safetensors"),
        ("convert notes.txt ./notes.txt --overwrite", "notes.txt is the checkpoint itself"),
        ("evaluate --data . --report a.png", "this writes .html files; give a.png the ending .html"),
        ("analyze bits a.png -o c.tcm", "this writes .png files; give c.tcm the ending .png"),
        ("analyze bits a.png -o ./a.png", "a.png is the picture itself; give -o another name"),
        ("compress a.png b.png -o all.tcm", "all.tcm is the name of one file; give -o a folder"),
        ("compress . -o all.png", "all.png is the name of one file; give -o a folder"),
    ],
)
def test_no_option_swallows_a_file(here, capsys, argv, message):
    weights = [] if argv.startswith("convert") else MODEL
    assert message in refused(here, capsys, [*argv.split(), *weights])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("compress a.png --manifest no/m.jsonl", "cannot write no/m.jsonl: no such folder"),
        ("compress a.png -o no/a.tcm", "cannot write no/a.tcm: no such folder"),
        ("compress a.png -o file://{here}/no/a.tcm", "no/a.tcm: no such folder"),
        ("compress a.png -o notes.txt/deep/", "cannot write notes.txt/deep/a.tcm: no such folder"),
        ("page c.tcm -o no/c.html", "cannot write no/c.html: no such folder"),
        ("viewer -o no/c.html", "cannot write no/c.html: no such folder"),
        ("convert gone.pth no/w.safetensors", "cannot write no/w.safetensors: no such folder"),
        ("analyze bits gone.png -o no/a.png", "cannot write no/a.png: no such folder"),
    ],
)
def test_a_place_that_is_none_is_found_before_the_work(here, capsys, unread, argv, message):
    argv = argv.format(here=here)
    weights = [] if argv.startswith("convert") else MODEL
    assert message in refused(here, capsys, [*argv.split(), *weights])


def test_what_cannot_be_written(here, monkeypatch):
    check_writable("new")
    check_writable("new/and/deep", makes_folders=True)
    check_writable(os.devnull)
    (here / "folder").mkdir()
    with pytest.raises(TcmError, match=r"^cannot write folder: this is a folder$"):
        check_writable("folder")
    with pytest.raises(TcmError, match=r"^cannot write n{999}: File name too long$"):
        check_writable("n" * 999)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(TcmError, match=r"^cannot write new: Permission denied$"):
        check_writable("new")
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as on a drive that Windows does not have
    with pytest.raises(TcmError, match=r"^cannot write new/deep: no such folder$"):
        check_writable("new/deep", makes_folders=True)


def test_a_report_may_be_in_the_new_folder_of_the_results(here, capsys, monkeypatch):
    def measured(*_):
        raise TcmError("measured")

    monkeypatch.setattr(evaluation, "measure_all", measured)
    argv = ["evaluate", "--data", ".", "--output", "new", *MODEL, "--report"]
    for report, said in (("new/r.html", "measured"), ("no/r.html", "cannot write no/r.html: no such folder")):
        assert cli.main([*argv, report]) == 1
        assert capsys.readouterr().err == f"TcmError: {said}\n"


def test_lists_of_failures_are_written_anew(here, capsys):
    for old in ("", '{"input": "x.png", "error": "TcmError: no"}\n'):
        (here / "m.jsonl").write_text(old)
        assert cli.main(["compress", "gone.png", "--manifest", "m.jsonl", *MODEL]) == 1
        assert json.loads((here / "m.jsonl").read_text())["input"] == "gone.png"


def test_a_list_on_standard_output_is_alone(here, capsys):
    assert cli.main(["compress", "a.png", "gone.png", "-o", "out", "--json", "--manifest", "-", *MODEL]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["input"] == "gone.png"
    assert {json.loads(line)["input"] for line in err.splitlines()[:2]} == {"a.png", "gone.png"}


def test_a_folder_of_such_a_name_may_be_meant(here):
    (here / "all.tcm").mkdir()
    assert cli.main(["compress", "a.png", "b.png", "-o", "all.tcm", *MODEL]) == 0
    assert cli.main(["compress", "a.png", "b.png", "-o", "new.tcm/", *MODEL]) == 0
    assert sorted(os.listdir("all.tcm")) == sorted(os.listdir("new.tcm")) == ["a.tcm", "b.tcm"]  # noqa: PTH208


def test_a_folder_is_no_finished_file(here, capsys):
    (here / "out" / "a.tcm").mkdir(parents=True)
    assert cli.main(["compress", "a.png", "b.png", "-o", "out", *MODEL]) == 1
    err = capsys.readouterr().err
    assert err == "TcmError: cannot write out/a.tcm: this is a folder\n1 done, 1 failed\n"


def test_a_distortion_without_a_lambda(here, capsys):
    for name in ("mse", "ms_ssim"):
        err = refused(here, capsys, ["convert", "x.pth", "w.safetensors", "--distortion", name])
        assert err == "ConfigError: --distortion says what a lambda weighs; give --lambda L, too\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/stdout")
def test_a_picture_from_standard_input_may_be_listed_on_standard_output(here, capfd, monkeypatch):
    with (here / "a.png").open() as picture:
        monkeypatch.setattr(sys, "stdin", picture)
        assert cli.main(["compress", "-", "-o", "x.tcm", "--manifest", "-", *MODEL]) == 0
    assert (here / "x.tcm").exists()
    assert capfd.readouterr().out == ""
