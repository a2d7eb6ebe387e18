"""Programs as steps of NumPy and the kernels: the bits of XLA's, arranged parameters once, threads that do not mix."""

import contextlib
import dataclasses
import pickle
import queue
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import codec_programs

from tcm_jax import ops
from tcm_jax.codec import Codec
from tcm_jax.codec.making import Executable
from tcm_jax.codec.programs import Parameters, Program, Stepwise
from tcm_jax.codec.steps import Steps
from tcm_jax.model.config import reference_config
from tcm_jax.model.initialization import abstract_params
from tcm_jax.ops import kernels
from tcm_jax.ops.kernels import direct, handlers
from tcm_jax.training.open_weights import open_weights

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no kernels here")


@pytest.fixture(scope="module", autouse=True)
def known_to_xla():
    """What the codec does without, but not what it is compared with here."""
    handlers.register()


X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
X[0, 0] = [-2.5, -0.5, 0.0, 1.5]
INTEGERS = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
# Functions of X and INTEGERS; each has primitives that programs have.
OPERATIONS = {
    "arithmetic": lambda x, i: (x + 2 * x - x / 3, jnp.maximum(x, 0.5), jnp.minimum(x, x[0]), jnp.abs(x), jnp.sign(x)),
    "rounding": lambda x, i: (jnp.round(x), jnp.floor(x), (1e3 * x).astype(jnp.uint8), i.astype(jnp.float32) ** 2),
    "remainders": lambda x, i: (jax.lax.rem(i, jnp.full_like(i, 4)), i * i - 3, (i != 2) & (i < 3), i & 3),
    "choice": lambda x, i: jnp.where(x < 0.5, x, -1.0),
    "shapes": lambda x, i: (
        x.reshape(6, 4).T,
        jnp.concatenate([x, x[:, :1]], 1),
        jnp.split(x, [1], -1),
        x[:1].squeeze(0),
    ),
    "parts": lambda x, i: (
        jax.lax.slice(x, (0, 0, 1), (2, 3, 3), (1, 2, 1)),
        x[1],
        jnp.pad(x, [(0, 0), (1, 2), (0, 1)]),
        jnp.broadcast_to(x[:, :1], (5, *x.shape)),
        jnp.arange(4) + i,
    ),
    "rows": lambda x, i: x[np.array([[1, 0, 1], [0, 0, 1]])],
    "kernel": lambda x, i: (ops.gelu(x), ops.log(jnp.abs(x) + 1), ops.multiply_add(x, x, x)),
}


def stepwise(function, *arguments) -> list[np.ndarray]:
    """The results of a function by steps, with its first argument as the parameters."""
    with ops.target(ops.codec_target("cpu")):
        closed = jax.make_jaxpr(function)(*arguments)
    return pickle.loads(pickle.dumps(Steps(closed, 1))).at(0, 0)(Parameters(arguments[0]), arguments[1:])


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_have_the_bits_of_jax(name):
    def function(x, i):
        with ops.target(ops.codec_target("cpu")):
            return OPERATIONS[name](x, i)

    expected = jax.tree.leaves(jax.jit(function)(X, INTEGERS)) if name == "kernel" else _one_by_one(function)
    found = stepwise(function, X, INTEGERS)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.flags.c_contiguous and not ours.flags.writeable


def _one_by_one(function) -> list[jax.Array]:
    """Without a compiler that rounds sums of products otherwise."""
    return jax.tree.leaves(function(jnp.asarray(X), jnp.asarray(INTEGERS)))


NO_STEPS = {"product": lambda x: x[0] @ x[1].T, "cube": lambda x: x**3, "sums": lambda x: jnp.cumsum(x, 0)}


@pytest.mark.parametrize("name", NO_STEPS)
def test_what_is_no_step_is_refused_or_compiled(name):
    function, config = NO_STEPS[name], _Config(name)
    params = Parameters({"one": np.float32(1)})
    with pytest.raises(NotImplementedError, match="no step of a program"):
        Program(lambda config, params, x: params["one"] * function(x), strides=(0,))(config, params, X)
    program = Program(lambda config, params, x: params["one"] * function(x))
    assert isinstance(program.executable(config, params, X), Executable)
    np.testing.assert_allclose(program(config, params, X), function(jnp.asarray(X)), rtol=1e-6)


@pytest.fixture(scope="module")
def codec() -> Codec:
    """With the embedded weights."""
    return Codec(open_weights(None))


@dataclasses.dataclass(frozen=True)
class _Config:
    name: str

    def to_json(self) -> str:
        return f"{self.name} of a test"


