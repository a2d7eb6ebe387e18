"""Many files: what fails stops nothing, is named and listed; what fails everywhere is said once; lines stay whole."""

import io
import json
import os
import re
import sys
from pathlib import Path, PurePath

import pytest
from conftest import photograph
from golden_files import WEIGHTS, golden_codec

from tcm_jax import cli
from tcm_jax.cli import batch, files, one_file, storage
from tcm_jax.cli.files import Job, Plan
from tcm_jax.codec import Codec
from tcm_jax.images.pictures import write_png
from tcm_jax.weights.files import save_weights


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with three pictures, and weights of variable rate."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate("abc"):
        write_png(f"{name}.png", photograph(40, 60, seed=i))
    save_weights(tmp_path / "rates.safetensors", golden_codec("quality").weights)
    return tmp_path


def tcm(capsys, *argv: str, weights: str = str(WEIGHTS)):
    status = cli.main([*argv, "--weights", weights])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_any_error_stops_no_other_file(here, capsys, monkeypatch, jobs):
    compress = Codec.compress

    def full(self, picture, *rest):
        if (picture.colour == photograph(40, 60, seed=1)).all():
            raise RuntimeError("INTERNAL: see below\nRESOURCE_EXHAUSTED: Out of memory\n")
        return compress(self, picture, *rest)

    monkeypatch.setattr(Codec, "compress", full)
    status, _, err = tcm(capsys, "compress", ".", "-o", "out", "--manifest", "m.jsonl", "--jobs", jobs)
    error = "RuntimeError: b.png: RESOURCE_EXHAUSTED: Out of memory"
    assert (status, err) == (1, f"{error}\n2 done, 1 failed\n")
    assert json.loads((here / "m.jsonl").read_text()) == {"input": "b.png", "error": error}
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.tcm", "c.tcm"]


def test_a_reader_that_has_left_is_no_failure():
    def left(*_):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        batch.attempt(None, left, Job("a.png", "-"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143), BrokenPipeError()])
def test_what_failed_before_an_interruption_is_listed(tmp_path, stop):
    def engine(jobs):
        yield {"input": jobs[0].source, "error": "ImageError: no"}
        raise stop

    plan = Plan([Job("a", "a.tcm"), Job("b", "b.tcm")], skipped=0, many=True)
    with pytest.raises(type(stop)):
        batch.run(plan, engine, str, as_json=False, listed=str(tmp_path / "m.jsonl"))
    assert json.loads((tmp_path / "m.jsonl").read_text())["input"] == "a"


def test_clashes_are_found_without_comparing_all_with_all(monkeypatch, capsys):
    def compared(*_):
        pytest.fail("each job was looked for among the clashing ones")

    jobs = [Job(f"{i}.{suffix}", f"{i}.tcm") for i in range(10) for suffix in ("png", "jpg")] + [Job("a", "a.tcm")]
    with monkeypatch.context() as patch:
        patch.setattr(Job, "__eq__", compared)
        left, failures = batch._without_clashes(Plan(jobs, skipped=0, many=True))
    assert ([job.source for job in left], len(failures)) == (["a"], 10)


ERRORS = {
    "--target-bpp 0.01": "ConfigError: {}: even quality 1 needs",
    "--max-pixels 9000": "ImageError: {}: the picture has 60x40 pixels; padded to",
    "--verify": "TcmError: {}: the file does not decode to what was encoded",
}


@pytest.mark.parametrize("flags", ERRORS)
def test_errors_name_the_file(here, capsys, monkeypatch, flags):
    if flags == "--verify":
        monkeypatch.setattr(one_file.np, "array_equal", lambda *_: False)
    status, _, err = tcm(capsys, "compress", ".", *flags.split(), weights="rates.safetensors")
    assert status == 1
    for line, name in zip(sorted(err.splitlines()[:3]), ("a.png", "b.png", "c.png"), strict=True):
        assert line.startswith(ERRORS[flags].format(name))
    assert err.endswith("\n0 done, 3 failed\n")


def test_a_page_names_the_file(here, capsys):
    assert cli.main(["page", "a.png"]) == 1
    assert capsys.readouterr().err == "StreamError: a.png: this is not a .tcm file\n"


