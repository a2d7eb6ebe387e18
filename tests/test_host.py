"""Inside somebody else's program: JAX's settings, its default device, and processes made by fork."""

import contextlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import photograph
from golden_files import GOLDEN, WEIGHTS

from tcm_jax.codec import Codec, tiled_network
from tcm_jax.errors import ConfigError, ImageError, TcmError
from tcm_jax.system import devices
from tcm_jax.weights.files import load_weights

IMAGE = photograph(60, 90)
SETTINGS = {
    "disable_jit": lambda: jax.disable_jit(),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "transfer_guard_explicit": lambda: jax.transfer_guard("disallow_explicit"),
    "numpy_rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "numpy_dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "default_matmul_precision": lambda: jax.default_matmul_precision("bfloat16"),
    "enable_x64": lambda: devices._enable_x64(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "check_tracer_leaks": lambda: jax.check_tracer_leaks(True),
    "default_device": lambda: jax.default_device(jax.devices("cpu")[-1]),
}
VARIABLES = {
    "JAX_DISABLE_JIT": "1", "JAX_TRANSFER_GUARD": "disallow", "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_ENABLE_X64": "1",
    "JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1", "JAX_CHECK_TRACER_LEAKS": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def expected():
    codec = Codec(load_weights(WEIGHTS), coder="native")
    data = codec.compress(IMAGE)
    return data, codec.decompress(data)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_host_has_set_changes_nothing(name, expected):
    with SETTINGS[name]():
        codec = Codec(load_weights(WEIGHTS), coder="native")
        assert codec.compress(IMAGE) == expected[0]
        np.testing.assert_array_equal(codec.decompress(expected[0]), expected[1])
        assert codec.encode(IMAGE).data == expected[0]


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_within_a_trace(transform, expected):
    codec = Codec(load_weights(WEIGHTS), coder="native")
    number = np.ones(3 if transform is jax.vmap else (), np.float32)

    def host(x):
        assert Codec(load_weights(WEIGHTS), coder="native").compress(IMAGE) == expected[0]
        np.testing.assert_array_equal(codec.decompress(expected[0]), expected[1])
        with pytest.raises(ImageError, match=r"^this array is traced by JAX .* or through jax\.pure_callback$"):
            codec.compress(x)
        return x

    transform(host)(number)


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="JAX 0.5 needs no mesh")
def test_within_named_axes():
    def host(x):
        with (
            pytest.raises(TcmError, match=r"^JAX runs no program within jax\.vmap with an axis_name"),
            devices.pinned(),
        ):
            pass
        return x

    jax.vmap(host, axis_name="i")(np.ones(3, np.float32))


def test_programs_that_are_traced_under_all_of_it(expected, monkeypatch):
    for program in tiled_network.PROGRAMS.values():
        monkeypatch.setattr(program, "_made", {})
    with contextlib.ExitStack() as settings:
        for enter in SETTINGS.values():
            settings.enter_context(enter())
        codec = Codec(load_weights(WEIGHTS), coder="native")
        assert codec.compress(IMAGE) == expected[0]
        np.testing.assert_array_equal(codec.decompress(expected[0]), expected[1])
    assert codec.compress(IMAGE) == expected[0]


PINNED = {
    "disable_jit": False, "transfer_guard": "allow", "numpy_rank_promotion": "allow",
    "numpy_dtype_promotion": "standard", "default_matmul_precision": None, "enable_x64": False, "debug_nans": False,
    "debug_infs": False, "check_tracer_leaks": False,
}  # fmt: skip


@pytest.mark.parametrize("name", PINNED)
def test_every_setting_is_pinned(name):
    """Seen from within, so that a setting which happens to do no harm today is held as well."""
    with SETTINGS[name](), devices.pinned():
        assert getattr(jax.config, f"jax_{name}") == PINNED[name]


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)} | environment
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


ROUND_TRIP = f"""
import numpy as np, tcm_jax
data = open({str(GOLDEN / "rgb.tcm")!r}, "rb").read()
picture = tcm_jax.decompress(data, weights={str(WEIGHTS)!r})
import zlib
print(zlib.crc32(picture), zlib.crc32(tcm_jax.compress(picture, weights={str(WEIGHTS)!r})))
"""


@pytest.mark.slow
def test_variables_change_nothing():
    plain, set_all = run(ROUND_TRIP), run(ROUND_TRIP, **VARIABLES)
    assert (plain.returncode, plain.stderr) == (set_all.returncode, set_all.stderr) == (0, "")
    assert plain.stdout == set_all.stdout


