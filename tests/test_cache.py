"""The cache folder: whatever is damaged in it, results are the same, and it is made again."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from conftest import photograph
from golden_files import WEIGHTS

from tcm_jax.images.pictures import write_png
from tcm_jax.system import cache, program_cache

ROOT = Path(__file__).parent.parent


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16)


def flipped(path: Path) -> None:
    """As a failing disk does: the size stays."""
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) * 2 // 3] ^= 16
    path.write_bytes(data)


def vanished(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)


def unreadable(path: Path) -> None:
    """Even for root, whom no mode keeps out."""
    path.unlink()
    path.symlink_to("/proc/self/mem" if Path("/proc").exists() else path.name)


def a_pipe(path: Path) -> None:
    """To read it is to wait for ever."""
    path.unlink()
    os.mkfifo(path)


def of_another(path: Path) -> None:
    """As after an update, or a copy to another place: sound, but of something else."""
    others = [other for other in path.parent.iterdir() if other.is_file() and not other.is_symlink() and other != path]
    path.write_bytes(others[0].read_bytes() if others else b"another")


def older(path: Path) -> None:
    """JSON of a version that knew less."""
    path.write_text('{"row": {"name": "a.png"}, "compile_seconds": 0}')


DAMAGES = (cut, emptied, garbage, flipped, vanished, a_folder, unreadable, of_another) + (a_pipe,) * hasattr(
    os, "mkfifo"
)
damages = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """To read a pipe fails, where it would wait for ever."""
    read_bytes = Path.read_bytes

    def checked(path: Path) -> bytes:
        assert not path.is_fifo()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", checked)


@damages
def test_files_of_ours(tmp_path, damage):
    path = tmp_path / "deep" / "file"
    assert cache.read(path) is None
    cache.write_quietly(path, b"what was kept")
    assert cache.read(path) == b"what was kept"
    cache.write_quietly(path.with_name("other"), b"something else")
    damage(path)
    assert cache.read(path) is None
    cache.write_quietly(path, b"what was kept")
    assert cache.read(path) == b"what was kept"
    assert sorted(os.listdir(path.parent)) == ["file", "other"]  # noqa: PTH208


@damages
def test_json(tmp_path, damage):
    path, made = tmp_path / "deep" / "a.json", []

    def kept():
        return cache.kept_json(path, lambda: made.append(1) or {"value": 3}, lambda entry: entry.keys() == {"value"})

    assert kept() == kept() == {"value": 3}
    assert len(made) == 1
    (path.parent / "b.json").write_text('{"other": 1}')
    damage(path)
    assert kept() == kept() == {"value": 3}
    assert len(made) == 2 or damage is flipped
    assert cache.kept_json(None, lambda: 5, lambda _: True) == 5


@pytest.mark.parametrize("text", ["[]", "{}", "5", "null", '"row"', '{"row": 5}', "[" * 100_000, "\0", "NaN"])
def test_json_of_another_kind(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert cache.read_json(path, lambda entry: entry["row"].keys() == {"name"}) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    cache.write_quietly(tmp_path / "file" / "a", b"x")
    assert cache.kept_json(tmp_path / "file" / "a", lambda: 5, lambda _: True) == 5


@pytest.mark.parametrize("name", ["a-cache", "sound"])
@damages
def test_jaxs_own_files(tmp_path, name, damage):
    """A damaged one is removed, as JAX would not write it again; which are sound is found out again."""
    from jax._src import compilation_cache

    for other in ("a-cache", "b-cache"):
        (tmp_path / other).write_bytes(compilation_cache.compress_executable(b"a program of JAX" * 9))
    program_cache._remove_damaged(tmp_path)
    assert cache.read(tmp_path / "sound")
    damage(tmp_path / name)
    program_cache._remove_damaged(tmp_path)
    assert json.loads(cache.read(tmp_path / "sound")).keys() == {path.name for path in tmp_path.glob("*-cache")}
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"a-cache"} == {"b-cache", "sound"}
    if damage not in (of_another, flipped):  # which JAX may be able to read
        assert ("a-cache" in left) == (name == "sound")


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "tcm_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "tcm_jax"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    assert cache.cache_folder() is None


RUN = """
import sys, warnings
from pathlib import Path
import jax
from tcm_jax.codec import Codec
from tcm_jax.images.pictures import read_image
from tcm_jax.system.program_cache import keep_compiled_programs
from tcm_jax.weights.files import load_weights
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
warnings.simplefilter("error")
picture = read_image("a.png")
codec = Codec(load_weights(sys.argv[1]), coder="native")
encoded = codec.encode(picture)
sys.stdout.buffer.write(encoded.data + codec.decompress(encoded.data).tobytes())
"""


@pytest.mark.slow
@pytest.mark.skipif(jax.__version_info__ < (0, 6, 2), reason="nothing is kept on older ones")
def test_everything_in_it(tmp_path):
    """The whole folder after a run: the codec's programs, JAX's, Numba's objects, marks; one damage after the other."""
    write_png(tmp_path / "a.png", photograph(40, 60))
    folder = tmp_path / "cache"

    def run() -> bytes:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        done = subprocess.run([sys.executable, "-c", RUN, str(WEIGHTS)], cwd=tmp_path, env=environment,
                              capture_output=True, check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    def names() -> set[str]:
        return {
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "deep" not in str(path)
        }

    first, kept = run(), names()
    assert any(name.endswith("-cache") for name in kept)
    assert {"objects", "jax"} <= {Path(name).parts[1] for name in kept}
    for path, damage in zip([folder / name for name in sorted(kept)], itertools.cycle(DAMAGES), strict=False):
        damage(path)
    assert run() == first
    assert names() - {"tcm_jax/jax/sound"} == kept
    changed = {name: (folder / name).stat().st_mtime_ns for name in kept}
    assert run() == first
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == changed  # made once, and sound


def test_rows_of_an_evaluation(tmp_path):
    from tcm_jax.evaluation import sweep

    (tmp_path / "in").mkdir()
    write_png(tmp_path / "in" / "a.png", photograph(40, 60))
    points = [sweep.Point("jpeg", 50.0), sweep.Point("jpeg", 90.0)]
    folder = tmp_path / "rows"

    def measure():
        found = sweep.measure_all([str(tmp_path / "in")], points, folder)
        rows = [entry["row"] | {"encode_seconds": 0, "decode_seconds": 0} for (entry,) in found.values()]
        return rows, [entry["computed"] for (entry,) in found.values()]

    rows, computed = measure()
    assert computed == [True, True]
    assert measure() == (rows, [False, False])
    for damage in (*DAMAGES[:3], *DAMAGES[4:7], older):  # what is flipped or copied may still be a row
        path = sorted(folder.iterdir())[0]
        damage(path)
        again, computed = measure()
        assert (again, sorted(computed)) == (rows, [False, True]), damage
        assert json.loads(path.read_text())["row"]["name"] == "a.png"