def test_all_of_the_codec_are_steps_and_decode_to_the_bits_of_xla(codec):
    """But for g_a and h_a, of whose latents the decoder knows nothing, where XLA rounds some sums of products once."""
    config, params = codec.network.config, codec.network.params
    encoders = []
    for name, (program, static, shapes) in codec_programs(config, 128, 384).items():
        grids = jax.tree.map(_drawn, shapes)
        made = program.executable(config, params, *static, *grids)
        assert isinstance(made, Stepwise), name
        traced = program.traced(program.target("cpu"), config, params.structure, static)
        pairs = zip(
            *(jax.tree.leaves(x) for x in (made(params, *grids), jax.jit(traced)(params.leaves, *grids))), strict=True
        )
        if not all(np.array_equal(ours, theirs) for ours, theirs in pairs):
            encoders.append(name)
    assert set(encoders) <= {"analysis", "hyper_analysis", "detail_analysis"}


def _drawn(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape.shape).astype(shape.dtype)


def test_parameters_are_arranged_once_for_all_sizes(codec):
    config, params = codec.network.config, Parameters(codec.weights.params)
    sizes = []
    for side in (128, 256):
        for name in ("analysis", "hyper_analysis", "detail_scales", "synthesis"):
            program, static, shapes = codec_programs(config, side)[name]
            program(config, params, *static, *jax.tree.map(_drawn, shapes))
        sizes.append(len(params.arranged))
    assert 0 < sizes[0] == sizes[1]
    assert sum(array.nbytes for array in params.arranged.values()) < 2 * sum(leaf.nbytes for leaf in params.leaves)


def test_parameters_repeated_over_a_map_are_not_kept():
    x, params = np.ones((64, 4), np.float32), Parameters(np.ones(4, np.float32))
    steps = Steps(jax.make_jaxpr(lambda p, x: jnp.broadcast_to(p, x.shape) + x)(params.tree, x), 1).at(0, 0)
    np.testing.assert_array_equal(steps(params, [x])[0], 2 * x)
    assert [array.size for array in params.arranged.values()] == [4]


def test_what_a_host_passes_and_sets_changes_nothing():
    x = np.array([0.5, np.nan, -np.inf, 300])
    steps = Steps(jax.make_jaxpr(lambda p, x: ((p * x).astype(jnp.uint8), x[0]))(np.float32(1), np.float32(x)), 1).at(
        0, 0
    )
    with np.errstate(all="raise"):
        numbers, scalar = steps(Parameters(np.float32(1)), [x])
    np.testing.assert_array_equal(numbers, np.array([0, 0, 0, 255], np.uint8))
    assert (scalar.shape, scalar.dtype) == ((), np.float32)


def test_one_thread_does_all_where_no_other_begins(codec, monkeypatch):
    picture = np.random.default_rng(4).integers(0, 256, (250, 250, 3), np.uint8)
    data = codec.compress(picture, 40)

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(direct, "_pool", direct._Pool())
    monkeypatch.setattr(direct._thread, "start_new_thread", refuse)
    assert codec.compress(picture, 40) == data


def test_networks_of_floats_decode_to_the_bits_of_xla():
    """Not of weights in eight bits, as the embedded ones are, whose squares are exact."""
    config = reference_config(64)
    random = np.random.default_rng(5)
    params = Parameters(
        jax.tree.map(lambda x: random.normal(0, 0.1, x.shape).astype(np.float32), abstract_params(config))
    )
    program, static, shapes = codec_programs(config)["hyper_synthesis"]
    grids = jax.tree.map(_drawn, shapes)
    traced = program.traced(program.target("cpu"), config, params.structure, static)
    ours, theirs = program(config, params, *static, *grids), jax.jit(traced)(params.leaves, *grids)
    assert all(map(np.array_equal, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


def test_pictures_at_once_share_the_cores(monkeypatch):
    pool = direct._Pool()
    monkeypatch.setattr(direct.cores, "available", lambda: 4)
    monkeypatch.setattr(direct, "_pool", pool)
    monkeypatch.setattr(pool, "size", lambda: 4)
    with contextlib.ExitStack() as stack:
        for helpers in (3, 1, 0, 0, 0):  # of the first picture, of the second beside it, ...
            stack.enter_context(direct.helped())
            board = direct._this_thread.team.board_with(direct.Job())
            assert (pool.teams.qsize(), board is direct._NOBODY) == (helpers, helpers == 0)
            pool.teams = queue.SimpleQueue()


def test_threads_do_not_mix(codec, monkeypatch):
    monkeypatch.setattr(direct.cores, "available", lambda: 16)  # helpers for each
    config, params = codec.network.config, codec.network.params
    program, static, shapes = codec_programs(config)["synthesis"]
    random = np.random.default_rng(2)
    inputs = [jax.tree.map(lambda s: random.normal(size=s.shape).astype(s.dtype), shapes) for _ in range(4)]
    expected = [np.asarray(program(config, params, *static, *grids)) for grids in inputs]
    found: list = [None] * len(inputs)

    def run(i):
        for _ in range(5):
            found[i] = program(config, params, *static, *inputs[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_of_xla_is_asked_for_by_a_codec(codec, monkeypatch):
    picture = np.random.default_rng(3).integers(0, 256, (150, 290, 3), np.uint8)
    monkeypatch.setattr(jax.stages.Lowered, "compile", None)
    data = codec.compress(picture, 80)
    assert codec.decompress(data).shape == picture.shape
