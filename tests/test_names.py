"""Names that are no text, that a terminal cannot print, or that would break a line: every output says them."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import photograph
from golden_files import WEIGHTS
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tcm_jax import cli
from tcm_jax.cli import batch
from tcm_jax.cli.files import Job, Plan
from tcm_jax.errors import TcmError
from tcm_jax.evaluation import command as evaluation
from tcm_jax.evaluation import console, results
from tcm_jax.evaluation.report import write_report
from tcm_jax.images.pictures import write_png
from tcm_jax.system import signals
from tcm_jax.system.names import encoded, printable, say

BYTES = os.fsdecode(b"caf\xe9") if sys.platform != "win32" else "caf"
HARD = f"{BYTES}|猫\n[b]"
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY_TEXT, st.sampled_from(["ascii", "latin-1", "utf-8", "cp1252", "utf-16", None]))
def test_any_text_is_one_line_that_any_encoding_holds(text, encoding):
    shown = printable(text, encoding)
    assert shown.encode(encoding or "utf-8").decode(encoding or "utf-8") == shown
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    if text.isascii() and text.isprintable():
        assert shown == text


@given(ANY_TEXT)
def test_any_text_can_be_a_file_and_json_gives_it_back(text):
    encoded(text).decode()
    assert json.loads(json.dumps(text).encode("ascii")) == text


def test_what_is_shown_of_what_cannot_be():
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("猫 é", "ascii") == r"\u732b \xe9"
    assert printable("a\nTcmError: b\x1b[31m") == r"a\nTcmError: b\x1b[31m"
    assert printable(Path("é")) == "é"
    assert encoded("a\udce9\n") == b"a\\xe9\n"


def test_a_closed_stream_is_nobody(capsys):
    say("to nobody", None)  # not to standard output either
    assert capsys.readouterr() == ("", "")
    strict = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    say("猫\udcff", strict)
    assert strict.buffer.getvalue() == b"\\u732b\\xff\n"


def test_an_error_is_one_line_whatever_it_names(capsys):
    def fail():
        raise TcmError("no file b\nTcmError: \x1b[31m\udcff")

    assert signals.outcome(fail) == 1
    assert capsys.readouterr().err == r"TcmError: no file b\nTcmError: \x1b[31m\xff" + "\n"


def test_a_program_prints_what_libraries_say():
    program = "from tcm_jax.system import signals; signals.prepare(); print('猫', chr(0xDCFF))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [rb"\u732b", rb"\udcff"]


STREAMS = [{"PYTHONIOENCODING": "utf-8:strict"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("streams", STREAMS, ids=["utf-8", "C"])
def test_commands_work_on_such_names(tmp_path, streams):
    for name in (BYTES, "猫", "new\nline"):
        write_png(tmp_path / f"{name}.png", photograph(20, 30))
    (tmp_path / f"no {BYTES}.jpg").write_bytes(b"no picture")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)} | streams

    def run(*argv):
        done = subprocess.run([sys.executable, "-m", "tcm_jax", *argv], cwd=tmp_path, env=environment,
                              capture_output=True, check=False)  # fmt: skip
        assert b"Traceback" not in done.stderr
        return done

    done = run("compress", ".", "-o", "out", "--weights", str(WEIGHTS), "--manifest", "failed.jsonl")
    assert done.returncode == 1
    written = sorted(os.listdir(os.fsencode(tmp_path / "out")))  # noqa: PTH208 (as bytes)
    assert written == [b"caf\xe9.tcm", b"new\nline.tcm", "猫.tcm".encode()]
    assert len(done.stdout.splitlines()) == 3
    assert rb"caf\xe9.tcm: " in done.stdout
    assert rb"ImageError: no caf\xe9.jpg is not a picture" in done.stderr
    (failure,) = map(json.loads, (tmp_path / "failed.jsonl").read_text().splitlines())
    assert os.fsencode(failure["input"]) == b"no caf\xe9.jpg"
    lines = run("info", "out", "--json").stdout.splitlines()
    assert [os.fsencode(json.loads(line)["file"]) for line in lines] == [b"out/" + name for name in written]


def test_json_lines_and_the_manifest_give_the_very_names_back(tmp_path, capsys):
    jobs = [Job(HARD, f"{HARD}.tcm"), Job(f"bad {HARD}", "bad.tcm")]

    def engine(jobs):
        yield {"input": jobs[0].source, "output": jobs[0].target}
        yield {"input": jobs[1].source, "error": "ImageError: no"}

    manifest = tmp_path / "failed.jsonl"
    assert batch.run(Plan(jobs, skipped=0, many=True), engine, str, as_json=True, listed=str(manifest)) == 1
    done, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (done["input"], done["output"], failed["input"]) == (HARD, f"{HARD}.tcm", f"bad {HARD}")
    assert json.loads(manifest.read_text())["input"] == f"bad {HARD}"


@pytest.mark.slow
def test_reports_hold_such_names(tmp_path, monkeypatch, capsys):
    """Markdown, CSV and HTML are text that anybody reads; JSON gives the very name back."""
    write_png(tmp_path / f"{HARD}.png", photograph(40, 60))
    monkeypatch.chdir(tmp_path)
    argv = ["evaluate", "--data", str(tmp_path), "--weights", str(WEIGHTS)]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert r"\n" in out
    result = json.loads(Path("results/results.json").read_text())
    (one,) = result["sets"]
    assert [row["name"] for row in one["curves"][0]["points"][0]["images"]] == [f"{HARD}.png"]
    with Path("results/results.csv").open(newline="", encoding="utf-8") as table:
        (row,) = csv.DictReader(table)
    assert row["name"] == f"{HARD}.png".replace("\udce9", r"\xe9")
    Path("results/results.md").read_text(encoding="utf-8")
    write_report(Path("report.html"), result, {}, [])
    page = Path("report.html").read_text(encoding="utf-8")
    assert r"\\xe9" in page
    assert r"\udce9" not in page


def test_a_name_leaves_no_cell_of_a_markdown_table():
    assert results._table(["codec"], [["a|b\n\x1b"]])[-1] == r"| a\|b\n\x1b |"


def test_progress_shows_names_without_markup(tmp_path, monkeypatch):
    """On a terminal; a name may end markup that nobody began."""

    def measure(data, points, folder, processes, on_progress):
        on_progress(0, 1, "[/b].png")
        raise TcmError("that is all")

    write_png(tmp_path / "a.png", photograph(40, 60))
    monkeypatch.setattr(evaluation, "measure_all", measure)
    monkeypatch.setenv("FORCE_COLOR", "1")
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    flags = ["--data", str(tmp_path), "--output", str(tmp_path / "results"), "--weights", str(WEIGHTS)]
    with pytest.raises(TcmError, match="that is all"):
        evaluation.run(parser.parse_args(flags))


def test_names_in_markdown_begin_no_line_of_their_own():
    mean = dict.fromkeys(key for key, _, _ in results._MEANS) | {"failed": 1, "pictures": 1, "lossless": 0}
    point = {"label": "quality 5", "mean": mean, "images": [{"name": HARD, "error": f"OSError: {HARD}"}]}
    curve = {"label": HARD, "settings": "any", "points": [point]}
    one = {"name": HARD, "pictures": 1, "curves": [curve], "bd_rate": []}
    origin = {"libraries": {}} | dict.fromkeys(
        ("command", "tcm_jax", "commit", "device", "processor", "system", "time", "seeds"), HARD
    )
    lines = results.markdown({"provenance": origin | {"seeds": {}}, "sets": [one]}).splitlines()
    assert [line[:2] for line in lines if r"\n[b]" in line] == ["Wr", "##", "| ", "- ", "- "]


def test_the_terminal_shows_names_without_markup():
    shown = io.StringIO()
    Console(file=shown).print(console.escape("[bold]a\n|"))
    assert shown.getvalue() == "[bold]a\\n|\n"
