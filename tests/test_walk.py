"""Folders as people have them: links, loops, FIFOs, folders that cannot be read; for `tcm`, training and evaluation."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path, PurePath

import numpy as np
import pytest
from golden_files import GOLDEN, WEIGHTS
from PIL import Image

from tcm_jax import cli
from tcm_jax.cli import storage
from tcm_jax.cli.files import expand
from tcm_jax.errors import DataError, TcmError, TcmWarning
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.formats import suffixes
from tcm_jax.images.pictures import write_png
from tcm_jax.system import walk as walking
from tcm_jax.system.walk import walk

PNG = frozenset({".png"})


def names(root: Path, found) -> list[str]:
    return [str(path.relative_to(root)) for path in found.files]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures; `b/c` is also `a`, which comes first; two loops; and two links to a folder outside."""
    root, outside = tmp_path / "in", tmp_path / "outside"
    for place, name in ((root, "1.png"), (root / "b" / "c", "2.PNG"), (outside, "3.png")):
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / name, np.zeros((8, 8, 3), np.uint8))
    (root / "notes.txt").write_text("no picture")
    (root / "._1.png").write_bytes(b"of another system")
    (root / ".hid" / "deep").mkdir(parents=True)
    write_png(root / ".hid" / "deep" / "4.png", np.zeros((8, 8, 3), np.uint8))
    (root / "a").symlink_to(root / "b" / "c")
    (root / "b" / "loop").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b" / "self")
    (root / "z").symlink_to(outside)
    (root / "y").symlink_to(outside)
    return root


FOUND = ["1.png", "b/c/2.PNG", "y/3.png"]


def test_links_are_followed_once_and_loops_end(folder):
    found = walk(folder, PNG)
    assert (names(folder, found), found.special, found.unreadable) == (FOUND, [], [])


def test_links_to_files_have_their_own_names_and_dead_ones_are_found(folder):
    (folder / "same.png").symlink_to("1.png")
    (folder / "dead.png").symlink_to("nowhere")
    (folder / "dead").symlink_to("nowhere")
    assert names(folder, walk(folder, PNG)) == ["1.png", *FOUND[1:2], "dead.png", "same.png", *FOUND[2:]]


def test_a_hidden_folder_is_entered_when_it_is_named(folder):
    assert names(folder, walk(folder / ".hid", PNG)) == [".hid/deep/4.png"]
    assert not walking.is_hidden(PurePath("../a/1.png"))


def test_hidden_files_of_tar_files_are_left_out(folder):
    with tarfile.open(folder.parent / "in.tar", "w") as archive:
        archive.add(folder, "./in")
    source = open_dataset(str(folder.parent / "in.tar"))
    assert sorted(source.name(i).rpartition("/./")[2] for i in range(len(source))) == ["in/1.png", "in/b/c/2.PNG"]


def test_special_files_are_named_and_not_opened(folder, tmp_path, monkeypatch):
    os.mkfifo(folder / "p.png")
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)  # as the names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        found = walk(folder, PNG)
    assert names(folder, found) == FOUND
    assert found.special == [(str(folder / "p.png"), "a FIFO"), (str(folder / "s.png"), "a socket")]
    assert walking.special_kind(Path("/dev/null").stat().st_mode) == "a device"
    assert walking.special_kind(stat.S_IFREG | 0o644) is None