@pytest.mark.slow
def test_another_default_device_at_every_call():
    second = "import jax; jax.config.update('jax_default_device', jax.devices()[1])\n"
    program = f"{second}{ROUND_TRIP}\njax.config.update('jax_default_device', jax.devices()[0])\n{ROUND_TRIP}"
    plain, moved = run(ROUND_TRIP), run(program, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert (plain.returncode, moved.returncode, moved.stderr) == (0, 0, "")
    assert moved.stdout == 2 * plain.stdout


STAYS = """
import jax, numpy as np
from tcm_jax.codec.programs import Parameters, Program
from tcm_jax.model.config import reference_config
first, second = jax.devices()
with jax.default_device(second):
    params = Parameters({"factor": np.float32(2)})
program = Program(lambda config, params, x: params["factor"] * (x @ x))  # which XLA compiles
for host in (first, second):
    with jax.default_device(host):
        (used,) = program(reference_config(64), params, np.ones(3, np.float32)).devices()
        print(used == second)
"""


def test_a_codec_computes_where_it_was_made():
    """Seen by the device: results would be equal on another."""
    done = run(STAYS, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["True", "True"])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="JAX has no mesh of a whole program")
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_mesh_of_several_devices_changes_nothing(kind):
    kinds = f"(jax.sharding.AxisType.{kind},)"
    program = f"import jax; jax.set_mesh(jax.make_mesh((4,), ('data',), axis_types={kinds}))\n{ROUND_TRIP}"
    plain, meshed = run(ROUND_TRIP), run(program, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert (plain.returncode, meshed.returncode, meshed.stderr) == (0, 0, "")
    assert meshed.stdout == plain.stdout


def test_a_platform_that_is_not_there():
    done = run("import tcm_jax, numpy; tcm_jax.compress(numpy.zeros((8, 8, 3), 'uint8'))", JAX_PLATFORMS="nothing")
    assert "ConfigError: JAX has no device to compute on: Unable to initialize" in done.stderr


FORK = """
import multiprocessing, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
from tcm_jax.errors import TcmError
import tcm_jax
def work(_):
    try:
        return tcm_jax.compress(np.zeros((8, 8, 3), "uint8"), weights=sys.argv[1])
    except TcmError as error:
        return f"{type(error).__name__}: {error}"
if __name__ == "__main__":
    if USED_BEFORE == "codec":
        import jax  # a codec that finds its programs does without
        work(0)
    if USED_BEFORE == "jax":
        import jax, tcm_jax.codec.codec
        jax.devices()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (found,) = pool.map_async(work, [0]).get(60)
    print(found if isinstance(found, str) else len(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(find_spec("tensorflow_compression_ops") is not None, reason="TensorFlow writes to stderr")
@pytest.mark.parametrize("used_before", ["codec", "jax", pytest.param("", marks=pytest.mark.slow)])
def test_processes_made_by_fork(used_before):
    program = f"USED_BEFORE = {used_before!r}\n" + FORK.replace("sys.argv[1]", repr(str(WEIGHTS)))
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")
    if used_before:
        assert done.stdout.startswith("TcmError: this process was forked from one that had used JAX")
    else:
        assert int(done.stdout) > 50


HELD = """
import os, signal, threading
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.system.files import writing
lock, held = LOCK, threading.Event()
def hold():
    with lock:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with lock:
        os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("lock", ['PROGRAMS["analysis"]._lock', "writing"])
def test_a_lock_that_another_thread_holds_is_open_after_a_fork(lock):
    assert run(HELD.replace("LOCK", lock)).stdout == "0\n"


INTERRUPTED = """
import random, signal, threading
from tcm_jax.codec.tiled_network import PROGRAMS
from tcm_jax.ops.kernels import direct
direct.cores.available = lambda: 4
lock, seconds, interrupts = PROGRAMS["analysis"]._lock, random.Random(1), 0
def try_lock():
    with lock:
        print(len(direct._teams))
signal.signal(signal.SIGALRM, signal.default_int_handler)
while interrupts < 3000:
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds.uniform(2e-5, 2e-4))
        while True:
            with lock, direct.helped():
                direct._this_thread.team.board_with(direct.Job())
    except KeyboardInterrupt:
        interrupts += 1
thread = threading.Thread(target=try_lock, daemon=True)
thread.start()
thread.join(20)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts")
def test_an_interrupt_leaves_no_lock_closed_and_no_team_registered():
    assert run(INTERRUPTED).stdout == "0\n"


def test_devices(monkeypatch):
    assert devices.local_devices() == jax.local_devices()
    assert devices.default_device() == jax.local_devices()[0]

    def none():
        raise RuntimeError("Unknown backend: 'cuda'\nand more")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(ConfigError, match=r"to compute on: Unknown backend: 'cuda'$"):
        devices.local_devices()