def test_standard_input_has_a_name(here, monkeypatch):
    assert tcm_of_standard_input(monkeypatch, here) == "the picture of standard input: "


def tcm_of_standard_input(monkeypatch, here) -> str:
    """How the warning of a decoded picture begins."""
    said = []
    monkeypatch.setattr(one_file.Picture, "warning", lambda self, name, done: said.append(name))
    data = golden_codec("quality").compress(photograph(40, 60), 50.0)
    args = type("Args", (), {"max_pixels": 1 << 20, "strip": False})
    one_file._decompress(args, golden_codec("quality"), data, "-")
    return f"{said[0]}: "


SENTENCES = {
    "--quality 0": "the quality must be a number from 1 to 100, not 0.0",
    "--quality nan": "the quality must be a number from 1 to 100, not nan",
    "--quality 101": "the quality must be a number from 1 to 100, not 101.0",
    "--max-error -1": "the largest error must be a whole number from 0 to 127, not -1",
    "--max-error 128": "the largest error must be a whole number from 0 to 127, not 128",
    "--tile 100": "tiles are multiples of 128 from 512 to ",
    "--jobs 0": "--jobs must be at least 1, not 0",
    "--lossless --effort 9": "an effort searches for latents, and a file this close to the picture has none; leave",
    "--max-error 2 --effort 1": "an effort searches for latents, and a file this close to the picture has none; leave",
}


@pytest.mark.parametrize("flags", SENTENCES)
def test_what_is_wrong_for_every_file_is_said_once_and_first(here, capsys, monkeypatch, flags):
    monkeypatch.setattr(files, "read", lambda *_: pytest.fail("a file was read"))
    status, out, err = tcm(capsys, "compress", ".", *flags.split(), weights="rates.safetensors")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"ConfigError: {SENTENCES[flags]}")


def test_a_quality_of_zero_is_one_too_many_for_weights_of_one_rate(here, capsys):
    assert "have one rate; leave out --quality" in tcm(capsys, "compress", ".", "--quality", "0")[2]


def test_patterns_and_folders_of_windows(here, monkeypatch):
    (here / "in" / "deep").mkdir(parents=True)
    (here / "in" / "deep" / "a.png").write_bytes(b"")
    monkeypatch.setattr(os, "sep", "\\")
    for pattern in ("in\\**\\*.png", f"{here}\\in\\**\\*.png".replace("/", "\\"), "in/**\\*.png"):
        assert [below for _, below in storage.matching(pattern).files] == [PurePath("deep/a.png")]
    for output in ("small/", "small\\", "."):
        assert storage.is_named_folder(output)
    assert not storage.is_named_folder("small")


class Terminal(io.StringIO):
    """A terminal that keeps what it shows: rows, of which bars are erased before they are drawn anew."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        rows, row = [""], 0
        for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|[\r\n]|[^\r\n\x1b]+", self.getvalue()):
            if part == "\n":
                row += 1
                rows += [""] * (row == len(rows))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                rows[row] = ""
            elif part[0] not in "\x1b\r":
                rows[row] += part
        return rows


LONG = "x" * 300


def shown(monkeypatch, stdout) -> Terminal:
    """What a run shows on the terminal of stderr."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", stdout or terminal)

    def engine(jobs):
        for job in jobs:
            yield {"input": job.source, "output": job.target, "warning": f"odd {job.source} [red]"}

    jobs = [Job(f"{name}.png", f"{LONG}{name}") for name in "abc"]
    assert batch.run(Plan(jobs, skipped=0, many=True), engine, lambda record: record["output"], as_json=False) == 0
    return terminal


def test_lines_come_out_whole_above_the_bar(monkeypatch):
    rows = [row for row in shown(monkeypatch, None).rows() if row]
    expected = [line for name in "abc" for line in (f"TcmWarning: odd {name}.png [red]", f"{LONG}{name}")]
    assert rows == [*expected, "3 done"]


def test_beside_a_bar_the_file_of_standard_output_is_clean(monkeypatch):
    out = io.StringIO()
    rows = [row for row in shown(monkeypatch, out).rows() if row]
    assert out.getvalue() == "".join(f"{LONG}{name}\n" for name in "abc")
    assert rows == [*(f"TcmWarning: odd {name}.png [red]" for name in "abc"), "3 done"]
