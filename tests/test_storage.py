"""Files that fsspec reaches, with its file system in memory: the same plans, names and errors as in folders."""

import json
import re
from pathlib import PurePath

import fsspec
import pytest
from conftest import photograph
from golden_files import WEIGHTS

from tcm_jax import cli
from tcm_jax.cli import files, storage
from tcm_jax.errors import ImageError, TcmError
from tcm_jax.images.formats import suffixes
from tcm_jax.images.picture import Picture
from tcm_jax.images.pictures import decode_picture, encode_png

NAMES = ("in/a.png", "in/deep/b.png", "in/deep/c.PNG")


@pytest.fixture
def memory():
    """Three pictures in two folders, and two files that are none."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for i, name in enumerate(NAMES):
        system.pipe_file(f"/{name}", encode_png(Picture(photograph(40, 60, seed=i))))
    system.pipe_file("/in/notes.txt", b"no picture")
    system.pipe_file("/in/broken.jpg", b"no picture")
    yield system
    system.store.clear()


def tcm(capsys, *argv: str):
    status = cli.main([*argv, "--weights", str(WEIGHTS)])
    return status, *capsys.readouterr()


def test_a_bucket_to_a_bucket_and_a_folder_and_resumed(memory, capsys, tmp_path):
    manifest = tmp_path / "failed.jsonl"
    status, out, err = tcm(capsys, "compress", "memory://in", "-o", "memory://out", "--manifest", str(manifest))
    assert sorted(memory.find("/out")) == ["/out/a.tcm", "/out/deep/b.tcm", "/out/deep/c.tcm"]
    assert sorted(line.partition(": ")[0] for line in out.splitlines())[0] == "memory://out/a.tcm"
    error = "ImageError: memory://in/broken.jpg is not a picture in a format that Pillow reads"
    assert (status, err) == (1, f"{error}\n3 done, 1 failed\n")
    assert json.loads(manifest.read_text()) == {"input": "memory://in/broken.jpg", "error": error}
    memory.rm_file("/in/broken.jpg")
    memory.rm_file("/out/deep/b.tcm")
    status, _, err = tcm(capsys, "compress", "memory://in/", "-o", "memory://out/", "--manifest", str(manifest))
    assert (status, err) == (0, "1 done, 2 skipped that exist (--overwrite replaces them)\n")
    assert manifest.read_text() == ""
    assert tcm(capsys, "decompress", "memory://out", "-o", f"file://{tmp_path}/back")[0] == 0
    back = (tmp_path / "back" / "deep" / "c.png").read_bytes()
    assert decode_picture(back, "back").colour.shape == (40, 60, 3)


def test_single_files_and_patterns(memory, capsys):
    assert tcm(capsys, "compress", "memory://in/a.png")[0] == 0
    data = memory.cat_file("/in/a.tcm")
    status, _, err = tcm(capsys, "compress", "memory://in/a.png")
    assert (status, err) == (
        1,
        "TcmError: memory://in/a.tcm exists; give another name, or --overwrite to replace it\n",
    )
    memory.pipe_file("/in/a.tcm", b"old")
    assert tcm(capsys, "compress", "memory://in/a.png", "--overwrite")[0] == 0
    assert memory.cat_file("/in/a.tcm") == data
    assert storage.matching("memory://in/**/*.png").files == [
        ("memory://in/a.png", PurePath("a.png")),
        ("memory://in/deep/b.png", PurePath("deep/b.png")),
    ]
    plan = files.plan(["memory://in/a.png", "memory://in/a.bmp"], "memory://out", False, suffixes(), ".tcm")
    assert list(files.clashes(plan.jobs)) == ["memory://out/a.tcm"]


def test_a_folder_is_no_finished_file(memory, capsys):
    memory.pipe_file("/out/a.tcm/x", b"in a folder")
    memory.pipe_file("/out/deep/b.tcm", b"finished")
    plan = files.plan(["memory://in"], "memory://out", False, suffixes(), ".tcm")
    assert plan.skipped == 1
    assert "memory://out/a.tcm" in [job.target for job in plan.jobs]


def test_hidden_files_and_folders_are_left_out(memory):
    for name in ("/in/.a.png", "/in/.hid/a.png"):
        memory.pipe_file(name, b"hidden")
    assert [str(path) for _, path in storage.files_below("memory://in", frozenset({".png"})).files] == [
        name.removeprefix("in/") for name in NAMES
    ]
    assert [str(path) for _, path in storage.matching("memory://in/**/a.png").files] == ["a.png"]
    assert [str(path) for _, path in storage.matching("memory://in/.h*/a.png").files] == [".hid/a.png"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://absent.png", r"ImageError: cannot read memory://absent\.png: no such file"),
        ("memory://absent/", r"TcmError: memory://absent/ holds no files to work on .*"),
        ("memory://in/*.gif", r"TcmError: no file matches memory://in/\*\.gif"),
        ("nowhere://a.png", r"ConfigError: nowhere://a\.png is no place that can be reached: Protocol not known: .*"),
    ],
)
def test_what_is_not_there(memory, capsys, url, message):
    status, out, err = tcm(capsys, "compress", url)
    assert (status, out) == (1, "")
    assert re.fullmatch(message + "\n", err)


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    assert tcm(capsys, "compress", "s3://bucket/a.png")[::2] == (
        1,
        "MissingExtraError: s3:// needs a package that is not installed: pip install s3fs\n",
    )


def test_where_a_put_is_not_atomic_nothing_half_written_gets_the_name(tmp_path, monkeypatch):
    url = f"local://{tmp_path}/new/a.tcm"
    storage.write(url, b"all of it")
    assert (tmp_path / "new" / "a.tcm").read_bytes() == b"all of it"
    assert storage.read(url, ImageError) == b"all of it"
    system = type(fsspec.filesystem("local"))
    monkeypatch.setattr(system, "mv", lambda *_, **__: 1 / 0)
    with pytest.raises(TcmError, match=r"cannot write local://.*/b\.tcm: division by zero"):
        storage.write(f"local://{tmp_path}/new/b.tcm", b"some")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tcm"]


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("out") == f"{tmp_path}/out"
    assert storage.absolute("s3://b/out") == "s3://b/out"
    assert storage.local("file:///a/b.png") == "/a/b.png"
    assert storage.with_suffix("s3://b/v1.0/a.png", ".tcm") == "s3://b/v1.0/a.tcm"
    assert storage.join("s3://b/out/", PurePath("deep/a.tcm")) == "s3://b/out/deep/a.tcm"
