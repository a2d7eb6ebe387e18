"""As a library the package leaves its host's process as it is, unless `tune_process` is called."""

import json
import os
import shutil
import subprocess
import sys

import jax
import pytest
from golden_files import GOLDEN, WEIGHTS

from tcm_jax.system.cache import cache_folder

pytestmark = pytest.mark.slow

# What a host can see of its process; a large array shows what malloc was told: by default glibc maps it on its own.
STATE = """
import ctypes, gc, json, locale, logging, os, signal, sys, threading, warnings
import jax, numpy, numba, PIL.Image

def mapped_by_malloc():
    libc = ctypes.CDLL(None)
    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in
                    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    before, block = libc.mallinfo2().hblkhd, libc.malloc(2**28)
    after = libc.mallinfo2().hblkhd
    libc.free(block)
    return after - before >= 2**28

def state():
    loggers = {name: (logger.level, len(logger.handlers), logger.propagate)
               for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
    return {
        "jax": {name: str(value) for name, value in jax.config.values.items()},
        "malloc maps": mapped_by_malloc(),
        "environment": dict(os.environ),
        "signals": {int(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
        "root": (logging.root.level, len(logging.root.handlers), logging.root.disabled, logging.root.manager.disable),
        "loggers": {name: how for name, how in loggers.items() if how != (0, 0, True)},
        "warnings": [str(f) for f in warnings.filters],
        "hooks": [str(hook) for hook in (sys.excepthook, sys.displayhook, threading.excepthook)],
        "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "numpy": str(numpy.geterr()),
        "numba": str(numba.config.CACHE_DIR),
        "Pillow": (PIL.Image.MAX_IMAGE_PIXELS, sorted(PIL.Image.registered_extensions())),
        "switch": (sys.getrecursionlimit(), sys.getswitchinterval(), sys.path[:]),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
    }

PIL.Image.init()
jax.numpy.zeros(3).block_until_ready()
before = state()
"""
USE = """
import tcm_jax
data = tcm_jax.compress(numpy.zeros((40, 50, 3), numpy.uint8), weights={weights!r})
tcm_jax.decompress(data, weights={weights!r})
tcm_jax.decompress(open({golden!r}, "rb").read(), weights={weights!r}, as_pil=True)
"""
COMPARE = """
after = state()
after["loggers"] = {name: after["loggers"].get(name) for name in before["loggers"]}  # others came with imports
print(json.dumps({name: [before[name], after[name]] for name in before if before[name] != after[name]}))
"""


def changes(code: str, cache, **environment: str) -> dict:
    """What `code` changes of a process, by name; its cache folder is `cache`."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    if (kept := cache_folder() / "objects").exists():  # kernels need not be compiled again
        shutil.copytree(kept, cache / "tcm_jax" / "objects", dirs_exist_ok=True)
    surroundings |= {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", **environment}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STATE + code + COMPARE],
        env=surroundings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def use() -> str:
    return USE.format(weights=str(WEIGHTS), golden=str(GOLDEN / "rgb.tcm"))


def test_a_picture_there_and_back_changes_nothing(tmp_path):
    assert changes(use(), tmp_path) == {}
    assert list((tmp_path / "tcm_jax" / "programs").iterdir())  # and yet the next process finds its programs
    assert not (tmp_path / "tcm_jax" / "jax").exists()


def test_a_host_that_has_a_cache_keeps_it(tmp_path):
    jax_cache = str(tmp_path / "host")
    assert changes(use(), tmp_path, JAX_COMPILATION_CACHE_DIR=jax_cache) == {}
    assert not (tmp_path / "tcm_jax" / "jax").exists()
    assert not (tmp_path / "host" / "programs").exists()


@pytest.mark.skipif(jax.__version_info__ < (0, 6), reason="nothing is kept on older ones")
def test_who_asks_gets_the_settings(tmp_path):
    changed = changes("import tcm_jax\ntcm_jax.tune_process()\n" + use(), tmp_path)
    assert set(changed) <= {"jax", "malloc maps"}
    before, after = changed["jax"]
    assert {name for name in after if after[name] != before[name]} == {
        "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    }  # fmt: skip
    assert after["jax_compilation_cache_dir"] == str(tmp_path / "tcm_jax" / "jax")
    assert changed.get("malloc maps", [True, False]) == [True, False]
    assert "malloc maps" in changed or not sys.platform.startswith("linux")