@pytest.fixture
def locked(folder, monkeypatch) -> Path:
    """A folder that cannot be listed, for root neither."""
    (folder / "b" / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder / "b" / "locked"


def test_folders_that_cannot_be_listed_are_reported(folder, locked):
    found = walk(folder, PNG)
    assert (names(folder, found), found.unreadable) == (FOUND, [(str(locked), "Permission denied")])
    assert walk(folder / "1.png", PNG).unreadable == [(str(folder / "1.png"), "Not a directory")]


def test_a_closed_folder_among_others_does_not_stop_them(folder, locked):
    """Named alone it is an error."""
    found = expand([str(locked), str(folder / "1.png")], PNG)
    assert [path for path, _ in found.files] == [str(folder / "1.png")]
    assert found.unreadable == [(str(locked), "Permission denied")]
    with pytest.raises(TcmError, match=r"cannot read .*locked: Permission denied"):
        expand([str(locked)], PNG)


def test_what_a_link_leads_to_and_may_not_be_seen_is_reported(folder, monkeypatch):

    class Link:
        def __init__(self, name, error):
            self.name, self.error = name, error

        def stat(self):
            raise self.error

    links = [Link("closed", PermissionError(13, "Permission denied")), Link("dead", FileNotFoundError(2, "No such"))]
    monkeypatch.setattr(os, "scandir", lambda path: contextlib.nullcontext(links))
    assert walk(folder, PNG).unreadable == [(str(folder / "closed"), "Permission denied")]


def test_training_and_evaluation_find_what_the_walk_finds(folder):
    os.mkfifo(folder / "p.png")
    with pytest.warns(TcmWarning, match=r"in/p\.png is a FIFO, and is left out"):
        source = open_dataset(str(folder))
    assert sorted(source.name(i).removeprefix(f"{folder}/") for i in range(len(source))) == FOUND


def test_training_and_evaluation_do_not_go_on_with_a_part(folder, locked):
    with pytest.raises(DataError, match=r"a part of .*/in cannot be read: .*/in/b/locked \(Permission denied\)"):
        open_dataset(f"folder:{folder}")


def tcm(capsys, *argv: str):
    status = cli.main([*argv, "--weights", str(WEIGHTS)])
    return status, *capsys.readouterr()


def test_the_command_names_special_files_and_works_on_the_rest(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    os.mkfifo("in/p.png")
    # So that who opens it finds it empty, and does not wait for ever.
    threading.Thread(target=(folder / "p.png").write_bytes, args=(b"",), daemon=True).start()
    status, out, err = tcm(capsys, "compress", "in", "-o", "out")
    assert (status, err) == (0, "TcmWarning: in/p.png is a FIFO, and is left out\n3 done\n")
    assert sorted(line.partition(":")[0] for line in out.splitlines()) == ["out/1.tcm", "out/b/c/2.tcm", "out/y/3.tcm"]
    status, out, err = tcm(capsys, "compress", "in/1.png", "in/p.png", "-o", "again")
    assert (status, err) == (0, "TcmWarning: in/p.png is a FIFO, and is left out\n1 done\n")
    assert out.startswith("again/1.tcm: ")


def test_patterns_find_each_file_once_and_name_special_ones(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    os.mkfifo("in/p.png")
    found = storage.matching("in/**/*.png")
    assert [file for file, _ in found.files] == ["in/1.png", "in/y/3.png"]
    assert found.special == [("in/p.png", "a FIFO")]
    assert [file for file, _ in storage.matching("in/**/*.PNG").files] == ["in/b/c/2.PNG"]
    assert [file for file, _ in storage.matching("in/b/loop/*.png").files] == ["in/b/loop/1.png"]


def test_the_command_fails_where_a_folder_cannot_be_listed(folder, locked, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    manifest = folder.parent / "failed.jsonl"
    error = "TcmError: cannot read in/b/locked: Permission denied"
    status, _, err = tcm(capsys, "compress", "in", "-o", "out", "--manifest", str(manifest))
    assert (status, err) == (1, f"{error}\n3 done, 1 failed\n")
    assert manifest.read_text() == f'{{"input": "in/b/locked", "error": "{error}"}}\n'
    status, _, err = tcm(capsys, "compress", "in", "-o", "out")
    assert (status, err) == (1, f"{error}\n0 done, 1 failed, 3 skipped that exist (--overwrite replaces them)\n")
    assert tcm(capsys, "compress", "in/b/locked", "-o", "out") == (1, "", f"{error}\n")
    Path("in/1.tcm").write_bytes(Path("out/1.tcm").read_bytes())
    assert cli.main(["info", "in"]) == 1
    out, err = capsys.readouterr()
    assert (out.splitlines()[0].partition(",")[0], err) == ("in/1.tcm: 8x8 RGB", f"{error}\n")


def test_the_command_reports_links_that_lead_nowhere(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "dead.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "a[1].png").symlink_to("nowhere")
    dead = [f"ImageError: cannot read in/{name}: No such file or directory\n" for name in ("dead.png", "a[1].png")]
    loop = "ImageError: cannot read in/loop.png: Too many levels of symbolic links\n"
    status, _, err = tcm(capsys, "compress", "in/[dl1]*.png", "-o", "out")
    assert (status, sorted(err.splitlines(keepends=True))) == (1, sorted([dead[0], loop, "1 done, 2 failed\n"]))
    assert tcm(capsys, "compress", "in/d*.png") == (1, "", dead[0])
    assert tcm(capsys, "compress", "in/a[1].png") == (1, "", dead[1])


AS_A_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
FILE, FOLDER = (
    "StreamError: cannot read in/no/2.tcm: Permission denied\n",
    "TcmError: cannot read in/no: Permission denied\n",
)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("setpriv"), reason="root may look at everything")
@pytest.mark.parametrize(
    ("mode", "inputs", "error"),
    [
        (0o444, "in/1.tcm in/no/2.tcm", FILE),
        (0o000, "in/1.tcm in/no/2.tcm", FILE),
        (0o444, "i[n]/*/*.tcm in/1.tcm", FILE),
        (0o444, "in/*/2.tcm in/1.tcm", FOLDER),
        (0o000, "i[n]/*/*.tcm in/1.tcm", FOLDER),
        (0o000, "in/**/*.tcm", FOLDER),
    ],
)
def test_what_may_not_be_looked_at_stops_nothing(tmp_path, mode, inputs, error):
    (tmp_path / "in" / "no").mkdir(parents=True)
    for name in ("in/1.tcm", "in/no/2.tcm"):
        (tmp_path / name).write_bytes((GOLDEN / "rgb.tcm").read_bytes())
    (tmp_path / "in" / "no").chmod(mode)
    done = subprocess.run(
        AS_A_USER * (os.geteuid() == 0) + [sys.executable, "-m", "tcm_jax", "info", *inputs.split()], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, error)
    assert done.stdout.startswith("in/1.tcm: ")


def test_every_ending_that_pillow_reads_is_one():
    Image.init()
    unreadable = {"BUFR", "GRIB", "HDF5", "MPEG"}
    registered = {ending for ending, name in Image.EXTENSION.items() if name in Image.OPEN and name != "TCM"}
    without = {ending for ending, name in Image.EXTENSION.items() if name in unreadable}
    assert suffixes() >= registered - without
    assert suffixes() >= {".jfif", ".jpe", ".pbm", ".pgm", ".ppm", ".tga", ".j2k", ".jp2", ".dib", ".mpo"}
    assert not suffixes() & {".tcm", ".mpg", ".h5", ".pdf"}


READ = {
    "folder": "from tcm_jax.images.datasets import open_dataset; print(open_dataset({!r})[0].shape)",
    "file": "from tcm_jax.images.pictures import read_image; print(read_image({!r} + '/a.jxl').shape)",
}


@pytest.mark.parametrize("place", READ)
def test_jpeg_xl_is_a_picture_where_its_plugin_is(place, tmp_path):
    """In a new process, where nobody else has registered it."""
    pytest.importorskip("pillow_jxl")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "a.jxl")
    program = [sys.executable, "-c", READ[place].format(str(tmp_path))]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "(8, 9, 3)\n"
